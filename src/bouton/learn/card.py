"""The card of a model: ``card.json`` in its folder, for people and for the program.

A model is a folder that holds ``card.json`` and ``weights.safetensors`` (or ``network.onnx``, for a network that came
from elsewhere). The card says what prediction needs, what the weights were trained on and may be used for, how good
they are, and the SHA-256 of the weights, so that card and weights cannot be mixed up. It is strict: a key that this
module does not know is an error. Neither file can hold anything that runs when it is opened.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bouton.errors import BoutonError, DataError
from bouton.learn.info import Architecture, ModelInfo, OnnxGraph

CARD, WEIGHTS, GRAPH = "card.json", "weights.safetensors", "network.onnx"
FORMAT = "bouton-model/1"
LARGEST_CARD_BYTES = 1 << 20
PICKLE_SUFFIXES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}
PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
WIDEST = 110

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataSource(_Strict):
    """Data that the weights were made from, or watched on: where they come from and what their licence says."""

    name: str
    source: str = ""
    doi: str = ""
    licence: str = ""
    boxes_zyx: tuple[str, ...] = ()


class Training(_Strict):
    """How the weights were made. ``file_sha256`` is that of the training file, ``version`` bouton's or its commit.

    ``parent`` and ``parent_sha256``: the model whose weights it began with, by name, and the hash of those.
    """

    data: tuple[DataSource, ...]
    validation: tuple[DataSource, ...] = ()
    parent: str = ""
    parent_sha256: Sha256 | None = None
    steps: int = 0
    seed: int | None = None
    command: str = ""
    file_sha256: Sha256 | None = None
    version: str = ""
    machine: str = ""
    hours: float | None = None


class Weights(_Strict):
    """The weights: the SHA-256 of their file and the licence they come under."""

    sha256: Sha256
    licence: str


class Score(_Strict):
    """One measured figure and the command that printed it."""

    data: str
    what: str
    value: float
    command: str = ""


class Card(_Strict):
    """All of ``card.json``. ``description`` and ``limits`` are plain English; ``notes`` is what else people ask."""

    format: Annotated[str, Field(pattern=f"^{FORMAT}$")] = FORMAT
    name: str
    description: str
    limits: str = ""
    notes: tuple[str, ...] = ()
    prediction: ModelInfo
    weights: Weights
    training: Training | None = None
    scores: tuple[Score, ...] = ()

    @property
    def weights_file(self) -> str:
        """Name of the file that ``weights.sha256`` is of."""
        return GRAPH if isinstance(self.prediction.architecture, OnnxGraph) else WEIGHTS


_SECTIONS: dict[str, Any] = {
    "prediction": ModelInfo,
    "architecture": Architecture,
    "weights": Weights,
    "training": Training,
    "data": DataSource,
    "validation": DataSource,
    "scores": Score,
}


def read_card(folder: str | Path) -> Card:
    """Read the card of the model in ``folder``.

    Raises
    ------
    DataError
        There is no such folder, it is a file (a pickle, say), or its card is missing or wrong.
    """
    folder = Path(folder)
    try:
        if folder.is_file():
            raise refusal(folder)
        with (folder / CARD).open("rb") as file:
            data = file.read(LARGEST_CARD_BYTES + 1)
    except OSError as error:
        raise missing(folder / CARD, error) from None
    return parse_card(data, folder / CARD)


def parse_card(data: bytes, where: str | Path) -> Card:
    """Return the card whose JSON is ``data``.

    Raises
    ------
    DataError
        It is no JSON, of another format, or says something that it cannot say.
    """
    _check_format(data, where)
    try:
        return Card.model_validate_json(data)
    except ValidationError as error:
        raise _card_error(error, where) from None
    except BoutonError as error:
        raise DataError(error.found, where=str(where), expected=error.expected, fix=error.fix or _RESTORE) from None


_RESTORE = "restore the folder, or make the model again with `bouton train`"


def _check_format(data: bytes, where: str | Path) -> None:
    try:
        found = json.loads(data)["format"] if len(data) <= LARGEST_CARD_BYTES else None
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if found == FORMAT:
        return
    newer = isinstance(found, str) and found.startswith("bouton-model/")
    raise DataError(
        f"card of format {found!r}" if newer else "no card of a model of bouton, or a damaged one",
        where=str(where),
        expected=f"{FORMAT!r}, which this version of bouton reads" if newer else f'JSON with "format": "{FORMAT}"',
        fix="install the version of bouton that wrote the model, or a later one" if newer else _RESTORE,
    )


def _card_error(error: ValidationError, where: str | Path) -> DataError:
    unknown = ("extra_forbidden", "unexpected_keyword_argument")
    errors = error.errors()
    # a misspelt key is told before the key that is missing because of it
    first = next((each for each in errors if each["type"] in unknown), errors[0])
    keys = [key for key in first["loc"] if key not in ("network", "onnx", "forest")]
    name = ".".join(str(key) for key in keys)
    if first["type"] in unknown:
        known = _known(keys[:-1])
        close = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.5)
        fix = f"did you mean {close[0]!r}?" if close else "leave it out"
        return DataError(f"unknown key {name!r}", where=str(where), expected=f"one of {', '.join(known)}", fix=fix)
    found = "missing" if first["type"].startswith("missing") else repr(first["input"])[:80]
    expected = first["msg"].removeprefix("Input should be ")
    return DataError(f"{name}: {found}", where=str(where), expected=expected, fix=_RESTORE)


def _known(keys: Iterable[Any]) -> list[str]:
    kind: Any = next((_SECTIONS[key] for key in reversed([*keys]) if key in _SECTIONS), Card)
    return sorted(field.name for field in fields(kind)) if is_dataclass(kind) else sorted(kind.model_fields)


def card_bytes(card: Card) -> bytes:
    """Return the JSON of a card, laid out for people."""
    return (_layout(card.model_dump(mode="json"), 0) + "\n").encode()


def _layout(value: Any, indent: int) -> str:
    """Return JSON in which what fits on a line stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if not value or not isinstance(value, dict | list) or (indent and len(line) + 2 * indent <= WIDEST):
        return line
    inner, outer = "  " * (indent + 1), "  " * indent
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_layout(each, indent + 1)}" for key, each in value.items()]
    else:
        parts = [_layout(each, indent + 1) for each in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return f"{start}\n{inner}" + f",\n{inner}".join(parts) + f"\n{outer}{end}"


def not_a_model(path: str | Path, reason: str) -> DataError:
    """Return the error for files that are no model."""
    return DataError(
        f"no model of bouton, or a damaged one ({reason})",
        where=str(path),
        expected=f"a folder with {CARD} and {WEIGHTS}, as `bouton train` writes it",
        fix=_RESTORE,
    )


def missing(path: Path, error: OSError) -> DataError:
    """Return the error for a file of a model that cannot be read."""
    return DataError(
        f"cannot read the model ({error.strerror})",
        where=str(path),
        expected=f"a folder with {CARD} and {WEIGHTS}, as `bouton train` writes it",
        fix="check the path, or name a model that ships with bouton",
    )


def refusal(path: Path) -> DataError:
    """Return the error for a file where a model's folder was expected."""
    with path.open("rb") as file:
        start = file.read(16)
    if is_pickle(start) or path.suffix in PICKLE_SUFFIXES:
        return pickled(path)
    if path.suffix == ".onnx":
        return DataError(
            "an ONNX file", where=str(path), expected="a model's folder", fix="bouton model import FILE.onnx OUT"
        )
    return not_a_model(path, "a file, not a folder")


def is_pickle(start: bytes) -> bool:
    """Return whether a file that starts so is a pickle, or a zip archive as torch.save writes it."""
    numbers_only = start[4:9] == b"\0\0\0\0{"  # safetensors: the length of a header, then the header
    return start[:4] == b"PK\x03\x04" or (start[:2] in PICKLE_STARTS and not numbers_only)


def pickled(path: Path) -> DataError:
    """Return the error for a file that would run code when it is opened."""
    return DataError(
        "a pickle, as torch.save writes it, which can run any code when it is opened: bouton never opens one",
        where=str(path),
        expected=f"a folder with {CARD} and {WEIGHTS}",
        fix="whoever trusts the file may export it to ONNX; then: bouton model import FILE.onnx OUT",
    )
