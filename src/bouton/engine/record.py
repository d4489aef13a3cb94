"""``run.json``: what a run is made of and how far it came, rewritten whole at the start and after each step."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from bouton.engine.context import make_context, output_path, params_to_json, step_folder
from bouton.engine.ledger import LEDGER, Ledger
from bouton.engine.plan import step_tasks
from bouton.engine.step_run import StepSummary
from bouton.engine.store import begun_store
from bouton.spec import Step, Workflow
from bouton.stage import Files, Layer
from bouton.volume import write_bytes

SHOWN_FAILURES = 1000


class RunRecord:
    """The content of ``run.json``."""

    def __init__(self, workflow: Workflow, folder: Path) -> None:
        self.workflow, self.folder = workflow, folder
        self.states: dict[str, StepSummary] = {}
        self.started = _now()
        self.finished: str | None = None
        self.state = "running"
        self.reason = ""

    def write(self) -> None:
        """Write ``run.json`` durably."""
        flow = self.workflow
        sources = {
            name: {"path": str(source.path), "dataset": source.dataset, "offset_zyx": list(source.offset_zyx)}
            for name, source in flow.sources.items()
        }
        values = {
            "bouton": _version(),
            "workflow": flow.name,
            "workflow_file": str(flow.file.resolve()),
            "description": flow.description,
            "shape_zyx": list(flow.shape),
            "voxel_size_nm": list(flow.voxel_size_nm),
            "sources": sources,
            "skipped": dict(flow.skipped),
            "steps": [self._step(step) for step in flow.steps],
            "store": begun_store(self.folder).data,
            "state": self.state,
            "reason": self.reason,
            "started": self.started,
            "finished": self.finished,
            "command": " ".join(sys.argv),
        }
        write_bytes(self.folder / "run.json", json.dumps(values, indent=1).encode())

    def finish(self, state: str, reason: str) -> None:
        """Write the last state of the run, and what ended it where that was not its own end."""
        self.state, self.reason, self.finished = state, reason, _now()
        self.write()

    def _step(self, step: Step) -> dict[str, Any]:
        folder = step_folder(step)
        entry: dict[str, Any] = {
            "name": step.name,
            "stage": step.stage_name,
            "version": step.stage.version,
            "key": step.key,
            "folder": folder,
            "params": params_to_json(step.stage, step.params),
            "reads": {name: _reference(self.workflow, ref) for name, ref in step.reads.items()},
            "bounds_zyx": str(step.bounds),
            "block_zyx": list(step.block),
            "outputs": _outputs(step, folder),
            "state": "pending",
            "seconds": 0.0,
            "peak_bytes": 0,
            "size_bytes": 0,
            "tasks": step_tasks(make_context(self.workflow, step, self.folder), step.stage),
            "done": 0,
            "failed": 0,
            "blocked": 0,
            "reused": 0,
            "computed": 0,
            "failures": [],
        }
        summary = self.states.get(step.name)
        if summary is not None:
            entry |= {"state": summary.state, "tasks": summary.tasks, "computed": summary.computed}
            entry |= ledger_facts(self.folder / folder)
        return entry


def ledger_facts(folder: Path) -> dict[str, Any]:
    """Return what a step's ledger knows: seconds, memory, sizes, counts of tasks, and the failures."""
    with Ledger(folder / LEDGER, readonly=True) as ledger:
        failures = [
            {
                "part": f.part,
                "task": f.task,
                "box_zyx": f.box_zyx,
                "attempts": f.attempts,
                "error": f.error,
                "cause": f.cause,
            }
            for f in ledger.failures()
        ]
        return {
            "seconds": round(ledger.fact("seconds"), 3),
            "peak_bytes": ledger.peak_bytes(),
            "size_bytes": ledger.size_bytes(),
            **ledger.counts(),
            "failures": failures[:SHOWN_FAILURES],
        }


def _outputs(step: Step, folder: str) -> dict[str, dict[str, Any]]:
    found = {}
    for name, declared in step.stage.outputs(step.params).items():
        entry: dict[str, Any] = {"path": f"{folder}/{output_path(step.stage, step.params, name)}"}
        if isinstance(declared, Layer):
            entry |= {"type": "layer", "kind": declared.kind, "dtype": declared.dtype, "channels": declared.channels}
        else:
            kind = "files" if isinstance(declared, Files) else "table"
            entry |= {"type": kind, "kind": None, "dtype": None, "channels": None}
        found[name] = entry
    return found


def _reference(workflow: Workflow, ref: Any) -> str:
    if ref.owner in workflow.sources:
        return f"data:{ref.owner}"
    return f"{ref.owner}.{ref.output}" if ref.output else ref.owner


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _version() -> str:
    import bouton

    return bouton.__version__
