"""`bouton train`: train a network from a training file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bouton.errors import SpecError


def command(
    plan_file: Annotated[Path, typer.Argument(help="Training file, like workflows/train/phantom.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log, curve and model.")] = Path("runs/train"),
    overrides: Annotated[list[str], typer.Option("--set", help="Override a value: training.steps=100.")] = [],  # noqa: B006
    minutes: Annotated[float, typer.Option(help="Stop after so long; the same command goes on.")] = float("inf"),
) -> None:
    """Train a network; an interrupted training goes on where it was.

    OUT/NAME/ receives checkpoint.safetensors, log.csv, curve.png and the model: folder NAME (running mean of the
    weights and a card), rewritten at every checkpoint: it can be used at any time.

    [bold]Examples[/bold]

      bouton train workflows/train/phantom.yaml

      bouton train workflows/train/fib25.yaml --out /tmp/train --set training.steps=100

      bouton run workflows/demo.yaml --set steps.network.params.model=runs/train/phantom/phantom
    """
    # torch takes seconds to import: only who trains waits for it
    if not minutes >= 0:
        raise SpecError(f"--minutes {minutes:g}", expected="0 or more", fix="--minutes 60, or leave it out")
    from bouton.cli.training_plan import read_plan
    from bouton.cli.training_run import TrainingRun

    plan = read_plan(plan_file, overrides)
    folder = out / plan.name
    run = TrainingRun(plan, plan_file, folder, overrides)
    typer.echo(
        f"{plan.name}: {len(run.sampler.volumes)} volumes, {run.parameters:,} weights, from step {run.trainer.step}"
    )
    run.train(minutes * 60)
    state = "finished" if run.trainer.step >= plan.training.steps else f"stopped at step {run.trainer.step}"
    typer.echo(f"{state}: model {run.model_folder}, log {folder / 'log.csv'}, curve {folder / 'curve.png'}")
