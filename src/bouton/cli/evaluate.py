"""``bouton evaluate``: score a segmentation, synapses, or clefts, against the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import typer
from rich.console import Console

from bouton.cli.choices import size_option
from bouton.cli.evaluation_output import json_rows, pretty_scores, titled
from bouton.cli.synapse_scores import EVERYWHERE, SynapseFiles, evaluate_synapses
from bouton.errors import SpecError
from bouton.geometry import NM, Box
from bouton.stages.evaluate_synapses import Params
from bouton.volume import Volume, check_volume, open_volume

TableData = dict[str, np.ndarray]
INTEGERS = ("uint64", "uint32", "uint16", "uint8", "int64", "int32", "int16", "int8")
_NEEDS = (
    ("segmentation", "truth", "the score compares them"),
    ("skeletons", "segmentation", "the skeletons run through it"),
    ("synapses", "truth-synapses", "the score compares them"),
    ("truth-synapses", "synapses", "the score compares them"),
    ("mapping", "segmentation", "the mapping is applied to it"),
    ("clefts", "truth-clefts", "the score compares them"),
    ("truth-clefts", "clefts", "the score compares them"),
    ("choose-score-on", "synapses", "the score is taken of these"),
    ("out", "segmentation", "its errors are what is written"),
    ("out", "truth", "errors against it are what is written"),
    ("image", "out", "pictures of errors go there"),
    ("bounds-zyx", "truth", "the truth says how large a voxel is"),
)
# A need that something else meets as well: skeletons are a truth, too.
_ALSO = {
    "segmentation": {"skeletons"},
    "out": {"synapses"},
    "bounds-zyx": {"truth-clefts"},
}


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
    synapses: Path = typer.Option(None, help="Synapses to score: Parquet, CSV or NML, ours or CAVE's."),
    truth_synapses: Path = typer.Option(None, help="True synapses: a file of any of these kinds."),
    min_score: float = typer.Option(0.0, min=0.0, max=1.0, help="Leave out synapses of a lower score."),
    choose_score_on: tuple[Path, Path] = typer.Option(
        None, metavar="SYNAPSES TRUTH", help="Take the least score that is best on these files, of other tissue."
    ),
    choose_score_by: str = typer.Option("location", help="F1 to choose by: location, pair, partners or type."),
    clefts: Path = typer.Option(None, help="Clefts to score: a volume of ids."),
    truth_clefts: Path = typer.Option(None, help="True clefts: a volume of ids, CREMI's files too."),
    clefts_dataset: str = typer.Option(None, help="Data set in the clefts' HDF5 file."),
    truth_clefts_dataset: str = typer.Option(None, help="Data set in the true clefts' HDF5 file."),
    bounds_zyx: str = typer.Option(None, help="Score only this box: z0:z1,y0:y1,x0:x1, in voxels."),
    voxel_size_nm: str = typer.Option(None, help="z,y,x in nm, for a truth volume that does not say."),
    max_distance_nm: float = typer.Option(400.0, help="Cleft centres at most this far apart match."),
    margin_nm: float = typer.Option(100.0, help="Synapses nearer than this to a face of the box are neutral."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Score a segmentation, synapses, clefts, or all of them, against the truth.

    Examples:

      bouton evaluate --segmentation seg.zarr --truth truth.zarr

      bouton evaluate --segmentation $(bouton path runs/demo segmentation)
      --truth $(bouton path runs/demo tissue.neuron_ids)

      bouton evaluate --segmentation my.h5 --segmentation-dataset ids --truth gt.h5 --truth-dataset ids
      --bounds-zyx 120:160,0:250,0:250

      bouton evaluate --segmentation fragments.zarr --mapping cut-0.3.parquet --truth truth.zarr

      bouton evaluate --segmentation seg.zarr --truth truth.zarr --image em.zarr --errors 30 --out errors

      bouton evaluate --segmentation seg.zarr --skeletons tracings/ --swc-unit-nm 1000

      bouton evaluate --synapses synapses.parquet --truth-synapses true.nml --truth truth.zarr

      bouton evaluate --synapses test.parquet --truth-synapses test-true.parquet
      --choose-score-on validation.parquet validation-true.parquet --out scores

      bouton evaluate --clefts clefts.zarr --truth-clefts sample_A.hdf --truth-clefts-dataset volumes/labels/clefts

    With --truth, a synapse's partners are the true neurons at its pre and post positions; without it, its pre_id and
    post_id are compared with the true ones.
    """
    if not np.isfinite(border_nm):
        raise SpecError(f"--border-nm {border_nm}", expected="a distance in nm, finite")
    params = Params(max_distance_nm=max_distance_nm, margin_nm=margin_nm, min_score=min_score)
    _check_given(
        {
            "segmentation": segmentation,
            "truth": truth,
            "bounds-zyx": bounds_zyx,
            "synapses": synapses,
            "truth-synapses": truth_synapses,
            "choose-score-on": choose_score_on,
            "clefts": clefts,
            "truth-clefts": truth_clefts,
            "mapping": mapping,
            "out": out,
            "image": image,
            "skeletons": skeletons,
        }
    )
    size = size_option(voxel_size_nm)
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
        files = SynapseFiles(synapses, truth_synapses, choose_score_on, choose_score_by, out)
        known_size = _size(size, labels) if labels else size
        scored, notes = evaluate_synapses(files, labels, params, (known_size, _bounds(bounds_zyx, labels)))
        results["synapses"] = scored["scores"]
        for line in notes:
            typer.echo(f"note: {line}", err=True)
    if clefts:
        from bouton.cli.cleft_scores import evaluate_clefts

        volumes = (
            _open_ids(clefts, clefts_dataset, size, "clefts"),
            _open_ids(truth_clefts, truth_clefts_dataset, size, "truth"),
        )
        results["clefts"] = evaluate_clefts(*volumes, bounds_zyx, size, max_distance_nm)
    if as_json:
        shown = results | {name: {k: v[:errors] for k, v in table.items()} for name, table in lists.items()}
        typer.echo(json.dumps({name: json_rows(table) for name, table in shown.items()}, indent=2, allow_nan=False))
        return
    _show(results, lists, errors)
    if out and lists:
        typer.echo(f"{out}: scores.csv, split_errors.csv, merge_errors.csv and a picture of each error shown here")
    if out and synapses:
        names = "synapse_scores (.parquet, .csv), synapse_matches, synapse_curve, neuron_similarity (.csv)"
        typer.echo(f"{out}: {names}")


def _show(results: Mapping[str, TableData], lists: Mapping[str, TableData], errors: int) -> None:
    console = Console()
    for name, table in results.items():
        for title, rows in titled(name, table).items():
            console.print(pretty_scores(title, rows, console.width))
    if lists and errors:
        from bouton.cli.segmentation_errors import pretty_errors

        for kind in ("split", "merge"):
            console.print(pretty_errors(kind, lists[f"{kind}_errors"], errors))


def _open_ids(path: Path, dataset: str | None, voxel_size_nm: NM | None, role: str) -> Volume:
    volume = open_volume(path, dataset, voxel_size_nm)
    check_volume(volume, dtypes=INTEGERS, channels=None, role=role)
    return volume


def _check_given(options: Mapping[str, object]) -> None:
    given = {name for name, value in options.items() if value}
    if not given & {"segmentation", "synapses", "clefts"}:
        raise SpecError(
            "nothing to score", fix="bouton evaluate --help shows all",
            expected="--segmentation with --truth or --skeletons, --synapses with --truth-synapses, or --clefts",
        )  # fmt: skip
    for name, needs, why in _NEEDS:
        if name in given and not given & {needs, *_ALSO.get(name, ())}:
            raise SpecError(f"--{name} without --{needs}", expected=f"both: {why}", fix=f"add --{needs}")


def _bounds(text: str | None, labels: Volume | None) -> Box:
    if text is None:
        return labels.box if labels is not None else EVERYWHERE
    box = Box.parse(text)
    if labels is not None and not labels.box.contains(box):
        fix = f"--bounds-zyx {box & labels.box}"
        raise SpecError(f"bounds {box} leave the truth", expected=f"a box within {labels.box} (z, y, x)", fix=fix)
    return box


def _size(given: NM | None, labels: Volume | None) -> NM:
    """Return the voxel size; without a truth volume, and thus without boxes in voxels, any will do."""
    if labels is None:
        return given or (1.0, 1.0, 1.0)
    if labels.voxel_size_nm is None:
        raise SpecError("the truth does not say its voxel size", expected="--voxel-size-nm z,y,x such as 40,4,4")
    return labels.voxel_size_nm
