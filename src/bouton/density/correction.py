"""Numbers of synapses corrected for what a detector misses and invents, with intervals.

true = detected * precision / recall. Precision and recall come from labelled samples; their uncertainty is Jeffreys'
Beta distribution (Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286), that of the detected number Poisson's, and
the interval is that of draws of all three. The delta-method interval, Var(N)/N^2 = Var(P)/P^2 + Var(R)/R^2 + 1/N, is
given beside it. Two classes that are taken for one another: true = diag(1 / recall) M^-1 diag(1 - FDR) detected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bouton.density.finding import NAN
from bouton.errors import SpecError

_DRAWS = 20_000
_SEED = 20_260
_SINGULAR = 1e-6


@dataclass(frozen=True)
class LabelledShare:
    """A share that was counted by hand: ``hits`` of ``sample``; precision, recall, or a row of a confusion.

    Raises
    ------
    SpecError
        The sample is empty, or there are more hits than it has.
    """

    hits: float
    sample: int

    def __post_init__(self) -> None:
        if self.sample < 1 or not 0 <= self.hits <= self.sample:
            raise SpecError(f"{self.hits} right of a sample of {self.sample}", expected="0 to all of at least 1")

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.hits / self.sample

    def draws(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return values that the share may have, float64 (size,)."""
        return rng.beta(self.hits + 0.5, self.sample - self.hits + 0.5, size)


def labelled_share(name: str, value: float, sample: int) -> LabelledShare:
    """Return the share ``value``, above 0 and at most 1, of a sample; ``name`` is said in errors.

    Raises
    ------
    SpecError
        The value is 0, above 1 or no number, or the sample is empty.
    """
    if not 0 < value <= 1:
        raise SpecError(f"{name} = {value}", expected="above 0, at most 1", fix=f"give {name} as a share, 0.9 for 90 %")
    if sample < 1:
        raise SpecError(f"{name} of a sample of {sample}", expected="at least 1", fix="say how many were labelled")
    return LabelledShare(value * sample, sample)


@dataclass(frozen=True)
class Corrected:
    """A corrected number with its 95 % interval, and the interval of the delta method."""

    value: float
    low: float
    high: float
    delta_low: float
    delta_high: float


def corrected(detected: int, precision: LabelledShare, recall: LabelledShare) -> Corrected:
    """Return the true number of synapses where ``detected`` were found.

    Raises
    ------
    SpecError
        Precision or recall is 0, or ``detected`` is negative.
    """
    _check(detected, precision, recall)
    value = detected * precision.value / recall.value
    rng = np.random.default_rng(_SEED)
    drawn = _counts(rng, detected) * precision.draws(rng, _DRAWS) / recall.draws(rng, _DRAWS)
    low, high = (float(v) for v in np.quantile(drawn, (0.025, 0.975)))
    reach = 1.959964 * value * math.sqrt(_relative_variance(detected, precision, recall)) if detected else NAN
    return Corrected(value, low, high, value - reach, value + reach)


@dataclass(frozen=True)
class ClassSamples:
    """What labelled samples say of a detector of k classes.

    Attributes
    ----------
    recall : k shares
        Of the true synapses of each class: those that were found, as whatever class.
    false_discovery : k shares
        Of the detections of each class: those that are no synapse.
    confusion : int64 (k, k)
        Of true synapses that were found: ``confusion[i, j]`` of true class j were called i.
    """

    recall: Sequence[LabelledShare]
    false_discovery: Sequence[LabelledShare]
    confusion: np.ndarray

    def __post_init__(self) -> None:
        confusion, k = np.asarray(self.confusion), len(self.recall)
        if confusion.shape != (k, k) or len(self.false_discovery) != k:
            raise SpecError(
                f"{k} recalls, {len(self.false_discovery)} false discovery shares, a confusion of {confusion.shape}",
                expected=f"{k} and ({k}, {k})",
            )
        if (confusion < 0).any() or not confusion.sum(axis=0).all():
            raise SpecError("a confusion with negative numbers, or no labelled synapse of a class", expected="counts")
        if any(share.value == 0 for share in self.recall):
            raise SpecError("recall = 0", expected="above 0", fix="what is never found cannot be counted")
        if any(share.value == 1 for share in self.false_discovery):
            raise SpecError("precision = 0", expected="above 0", fix="label more detections")
        if abs(np.linalg.det(confusion / confusion.sum(axis=0))) < _SINGULAR:
            raise SpecError("the detector does not tell the classes apart", expected="a confusion with an inverse")


def corrected_classes(detected: np.ndarray, samples: ClassSamples) -> np.ndarray:
    """Return the true number of each class and its 95 % interval, float64 (k, 3): value, low, high; none below 0.

    Parameters
    ----------
    detected : int64 (k,)
        Synapses found of each class.
    """
    drawn = _class_draws(detected, samples)
    return _with_interval(class_matrix(samples) @ np.asarray(detected), drawn)


def corrected_share(detected: np.ndarray, samples: ClassSamples) -> tuple[float, float, float]:
    """Return the share of the first class in the true number of all, with its 95 % interval: value, low, high.

    Parameters
    ----------
    detected : int64 (k,)
        Synapses found of each class. Of none at all the share is nan.
    """
    drawn = np.maximum(_class_draws(detected, samples), 0)
    value = np.maximum(class_matrix(samples) @ np.asarray(detected), 0)
    if not np.any(detected):
        return NAN, NAN, NAN
    found = _with_interval((value / value.sum())[:1], drawn[:, :1] / drawn.sum(axis=1, keepdims=True))[0]
    return float(found[0]), float(found[1]), float(found[2])


def class_matrix(samples: ClassSamples) -> np.ndarray:
    """Return what makes true numbers of detected ones, float64 (k, k): ``true = matrix @ detected``."""
    confusion = np.asarray(samples.confusion, dtype=np.float64)
    right = np.diag([1 - share.value for share in samples.false_discovery])
    true = np.linalg.solve(confusion / confusion.sum(axis=0), right)
    return np.asarray(true / np.array([[share.value] for share in samples.recall]))


def matrix_draws(samples: ClassSamples, rng: np.random.Generator) -> np.ndarray:
    """Return matrices that :func:`class_matrix` may be, given the labelled samples, float64 (draws, k, k).

    Draws that do not tell the classes apart are nan.
    """
    mixing = np.stack([rng.dirichlet(column + 0.5, _DRAWS) for column in _columns(samples.confusion)], axis=2)
    wrong = np.stack([share.draws(rng, _DRAWS) for share in samples.false_discovery], axis=1)
    recall = np.stack([share.draws(rng, _DRAWS) for share in samples.recall], axis=1)
    usable = np.abs(np.linalg.det(mixing)) > _SINGULAR
    found = np.full(mixing.shape, np.nan)
    found[usable] = np.linalg.inv(mixing[usable])
    return np.asarray(found * (1 - wrong)[:, None, :] / recall[:, :, None])


def _class_draws(detected: np.ndarray, samples: ClassSamples) -> np.ndarray:
    """Return true numbers as they may be, float64 (draws, k)."""
    detected = np.asarray(detected)
    if detected.shape != (len(samples.recall),) or (detected < 0).any():
        raise SpecError(f"{detected.tolist()} detected", expected=f"{len(samples.recall)} numbers of at least 0")
    rng = np.random.default_rng(_SEED)
    matrices = matrix_draws(samples, rng)
    found = np.stack([_counts(rng, int(number)) for number in detected], axis=1)
    return np.asarray((matrices @ found[..., None])[..., 0])


def _with_interval(value: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return values and quantiles of draws, none below 0, float64 (k, 3)."""
    return np.maximum(np.stack([value, *np.nanquantile(drawn, (0.025, 0.975), axis=0)], axis=1), 0)


def _columns(confusion: np.ndarray) -> list[np.ndarray]:
    confusion = np.asarray(confusion, dtype=np.float64)
    return [confusion[:, j] for j in range(confusion.shape[1])]


def _counts(rng: np.random.Generator, detected: int) -> np.ndarray:
    return rng.gamma(detected + 0.5, 1.0, _DRAWS)


def _relative_variance(detected: int, precision: LabelledShare, recall: LabelledShare) -> float:
    return sum((1 - s.value) / (s.value * s.sample) for s in (precision, recall)) + 1 / detected


def _check(detected: int, precision: LabelledShare, recall: LabelledShare) -> None:
    if detected < 0:
        raise SpecError(f"{detected} detected", expected="at least 0")
    for name, share in (("precision", precision), ("recall", recall)):
        if share.value == 0:
            raise SpecError(f"{name} = 0", expected="above 0", fix="label more, or use another detector")
