"""``bouton trace``: one cause for every missed and every false synapse of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from bouton.cli.choices import RunName, RunsFolder, find_run
from bouton.errors import SpecError


def command(
    run: RunName,
    step: Annotated[
        str | None, typer.Option(help="The step of stage evaluate_synapses to trace, where there are several.")
    ] = None,
    truth_synapses: Annotated[
        Path | None, typer.Option(help="True synapses: Parquet, CSV or NML; default: what the run compared with.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Volume of true neurons, on the run's grid.")] = None,
    truth_dataset: Annotated[str | None, typer.Option(help="Data set in the truth's HDF5 file.")] = None,
    second_annotator: Annotated[
        Path | None, typer.Option(help="A second annotator's synapses: where the two disagree, the truth is in doubt.")
    ] = None,
    max_distance_nm: Annotated[
        float | None, typer.Option(help="Cleft centres at most this far apart match; default: the run's.")
    ] = None,
    margin_nm: Annotated[
        float | None, typer.Option(help="Synapses nearer than this to a face are not scored; default: the run's.")
    ] = None,
    partners: Annotated[
        str,
        typer.Option(help="A partner is right by place, as in the scores, or by segment, its neuron's largest."),
    ] = "place",
    pictures: Annotated[int, typer.Option(min=0, help="Show so many errors of each cause.")] = 4,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: RUN/trace.")] = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Trace every missed and every false synapse of a run to its cause.

    The layers are read again around each error, in the order in which the run made them: was it predicted? did it
    become a cleft of its own? do its two neurons meet in the segmentation? were they chosen, in the right direction?

    Examples:

      bouton trace runs/demo

      bouton trace runs/mine --truth-synapses true.parquet --truth neurons.zarr

      bouton trace runs/mine --second-annotator other.parquet --partners segment

    Writes errors.parquet, errors.csv, errors.nml (a group for each cause), costs.json and trace.html. The links open
    places in the viewer: keep bouton view RUN open.
    """
    from bouton.cli.trace_files import PLACE, SEGMENT, Wanted, trace_run
    from bouton.cli.trace_run import Given

    if partners not in (PLACE, SEGMENT):
        raise SpecError(f"--partners {partners!r}", expected=f"{PLACE} or {SEGMENT}")
    for name, value in (("--max-distance-nm", max_distance_nm), ("--margin-nm", margin_nm)):
        if value is not None and not 0 <= value < float("inf"):
            raise SpecError(f"{name} {value}", expected="a length in nm")
    folder = find_run(run, runs)
    console = Console()
    wanted = Wanted(max_distance_nm, margin_nm, partners, pictures, out or folder / "trace")
    given = Given(step, truth_synapses, truth, truth_dataset, second_annotator)
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("places", total=None)
        result = trace_run(folder, given, wanted, lambda done, of: bars.update(bar, completed=done, total=of))
    for text in result.warnings:
        console.print(f"[yellow]warning:[/yellow] {text}", highlight=False, soft_wrap=True)
    for text in result.missing:
        console.print(f"[yellow]not asked:[/yellow] {text}", highlight=False)
    console.print(_summary(result.costs, result.examples))
    console.print(result.counted, highlight=False)
    for row in result.recommendations[:3]:
        console.print(f"F1 +{row['f1_gain']:.3f} at most: {row['advice']}", soft_wrap=True, highlight=False)
    console.print(f"{wanted.out}: errors.parquet, errors.csv, errors.nml, costs.json, trace.html", soft_wrap=True)


def _summary(costs: dict, examples: dict[str, str]) -> Table:
    table = Table(caption="F1: if this cause alone were mended", caption_justify="left")
    table.add_column("cause", no_wrap=True)
    for name in ("missed", "false", "wrong"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("F1", no_wrap=True)
    table.add_column("one of them", overflow="fold")
    for i, cause in enumerate(costs["cause"]):
        counts = [str(costs[name][i]) for name in ("missed", "false", "wrong")]
        gain = f"{costs['f1_if_mended'][i]:.3f} (+{costs['f1_gain'][i]:.3f})"
        table.add_row(cause, *counts, gain, examples[cause])
    return table
