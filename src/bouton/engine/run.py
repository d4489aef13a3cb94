"""Running a workflow: its steps in order, each from its ledger, events to whoever subscribes."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bouton.engine.context import main_output, make_context
from bouton.engine.control import asked, forget, take_choice
from bouton.engine.coordinator import Coordinator, opened
from bouton.engine.dependencies import Source
from bouton.engine.environment import note_environment
from bouton.engine.events import Event, RunFinished, RunStarted, StepSkipped, Subscriber, TaskFailed, to_json
from bouton.engine.execute import is_disk_error
from bouton.engine.executors import Executor, executor_name, make_executor
from bouton.engine.ledger import database_error, disk_full
from bouton.engine.lock import run_lock
from bouton.engine.outputs import is_temporary
from bouton.engine.plan_file import keep_plan
from bouton.engine.record import RunRecord
from bouton.engine.step_run import StepRun, StepSummary
from bouton.engine.store import open_store
from bouton.errors import BoutonError, DataError, RunError, SpecError
from bouton.spec import Step, Workflow
from bouton.volume import write_bytes

SHOWN = 5


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes
    ----------
    folder : Path
        The run folder.
    state : str
        ``done``, ``failed``, ``paused`` or ``cancelled``.
    steps : mapping of step name -> StepSummary
    failures : tuple of TaskFailed
        The quarantined tasks.
    """

    folder: Path
    state: str
    steps: Mapping[str, StepSummary]
    failures: tuple[TaskFailed, ...]

    def raise_if_failed(self) -> None:
        """Raise a RunError that names the failed blocks, if there are any."""
        if self.state in ("done", "paused", "cancelled"):
            return
        shown = [f"{f.step} {f.task} (box {f.box_zyx or '-'}): {f.error}" for f in self.failures[:SHOWN]]
        more = len(self.failures) - SHOWN
        text = " | ".join(shown) + (f" | and {more} more" if more > 0 else "")
        blocked = [name for name, summary in self.steps.items() if summary.state == "blocked"]
        waiting = f"; not finished because of it: {', '.join(blocked)}" if blocked else ""
        raise RunError(
            f"{len(self.failures)} tasks failed: {text}{waiting}",
            where=str(self.folder),
            fix="mend the cause and run the same command again (finished blocks are kept)",
        )


class EventLog:
    """A subscriber that appends every event to ``events.jsonl``."""

    def __init__(self, path: Path) -> None:
        torn = _ends_torn(path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        # A coordinator that was killed while it wrote leaves half a line: it must not swallow our first one.
        self._file.write("\n" if torn else "")

    def __call__(self, event: Event) -> None:
        """Write one line."""
        self._file.write(json.dumps(to_json(event)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _ends_torn(path: Path) -> bool:
    """Return whether the last line of a file lacks its end."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"


def run_workflow(
    workflow: Workflow,
    runs_dir: Path = Path("runs"),
    executor: str | Executor = "processes",
    workers: int = 1,
    subscribers: Iterable[Subscriber] = (),
    retries: int = 2,
) -> RunSummary:
    """Run what is left of ``workflow`` in ``runs_dir / workflow.name``.

    Parameters
    ----------
    executor : str or Executor
        ``serial`` or ``processes``; or an executor of one's own, which is closed at the end.
    workers : int
        Number of worker processes.
    subscribers : iterable of callable
        Called with every event (:mod:`bouton.engine.events`).
    retries : int
        How often a failed task is tried again before it is quarantined.

    Raises
    ------
    RunError
        Another process works on the run, or the disk is full. Failed tasks do not raise: see
        :meth:`RunSummary.raise_if_failed`.
    """
    if not workflow.steps:
        raise SpecError(
            "no step is left to run",
            where=str(workflow.file),
            expected="a step within the bounds",
            fix="larger --bounds-zyx or another --until",
        )
    folder = Path(runs_dir).resolve() / workflow.name
    pool = make_executor(executor, workers) if isinstance(executor, str) else executor
    with contextlib.closing(pool), guarded(folder), contextlib.closing(EventLog(folder / "events.jsonl")) as log:
        try:
            return _Run(workflow, folder, pool, [log, *subscribers], retries).run()
        finally:
            # Whoever gets the lock next finds no worker of ours.
            pool.close()


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; errors of its disk and ledgers become ours.

    Raises
    ------
    RunError
        Another process holds the lock, the disk is full, or the folder cannot be written.
    """
    try:
        with run_lock(folder):
            yield
    except sqlite3.DatabaseError as error:
        raise database_error(error, folder) from error
    except (OSError, DataError) as error:
        if is_disk_error(error):
            raise disk_full(folder, str(error)) from error
        if isinstance(error, BoutonError):
            raise
        place = error.filename if isinstance(error, OSError) and error.filename else folder
        raise RunError(
            (error.strerror if isinstance(error, OSError) and error.strerror else str(error)),
            where=str(place), expected="a folder that can be written",
            fix="mend its permissions, remove what stands in its place, or give another with --runs",
        ) from error  # fmt: skip


def _among(chosen: Collection[tuple[str, str, str]] | None, step: str) -> Callable[[str, str], bool]:
    """Return whether a quarantined task (part, name) of a step is to be tried again."""
    return lambda part, task: chosen is None or (step, part, task) in chosen


class _Run:
    def __init__(
        self, workflow: Workflow, folder: Path, executor: Executor, subscribers: list[Subscriber], retries: int
    ) -> None:
        self.workflow, self.folder, self.executor, self.retries = workflow, folder, executor, retries
        self.subscribers = subscribers
        self.record = RunRecord(workflow, folder)
        self.failures: list[TaskFailed] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, TaskFailed):
            self.failures.append(event)
        for subscriber in self.subscribers:
            subscriber(event)

    def run(self) -> RunSummary:
        started = time.perf_counter()
        flow = self.workflow
        forget(self.folder)
        for path in self.folder.iterdir():
            # A disk that became read-only keeps what could not be removed then.
            if path.is_file() and is_temporary(path.name):
                path.unlink(missing_ok=True)
        open_store(flow, self.folder)
        write_bytes(self.folder / "workflow.yaml", flow.text.encode())
        self.record.write()
        state, reason = "failed", "an error that nobody foresaw"
        steps: dict[str, StepRun] = {}
        try:
            self._announce()
            with opened(steps.values()):
                try:
                    state, reason = self._run_steps(steps), ""
                finally:
                    self.record.states |= {name: step.summary() for name, step in steps.items() if step.has_ledger}
        except KeyboardInterrupt:
            state, reason = "paused", "interrupted"
            raise
        except (BoutonError, OSError, sqlite3.DatabaseError) as error:
            # A full disk is waited out, like a pause; anything else is for somebody to mend.
            state, reason = "paused" if is_disk_error(error) else "failed", str(error)
            raise
        finally:
            self._finish(state, reason, time.perf_counter() - started)
        return RunSummary(self.folder, state, self.record.states, tuple(self.failures))

    def _announce(self) -> None:
        flow, workers = self.workflow, self.executor.workers
        keep_plan(flow, self.folder, workers)
        note_environment(self.folder)
        names = tuple(step.name for step in flow.steps)
        self.emit(RunStarted(flow.name, str(self.folder), names, executor_name(self.executor), workers))
        for name, reason in flow.skipped.items():
            self.emit(StepSkipped(name, reason))

    def _run_steps(self, steps: dict[str, StepRun]) -> str:
        chosen = take_choice(self.folder)
        for step in self.workflow.steps:
            context, again = make_context(self.workflow, step, self.folder), _among(chosen, step.name)
            steps[step.name] = StepRun(context, self.emit, self.retries, again=again)
            steps[step.name].open(self._sources(step, steps))
        self.record.states |= {name: run.summary() for name, run in steps.items() if run.is_over}
        self.record.write()
        coordinator = Coordinator(
            list(steps.values()), self.executor, self.emit, lambda: asked(self.folder), self._ended
        )
        state = coordinator.run()
        if state == "done" and any(run.summary().state != "done" for run in steps.values()):
            return "failed"
        return state

    def _sources(self, step: Step, steps: Mapping[str, StepRun]) -> dict[str, Source]:
        owners = {step.name: step for step in self.workflow.steps}
        return {
            name: steps[ref.owner].source(ref.output or main_output(owners[ref.owner]))
            for name, ref in step.reads.items()
            if ref.owner in steps
        }

    def _ended(self, run: StepRun) -> None:
        self.record.states[run.context.step] = run.summary()
        self.record.write()

    def _finish(self, state: str, reason: str, seconds: float) -> None:
        blocked = sum(summary.counts.get("blocked", 0) for summary in self.record.states.values())
        self.emit(RunFinished(self.workflow.name, state, round(seconds, 3), len(self.failures), blocked, reason))
        self.record.finish(state, reason)
