"""How far an image is from what a network was trained on: reference statistics, and a score for each box.

The reference of a model is what :mod:`bouton.learn.shift_features` finds in boxes of its training data. A feature's
deviation is its distance from their mean in their standard deviations. Each feature has a least spread, so that a
volume of great evenness does not make every other one a stranger: for the image's features twice what the usual
augmentations of training add (:mod:`bouton.learn.augment`), since a network is used to that. Networks are uncertain at
borders, so that thin neurites raise entropy and contradiction: these are taken relative to the square root of the
share of borders, within the range that the training data have. That a network is surer than usual counts a quarter.

The score of a box is ``sqrt((I^2 + 3 R^2) / 4)``, I and R the root mean squares of the deviations of the image's
features and of the network's responses: a Mahalanobis distance with a diagonal covariance (Lee et al. 2018,
doi:10.48550/arXiv.1807.03888), in which the responses count three times because it is they that go with accuracy. The
full covariance predicted accuracy worse: what makes a network uncertain raises entropy and contradiction together,
and that is how training boxes differ, too. docs/check-model.md has the measurements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, ZYX, Box
from bouton.learn.model import Model
from bouton.learn.shift_features import FEATURES, IMAGE_FEATURES, LEAST_SHARE, BoxReading, look_at_box

REFERENCE = "reference.json"
FORMAT = "bouton-reference/1"
FEWEST_BOXES = 8
LEAST_SPREAD: Mapping[str, float] = {
    "mean": 2.0,
    "contrast": 0.6,
    "skewness": 0.6,
    "noise": 1.1,
    "coarse_slope": 1.2,
    "fine_slope": 1.6,
    "likeness": 0.6,
    "worst_likeness": 0.8,
    "entropy": 0.15,
    "below_half": 0.05,
    "disagreement": 0.15,
    "sides": 0.15,
    "sensitivity": 0.2,
}
RESPONSE_WEIGHT = 3.0
SURER_WEIGHT = 0.25
BORDER_POWER = 0.5
PER_BORDER = ("entropy", "disagreement", "sides", "sensitivity")
DOUBTFUL, STRANGE = 1.75, 2.75
"""Scores from which a box is doubtful, and strange; boxes of training data stay below."""
TYPICAL_DOUBTFUL, TYPICAL_STRANGE = 1.25, 1.9
"""The same for the median of an image's boxes, which scatters less."""


@dataclass(frozen=True)
class Score:
    """A box's distance from the training data.

    Attributes
    ----------
    total, image, response : float
        By all features, by the image's alone, by the network's alone; up to about 1 in training data.
    deviations : numpy.ndarray
        float64, each feature's distance from the training data's mean in their standard deviations; a quarter of it
        where the network is surer than usual.
    """

    total: float
    image: float
    response: float
    deviations: np.ndarray

    @property
    def level(self) -> str:
        """``alike``, ``doubtful`` or ``strange``."""
        return "strange" if self.total >= STRANGE else "doubtful" if self.total >= DOUBTFUL else "alike"


@dataclass(frozen=True)
class ReferenceSource:
    """Boxes of a training image: its name, the box they were drawn from, and their features, float64 (n, features)."""

    image: str
    box: str
    rows: np.ndarray


@dataclass(frozen=True)
class Reference:
    """What training data look like.

    Attributes
    ----------
    weights_sha256 : str
        Of the model: another network answers otherwise.
    box_zyx : (z, y, x)
        Shape of the boxes.
    voxel_size_nm : (z, y, x)
    sources : tuple of ReferenceSource
    """

    weights_sha256: str
    box_zyx: ZYX
    voxel_size_nm: NM
    sources: tuple[ReferenceSource, ...] = field(repr=False)

    @cached_property
    def rows(self) -> np.ndarray:
        """All boxes, float64 (n, features)."""
        return np.concatenate([source.rows for source in self.sources])

    def comparable(self, features: np.ndarray) -> np.ndarray:
        """Return features, float64 (..., features), with what grows with the share of borders freed of it.

        The share itself becomes a number from 0 to 1: a box without borders is no wonder, as its logarithm would be.
        """
        found, at = features.copy(), FEATURES.index("below_half")
        low, _, high = self.usual("below_half")
        borders = np.clip(features[..., at], low, high)
        for name in PER_BORDER:
            found[..., FEATURES.index(name)] -= BORDER_POWER * borders
        found[..., at] = np.exp2(features[..., at]) - LEAST_SHARE
        return found

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation of each feature, made comparable, its least spread added in quadrature."""
        return np.sqrt(
            self.comparable(self.rows).var(axis=0) + np.array([LEAST_SPREAD[name] for name in FEATURES]) ** 2
        )

    def score(self, features: np.ndarray) -> Score:
        """Return the score of a box with these features, float64 (features,)."""
        deviations = (self.comparable(features) - self.comparable(self.rows).mean(axis=0)) / self.spread
        surer = (deviations < 0) & np.isin(FEATURES, PER_BORDER)
        deviations[surer] *= SURER_WEIGHT
        first = len(IMAGE_FEATURES)
        image, response = (float(np.mean(part**2)) for part in (deviations[:first], deviations[first:]))
        total = np.sqrt((image + RESPONSE_WEIGHT * response) / (1 + RESPONSE_WEIGHT))
        return Score(float(total), float(np.sqrt(image)), float(np.sqrt(response)), deviations)

    def usual(self, name: str) -> tuple[float, float, float]:
        """Return the 5 %, 50 % and 95 % quantiles of a feature in the training data."""
        low, middle, high = np.quantile(self.rows[:, FEATURES.index(name)], (0.05, 0.5, 0.95)).tolist()
        return low, middle, high

    def with_source(self, image: str, box: Box, rows: np.ndarray) -> Reference:
        """Return the reference with the boxes of one more image; they replace those of the same image and box."""
        kept = [source for source in self.sources if (source.image, source.box) != (image, str(box))]
        return replace(self, sources=(*kept, ReferenceSource(image, str(box), rows)))


def reference_bytes(reference: Reference) -> bytes:
    """Return the content of a model's ``reference.json``."""
    lines = [
        f'  {{"image": {json.dumps(source.image)}, "box_zyx": {json.dumps(source.box)}, "boxes": [\n'
        + ",\n".join(f"    {json.dumps(row)}" for row in np.round(source.rows, 4).tolist())
        + "\n  ]}"
        for source in reference.sources
    ]
    head = {
        "format": FORMAT,
        "weights_sha256": reference.weights_sha256,
        "box_zyx": reference.box_zyx,
        "voxel_size_nm": reference.voxel_size_nm,
        "features": FEATURES,
    }
    inner = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    body = ",\n".join(lines)
    return f'{{\n{inner},\n"sources": [\n{body}\n]\n}}\n'.encode()


def read_reference(folder: Path, weights_sha256: str) -> Reference | None:
    """Return the reference of the model in ``folder``; None where it has none.

    Raises
    ------
    DataError
        It is damaged, of another version of bouton, or of other weights.
    """
    path = folder / REFERENCE
    if not path.exists():
        return None
    fix = "make it again: bouton check-model MODEL TRAINING-IMAGE --make-reference"
    try:
        found = json.loads(path.read_bytes())
        reference = _reference(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"[:120]
        raise DataError(
            f"damaged reference statistics ({reason})", where=str(path), expected=FORMAT, fix=f"delete it and {fix}"
        ) from None
    if reference.weights_sha256 != weights_sha256:
        raise DataError(
            "reference statistics of other weights", where=str(path), expected="those of this model", fix=fix
        )
    return reference


def _reference(found: Mapping[str, Any]) -> Reference:
    if found["format"] != FORMAT or tuple(found["features"]) != FEATURES:
        raise ValueError(f"format {found['format']!r} or its features are not of this version")
    sources = tuple(
        ReferenceSource(str(each["image"]), str(each["box_zyx"]), _rows(each["boxes"])) for each in found["sources"]
    )
    if sum(len(source.rows) for source in sources) < 2:
        raise ValueError("fewer than two boxes")
    z, y, x = (int(n) for n in found["box_zyx"])
    dz, dy, dx = (float(n) for n in found["voxel_size_nm"])
    return Reference(str(found["weights_sha256"]), (z, y, x), (dz, dy, dx), sources)


def _rows(found: Sequence[Sequence[float]]) -> np.ndarray:
    rows = np.array(found, np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(FEATURES) or not np.isfinite(rows).all():
        raise ValueError(f"boxes of shape {rows.shape}, or not finite")
    return rows


@dataclass(frozen=True)
class Remedy:
    """A change of grey values, ``v -> scale * v + shift``, and the median score of some boxes before and after it."""

    name: str
    scale: float
    shift: float
    before: float
    after: float

    @property
    def helps(self) -> bool:
        """Whether it brings boxes that were far away much nearer, and near enough."""
        return self.before >= TYPICAL_DOUBTFUL and self.after < min(0.65 * self.before, TYPICAL_STRANGE)


def try_remedies(
    model: Model, reference: Reference, boxes: Sequence[tuple[BoxReading, np.ndarray]], grey: tuple[float, float]
) -> list[Remedy]:
    """Return what matching the grey values to the training data would do, as they are and inverted.

    Parameters
    ----------
    model : Model
    reference : Reference
    boxes : sequence of (BoxReading, numpy.ndarray)
        Boxes to try it on: what was found, and the image, uint8 (z, y, x).
    grey : (float, float)
        Mean and standard deviation of the image's grey values.
    """
    mean, std = 32 * reference.usual("mean")[1], 2 ** reference.usual("contrast")[1]
    before = float(np.median([reference.score(reading.features).total for reading, _ in boxes]))
    found = []
    for name, sign in (("contrast matched", 1.0), ("inverted, contrast matched", -1.0)):
        scale = sign * std / max(grey[1], 1.0)
        shift = mean - scale * grey[0]
        after = []
        for reading, image in boxes:
            changed = np.clip(np.rint(image * scale + shift), 0, 255).astype(np.uint8)
            after.append(reference.score(look_at_box(model, changed, reading.box)[0].features).total)
        found.append(Remedy(name, scale, shift, before, float(np.median(after))))
    return found
