"""The 8-bit form of a network in a model's folder: ``int8.xml`` and ``int8.bin`` (OpenVINO), told of by ``int8.json``.

The note binds the graph to the weights it was made from, and says how it was made and what it scored. It is strict.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bouton.errors import DataError
from bouton.learn.card import Card

GRAPH_FILE, VALUES_FILE, NOTE_FILE = "int8.xml", "int8.bin", "int8.json"
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(_Strict):
    """Crops of which image set the ranges: ``mean`` and ``std`` of their voxels, their least and greatest value."""

    image: str
    box_zyx: str
    crops: int
    crop_zyx: tuple[int, int, int]
    seed: int
    mean: float
    std: float
    least: int
    greatest: int


class Change(_Strict):
    """How far outputs moved on held-out crops (probability, 0 to 1), and what that did to a segmentation, in bits.

    ``voi`` and ``voi_float32`` are variation of information against a truth, each at its best threshold; None where
    none was given, which means that nobody has checked the segmentation.
    """

    mean: float
    greatest: float
    voi: float | None = None
    voi_float32: float | None = None
    truth: str = ""


class Note(_Strict):
    """All of ``int8.json``."""

    weights_sha256: Sha256
    graph_sha256: Sha256
    values_sha256: Sha256
    nncf: str
    openvino: str
    calibration: Calibration
    change: Change


def check_int8(folder: Path, card: Card) -> tuple[str, str]:
    """Return the SHA-256 of graph and values of a model's 8-bit form.

    Raises
    ------
    DataError
        There is none, it is damaged, or it was made from other weights.
    """
    again = f"bouton quantise {folder} IMAGE --out FOLDER"
    try:
        note = Note.model_validate_json((folder / NOTE_FILE).read_bytes())
        found = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (GRAPH_FILE, VALUES_FILE)]
    except OSError as error:
        name = Path(error.filename or folder).name
        expected = f"{GRAPH_FILE}, {VALUES_FILE} and {NOTE_FILE} in its folder"
        raise DataError(
            f"the model has no 8-bit form: no {name}", where=str(folder), expected=expected, fix=again
        ) from None
    except ValidationError:
        where = str(folder / NOTE_FILE)
        raise DataError("no note of an 8-bit network, or a damaged one", where=where, fix=again) from None
    if note.weights_sha256 != card.weights.sha256:
        raise DataError(
            f"an 8-bit form of other weights ({note.weights_sha256[:12]})",
            where=str(folder), expected=f"one made from {card.weights.sha256[:12]}", fix=again,
        )  # fmt: skip
    if found != [note.graph_sha256, note.values_sha256]:
        raise DataError(
            f"{GRAPH_FILE} or {VALUES_FILE} is not what {NOTE_FILE} tells of: damaged or cut short",
            where=str(folder), expected="the hashes in the note", fix=again,
        )  # fmt: skip
    return note.graph_sha256, note.values_sha256
