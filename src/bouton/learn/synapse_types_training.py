"""How classifiers of synapses are trained, calibrated on other rows, and how far their probabilities can be trusted.

Calibration is by isotonic regression from ``ISOTONIC_FROM`` rows on, else by Platt's logistic curve, which fewer rows
suffice for (Niculescu-Mizil & Caruana 2005, doi:10.1145/1102351.1102430). Needs scikit-learn; deciding does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError
from bouton.learn.forest import ForestSettings, fit_forest, predict_forest
from bouton.learn.runners import require
from bouton.learn.synapse_types import TABLE_POINTS, Classifier, no_calibration

ISOTONIC_FROM = 1000
NEAR_CERTAIN = 0.005
SETTINGS = ForestSettings(trees=100, smallest_leaf=3, leaves=32)


@dataclass(frozen=True)
class Rows:
    """Rows of known class.

    Attributes
    ----------
    features : float32 (n, k)
    classes : int64 (n,)
    """

    features: np.ndarray
    classes: np.ndarray


def fit_classifier(train: Rows, held_out: Rows, settings: ForestSettings = SETTINGS) -> tuple[Classifier, str]:
    """Return a classifier trained on ``train`` and calibrated on ``held_out``, and how it was calibrated.

    Raises
    ------
    SpecError
        scikit-learn is not installed.
    DataError
        The rows cannot be learned from.
    """
    forest = fit_forest(train.features, train.classes, settings)
    if not held_out.classes.size:
        return Classifier(forest, no_calibration(forest.classes)), "none"
    raw = predict_forest(forest, held_out.features)
    method = "isotonic" if len(raw) >= ISOTONIC_FROM else "platt"
    return Classifier(forest, calibration_table(raw, held_out.classes, method)), method


def calibration_table(raw: np.ndarray, classes: np.ndarray, method: str) -> np.ndarray:
    """Return the calibrated value of each class at evenly spaced probabilities, float64 (classes, points).

    Parameters
    ----------
    raw : numpy.ndarray
        float (n, classes), the forest's probabilities of rows that it was not trained on.
    classes : numpy.ndarray
        int64 (n,), their true classes. A class that none or all of them have is left as it is.
    method : str
        ``platt`` or ``isotonic``.
    """
    if method not in ("platt", "isotonic"):
        raise DataError(f"calibration {method!r}", expected="platt or isotonic")
    require("sklearn", "scikit-learn 1.5", "forest")
    table = no_calibration(raw.shape[1])
    for number in range(raw.shape[1]):
        right = classes == number
        if right.any() and not right.all():
            table[number] = _curve(raw[:, number].astype(np.float64), right, method)
    return table


def _curve(raw: np.ndarray, right: np.ndarray, method: str) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    points, least = np.linspace(0.0, 1.0, TABLE_POINTS), 1.0 / (len(raw) + 2)
    if method == "isotonic":
        found = IsotonicRegression(out_of_bounds="clip").fit(raw, right).predict(points)
    else:
        found = LogisticRegression().fit(_logit(raw), right).predict_proba(_logit(points))[:, 1]
    # no finite number of rows makes anything certain
    return np.clip(found, least, 1.0 - least)


def _logit(values: np.ndarray) -> np.ndarray:
    held = np.clip(values, NEAR_CERTAIN, 1.0 - NEAR_CERTAIN)
    return np.log(held / (1.0 - held))[:, None]


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> tuple[np.ndarray, float]:
    """Return how often answers of each confidence are right, and the expected calibration error.

    Parameters
    ----------
    confidence : numpy.ndarray
        float (n,): probability of the answer given, 0 to 1.
    right : numpy.ndarray
        bool (n,).
    bins : int
        Of equal width, from 0 to 1.

    Returns
    -------
    numpy.ndarray
        float64 (bins, 3): mean confidence, share right, number; NaN, NaN, 0 where a bin is empty.
    float
        Mean over the rows of the difference between their bin's confidence and its share right (Guo 2017,
        arXiv:1706.04599); NaN without rows.
    """
    at = np.minimum((np.asarray(confidence) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(at, minlength=bins).astype(np.float64)
    divide = np.where(counts > 0, counts, np.nan)
    mean = np.bincount(at, weights=confidence, minlength=bins) / divide
    share = np.bincount(at, weights=np.asarray(right, dtype=np.float64), minlength=bins) / divide
    table = np.stack([mean, share, counts], axis=1)
    if not len(at):
        return table, float("nan")
    return table, float(np.nansum(np.abs(mean - share) * counts) / counts.sum())
