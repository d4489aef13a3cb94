"""``bouton check-truth``: what in a ground truth of synapses looks wrong, and whether a score on it can be believed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bouton.cli.choices import Json, size_option
from bouton.cli.evaluation_output import json_rows
from bouton.cli.synapse_scores import extent_text
from bouton.errors import DataError, SpecError
from bouton.evaluate.agreement import Agreement, agreement
from bouton.evaluate.leakage import Leak, Region, leaks
from bouton.evaluate.synapses import MatchRule, points_nm, synapse_set
from bouton.evaluate.truth_checks import (
    SUSPICIONS,
    Detections,
    check_against,
    check_cells,
    check_rows,
    suspects,
)
from bouton.geometry import NM, Box
from bouton.stages.evaluate_synapses import Params, match_rule, neurons_at
from bouton.volume import Volume, open_volume, write_csv, write_table
from bouton.volume.synapse_nml import write_synapse_nml
from bouton.volume.synapse_tables import read_synapses

TableData = dict[str, np.ndarray]
SHOWN = 10
COLUMNS = {
    "suspicion": "str", "id": "uint64", "z_nm": "float64", "y_nm": "float64", "x_nm": "float64", "strength": "float64",
    "words": "str",
}  # fmt: skip
File = Annotated[Path, typer.Argument(metavar="TRUTH", help="True synapses: Parquet, CSV or NML.")]
Cells = Annotated[Path | None, typer.Option(help="Volume of the true cells: are the partners' points in them?")]
CellsDataset = Annotated[str | None, typer.Option(help="Data set in the HDF5 file of --cells.")]
Second = Annotated[Path | None, typer.Option(help="The same synapses by another annotator: agreement.")]
Found = Annotated[Path | None, typer.Option("--detections", help="A detector's synapses: where do they disagree?")]
Trained = Annotated[list[Path] | None, typer.Option("--training", help="Training files: did a network see the image?")]
Image = Annotated[Path | None, typer.Option(help="The image that the truth belongs to, for --training.")]
ImageDataset = Annotated[str | None, typer.Option(help="Data set in the HDF5 file of --image.")]
Seed = Annotated[int | None, typer.Option("--phantom-seed", help="Instead of --image: the seed of a phantom.")]
Bounds = Annotated[str | None, typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="The annotated box, in voxels.")]
Size = Annotated[str | None, typer.Option(metavar="Z,Y,X", help="Voxel size in nm, where --cells does not say.")]
Distance = Annotated[float, typer.Option(min=0, help="Cleft centres at most this far apart are one synapse.")]
Margin = Annotated[float, typer.Option(min=0, help="Nearer to a face of the box than this nobody is asked.")]
Near = Annotated[float, typer.Option(min=0, help="Synapses of the same two cells nearer than this may be one.")]
Out = Annotated[Path | None, typer.Option(help="Folder for suspects.parquet, suspects.csv and suspects.nml.")]


@dataclass(frozen=True)
class Space:
    """The annotated box and what is known of it."""

    cells: Volume | None
    voxel_size_nm: NM
    bounds: Box
    rule: MatchRule


def command(
    truth: File,
    cells: Cells = None,
    cells_dataset: CellsDataset = None,
    second: Second = None,
    detections: Found = None,
    training: Trained = None,
    image: Image = None,
    image_dataset: ImageDataset = None,
    phantom_seed: Seed = None,
    bounds_zyx: Bounds = None,
    voxel_size_nm: Size = None,
    max_distance_nm: Distance = 400.0,
    margin_nm: Margin = 100.0,
    near_nm: Near = 150.0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Look for errors in a ground truth of synapses.

    Rows that contradict themselves or the cells; rows that a sure detector contradicts; how far two annotators agree;
    whether a network was trained where it is to be scored. A suspicion is a question to a person: nothing is changed.
    --out writes the places as an NML file for webKnossos, one group per suspicion.

    [bold]Examples[/bold]

      bouton check-truth truth.parquet --cells neurons.zarr

      bouton check-truth anna.nml --second ben.nml --cells neurons.zarr --out questions

      bouton check-truth truth.csv --cells neurons.zarr --detections $(bouton path runs/mine synapses)

      bouton check-truth truth.parquet --bounds-zyx 0:20,560:640,0:1024 --voxel-size-nm 50,4.6,4.6
      --image stack1.h5 --image-dataset volumes/raw --training workflows/train/vnc.yaml
    """
    size = size_option(voxel_size_nm)
    labels = open_volume(cells, cells_dataset, size) if cells else None
    table = read_synapses(truth, labels.voxel_size_nm if labels else size)
    space = _space(labels, (size, bounds_zyx), Params(max_distance_nm, margin_nm), table)
    mine = synapse_set(table)
    rows = check_rows(table, space.rule, near_nm)
    if labels is not None:
        rows += check_cells(table, _cells_at(table, space), space.rule)
    silent: TableData = suspects([], table)
    if detections:
        found = read_synapses(detections, space.voxel_size_nm)
        about, extra = check_against(mine, Detections(found, synapse_set(found, _cells_at(found, space))), space.rule)
        rows += about
        silent = suspects(extra, found)
    both = suspects(rows, table)
    both = {name: np.concatenate([values, silent[name]]) for name, values in both.items()}
    other = read_synapses(second, space.voxel_size_nm) if second else None
    agreed = agreement(mine, synapse_set(other), space.rule) if other else None
    leaked = _leaks(training or [], (image, image_dataset, phantom_seed), space) if training else None
    if out:
        _write(out, both, space.voxel_size_nm)
    line = _misplaced(both, table, space)
    if line:
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(_plain(both, agreed, leaked), indent=2, allow_nan=False))
        return
    _show(Console(), len(table["id"]), both, agreed, leaked)
    if out:
        typer.echo(f"{out}: suspects.parquet, suspects.csv, suspects.nml")


def _space(labels: Volume | None, given: tuple[NM | None, str | None], params: Params, table: TableData) -> Space:
    size, bounds = given
    if labels is not None:
        if labels.voxel_size_nm is None:
            raise SpecError("--cells does not say its voxel size", expected="--voxel-size-nm z,y,x such as 40,4,4")
        box = labels.box if bounds is None else Box.parse(bounds)
        if not labels.box.contains(box):
            fix = f"--bounds-zyx {box & labels.box}"
            raise SpecError(f"bounds {box} leave the cells", expected=f"a box within {labels.box}", fix=fix)
        return Space(labels, labels.voxel_size_nm, box, match_rule(params, labels.voxel_size_nm, box))
    if bounds is not None and size is None:
        raise SpecError("--bounds-zyx without a voxel size", expected="--cells or --voxel-size-nm", fix="add one")
    size = size or (1.0, 1.0, 1.0)
    if bounds is not None:
        return Space(None, size, Box.parse(bounds), match_rule(params, size, Box.parse(bounds)))
    # without a box there is no face to be near to
    places = points_nm(table)
    top = np.ceil(np.nanmax(places, axis=0, initial=1.0) / size).astype(int) + 1
    z, y, x = (int(n) for n in top)
    box = Box((0, 0, 0), (z, y, x))
    return Space(None, size, box, match_rule(Params(params.max_distance_nm, 0.0), size, box))


def _cells_at(table: TableData, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Return the true cell at the pre and at the post point of each synapse; without --cells nobody knows these."""
    if space.cells is None:
        return (np.zeros(len(table["id"]), np.uint64),) * 2
    return neurons_at(table, space.cells, space.voxel_size_nm, space.bounds)


def _misplaced(both: TableData, table: TableData, space: Space) -> str:
    """Return a line on where synapses and volume lie, where most synapses do not fit it; else nothing."""
    wrong = np.unique(both["id"][np.isin(both["suspicion"], ("outside", "other_cell"))])
    if 2 * len(wrong) <= len(table["id"]):
        return ""
    corners = np.array([space.rule.start_nm, space.rule.stop_nm])
    return (
        f"note: {len(wrong)} of {len(table['id'])} synapses do not fit the volume: they lie at "
        f"{extent_text(points_nm(table))}, the volume at {extent_text(corners)}; check units (nm, not voxels or um), "
        "the order of the axes and the offset"
    )


def _leaks(files: list[Path], place: tuple[Path | None, str | None, int | None], space: Space) -> list[Leak]:
    # torch takes seconds to import: only who asks for it waits
    from bouton.cli.training_regions import image_name, phantom_name, training_regions

    image, dataset, seed = place
    if (image is None) == (seed is None):
        raise SpecError(
            "--training without an image to look for" if image is None else "--image and --phantom-seed",
            expected="--image FILE or --phantom-seed N: what the truth belongs to", fix="give one of them",
        )  # fmt: skip
    if image is not None and not image.exists():
        raise DataError(f"no image {image}", expected="the image that the truth belongs to", fix="check --image")
    name = image_name(image, dataset) if image is not None else phantom_name(int(seed or 0))
    scored = Region(name, space.bounds, f"{image.name if image else name}, {space.bounds}")
    found: list[Leak] = []
    for file in files:
        regions, context = training_regions(file)
        found += leaks(regions, [scored], context)
    return found


def _write(out: Path, both: TableData, voxel_size_nm: NM) -> None:
    write_table(out / "suspects.parquet", both, COLUMNS)
    write_csv(out / "suspects.csv", both)
    # a synapse may be asked about twice, and a detection may have the id of a true one: trees are numbered anew
    trees = both | {"id": np.arange(1, len(both["id"]) + 1, dtype=np.uint64), "synapse": both["id"]}
    trees["comment"] = trees.pop("words")
    write_synapse_nml(out / "suspects.nml", trees, voxel_size_nm, groups="suspicion")


def _plain(both: TableData, agreed: Agreement | None, leaked: list[Leak] | None) -> Mapping[str, object]:
    found: dict[str, object] = {"suspects": json_rows(both)}
    if agreed is not None:
        levels = {name: {"f1": d.f1.value, "both": d.tp, "first_only": d.fn, "second_only": d.fp}
                  for name, d in agreed.levels.items()}  # fmt: skip
        found["agreement"] = {"levels": levels, "kappa_of_types": agreed.kappa, "distance_nm": agreed.distance_nm}
        found["agreement"] = _finite(found["agreement"])
    if leaked is not None:
        found["leaks"] = [
            {"trained": leak.trained.name, "scored": leak.scored.name, "shared_voxels": leak.shared_voxels,
             "share": leak.share} for leak in leaked
        ]  # fmt: skip
    return found


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _show(console: Console, count: int, both: TableData, agreed: Agreement | None, leaked: list[Leak] | None) -> None:
    pretty = Table(title=f"{count} true synapses, {len(both['id'])} questions")
    for column in ("suspicion", "id", "z, y, x nm", "strength", "what"):
        pretty.add_column(column)
    for name, sentence in SUSPICIONS.items():
        rows = np.flatnonzero(both["suspicion"] == name)
        for row in rows[:SHOWN]:
            place = ", ".join(f"{both[f'{axis}_nm'][row]:.0f}" for axis in "zyx")
            pretty.add_row(name, str(both["id"][row]), place, f"{both['strength'][row]:.2f}", both["words"][row])
        if len(rows) > SHOWN:
            pretty.add_row(name, "", "", "", f"and {len(rows) - SHOWN} more: {sentence}")
    console.print(pretty)
    if agreed is not None:
        console.print(_agreement_table(agreed))
    if leaked is not None:
        for leak in leaked:
            how = f"{leak.share:.0%} of what is scored" if leak.shared_voxels else "its surroundings"
            console.print(
                f"[bold]LEAK[/bold]: {leak.scored.name} shares {how} with {leak.trained.name}", highlight=False
            )
        if not leaked:
            console.print("no overlap with the training data named")


def _agreement_table(agreed: Agreement) -> Table:
    distance = f"median distance {agreed.distance_nm:.0f} nm" if np.isfinite(agreed.distance_nm) else "none matched"
    kappa = f", kappa of types {agreed.kappa:.2f}" if np.isfinite(agreed.kappa) else ""
    table = Table(title="Two annotators", caption=distance + kappa)
    for column in ("agree in", "F1", "95 % interval", "both", "first only", "second only"):
        table.add_column(column)
    for name, found in agreed.levels.items():
        f1 = found.f1
        row = (f"{f1.value:.3f}", f"{f1.low:.3f} to {f1.high:.3f}", str(found.tp), str(found.fn), str(found.fp))
        table.add_row(name, *row)
    return table
