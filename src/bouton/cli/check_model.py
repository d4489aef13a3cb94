"""``bouton check-model``: does this network fit this image? Looked at in boxes, before a long run."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bouton.cli.choices import BoundsZYX, Json, size_option, voxels_option
from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX, Box
from bouton.volume import Volume, check_volume, open_volume, write_bytes

if TYPE_CHECKING:
    from bouton.learn.card import Card
    from bouton.learn.model import Model
    from bouton.learn.shift_features import BoxReading
    from bouton.learn.shift_verdict import Evidence

LARGEST_BOX: ZYX = (48, 48, 48)
PICTURES = 6
REMEDY_BOXES = 3
NOT_FITTING = 3
INTEGERS = ("uint64", "uint32", "uint16", "uint8", "int64", "int32", "int16", "int8")


@dataclass(frozen=True)
class _Subject:
    """The model and the image, opened, and where boxes are drawn from."""

    name: str
    folder: Path
    card: Card
    model: Model
    volume: Volume
    voxel_size_nm: NM
    bounds: Box


@dataclass(frozen=True)
class _Truth:
    volume: Volume
    erode_zyx: ZYX


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or its folder.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The volume: uint8.")],
    dataset: Annotated[str | None, typer.Option(help="Data set in the image's file.")] = None,
    voxel_size_nm: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="In nm, for an image that does not say.")
    ] = None,
    bounds_zyx: BoundsZYX = None,
    boxes: Annotated[int, typer.Option(min=1, help="How many boxes to look at.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the places of the boxes.")] = 0,
    truth: Annotated[Path | None, typer.Option(help="True neuron ids: how far can probabilities be believed?")] = None,
    truth_dataset: Annotated[str | None, typer.Option(help="Data set in the truth's file.")] = None,
    truth_erode_zyx: Annotated[
        str, typer.Option(metavar="Z,Y,X", help="Voxels so near to a true border are membrane, as in the training.")
    ] = "0,0,0",
    make_reference: Annotated[
        bool, typer.Option("--make-reference", help="IMAGE is training data: add it to the model's reference.json.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for page, table and result.")] = Path("runs/check-model"),
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 3 unless the model fits.")] = False,
    as_json: Json = False,
) -> int:
    """Look at boxes spread over an image and tell whether a model fits it: fits, doubtful or does not fit, and why.

    Compared with the model's training data: voxel size, grey values, noise, sharpness, likeness of sections; how sure
    the network is, and how far it contradicts itself on turned, flipped and slightly changed boxes. OUT/index.html
    shows the worst regions.

    Examples:

      bouton check-model affinity-fib25 em.zarr

      bouton check-model affinity-fib25 volume.h5 --dataset volumes/raw --bounds-zyx 120:160,0:250,0:250 --boxes 32

      bouton check-model affinity-fib25 em.zarr --truth labels.zarr --truth-erode-zyx 1,1,1

      bouton check-model runs/train/mine/mine training.zarr --bounds-zyx 0:120,0:250,0:250 --make-reference --boxes 48
    """
    size = size_option(voxel_size_nm)
    subject = _open(model, open_volume(image, dataset, size), Box.parse(bounds_zyx) if bounds_zyx else None)
    if make_reference:
        _make_reference(subject, boxes, seed, as_json)
        return 0
    labels = _open_truth(truth, truth_dataset, truth_erode_zyx, subject)
    evidence, pictures = _look(subject, boxes, seed, labels, as_json)
    from bouton.learn.shift_verdict import FITS, judge

    verdict, reasons = judge(evidence)
    result = _as_json(subject, evidence, verdict, reasons)
    _write(subject, evidence, pictures, result, out)
    if as_json:
        typer.echo(json.dumps(result, indent=2, allow_nan=False))
    else:
        _show(result, evidence, out)
    return NOT_FITTING if strict and verdict != FITS else 0


def _open(model: str, volume: Volume, bounds: Box | None) -> _Subject:
    from bouton.learn.card import read_card
    from bouton.learn.model import load_model
    from bouton.learn.shipped import check_sees_images, model_path

    check_volume(volume, dtypes=("uint8",), channels=None, role="image")
    if volume.voxel_size_nm is None:
        raise SpecError(
            "the image does not say how large its voxels are", where=volume.name, expected="z,y,x in nm",
            fix="--voxel-size-nm 40,4,4",
        )  # fmt: skip
    if bounds is not None and not volume.box.contains(bounds):
        raise SpecError(
            f"--bounds-zyx {bounds}", where=volume.name, expected=f"a box inside {volume.box}", fix="give a smaller box"
        )
    folder = model_path(model)
    card = read_card(folder)
    check_sees_images(model, card.prediction)
    return _Subject(model, folder, card, load_model(folder), volume, volume.voxel_size_nm, bounds or volume.box)


def _open_truth(path: Path | None, dataset: str | None, erode: str, subject: _Subject) -> _Truth | None:
    if path is None:
        return None
    if "affinities" not in subject.card.prediction.heads:
        raise SpecError(
            "--truth with a model without affinities", expected="a model with affinities", fix="leave it out"
        )
    volume = open_volume(path, dataset, subject.voxel_size_nm)
    check_volume(volume, dtypes=INTEGERS, channels=None, role="labels")
    eroded = voxels_option(erode, "--truth-erode-zyx", least=0, like="1,1,1")
    return _Truth(volume, eroded or (0, 0, 0))


def _box_shape(subject: _Subject, wanted: ZYX) -> ZYX:
    from bouton.learn.shift_features import fitting_box

    shape = fitting_box(subject.card.prediction, wanted, subject.bounds.shape)
    if shape is None:
        multiple = subject.model.info.architecture.multiple
        raise DataError(
            f"{list(subject.bounds.shape)} voxels (z, y, x) to look at", where=subject.volume.name,
            expected=f"at least {list(multiple)}, what the network takes at once",
            fix="give larger bounds or another image",
        )  # fmt: skip
    return shape


def _usual_box(subject: _Subject) -> ZYX:
    z, y, x = (min(n, t) for n, t in zip(LARGEST_BOX, subject.card.prediction.tile_zyx, strict=True))
    return z, y, x


def _make_reference(subject: _Subject, count: int, seed: int, quiet: bool) -> None:
    from bouton.learn.shift import FEWEST_BOXES, REFERENCE, Reference, read_reference, reference_bytes
    from bouton.learn.shift_features import sample_boxes

    model_nm, digest = subject.card.prediction.voxel_size_nm, subject.card.weights.sha256
    if max(abs(a / b - 1) for a, b in zip(subject.voxel_size_nm, model_nm, strict=True)) > 0.1:
        raise SpecError(
            f"training data of {list(subject.voxel_size_nm)} nm (z, y, x)", where=subject.volume.name,
            expected=f"the model's {list(model_nm)} nm", fix="check --voxel-size-nm",
        )  # fmt: skip
    try:
        found = read_reference(subject.folder, digest)
    except DataError:
        # of other weights, or damaged: it is what this command makes anew
        found = None
    shape = _box_shape(subject, found.box_zyx if found else _usual_box(subject))
    if found and shape != found.box_zyx:
        raise DataError(
            f"{list(subject.bounds.shape)} voxels (z, y, x)", where=subject.volume.name,
            expected=f"at least a box of the reference's {list(found.box_zyx)}", fix="give larger training data",
        )  # fmt: skip
    places = sample_boxes(subject.bounds, shape, count, seed)
    readings = [one for one, _, _ in _readings(subject, places, seed, quiet)]
    rows = np.array([one.features for one in readings if not one.blank])
    if len(rows) + (len(found.rows) if found else 0) < FEWEST_BOXES:
        raise DataError(
            f"{len(rows)} boxes with tissue", where=subject.volume.name, expected=f"at least {FEWEST_BOXES}",
            fix="--boxes 48, or larger training data",
        )  # fmt: skip
    name = Path(subject.volume.path).name + (f":{d}" if (d := subject.volume.info.dataset) else "")
    made = found or Reference(digest, shape, model_nm, ())
    made = made.with_source(name, subject.bounds, rows)
    write_bytes(subject.folder / REFERENCE, reference_bytes(made))
    typer.echo(f"{subject.folder / REFERENCE}: {len(rows)} boxes of {name}, {len(made.rows)} in all", err=quiet)


def _readings(
    subject: _Subject, places: list[Box], seed: int, quiet: bool
) -> list[tuple[BoxReading, np.ndarray, dict[str, np.ndarray]]]:
    from bouton.learn.shift_features import look_at_box

    console = Console(stderr=True)
    columns = (TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TextColumn("boxes"), TimeRemainingColumn())
    found = []
    # In a file of errors a bar is noise.
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        for box in bar.track(places):
            values = subject.volume.read(box)
            reading, outputs = look_at_box(subject.model, values, box, seed)
            found.append((reading, values, outputs))
    return found


def _look(subject: _Subject, count: int, seed: int, truth: _Truth | None, quiet: bool) -> tuple[Evidence, list[Any]]:
    """Return the evidence, and (index, image, outputs) of the boxes to be shown."""
    from bouton.learn.shift import TYPICAL_DOUBTFUL, read_reference, try_remedies
    from bouton.learn.shift_features import sample_boxes
    from bouton.learn.shift_verdict import Evidence

    reference = read_reference(subject.folder, subject.card.weights.sha256)
    wanted = reference.box_zyx if reference else _usual_box(subject)
    shape = _box_shape(subject, wanted)
    found = _readings(subject, sample_boxes(subject.bounds, shape, count, seed), seed, quiet)
    sizes = subject.card.prediction.voxel_size_nm, subject.voxel_size_nm, shape, wanted
    calibration = _calibrate(found, truth, subject) if truth else None
    evidence = Evidence(*sizes, [one for one, _, _ in found], reference, (), calibration)
    tissue = [i for i in evidence.worst_first if evidence.level(i) != "blank"]
    off = [i for i in tissue if (score := evidence.scores[i]) and score.total >= TYPICAL_DOUBTFUL]
    if reference and len(off) * 4 >= len(tissue) > 0:
        # the boxes around the median of what is off stand for the most
        middle = off[max(0, (len(off) - REMEDY_BOXES) // 2) :][:REMEDY_BOXES]
        mean = float(np.median([evidence.readings[i].plain["mean"] for i in off]))
        std = float(np.median([evidence.readings[i].plain["std"] for i in off]))
        tried = try_remedies(subject.model, reference, [found[i][:2] for i in middle], (mean, std))
        evidence = Evidence(*sizes, evidence.readings, reference, tried, calibration)
    shown = [(i, *found[i][1:]) for i in evidence.worst_first]
    return evidence, shown


def _calibrate(found: list[Any], truth: _Truth, subject: _Subject) -> Any:
    from bouton.learn.shift_calibration import Calibration, calibrate

    nothing = np.zeros(256, np.int64)
    total = Calibration(nothing, nothing)
    overlap = subject.card.prediction.overlap_zyx
    for reading, _, outputs in found:
        if truth.volume.box.contains(reading.box):
            z, y, x = (min(o // 2, n // 4) for o, n in zip(overlap, reading.box.shape, strict=True))
            labels = truth.volume.read(reading.box)
            total += calibrate(outputs["affinities"], labels, truth.erode_zyx, (z, y, x))
    return total


def _as_json(subject: _Subject, evidence: Evidence, verdict: str, reasons: list[Any]) -> dict[str, Any]:
    boxes = []
    for i in evidence.worst_first:
        reading, score = evidence.readings[i], evidence.scores[i]
        scores = {"score": score.total, "image": score.image, "network": score.response} if score else {}
        boxes.append(
            {"box_zyx": str(reading.box), "level": evidence.level(i), **_rounded(scores), **_rounded(reading.plain)}
        )
    result: dict[str, Any] = {
        "model": subject.name,
        "image": subject.volume.name,
        "bounds_zyx": str(subject.bounds),
        "voxel_size_nm": list(subject.voxel_size_nm),
        "verdict": verdict,
        "reasons": [
            {"verdict": r.verdict, "found": r.found, "where": [str(b) for b in r.where], "fix": r.fix} for r in reasons
        ],
        "boxes": boxes,
        "remedies": [{"name": r.name, **_rounded(vars(r))} for r in evidence.remedies],
    }
    if (found := evidence.calibration) is not None and found.edges.any():
        edges, mean, share = found.bins()
        bins = [
            {"edges": n, "predicted": round(p, 4), "true": round(s, 4)}
            for n, p, s in zip(edges.tolist(), mean.tolist(), share.tolist(), strict=True)
            if n
        ]
        result["calibration"] = {"expected_calibration_error": round(found.error, 5), "bins": bins}
    return result


def _rounded(values: Any) -> dict[str, float]:
    return {name: round(float(value), 5) for name, value in values.items() if isinstance(value, float)}


def _write(subject: _Subject, evidence: Evidence, shown: list[Any], result: dict[str, Any], out: Path) -> None:
    from bouton.learn.shift import DOUBTFUL, STRANGE
    from bouton.learn.shift_features import FEATURES
    from bouton.learn.shift_verdict import SHORT
    from bouton.report.shift import ShiftPage, write_shift_page

    rows = [_row(subject, evidence, i, out) for i in evidence.worst_first]
    titles = [f"{row.level}, score {row.scores[0]:.2f}" if evidence.reference else row.level for row in rows]
    regions = [
        _region(subject, (row, title), outputs)
        for (_, _, outputs), row, title in list(zip(shown, rows, titles, strict=True))[:PICTURES]
    ]
    page = ShiftPage(
        title=f"{Path(subject.name).name} on {Path(subject.volume.path).name}",
        verdict=result["verdict"],
        facts=_facts(subject, evidence),
        reasons=result["reasons"],
        rows=rows,
        regions=regions,
        bounds=subject.bounds,
        voxel_size_nm=subject.voxel_size_nm,
        features=[SHORT[name] for name in FEATURES],
        limits=(DOUBTFUL, STRANGE),
        histogram=np.sum([r.histogram for r in evidence.readings], axis=0),
        reliability=evidence.calibration.bins() if evidence.calibration and evidence.calibration.edges.any() else None,
    )
    _write_look(subject, out)
    write_bytes(out / "result.json", (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
    write_shift_page(page, out / "index.html")


def _region(subject: _Subject, told: tuple[Any, str], outputs: dict[str, np.ndarray]) -> Any:
    from bouton.report.shift import Region

    row, title = told
    box = row.box
    middle = (box.start[0] + box.stop[0]) // 2
    section = Box((middle, *box.start[1:]), (middle + 1, *box.stop[1:]))
    _, height, width = box.shape
    around = section.grow((0, height // 2, width // 2)) & subject.bounds
    _, rows, columns = section.within(around).slices
    border = _borders(outputs)[middle - box.start[0]]
    return Region(row, title, subject.volume.read(around)[0], (rows, columns), border)


def _row(subject: _Subject, evidence: Evidence, index: int, out: Path) -> Any:
    from bouton.learn.shift_features import FEATURES
    from bouton.learn.shift_verdict import feature_text, telling_features
    from bouton.report.shift import BoxRow

    reading, score = evidence.readings[index], evidence.scores[index]
    scores = (score.total, score.image, score.response) if score else (math.nan,) * 3
    deviations = score.deviations if score else np.full(len(FEATURES), math.nan)
    told = (
        "; ".join(feature_text(evidence, name, [index]) for name in telling_features(evidence, [index]))
        if score
        else f"entropy {reading.plain['entropy']:.3f} bits, {reading.plain['disagreement']:.3f} when turned or flipped"
    )
    at = ",".join(str((a + b) // 2) for a, b in zip(reading.box.start, reading.box.stop, strict=True))
    look, runs = shlex.quote(str(out / "look.yaml")), shlex.quote(str(out / "runs"))
    words = (
        f"bouton run {look} --runs {runs} --bounds-zyx {reading.box} && bouton view look --runs {runs} --at-zyx {at}"
    )
    return BoxRow(reading.box, evidence.level(index), scores, deviations, told, reading.plain, words)


def _borders(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return how sure the network is of a border, 0 to 1 (z, y, x); of anything, for a model without affinities."""
    if "affinities" in outputs:
        return 1 - outputs["affinities"].min(axis=0).astype(np.float32) / 255
    return np.max([head.max(axis=0) for head in outputs.values()], axis=0).astype(np.float32) / 255


def _write_look(subject: _Subject, out: Path) -> None:
    """Write the workflow that predicts a region, so that it can be looked at."""
    source = {"path": str(Path(subject.volume.path).resolve()), "voxel_size_nm": list(subject.voxel_size_nm)}
    if subject.volume.info.dataset:
        source["dataset"] = subject.volume.info.dataset
    model = subject.name if subject.folder.name == subject.name else str(subject.folder)
    sizes = zip(subject.voxel_size_nm, subject.card.prediction.voxel_size_nm, strict=True)
    tolerance = max(0.25, math.ceil(100 * max(abs(a / b - 1) for a, b in sizes)) / 100)
    params = {"model": model, "voxel_size_tolerance": tolerance}
    workflow = {
        "name": "look",
        "description": "Predicts a region that bouton check-model named, to be looked at.",
        "data": {"image": source},
        "steps": {"network": {"stage": "predict", "reads": {"image": "image"}, "params": params}},
    }
    write_bytes(out / "look.yaml", yaml.safe_dump(workflow, sort_keys=False).encode())


def _facts(subject: _Subject, evidence: Evidence) -> dict[str, str]:
    def times(values: Any) -> str:
        return " × ".join(f"{v:g}" for v in values)

    info, reference = subject.card.prediction, evidence.reference
    facts = {
        "Model": f"{subject.name}: {times(info.voxel_size_nm)} nm (z, y, x), heads {', '.join(info.heads)}",
        "Image": f"{subject.volume.name}: {times(subject.volume.shape)} voxels of {times(subject.voxel_size_nm)} nm",
        "Boxes": f"{len(evidence.readings)} of {times(evidence.box_zyx)} voxels, spread over {subject.bounds}",
    }
    if reference:
        names = ", ".join(f"{source.image} [{source.box}]" for source in reference.sources)
        facts["Training data"] = f"{len(reference.rows)} boxes of {times(reference.box_zyx)} voxels: {names}"
    else:
        facts["Training data"] = "no reference.json in the model's folder"
    for remedy in evidence.remedies:
        text = f"v → {remedy.scale:.3g} v {remedy.shift:+.0f}: median score {remedy.before:.2f} → {remedy.after:.2f}"
        facts[f"Tried: {remedy.name}"] = text
    if evidence.calibration is not None:
        found = evidence.calibration
        facts["Calibration error"] = f"{found.error:.4f} over {int(found.edges.sum()):,} edges with known truth"
    return facts


def _show(result: dict[str, Any], evidence: Evidence, out: Path) -> None:
    style = {"fits": "bold green", "doubtful": "bold yellow"}.get(result["verdict"], "bold red")
    console = Console()
    console.print(f"{result['model']} on {result['image']}: ", end="", highlight=False, soft_wrap=True, markup=False)
    console.print(result["verdict"], style=style)
    for reason in result["reasons"]:
        where = f" at {'; '.join(reason['where'])}" if reason["where"] else ""
        typer.echo(f"- {reason['verdict']}: {reason['found']}{where}")
        if reason["fix"]:
            typer.echo(f"  what to do: {reason['fix']}")
    shown = Table(title="Worst boxes", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("box (z, y, x)", no_wrap=True, overflow="fold")
    for head in ("level", "score", "image", "network", "entropy", "flipped"):
        shown.add_column(head)
    for box in result["boxes"][:PICTURES]:
        scores = [f"{box[name]:.2f}" if name in box else "-" for name in ("score", "image", "network")]
        shown.add_row(box["box_zyx"], box["level"], *scores, f"{box['entropy']:.3f}", f"{box['disagreement']:.3f}")
    console.print(shown)
    typer.echo(f"Page: {out / 'index.html'}")
