"""``bouton sweep``: score every threshold of a merge history against the truth, and recommend one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bouton.cli.choices import BoundsZYX, Json, RunName, RunsFolder, find_run
from bouton.cli.sweep_inputs import (
    Labels,
    count_box,
    draw_skeletons,
    find_labels,
    given_skeletons,
    labels_at,
    merge_steps,
    parse_thresholds,
    steps_scored_here,
    sweep_box,
)
from bouton.errors import SpecError
from bouton.evaluate.skeletons import SkeletonOverlap, overlap
from bouton.evaluate.sweep import CHOICES, Bootstrap, Recommendation, Sweep, bootstrap, recommend, sweep
from bouton.geometry import NM, Box
from bouton.report.sweep_plots import sweep_plot
from bouton.server.cuts import history_step, read_history
from bouton.volume import part_file, write_bytes, write_csv
from bouton.volume.run_folder import Run, RunStep, open_run
from bouton.volume.skeletons import write_skeletons

DRAWN = "skeletons.parquet"
UM = 1e-3


@dataclass(frozen=True)
class _Source:
    """Where skeletons come from: files with the unit of SWC files; or, without files, the truth, and where they go."""

    files: list[Path]
    swc_unit_nm: float
    folder: Path


@dataclass(frozen=True)
class _Found:
    """A sweep with its bootstrap, and what each metric recommends; ``chosen`` by the metric asked for."""

    scores: Sweep
    drawn: Bootstrap
    all: list[Recommendation]
    chosen: Recommendation


def command(
    run: RunName,
    truth: Annotated[
        str | None, typer.Option(metavar="NAME|PATH", help="True neuron ids: a layer of the run, or a volume's path.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set in the truth's file.")] = None,
    step: Annotated[str | None, typer.Option(help="The step with the merge history, where there are several.")] = None,
    bounds_zyx: BoundsZYX = None,
    thresholds: Annotated[
        str | None, typer.Option(metavar="FROM:TO:STEP", help="Or a list, 0.2,0.3. Default: the floor to 0.9 by 0.02.")
    ] = None,
    metric: Annotated[str, typer.Option(help=f"What chooses the threshold: {', '.join(CHOICES)}.")] = "voi_sum",
    skeletons: Annotated[
        list[Path] | None,
        typer.Option(help="True skeletons: SWC, NML or Parquet files or folders. Default: drawn from the truth."),
    ] = None,
    swc_unit_nm: Annotated[float, typer.Option(min=1e-6, help="Unit of SWC files in nm; 1000 for um.")] = 1.0,
    no_skeletons: Annotated[bool, typer.Option("--no-skeletons", help="No run lengths.")] = False,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for table and plot; default: sweep/ in the run, or sweep_BOX/.")
    ] = None,
    runs: RunsFolder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Score every threshold of a run's merge history against the truth, and recommend one.

    Examples:

      bouton sweep runs/fib25 --truth truth --bounds-zyx 60:120,0:250,0:250

      bouton sweep runs/fib25 --truth truth --bounds-zyx 120:160,0:250,0:250 --thresholds 0.22 --out reported

      bouton sweep runs/vnc --truth gt.h5 --dataset volumes/labels/neuron_ids --skeletons tracings/ --swc-unit-nm 1000
      --metric erl_tolerance_5

    The fragments and the truth are read once; no volume is written. Scores: variation of information (split, merge),
    adapted Rand error, expected run length of true skeletons. The confidence range is that of 1000 bootstrap draws of
    true neurons. Choose a threshold on other voxels than those whose scores you report: the second example reports
    the scores of a threshold that was chosen by the first one on another box.
    """
    if skeletons and no_skeletons:
        raise SpecError("--skeletons with --no-skeletons", expected="one of the two", fix="leave one out")
    opened = open_run(find_run(run, runs))
    history = history_step(opened, step)
    labels, gt = find_labels(opened, history.reads["fragments"]), find_labels(opened, truth, dataset)
    box = sweep_box(labels, gt, bounds_zyx)
    merges = read_history(opened, history)[0]
    at = parse_thresholds(thresholds, merges)
    # each box has a folder of its own: what was reported does not overwrite what was chosen
    folder = out or opened.folder / ("sweep" if box == labels.layer.bounds else Path(part_file("sweep", box)).stem)
    source = _Source(skeletons or [], swc_unit_nm, folder)
    inside = None if no_skeletons else _skeletons(source, labels, gt, (box, opened.voxel_size_nm))
    scores = sweep(count_box(labels, gt, box), merge_steps(merges, at), at, inside)
    found = _choose(scores, metric, (replicates, seed))
    _write(folder, found, opened, box)
    if inside is None and not no_skeletons:
        typer.echo("note: no skeleton could be drawn of the truth here; no run lengths", err=as_json)
    if as_json:
        typer.echo(json.dumps(_as_json(found, box), indent=2, allow_nan=False))
    else:
        _show(found, opened, (history, box), folder)


def _skeletons(source: _Source, labels: Labels, truth: Labels, place: tuple[Box, NM]) -> SkeletonOverlap | None:
    """Return the skeletons' overlap with the fragments; None where none could be drawn. Drawn ones are written."""
    if source.files:
        table = given_skeletons(source.files, source.swc_unit_nm, *place)
    else:
        table = draw_skeletons(truth, *place)
        if not len(table["node"]):
            return None
        write_skeletons(source.folder / DRAWN, table)
    return overlap(table, labels_at(labels, table, *place))


def _choose(scores: Sweep, metric: str, draws: tuple[int, int]) -> _Found:
    if metric not in scores.choices:
        # before the bootstrap, not after it
        recommend(scores, Bootstrap(0, 0, 0, {}), metric)
    drawn = bootstrap(scores, *draws)
    found = {name: recommend(scores, drawn, name) for name in scores.choices}
    return _Found(scores, drawn, list(found.values()), found[metric])


def _columns(found: _Found) -> dict[str, np.ndarray]:
    """Return the table that is written: threshold, every score, and the bands of the metrics that can choose."""
    columns = {"threshold": found.scores.threshold, **found.scores.scores}
    for name in found.scores.choices:
        columns[f"{name}_low"], columns[f"{name}_high"] = found.drawn.band(name)
    return columns


def _write(folder: Path, found: _Found, run: Run, box: Box) -> None:
    columns = _columns(found)
    write_csv(folder / "sweep.csv", columns)
    title = f"{run.name}, voxels {box} (z, y, x)"
    choice = asdict(found.chosen) | {"better": CHOICES[found.chosen.metric]}
    write_bytes(folder / "sweep.png", sweep_plot(columns, choice, (title, _draws(found))))


def _draws(found: _Found) -> str:
    things = f"{found.drawn.neurons:,} true neurons"
    if found.drawn.skeletons:
        things += f" and {found.drawn.skeletons:,} skeletons"
    return f"{found.drawn.replicates:,} bootstrap draws of {things}"


def _as_json(found: _Found, box: Box) -> dict:
    columns = _columns(found)
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    table = [
        {name: value if np.isfinite(value) else None for name, value in zip(columns, row, strict=True)} for row in rows
    ]
    drawn = {name: getattr(found.drawn, name) for name in ("replicates", "neurons", "skeletons")}
    return {
        "recommended": asdict(found.chosen), "bounds_zyx": str(box), "bootstrap": drawn,
        "by_metric": [asdict(one) for one in found.all], "thresholds": table,
    }  # fmt: skip


def _show(found: _Found, run: Run, place: tuple[RunStep, Box], folder: Path) -> None:
    history, box = place
    console = Console()
    console.print(_score_table(found, f"Sweep of run {run.name}, voxels {box} (z, y, x)"))
    chosen = found.chosen
    if len(found.scores.threshold) > 1:
        console.print(_choice_table(found))
        typer.echo(
            f"recommended threshold {chosen.threshold:g} by {chosen.metric} "
            f"(95 % of bootstraps: {chosen.low:g}-{chosen.high:g}; {_draws(found)})"
        )
    if chosen.at_end:
        typer.echo(
            f"warning: {chosen.threshold:g} is the end of the range that was tried; a better one may lie outside: "
            "widen --thresholds, or lower the agglomeration's floor"
        )
    for step in steps_scored_here(run, history, box):
        typer.echo(
            f"warning: step {step.name} scores {step.bounds_zyx}, which overlaps {box}: a threshold chosen here would "
            "flatter it"
        )
    if len(found.scores.threshold) > 1:
        typer.echo("Report scores on other voxels than those that chose the threshold: --bounds-zyx, --thresholds T.")
    typer.echo(f"Table: {folder / 'sweep.csv'}\nPlot:  {folder / 'sweep.png'}")


def _score_table(found: _Found, title: str) -> Table:
    scores = found.scores.scores
    heads = ["threshold", "segments", "VOI split", "VOI merge", "VOI sum", "adapted Rand error"]
    names = ["voi_split", "voi_merge", "voi_sum", "adapted_rand_error"]
    runs = [f"erl_tolerance_{t}" for t in (0, 5) if f"erl_tolerance_{t}" in scores]
    shown = Table(title=title, caption="VOI in bits; ERL in um, at 0 and 5 nodes of another skeleton tolerated")
    for head in heads + [f"ERL {name[-1]}" for name in runs] + ([""] if len(found.scores.threshold) > 1 else []):
        shown.add_column(head, justify="right" if head else "left")
    for row, threshold in enumerate(found.scores.threshold.tolist()):
        best = threshold == found.chosen.threshold
        cells = [f"{threshold:g}", f"{scores['segments'][row]:,}", *(f"{scores[name][row]:.4f}" for name in names)]
        cells += [f"{scores[name][row] * UM:.3f}" for name in runs]
        mark = ["<" if best else ""] if len(found.scores.threshold) > 1 else []
        shown.add_row(*cells, *mark, style="bold green" if best and mark else None)
    return shown


def _choice_table(found: _Found) -> Table:
    shown = Table("best by", "threshold", "95 % of bootstraps", "value there", title="What each metric would choose")
    for one in found.all:
        unit = UM if one.metric.startswith("erl") else 1.0
        value = f"{one.value * unit:.4f}" + (" um" if unit == UM else "")
        shown.add_row(one.metric, f"{one.threshold:g}", f"{one.low:g} to {one.high:g}", value)
    return shown
