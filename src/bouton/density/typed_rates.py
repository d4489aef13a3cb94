"""Densities of types and their ratio, corrected for the detector, with intervals for the comparison of data sets.

Corrected numbers are sums over blocks of numbers of both types, weighted (:mod:`bouton.density.correction`). So they
vary in space as any sum of blocks does (:mod:`bouton.density.rates`); what the labelled samples leave open goes into
the error of the logarithm.
"""

from __future__ import annotations

import math

import numpy as np

from bouton.density.correction import class_matrix, matrix_draws
from bouton.density.rates import Ratio, scaled, weighted_ratio
from bouton.density.type_samples import TypeCounts, TypeSamples, unavailable

_SEED = 20_261
_SPREAD = 2 * 1.959964
"""Standard deviations between the quantiles at 2.5 and 97.5 % of a normal distribution."""


def typed_ratios(
    called: np.ndarray, synapses: int, volume_um3: np.ndarray, index: np.ndarray, samples: TypeSamples
) -> tuple[Ratio, Ratio, Ratio]:
    """Return corrected densities of excitatory and of inhibitory synapses, um-3, and excitatory over inhibitory.

    Parameters
    ----------
    called : int64 (2, n)
        Synapses of each block that are called excitatory, and inhibitory.
    synapses : int
        All synapses of the blocks, those of unknown type included.
    volume_um3 : float64 (n,)
        Above 0.
    index : int64 (n, 3)
        Places of the blocks, z, y, x.
    samples : TypeSamples
    """
    called = np.asarray(called, np.int64)
    total = called.sum(axis=1)
    why = unavailable(TypeCounts(int(total[0]), int(total[1]), synapses), samples)
    matrix = class_matrix(samples.classes)
    if not why and (matrix @ total <= 0).any():
        why = "not available: no more of a type than synapses of the other type that are taken for it"
    if why:
        none = Ratio(n=called.shape[1], note=why)
        return none, none, none
    numbers, volume = matrix @ called, np.asarray(volume_um3, np.float64)
    drawn = matrix_draws(samples.classes, np.random.default_rng(_SEED)) @ total
    shares = matrix * total / (matrix @ total)[:, None]
    excitatory, inhibitory = (
        _ratio((numbers[number], volume), index, shares[number] ** 2 / np.maximum(total, 1), drawn[:, number])
        for number in range(2)
    )
    contrast = (shares[0] - shares[1]) ** 2 / np.maximum(total, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_both = np.where((drawn > 0).all(axis=1), drawn[:, 0] / drawn[:, 1], np.where(drawn[:, 0] > 0, np.inf, 0.0))
    return excitatory, inhibitory, _ratio((numbers[0], numbers[1]), index, contrast, of_both)


def _ratio(sums: tuple[np.ndarray, np.ndarray], index: np.ndarray, poisson: np.ndarray, drawn: np.ndarray) -> Ratio:
    """Return a ratio of sums with the variance of its logarithm in space, and that of the labelled samples."""
    error = _log_error(drawn)
    if not math.isfinite(error):
        return Ratio(n=len(index), note="not available: the labelled samples do not tell it from 0")
    return scaled(weighted_ratio(*sums, index, float(poisson.sum())), 1.0, error)


def _log_error(drawn: np.ndarray) -> float:
    """Return the standard error of the logarithm of a number by draws of it; nan where it may be 0 or boundless."""
    low, high = np.quantile(drawn[~np.isnan(drawn)], (0.025, 0.975), method="nearest")
    return math.log(high / low) / _SPREAD if low > 0 and math.isfinite(high) else math.nan
