"""``bouton evaluate``: score a segmentation, or synapses, against the truth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bouton.errors import DataError, SpecError
from bouton.evaluate import skeletons as skeleton_metrics
from bouton.evaluate.scores import explain
from bouton.geometry import NM, Box
from bouton.stages.evaluate_synapses import Params, match_rule, neurons_at, score_tables
from bouton.volume import Volume, check_volume, open_volume, read_table

TableData = dict[str, np.ndarray]
INTEGERS = ("uint64", "uint32", "uint16", "uint8", "int64", "int32", "int16", "int8")
_NEEDS = (
    ("segmentation", "truth", "the score compares them"),
    ("skeletons", "segmentation", "the skeletons run through it"),
    ("synapses", "truth-synapses", "the score compares them"),
    ("truth-synapses", "synapses", "the score compares them"),
    ("mapping", "segmentation", "the mapping is applied to it"),
    ("out", "segmentation", "its errors are what is written"),
    ("out", "truth", "errors against it are what is written"),
    ("image", "out", "pictures of errors go there"),
    ("bounds-zyx", "truth", "the truth says how large a voxel is"),
)
WIDE = 120
_EVERYWHERE = Box((0, 0, 0), (2**40, 2**40, 2**40))


def command(
    segmentation: Path = typer.Option(None, help="Segmentation to score: a volume of ids."),
    truth: Path = typer.Option(None, help="True neuron ids: a volume of the same shape; 0 = not labelled, left out."),
    segmentation_dataset: str = typer.Option(None, help="Data set in the segmentation's HDF5 file."),
    truth_dataset: str = typer.Option(None, help="Data set in the truth's HDF5 file."),
    mapping: Path = typer.Option(
        None, help="Parquet table id, root: the segmentation holds fragments, to be scored as their roots."
    ),
    border_nm: float = typer.Option(0.0, help="Leave out voxels this near to a true border in the section (CREMI)."),
    errors: int = typer.Option(10, min=0, help="Show this many of the largest splits and merges."),
    out: Path = typer.Option(None, help="Folder for scores and errors as CSV, and a picture of each error shown."),
    image: Path = typer.Option(None, help="Image under the pictures of --out."),
    image_dataset: str = typer.Option(None, help="Data set in the image's HDF5 file."),
    skeletons: list[Path] = typer.Option(None, help="True skeletons: SWC, NML or Parquet files or folders."),
    swc_unit_nm: float = typer.Option(1.0, min=1e-6, help="Unit of SWC files in nm; 1000 for um."),
    synapses: Path = typer.Option(None, help="Synapses to score: a Parquet table."),
    truth_synapses: Path = typer.Option(None, help="True synapses: a Parquet table with the same columns."),
    bounds_zyx: str = typer.Option(None, help="Score only this box: z0:z1,y0:y1,x0:x1, in voxels."),
    voxel_size_nm: str = typer.Option(None, help="z,y,x in nm, for a truth volume that does not say."),
    max_distance_nm: float = typer.Option(400.0, help="Cleft centres at most this far apart match."),
    margin_nm: float = typer.Option(100.0, help="Synapses nearer than this to a face of the box are neutral."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Score a segmentation, or synapses, or both, against the truth.

    Examples:

      bouton evaluate --segmentation seg.zarr --truth truth.zarr

      bouton evaluate --segmentation $(bouton path runs/demo segmentation)
      --truth $(bouton path runs/demo tissue.neuron_ids)

      bouton evaluate --segmentation my.h5 --segmentation-dataset ids --truth gt.h5 --truth-dataset ids
      --bounds-zyx 120:160,0:250,0:250

      bouton evaluate --segmentation fragments.zarr --mapping cut-0.3.parquet --truth truth.zarr

      bouton evaluate --segmentation seg.zarr --truth truth.zarr --image em.zarr --errors 30 --out errors

      bouton evaluate --segmentation seg.zarr --skeletons tracings/ --swc-unit-nm 1000

      bouton evaluate --synapses synapses.parquet --truth-synapses true.parquet --truth truth.zarr

    With --truth, a synapse's partners are the true neurons at its pre and post positions; without it, its pre_id and
    post_id are compared with the true ones.
    """
    params = Params(max_distance_nm=max_distance_nm, margin_nm=margin_nm)
    _check_given(
        {
            "segmentation": segmentation,
            "truth": truth,
            "bounds-zyx": bounds_zyx,
            "synapses": synapses,
            "truth-synapses": truth_synapses,
            "mapping": mapping,
            "out": out,
            "image": image,
            "skeletons": skeletons,
        }
    )
    size = _parse_size(voxel_size_nm)
    labels = _open_ids(truth, truth_dataset, size, "truth") if truth else None
    results: dict[str, TableData] = {}
    lists: dict[str, TableData] = {}
    found = None
    if segmentation:
        found = _open_ids(segmentation, segmentation_dataset, None if labels else size, "segmentation")
    if found and labels:
        from bouton.cli.segmentation_errors import Choices, evaluate_segmentation

        under = open_volume(image, image_dataset) if image else None
        known_size = _size(size, labels) if border_nm else labels.voxel_size_nm
        choices = Choices(_bounds(bounds_zyx, labels), known_size, mapping, border_nm, errors, out)
        lists = evaluate_segmentation(found, labels, under, choices)
        results["segmentation"] = lists.pop("scores")
    if found and skeletons:
        from bouton.cli.skeleton_scores import evaluate_skeletons

        place = (_bounds(bounds_zyx, labels or found), (labels or found).voxel_size_nm)
        results["skeletons"] = evaluate_skeletons(found, mapping, (skeletons, swc_unit_nm), place)
    if synapses:
        rule = (params, _size(size, labels), _bounds(bounds_zyx, labels))
        results["synapses"] = _evaluate_synapses(read_table(synapses), read_table(truth_synapses), labels, rule)
    if as_json:
        shown = results | {name: {k: v[:errors] for k, v in table.items()} for name, table in lists.items()}
        typer.echo(json.dumps({name: _rows(table) for name, table in shown.items()}, indent=2, allow_nan=False))
        return
    console = Console()
    for name, table in results.items():
        console.print(_pretty(name, table, console.width))
    if lists and errors:
        from bouton.cli.segmentation_errors import pretty_errors

        for kind in ("split", "merge"):
            console.print(pretty_errors(kind, lists[f"{kind}_errors"], errors))
    if out:
        typer.echo(f"{out}: scores.csv, split_errors.csv, merge_errors.csv and a picture of each error shown here")


def _evaluate_synapses(
    synapses: TableData, truth: TableData, labels: Volume | None, rule: tuple[Params, NM, Box]
) -> TableData:
    params, voxel_size_nm, bounds = rule
    _check_columns(synapses, "--synapses")
    _check_columns(truth, "--truth-synapses")
    neurons = (synapses["pre_id"], synapses["post_id"])
    if labels is not None:
        neurons = neurons_at(synapses, labels, voxel_size_nm, bounds)
    elif bounds == _EVERYWHERE:
        # Without a box there is no face to be near to.
        params = Params(params.max_distance_nm, margin_nm=0.0)
    return score_tables(synapses, truth, neurons, match_rule(params, voxel_size_nm, bounds))[0]


def _open_ids(path: Path, dataset: str | None, voxel_size_nm: NM | None, role: str) -> Volume:
    volume = open_volume(path, dataset, voxel_size_nm)
    check_volume(volume, dtypes=INTEGERS, channels=None, role=role)
    return volume


def _check_given(options: Mapping[str, object]) -> None:
    given = {name for name, value in options.items() if value}
    if not given & {"segmentation", "synapses"}:
        raise SpecError(
            "nothing to score", fix="bouton evaluate --help shows all",
            expected="--segmentation with --truth or --skeletons, or --synapses with --truth-synapses",
        )  # fmt: skip
    for name, needs, why in _NEEDS:
        # skeletons are a truth, too
        enough = {needs, "skeletons"} if name == "segmentation" else {needs}
        if name in given and not given & enough:
            raise SpecError(f"--{name} without --{needs}", expected=f"both: {why}", fix=f"add --{needs}")


def _check_columns(table: TableData, option: str) -> None:
    needed = {"id", "z_nm", "y_nm", "x_nm", "pre_id", "post_id", "type"}
    needed |= {f"{side}_{axis}_nm" for side in ("pre", "post") for axis in "zyx"} if option == "--synapses" else set()
    missing = sorted(needed - set(table))
    if missing:
        raise DataError(
            f"no column {', '.join(missing)}", where=option, expected=f"columns {', '.join(sorted(needed))}",
            fix="rename or add them",
        )  # fmt: skip
    for name in sorted(needed - {"type"}):
        _check_numbers(table[name], f"{option}, column {name}", ids=not name.endswith("_nm"))


def _check_numbers(values: np.ndarray, where: str, *, ids: bool) -> None:
    kinds, expected = ("iu", "integer ids") if ids else ("iuf", "finite numbers in nm")
    if values.dtype.kind not in kinds:
        raise DataError(f"{values.dtype} values", where=where, expected=expected, fix="correct the column")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"row {bad[0]} holds {values[bad[0]]}", where=where, expected=expected, fix="drop that row")


def _bounds(text: str | None, labels: Volume | None) -> Box:
    if text is None:
        return labels.box if labels is not None else _EVERYWHERE
    box = Box.parse(text)
    if labels is not None and not labels.box.contains(box):
        fix = f"--bounds-zyx {box & labels.box}"
        raise SpecError(f"bounds {box} leave the truth", expected=f"a box within {labels.box} (z, y, x)", fix=fix)
    return box


def _parse_size(text: str | None) -> NM | None:
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        z = y = x = 0.0
    if not (min(z, y, x) > 0 and math.isfinite(z + y + x)):
        raise SpecError(f"voxel size {text!r}", expected="z,y,x in nm", fix="--voxel-size-nm 40,4,4")
    return z, y, x


def _size(given: NM | None, labels: Volume | None) -> NM:
    """Return the voxel size; without a truth volume, and thus without boxes in voxels, any will do."""
    if labels is None:
        return given or (1.0, 1.0, 1.0)
    if labels.voxel_size_nm is None:
        raise SpecError("the truth does not say its voxel size", expected="--voxel-size-nm z,y,x such as 40,4,4")
    return labels.voxel_size_nm


def _rows(table: TableData) -> list[dict[str, object]]:
    rows = zip(*[values.tolist() for values in table.values()], strict=True)
    return [{name: _plain(value) for name, value in zip(table, row, strict=True)} for row in rows]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pretty(name: str, table: Mapping[str, np.ndarray], width: int) -> Table:
    """Return the scores as a table for a terminal of ``width`` columns; a narrow one gets no explanations."""
    values = dict(zip(table["metric"], table["value"], strict=True))
    columns = ["metric", "value", "unit", "better", "over"]
    with_intervals, wide = any(metric.endswith("_low") for metric in values), width >= WIDE
    columns[2:2] = ["95 % interval"] if with_intervals else []
    caption = None if wide else f"what each says: {WIDE} columns or more"
    pretty = Table(title=f"Scores: {name}", caption=caption)
    for column in columns:
        pretty.add_column(column, no_wrap=True)
    if wide:
        pretty.add_column("what it says")
    for metric, value, unit, better, n in zip(*table.values(), strict=True):
        if metric.removesuffix("_low").removesuffix("_high") != metric:
            continue
        row = [metric, f"{value:.0f}" if better == "" else f"{value:.4f}", unit, better, f"{n:,}"]
        low, high = values.get(f"{metric}_low"), values.get(f"{metric}_high")
        interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        row[2:2] = [interval] if with_intervals else []
        pretty.add_row(*row, *([explain(metric) or skeleton_metrics.explain(metric)] if wide else []))
    return pretty
