"""A network in 8 bits: post-training quantisation (Jacob et al. 2018, doi:10.1109/CVPR.2018.00286) by NNCF.

The ranges of all layers are set on crops of the image that the network will see, so that an image of other contrast
wants its own. Nothing is trained: weights and activations are rounded to 8 bits, and biases corrected for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bouton.errors import DataError
from bouton.geometry import ZYX, Box
from bouton.learn.info import ModelInfo
from bouton.learn.int8 import GRAPH_FILE, NOTE_FILE, VALUES_FILE, Calibration, Change, Note
from bouton.learn.runners import Runner, normalised, require
from bouton.learn.runners_openvino import OpenVinoRunner

LARGEST_CROP = 72
ATTEMPTS = 50


def check_installed() -> None:
    """Raise SpecError unless what quantises is installed."""
    require("openvino", "openvino 2026.4", "quantise")
    require("nncf", "nncf 3.4", "quantise")


def crop_shape(info: ModelInfo, bounds: Box) -> ZYX:
    """Return the shape of calibration crops: a tile, at most 72 voxels long, and no larger than the image."""
    sizes = zip(info.tile_zyx, bounds.shape, info.architecture.multiple, strict=True)
    z, y, x = (min(tile, LARGEST_CROP, size) // multiple * multiple for tile, size, multiple in sizes)
    if not min(z, y, x):
        raise DataError(
            f"an image of {bounds.shape} voxels (z, y, x)", expected=f"at least {info.architecture.multiple}"
        )
    return z, y, x


def draw_crops(
    read: Callable[[Box], np.ndarray], bounds: Box, shape: ZYX, count: int, seed: int
) -> list[tuple[Box, np.ndarray]]:
    """Return boxes of ``shape`` in ``bounds`` and the image there, uint8, in places that ``seed`` alone chooses.

    Raises
    ------
    DataError
        Nearly all of the image is blank: of one single value.
    """
    random, found = np.random.default_rng(seed), list[tuple[Box, np.ndarray]]()
    high = [b - n + 1 for b, n in zip(bounds.stop, shape, strict=True)]
    for _ in range(ATTEMPTS * count):
        z, y, x = (int(random.integers(a, b)) for a, b in zip(bounds.start, high, strict=True))
        box = Box.of_shape(shape).shift((z, y, x))
        crop = read(box)
        if np.ptp(crop):
            found.append((box, crop))
        if len(found) == count:
            return found
    raise DataError(
        f"of {ATTEMPTS * count} places in the image all but {len(found)} are blank", where=f"box {bounds} (z,y,x)",
        expected=f"{count} crops of tissue", fix="--bounds-zyx: a box that holds tissue",
    )  # fmt: skip


def quantise(graph: Any, info: ModelInfo, crops: Sequence[np.ndarray]) -> Any:
    """Return an ``openvino.Model`` that computes in 8 bits; ``graph`` stays as it is.

    Parameters
    ----------
    graph : openvino.Model
        float32 (1, 1, z, y, x) -> logits.
    info : ModelInfo
    crops : sequence of numpy.ndarray
        uint8 (z, y, x), all of one shape.
    """
    # NNCF sends usage statistics unless it thinks that it is tested, writes to stdout, and sets its logger to talk
    os.environ.setdefault("NNCF_CI", "1")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import nncf

        nncf.set_log_level(logging.ERROR)
        values = [normalised(crop, info) for crop in crops]
        fixed = graph.clone()
        fixed.reshape(list(values[0].shape))
        preset = nncf.QuantizationPreset.PERFORMANCE
        return nncf.quantize(fixed, nncf.Dataset(values), preset=preset, subset_size=len(values))


def int8_runner(graph: Any, info: ModelInfo) -> Runner:
    """Return what runs a quantised graph; ``graph`` stays as it is."""
    return OpenVinoRunner(info, graph.clone(), "int8")


def compare(exact: Runner, rounded: Runner, crops: Sequence[np.ndarray]) -> Change:
    """Return how far probabilities of two runners of one network lie apart on ``crops``, uint8 (z, y, x)."""
    total, greatest, count = 0.0, 0.0, 0
    for crop in crops:
        values = normalised(crop, exact.info)
        apart = np.abs(exact.run(values) - rounded.run(values))
        total, count = total + float(apart.sum(dtype=np.float64)), count + apart.size
        greatest = max(greatest, float(apart.max()))
    return Change(mean=total / count, greatest=greatest)


def calibration_of(image: str, bounds: Box, crops: Sequence[np.ndarray], seed: int) -> Calibration:
    """Return what the note tells of the crops that set the ranges."""
    values = np.stack(crops)
    z, y, x = crops[0].shape
    return Calibration(
        image=image,
        box_zyx=str(bounds),
        crops=len(crops),
        crop_zyx=(z, y, x),
        seed=seed,
        mean=round(float(values.mean(dtype=np.float64)), 4),
        std=round(float(values.std(dtype=np.float64)), 4),
        least=int(values.min()),
        greatest=int(values.max()),
    )


def int8_files(graph: Any, weights_sha256: str, calibration: Calibration, change: Change) -> dict[str, bytes]:
    """Return the three files that a quantised graph adds to a model's folder: name -> bytes."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(graph, Path(folder) / GRAPH_FILE, compress_to_fp16=False)
        files = {name: (Path(folder) / name).read_bytes() for name in (GRAPH_FILE, VALUES_FILE)}
    note = Note(
        weights_sha256=weights_sha256,
        graph_sha256=hashlib.sha256(files[GRAPH_FILE]).hexdigest(),
        values_sha256=hashlib.sha256(files[VALUES_FILE]).hexdigest(),
        nncf=version("nncf"),
        openvino=version("openvino"),
        calibration=calibration,
        change=change,
    )
    return {**files, NOTE_FILE: (note.model_dump_json(indent=2) + "\n").encode()}
