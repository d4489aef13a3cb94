"""``bouton densities sample``: blocks for people to look at, without a hint why each was chosen."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import typer

from bouton.cli.choices import RunName, RunsFolder
from bouton.cli.density_tables import Densities, open_densities, outliers_of
from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.volume import TableData, bytes_checksum, write_bytes, write_csv
from bouton.volume.files import new_folder
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import run_layers

KEY, SAMPLE, ANSWERS, PAGE, NML, LIST = (
    "key.json", "sample.json", "answers.csv", "tasks.html", "tasks.nml", "tasks.csv"
)  # fmt: skip
SEALED = "Do not open before scoring: this file tells why each block was chosen."
ANSWER_COLUMNS = ("sheet", "task", "synapses", "usable", "matched", "comment")


def command(
    run: RunName,
    low: int = typer.Option(100, min=0, help="Blocks with the fewest synapses for their volume."),
    high: int = typer.Option(100, min=0, help="Blocks with the most."),
    control: int = typer.Option(0, min=0, help="Blocks drawn from all others: they tell how well the detector counts."),
    blind: bool = typer.Option(True, "--blind/--open", help="Hide why a block was chosen, or tell it."),
    out: Path = typer.Option(..., help="Folder to write; must not be there yet."),
    max_masked_share: float = typer.Option(0.1, min=0, max=1, help="Leave out blocks of which more is masked."),
    seed: int = typer.Option(None, min=0, help="Of the order; default: a new one, which only the key knows."),
    step: str = typer.Option(None, help="Step with the densities, where a run has several."),
    runs: RunsFolder = Path("runs"),
) -> None:
    """Choose outlier blocks for people to count synapses in: boxes for webKnossos, links to the viewer, a sheet.

    Examples:

      bouton densities sample runs/cortex --low 100 --high 100 --control 50 --blind --out check

      bouton densities score check

    Give tasks.nml or tasks.html and answers.csv to the people who count, and keep key.json to yourself.
    """
    from bouton.density.blinding import Wanted, choose, task_names

    found = open_densities(run, runs, step)
    if len(found) > 1 or found[0].run is None:
        names = ", ".join(one.name for one in found)
        raise SpecError(f"{run}: {names}", expected="one run", fix="name the run folder of one dataset")
    densities = found[0]
    seed = secrets.randbits(32) if seed is None else seed
    kept, score, chosen_by = _scored(densities, Wanted(low, high, control), max_masked_share)
    sample = choose(score, Wanted(low, high, control), seed)
    rows = {name: values[kept[sample.rows]] for name, values in densities.table.items()}
    rows = {"task": np.array(task_names(len(sample.rows)), dtype=object), **rows, "group": sample.groups}
    how = {"seed": seed, "chosen_by": chosen_by, "max_masked_share": max_masked_share}
    key = _key(densities, rows, how, kept)
    _write(out, densities.run, rows, (key, blind))
    typer.echo(f"{out}: {len(sample.rows)} tasks, chosen by {chosen_by}")
    typer.echo(f"for those who count: {PAGE} or {NML}, and {ANSWERS} to fill in")
    typer.echo(f"for nobody before scoring: {KEY}")
    if not _images(densities.run):
        typer.echo("note: the run shows no image, so there are no links; use the boxes in webKnossos", err=True)


def _scored(densities: Densities, wanted: Any, max_masked_share: float) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the rows that may be chosen, their scores from too few to too many, and where these are from."""
    from bouton.density.blinding import surprise
    from bouton.density.blocks import density_blocks, kept_rows

    kept = np.flatnonzero(kept_rows(densities.table, max_masked_share))
    outliers = outliers_of(densities)
    if outliers is not None:
        score = _ranks(densities.table, outliers)[kept]
        if (score < 0).sum() >= wanted.low and (score > 0).sum() >= wanted.high:
            return kept, score, "the table of outliers"
    blocks = density_blocks(densities.table, max_masked_share)
    return kept, surprise(blocks), "how surprising their counts are for their volume"


def _ranks(table: TableData, outliers: TableData) -> np.ndarray:
    """Return the places of blocks among the outliers: the most surprising low one is the least; others are 0."""
    place = {tuple(row): i for i, row in enumerate(_index(outliers).tolist())}
    count = len(place)
    sign = np.select([outliers["side"] == "low", outliers["side"] == "high"], [-1, 1])
    ranks = [place.get(tuple(row)) for row in _index(table).tolist()]
    return np.array([0 if rank is None else sign[rank] * (count - rank) for rank in ranks], np.int64)


def _index(table: TableData) -> np.ndarray:
    return np.stack([np.asarray(table[f"block_{axis}"], np.int64) for axis in "zyx"], axis=1)


def _key(densities: Densities, rows: TableData, how: dict[str, Any], kept: np.ndarray) -> bytes:
    """Return the file that tells all: groups and counts by task, and what the detector found in all blocks."""
    names = ("task", "group", "block_z", "block_y", "block_x", "synapses", "all_synapses")
    tasks = {name: rows[name].tolist() for name in names}
    tasks["unmasked_um3"] = _unmasked_um3(rows).tolist()
    all_blocks = {name: values[kept] for name, values in densities.table.items()}
    rate = float(all_blocks["all_synapses"].sum() / _unmasked_um3(all_blocks).sum())
    content = {"read_me": SEALED, "run": densities.name, **how, "rate_um3": rate, "tasks": tasks}
    return json.dumps(content, indent=1, allow_nan=False).encode()


def _unmasked_um3(rows: TableData) -> np.ndarray:
    """Return the volume in which a person can count: a mask's surround belongs to it, unlike to the exposed volume."""
    return (rows["voxels"] - rows["masked_voxels"]) * (rows["exposed_um3"] / rows["exposed_voxels"])


def _write(out: Path, run: Run, rows: TableData, hidden: tuple[bytes, bool]) -> None:
    from bouton.report.density_tasks import TaskRow, tasks_page
    from bouton.volume.task_nml import write_task_nml

    key, blind = hidden
    names, boxes = rows["task"].tolist(), _boxes(rows)
    links = _links(run, rows, boxes)
    public: TableData = {"task": rows["task"]}
    for name in ("z_start", "z_stop", "y_start", "y_stop", "x_start", "x_stop"):
        public[name] = rows[name]
    public["link"] = np.array(links, dtype=object)
    if not blind:
        public |= {name: rows[name] for name in ("group", "synapses", "all_synapses", "density_um3")}
    told: dict[str, Any] = {
        "run": run.folder.name,
        "tasks": len(names),
        "blind": blind,
        "key_checksum": bytes_checksum(key),
    }
    sheet = sheet_name(told["key_checksum"])
    reasons = [""] * len(names) if blind else [f"{g}, {n} detected" for g, n in
                                              zip(rows["group"], rows["all_synapses"], strict=True)]  # fmt: skip
    with new_folder(out) as folder:
        write_csv(folder / LIST, public)
        write_task_nml(folder / NML, dict(zip(names, boxes, strict=True)), run.voxel_size_nm, run.folder.name)
        page = [TaskRow(n, str(b), link, why) for n, b, link, why in zip(names, boxes, links, reasons, strict=True)]
        write_bytes(folder / PAGE, tasks_page(run.folder.name, sheet, page).encode())
        write_bytes(folder / ANSWERS, _sheet(names, sheet))
        write_bytes(folder / KEY, key)
        write_bytes(folder / SAMPLE, json.dumps(told, indent=1).encode())


def sheet_name(key_checksum: str) -> str:
    """Return a word that tells one sample's sheet from another's: letters, which spreadsheets leave alone."""
    return "".join("bdfghjklmnpqrstv"[int(digit, 16)] for digit in key_checksum[:6])


def _sheet(names: list[str], sheet: str) -> bytes:
    return "".join([",".join(ANSWER_COLUMNS) + "\n", *(f"{sheet},{name},,,,\n" for name in names)]).encode()


def _boxes(rows: TableData) -> list[Box]:
    starts, stops = (np.stack([rows[f"{axis}_{end}"] for axis in "zyx"], axis=1).tolist() for end in ("start", "stop"))
    return [Box((a[0], a[1], a[2]), (b[0], b[1], b[2])) for a, b in zip(starts, stops, strict=True)]


def _links(run: Run, rows: TableData, boxes: list[Box]) -> list[str]:
    from bouton.report.links import box_url

    images = _images(run)
    places = np.stack([rows[f"{axis}_nm"] for axis in "zyx"], axis=1).tolist()
    return [box_url(run.folder.name, at, box, images) if images else "" for at, box in zip(places, boxes, strict=True)]


def _images(run: Run) -> list[str]:
    """Return the name of the run's first image: the only thing that people should see."""
    return [layer.name for layer in run_layers(run) if layer.kind == "image"][:1]
