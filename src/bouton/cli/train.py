"""`bouton train`: train a network, or a forest, from a training file."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bouton.engine.lock import run_lock
from bouton.errors import RunError, SpecError
from bouton.volume.files import disk_errors

TERMINATED = 128 + signal.SIGTERM
Out = Annotated[Path, typer.Option(help="Folder; OUT/NAME/ receives everything.")]
Minutes = Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="A.B=V", help="Override a value of the file.")]


def command(
    plan_file: Annotated[Path, typer.Argument(help="Training file, like workflows/train/organelles_start.yaml.")],
    out: Out = Path("runs/train"),
    overrides: Overrides = [],  # noqa: B006
    minutes: Minutes = float("inf"),
) -> None:
    """Train a network, or a forest; an interrupted training of a network goes on where it was.

    OUT/NAME/ receives the model (folder NAME: weights and a card; it can be used at any time), log.csv and the
    checkpoint, anew at every checkpoint; report.html with curves and pictures, and curve.png, at every validation.

    Ctrl-C or SIGTERM (a spot machine is taken away) ends it after the step that runs: everything is saved, exit status
    130 or 143, and the same command goes on to the same weights, bit for bit. After a crash it goes on from the last
    checkpoint. Data, masks, several volumes, heads, start weights, early stopping: docs/training.md.

    [bold]Examples[/bold]

      bouton train workflows/train/organelles_start.yaml

      bouton train workflows/train/fib25.yaml --out /tmp/train --set training.steps=100

      bouton train workflows/train/vnc_forest.yaml

      bouton train my.yaml --set start=organelles-phantom --set tensorboard=true

      bouton run workflows/demo.yaml --set steps.network.params.model=runs/train/organelles-start/organelles-start
    """
    train(plan_file, out, overrides, minutes)


def train(plan_file: Path, out: Path, overrides: Sequence[str], minutes: float) -> None:
    """Train what a file says, and tell how it went; see :func:`command`."""
    if not minutes >= 0:
        raise SpecError(f"--minutes {minutes:g}", expected="0 or more", fix="--minutes 60, or leave it out")
    # torch takes seconds to import: only who trains waits for it
    from bouton.cli.training_forest_plan import is_forest

    if is_forest(plan_file, list(overrides)):
        _train_forest(plan_file, out, overrides)
        return
    from bouton.cli.training_plan import read_plan
    from bouton.cli.training_run import TrainingRun

    plan = read_plan(plan_file, list(overrides))
    folder = out / plan.name
    with stop_signals() as asked, _alone(folder):
        run = TrainingRun(plan, plan_file, folder, overrides, typer.echo)
        step, volumes = run.trainer.step, len(run.sampler.volumes)
        typer.echo(f"{plan.name}: {volumes} volumes, {run.parameters:,} weights, from step {step}")
        run.train(minutes * 60, lambda: asked.number is not None)
        done = run.trainer.step
        state = "finished" if run.finished else f"stopped at step {done}"
        typer.echo(f"{state}: model {run.model_folder} (step {run.chosen[0]}), report {folder / 'report.html'}")
    if asked.number is not None and not run.finished:
        name = signal.Signals(asked.number).name
        typer.echo(f"{name} after step {done}: saved; the same command goes on from there")
        raise typer.Exit(128 + asked.number)


def _train_forest(plan_file: Path, out: Path, overrides: Sequence[str]) -> None:
    from bouton.cli.training_card import Origin
    from bouton.cli.training_forest import ForestRun
    from bouton.cli.training_forest_plan import read_forest_plan
    from bouton.learn.runners import require

    plan = read_forest_plan(plan_file, list(overrides))
    require("sklearn", "scikit-learn 1.5", "forest")
    with stop_signals() as asked, _alone(out / plan.name):
        run = ForestRun(
            plan, Origin(plan_file, overrides), out / plan.name, typer.echo, lambda: asked.number is not None
        )
        typer.echo(f"finished: model {run.train()}")


@dataclass
class Asked:
    """The signal that asked the training to stop, if one did."""

    number: int | None = None


@contextlib.contextmanager
def stop_signals() -> Iterator[Asked]:
    """Note SIGINT and SIGTERM instead of dying of them; a second one ends the process at once."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: object) -> None:
        asked.number = number
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a training's folder."""
    with contextlib.ExitStack() as stack:
        try:
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(run_lock(folder))
        except RunError as error:
            raise RunError(
                error.found.replace("run", "training", 1), where=str(folder), expected="one training in a folder",
                fix="wait for it or end it; --out or another name gives a second training its own folder",
            ) from None  # fmt: skip
        yield
