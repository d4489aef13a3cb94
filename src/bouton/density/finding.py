"""What a test of densities says, and what a curve shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

NAN = math.nan


@dataclass(frozen=True)
class Finding:
    """The answer of one test.

    Attributes
    ----------
    test : str
        Its short name, ``dispersion``.
    question : str
        What it asks, for people.
    effect : str
        The name of its effect size, ``variance over mean``.
    value, low, high : float
        The effect size and its 95 % interval; nan: not available.
    p : float
        Probability of an effect at least as large if the null hypothesis holds; nan: not available.
    n : int
        Blocks, or synapses, that it looked at.
    note : str
        Its limits; why it is not available, where it is not.
    """

    test: str
    question: str
    effect: str
    value: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN
    n: int = 0
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve of density or of its variation.

    Attributes
    ----------
    name : str
        ``axis z``, ``axis y``, ``axis x``, ``depth``, ``histogram``, ``variogram``, ``ripley``.
    x, y, low, high, expected, weight : float64 (n,)
        As the columns of ``bouton.volume.density_columns.CURVE_COLUMNS``.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    expected: np.ndarray
    weight: np.ndarray


def curve_table(curves: Iterable[Curve]) -> dict[str, np.ndarray]:
    """Return curves as one table."""
    curves = list(curves)
    numbers = [field.name for field in fields(Curve) if field.name != "name"]
    names = [np.full(curve.x.size, curve.name, dtype=object) for curve in curves]
    found = {"curve": np.concatenate([*names, np.zeros(0, dtype=object)])}
    for name in numbers:
        found[name] = np.concatenate([np.zeros(0), *(np.asarray(getattr(c, name), np.float64) for c in curves)])
    return found


def finding_table(findings: Sequence[Finding], q: np.ndarray) -> dict[str, np.ndarray]:
    """Return findings as a table; ``q``, float64 (n,), are their p after Benjamini-Hochberg."""
    texts = ("test", "question", "effect")
    table = {name: np.array([getattr(f, name) for f in findings], dtype=object) for name in texts}
    for name in ("value", "low", "high", "p"):
        table[name] = np.array([getattr(f, name) for f in findings], dtype=np.float64)
    table |= {"q": np.asarray(q, np.float64), "n": np.array([f.n for f in findings], dtype=np.int64)}
    return table | {"note": np.array([f.note for f in findings], dtype=object)}
