"""Exact comparison of integer ratios: mean affinities are never compared as floats."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numba import njit

from bouton.errors import SpecError


def level(affinity: float) -> Fraction:
    """Return an affinity in [0, 1], taken as the decimal number it is written as, in 1/255.

    Raises
    ------
    SpecError
        It does not lie in [0, 1].
    """
    if not 0 <= affinity <= 1:
        raise SpecError(f"affinity {affinity}", expected="a number from 0 to 1")
    return (Fraction(str(affinity)) * 255).limit_denominator(10**9)


@njit(cache=True, nogil=True)
def reaches(sums: np.ndarray, counts: np.ndarray, numerator: int, denominator: int) -> np.ndarray:
    """Return bool (n,): sum / count >= numerator / denominator, exactly. All int64, counts and denominator positive."""
    answer = np.empty(len(sums), np.bool_)
    for i in range(len(sums)):
        answer[i] = compare_ratios(sums[i], counts[i], numerator, denominator) >= 0
    return answer


@njit(cache=True, nogil=True)
def compare_ratios(a: int, b: int, c: int, d: int) -> int:
    """Return the sign of a / b - c / d, exactly, for int64 a, c >= 0 and b, d > 0: by continued fractions."""
    if a == c and b == d:
        return 0
    sign = 1
    while True:
        whole, other = a // b, c // d
        if whole != other:
            return sign if whole > other else -sign
        a, c = a - whole * b, c - other * d
        if a == 0 or c == 0:
            return sign * (min(a, 1) - min(c, 1))
        # both remainders lie in (0, 1): compare the reciprocals the other way round
        a, b, c, d, sign = b, a, d, c, -sign
