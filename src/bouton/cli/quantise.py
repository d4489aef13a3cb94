"""``bouton quantise``: a model in 8 bits, kept only where it segments as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bouton.cli.choices import BoundsZYX
from bouton.errors import RunError, SpecError
from bouton.geometry import Box
from bouton.learn.package import check_package
from bouton.learn.shipped import check_sees_images, model_path
from bouton.volume import Volume, check_volume, open_volume, write_folder

if TYPE_CHECKING:
    from bouton.learn.card import Card
    from bouton.learn.int8 import Change
    from bouton.learn.runners import Runner

THRESHOLDS = [round(0.05 * i, 2) for i in range(2, 19)]
FLOOR, LOW, SMALL_AFFINITY = 0.1, 0.0, 0.05


@dataclass(frozen=True)
class _Truth:
    volume: Volume
    box: Box
    name: str


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, or its folder.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The volume that it will be run on: uint8.")],
    out: Annotated[Path, typer.Option(help="New folder: the model with its 8-bit form.")],
    dataset: Annotated[str | None, typer.Option(help="Data set in the image's file.")] = None,
    bounds_zyx: BoundsZYX = None,
    crops: Annotated[int, typer.Option(min=1, help="How many crops set the ranges.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the places of the crops.")] = 0,
    truth: Annotated[Path | None, typer.Option(help="True neuron ids, to score a segmentation with.")] = None,
    truth_dataset: Annotated[str | None, typer.Option(help="Data set in the truth's file.")] = None,
    box_zyx: Annotated[
        str | None, typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="Score this box of the truth only.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Bits by which VOI may become worse; more, and nothing is written.")
    ] = 0.02,
) -> None:
    """Turn a model into 8-bit arithmetic, for OpenVINO on the CPU: about three times as fast as in float32.

    Crops of the image set the ranges. With --truth, the box is segmented with both forms: where the variation of
    information gets worse by more than the tolerance, nothing is written, and the exit status is 4. Without it, only
    probabilities are compared.

    [bold]Examples[/bold]

      bouton quantise affinity-fib25 em.h5 --dataset volumes/raw --out fib25-int8

      bouton quantise affinity-fib25 em.h5 --dataset volumes/raw --bounds-zyx 0:120,0:250,0:250 --truth em.h5
      --truth-dataset volumes/labels/neuron_ids --box-zyx 60:120,0:250,0:250 --out fib25-int8

      bouton run workflow.yaml --set steps.network.params.model=fib25-int8
      --set steps.network.params.runtime=openvino --set steps.network.params.precision=int8
    """
    from bouton.learn import quantise as kernel
    from bouton.learn.runners_openvino import OpenVinoRunner, float_graph

    kernel.check_installed()
    folder = model_path(model)
    card = check_package(folder)
    check_sees_images(model, card.prediction)
    volume, bounds = _image(image, dataset, bounds_zyx)
    against = _truth(truth, truth_dataset, box_zyx, volume, card)
    _check_new(out)
    info = card.prediction
    shape = kernel.crop_shape(info, bounds)
    drawn = [crop for _, crop in kernel.draw_crops(volume.read, bounds, shape, crops, seed)]
    others = [crop for _, crop in kernel.draw_crops(volume.read, bounds, shape, min(4, crops), seed + 1)]
    graph = float_graph(folder)
    rounded = kernel.quantise(graph, info, drawn)
    exact, fast = OpenVinoRunner(info, graph, "float32"), kernel.int8_runner(rounded, info)
    change = kernel.compare(exact, fast, others)
    typer.echo(
        f"probabilities on {len(others)} other crops: mean change {change.mean:.4f}, largest {change.greatest:.3f}"
    )
    if against:
        change = _scored(change, against, volume, (exact, fast), tolerance)
    calibration = kernel.calibration_of(image.name, bounds, drawn, seed)
    added = kernel.int8_files(rounded, card.weights.sha256, calibration, change)
    write_folder(out, {**{f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}, **added})
    if not against:
        typer.echo("the segmentation was not checked; --truth checks it")
    typer.echo(f"{out}: use it with runtime openvino, precision int8")


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SpecError(f"--out {out} is there already", expected="a new folder", fix="name another, or remove it")


def _image(path: Path, dataset: str | None, bounds_zyx: str | None) -> tuple[Volume, Box]:
    volume = open_volume(path, dataset)
    check_volume(volume, dtypes=["uint8"], channels=None, role="the image")
    return volume, _inside(bounds_zyx, volume, "--bounds-zyx")


def _inside(text: str | None, volume: Volume, option: str) -> Box:
    whole = Box.of_shape(volume.shape[-3:])
    box = Box.parse(text) if text else whole
    if not whole.contains(box):
        raise SpecError(f"{option} {box} reaches outside of {volume.name}", expected=f"a box inside {whole} (z, y, x)")
    return box


def _truth(path: Path | None, dataset: str | None, box: str | None, image: Volume, card: Card) -> _Truth | None:
    if path is None:
        if box or dataset:
            raise SpecError("--box-zyx or --truth-dataset without --truth", fix="give --truth, or leave it out")
        return None
    if "affinities" not in card.prediction.heads:
        heads = ", ".join(card.prediction.heads)
        raise SpecError(f"--truth, but the model gives {heads}", expected="affinities", fix="leave --truth out")
    volume = open_volume(path, dataset)
    integers = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
    check_volume(volume, dtypes=integers, channels=None, role="the truth")
    place = _inside(box, volume, "--box-zyx")
    _inside(str(place), image, "the truth's box")
    return _Truth(volume, place, path.name)


def _scored(change: Change, truth: _Truth, image: Volume, runners: tuple[Runner, Runner], tolerance: float) -> Change:
    """Return ``change`` with the VOI of both, at the threshold that is best for float32.

    Raises
    ------
    RunError
        8 bits are worse by more than ``tolerance``.
    """
    labels = truth.volume.read(truth.box)
    exact, fast = (_voi(runner, image, truth.box, labels) for runner in runners)
    best = min(exact, key=lambda t: (exact[t], t))
    typer.echo(
        f"VOI at threshold {best}: {exact[best]:.3f} bits in float32, {fast[best]:.3f} in int8 "
        f"(int8 at its own best threshold {min(fast, key=lambda t: (fast[t], t))}: {min(fast.values()):.3f})"
    )
    if fast[best] > exact[best] + tolerance:
        raise RunError(
            f"int8 is worse by {fast[best] - exact[best]:.3f} bits of VOI: not kept",
            where=f"box {truth.box} (z,y,x)", expected=f"at most {tolerance:g} (--tolerance)",
            fix="--crops with more crops, another --seed, or run the model in bfloat16",
        )  # fmt: skip
    values = {"voi": round(fast[best], 4), "voi_float32": round(exact[best], 4)}
    return change.model_copy(update={**values, "truth": f"{truth.name} {truth.box}, threshold {best}"})


def _voi(runner: Runner, image: Volume, box: Box, labels: np.ndarray) -> dict[float, float]:
    """Return threshold -> VOI, split + merge in bits, of the segmentations of a box."""
    from bouton.evaluate.contingency import count_pairs
    from bouton.evaluate.partition import variation_of_information
    from bouton.learn.predict import predict
    from bouton.learn.tiles import tiling_of
    from bouton.segment.components import relabel
    from bouton.segment.history import cut
    from bouton.segment.whole import WholeParams, merge_history

    bounds = Box.of_shape(image.shape)
    seen = box.grow(tiling_of(runner.info).halo) & bounds
    affinities: Any = predict(runner, image.read(seen), seen, box, bounds)["affinities"]
    params = WholeParams(low=LOW, floor=FLOOR, small_affinity=SMALL_AFFINITY)
    fragments, merges = merge_history(affinities, params)
    found = {}
    for threshold in THRESHOLDS:
        voi = variation_of_information(count_pairs(labels, relabel(fragments, *cut(merges, threshold))))
        found[threshold] = voi.split + voi.merge
    return found
