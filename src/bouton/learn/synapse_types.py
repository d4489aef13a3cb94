"""Classifiers of synapses: forests over the features of a synapse, with calibrated probabilities.

A model is a folder with ``types.json``, its card, and ``weights.safetensors``: for every question (``type``,
``target``) a forest and a calibration. The card tells which features each question needs and binds the weights by their
SHA-256; it is strict. Calibration is a table over the forest's probability of each class (Platt 1999, or isotonic
regression, Zadrozny & Elkan 2002, doi:10.1145/775047.775151), applied by linear interpolation, then scaled to sum to 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bouton.errors import DataError
from bouton.learn.forest import Forest, forest_of, predict_forest
from bouton.learn.shipped import Kind

CARD, WEIGHTS = "types.json", "weights.safetensors"
SYNAPSE_TYPES = Kind(CARD, "bouton train-types")
FORMAT = "bouton-synapse-types/1"
LARGEST_CARD_BYTES = 1 << 20
TABLE_POINTS = 65
_RESTORE = "restore the folder, or make the model again with `bouton train-types`"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Question(_Strict):
    """What one forest decides, from which features, and how its probabilities were calibrated."""

    classes: tuple[str, ...] = Field(min_length=2)
    features: tuple[str, ...] = Field(min_length=1)
    calibration: str = "none"


class Source(_Strict):
    """Rows that the model was trained, calibrated or tested on: where from, and how many of each class."""

    name: str
    use: str
    rows: dict[str, dict[str, int]]


class Score(_Strict):
    """One measured figure."""

    data: str
    what: str
    value: float
    n: int = 0


class TypesCard(_Strict):
    """All of ``types.json``. ``reach_nm`` and ``spacing_nm`` are those that the features were measured with."""

    format: Annotated[str, Field(pattern=f"^{FORMAT}$")] = FORMAT
    name: str
    description: str
    limits: str = ""
    reach_nm: float
    spacing_nm: float
    questions: dict[str, Question] = Field(min_length=1)
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: str = ""
    command: str = ""
    seed: int = 0
    data: tuple[Source, ...] = ()
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A forest and its calibration.

    Attributes
    ----------
    forest : Forest
    table : numpy.ndarray
        float64 (classes, points): the calibrated value at each of evenly spaced probabilities from 0 to 1.
    """

    forest: Forest
    table: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (n, classes) of features float32 (n, k)."""
        return calibrated(predict_forest(self.forest, features), self.table)


def calibrated(raw: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return probabilities (n, classes) looked up in ``table`` (classes, points), each row scaled to sum to 1."""
    points = np.linspace(0.0, 1.0, table.shape[1])
    columns = [np.interp(raw[:, n], points, table[n]) for n in range(table.shape[0])]
    found = np.stack(columns, axis=1)
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1.0), 1.0 / table.shape[0])


def no_calibration(classes: int) -> np.ndarray:
    """Return the table that changes nothing."""
    return np.tile(np.linspace(0.0, 1.0, TABLE_POINTS), (classes, 1))


@dataclass(frozen=True)
class TypesModel:
    """A model ready to decide: its card, and a classifier a question."""

    card: TypesCard
    classifiers: Mapping[str, Classifier]

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Every feature that some question needs."""
        return tuple(dict.fromkeys(name for each in self.card.questions.values() for name in each.features))

    def answer(self, question: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probability of each class, float64 (n, classes); NaN in rows where a feature is NaN.

        Parameters
        ----------
        question : str
        columns : mapping of feature -> float (n,)
        """
        asked = self.card.questions[question]
        features = np.stack([np.asarray(columns[name], dtype=np.float32) for name in asked.features], axis=1)
        known = ~np.isnan(features).any(axis=1)
        found = np.full((len(features), len(asked.classes)), np.nan)
        found[known] = self.classifiers[question].probabilities(np.ascontiguousarray(features[known]))
        return found


def types_files(card: TypesCard, classifiers: Mapping[str, Classifier]) -> dict[str, bytes]:
    """Return the files of a model's folder: name -> bytes; the card tells the hash of the weights."""
    arrays: dict[str, np.ndarray] = {}
    for question, each in classifiers.items():
        arrays |= {f"{question}.forest.{name}": values for name, values in each.forest.arrays().items()}
        arrays[f"{question}.calibration"] = each.table
    data = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    bound = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    text = json.dumps(bound.model_dump(mode="json"), indent=1, ensure_ascii=False)
    return {WEIGHTS: data, CARD: (text + "\n").encode()}


def read_types_card(folder: str | Path) -> TypesCard:
    """Return the card in a model's folder.

    Raises
    ------
    DataError
        There is none, or it is damaged.
    """
    path = Path(folder) / CARD
    data = _bytes(path)[: LARGEST_CARD_BYTES + 1]
    try:
        return TypesCard.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(str(part) for part in first["loc"]) or "the file"
        raise _damaged(path, f"{what}: {first['msg']}") from None


def read_types_model(folder: str | Path) -> TypesModel:
    """Open the model in a folder.

    Raises
    ------
    DataError
        A file is missing, damaged, or not the one that the card was made for.
    """
    card, path = read_types_card(folder), Path(folder) / WEIGHTS
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise _damaged(path, f"its SHA-256 is not the one in {CARD}")
    try:
        arrays = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, (str(error).splitlines() or [type(error).__name__])[0][:100]) from None
    return TypesModel(card, {name: _classifier(name, card, arrays, path) for name in card.questions})


def _classifier(question: str, card: TypesCard, arrays: Mapping[str, np.ndarray], path: Path) -> Classifier:
    start = f"{question}.forest."
    parts = {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
    forest = forest_of(parts, where=str(path))
    table, asked = arrays.get(f"{question}.calibration", np.zeros(0)), card.questions[question]
    if forest.classes != len(asked.classes) or forest.features > len(asked.features):
        raise _damaged(path, f"the forest of {question!r} is not that of the card")
    fits = table.dtype == np.float64 and table.ndim == 2 and table.shape[0] == forest.classes and table.shape[1] >= 2
    if not fits or not ((table >= 0) & (table <= 1)).all():
        raise _damaged(path, f"the calibration of {question!r} is not one of the card's classes")
    return Classifier(forest, table)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read the model ({error.strerror})", where=str(path),
            expected=f"a folder with {CARD} and {WEIGHTS}, as `bouton train-types` writes it",
            fix="check the path, or name a model that ships with bouton",
        ) from None  # fmt: skip


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"no model of synapse types, or a damaged one ({reason})", where=str(path),
        expected=f"a folder with {CARD} and {WEIGHTS}, as `bouton train-types` writes it", fix=_RESTORE,
    )  # fmt: skip
