"""Does density change along an axis, or with depth? Negative-binomial regression on smooth curves of position.

log E[n_i] = log V_i + intercept + a cubic B-spline of each coordinate; variance mu + alpha mu^2 with alpha by moments
from the full model (Breslow 1984, doi:10.2307/2347661), 0 for tissue that varies no more than Poisson. The likelihood
ratio statistic of the model without a curve, at the same alpha, over its df is compared with F where alpha had to be
estimated above 0 (as McCullagh & Nelder do with the deviance, doi:10.1201/9780203753736), else with chi-square. Where
blocks that lie together are alike beyond doubt, statistic and interval are scaled by how much more their sums vary.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy import interpolate, stats
from statsmodels.tools.sm_exceptions import ModelWarning

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import NEARLY_POISSON, extra_variance
from bouton.density.dispersion import likeness, missing
from bouton.density.finding import Finding

_DEGREE = 3
_COLUMNS = 5
_ROUNDS = 4
_EFFECT = "density at 95 % of the way over density at 5 %"


@dataclass(frozen=True)
class Smooth:
    """A curve of one coordinate: ``design`` is float64 (n, k); ``low`` and ``high``, (k,), at 5 and 95 % of the way."""

    name: str
    design: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def columns(self) -> int:
        """Columns of the design; 0 where the coordinate has one value only."""
        return int(self.design.shape[1])


def axis_findings(blocks: DensityBlocks) -> list[Finding]:
    """Return, for z, y and x, whether density changes along the axis, given the other two."""
    smooths = [smooth(name, blocks.centre_um[:, axis], blocks.exposure_um3) for axis, name in enumerate("zyx")]
    return _findings(blocks, smooths, [f"axis {name}" for name in "zyx"])


def depth_finding(blocks: DensityBlocks, depth_um: np.ndarray) -> Finding:
    """Return whether density changes with depth, float64 (n,) of the blocks, whatever else it changes with."""
    return _findings(blocks, [smooth("depth", np.asarray(depth_um, np.float64), blocks.exposure_um3)], ["depth"])[0]


def smooth(name: str, position_um: np.ndarray, weight: np.ndarray) -> Smooth:
    """Return a spline of at most 5 columns over a coordinate, float64 (n,); fewer where it has 5 values or fewer."""
    values, inverse = np.unique(position_um, return_inverse=True)
    columns = min(_COLUMNS, values.size - 1)
    if columns < 1:
        return Smooth(name, np.zeros((position_um.size, 0)), np.zeros(0), np.zeros(0))
    degree = min(_DEGREE, columns)
    inner = np.quantile(values, np.linspace(0, 1, columns - degree + 2)[1:-1])
    knots = np.concatenate([np.full(degree + 1, values[0]), inner, np.full(degree + 1, values[-1])])

    def basis(at: np.ndarray) -> np.ndarray:
        return np.asarray(interpolate.BSpline.design_matrix(at, knots, degree).toarray())[:, 1:]

    share = np.cumsum(np.bincount(inverse, weight)) / weight.sum()
    ends = values[[int(np.searchsorted(share, level - 1e-12)) for level in (0.05, 0.95)]]
    at = basis(ends)
    return Smooth(name, basis(values)[inverse], at[0], at[1])


def _findings(blocks: DensityBlocks, smooths: Sequence[Smooth], tests: Sequence[str]) -> list[Finding]:
    why = missing(blocks) or _too_few(blocks, smooths)
    full = None if why else _fit_with_alpha(blocks, smooths)
    return [_finding(blocks, smooths, number, full, test, why) for number, test in enumerate(tests)]


def _too_few(blocks: DensityBlocks, smooths: Sequence[Smooth]) -> str:
    least = 2 + sum(each.columns for each in smooths)
    return missing(blocks, least + 1)


def _finding(
    blocks: DensityBlocks, smooths: Sequence[Smooth], number: int, full: Fit | None, test: str, why: str
) -> Finding:
    this = smooths[number]
    along = "with depth" if this.name == "depth" else f"along {this.name}"
    others = "" if len(smooths) == 1 else ", given the other axes"
    finding = Finding(test, f"Does density change {along}{others}?", _EFFECT, n=len(blocks), note=why)
    if full is None:
        return finding
    if not this.columns:
        return _noted(finding, f"not available: one layer of blocks {along}")
    without = _fit(blocks, [each for each in smooths if each is not this], full.alpha)
    df = full.rank - without.rank
    if df < this.columns:
        return _noted(finding, "not available: blocks do not tell this axis from the others")
    if not (full.converged and without.converged):
        return _noted(finding, "not available: the fit did not converge")
    statistic = max(0.0, without.deviance - full.deviance)
    excess, freedom = full.likeness
    estimated = full.alpha > 0 or excess > 1
    p = float(stats.f.sf(statistic / excess / df, df, freedom) if estimated else stats.chi2.sf(statistic, df))
    log_ratio, error = _log_ratio(full, smooths, number)
    reach = float(stats.t.ppf(0.975, freedom)) * error * math.sqrt(excess)
    note = f"likelihood ratio {statistic:.4g} on {df} df, alpha {full.alpha:.3g}; {_told(excess)}"
    value, low, high = (_exp(log_ratio + shift) for shift in (0.0, -reach, reach))
    return Finding(test, finding.question, _EFFECT, value, low, high, p, len(blocks), note)


def _told(excess: float) -> str:
    if excess == 1:
        return "blocks vary independently around the curves"
    return f"neighbouring blocks are alike: p and interval allow for {excess:.3g} times the variance"


def _noted(finding: Finding, note: str) -> Finding:
    return Finding(finding.test, finding.question, finding.effect, n=finding.n, note=note)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


@dataclass(frozen=True)
class Fit:
    """A fitted model: ``rank`` columns, ``df`` degrees of freedom left; ``likeness`` of blocks
    around it, and the degrees of freedom of that."""

    alpha: float
    deviance: float
    rank: int
    df: int
    coefficients: np.ndarray
    covariance: np.ndarray
    expected: np.ndarray
    converged: bool
    likeness: tuple[float, int] = (1.0, 1)


def _fit_with_alpha(blocks: DensityBlocks, smooths: Sequence[Smooth]) -> Fit:
    found = _fit(blocks, smooths, 0.0)
    for _ in range(_ROUNDS):
        alpha = extra_variance(blocks.counts, found.expected, found.rank)
        alpha = alpha if alpha > NEARLY_POISSON else 0.0
        if abs(alpha - found.alpha) <= 1e-4 * alpha:
            break
        found = _fit(blocks, smooths, alpha)
    excess, freedom = likeness(blocks, found.expected, found.alpha)
    return replace(found, likeness=(excess, freedom if excess > 1 else found.df))


def _fit(blocks: DensityBlocks, smooths: Sequence[Smooth], alpha: float) -> Fit:
    design = np.hstack([np.ones((len(blocks), 1)), *(each.design for each in smooths)])
    family: Any = sm.families.NegativeBinomial(alpha=alpha) if alpha else sm.families.Poisson()
    with warnings.catch_warnings():
        # An end of the axis without synapses sends a coefficient to minus infinity; the deviance converges.
        warnings.simplefilter("ignore", ModelWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = sm.GLM(blocks.counts, design, family=family, offset=np.log(blocks.exposure_um3)).fit(scale=1.0)
        covariance = np.asarray(result.cov_params())
    rank = round(result.df_model) + 1
    expected = np.maximum(np.asarray(result.fittedvalues, dtype=np.float64), 1e-12)
    converged = bool(result.converged) and math.isfinite(float(result.deviance))
    return Fit(
        alpha, float(result.deviance), rank, len(blocks) - rank, np.asarray(result.params), covariance, expected,
        converged,
    )  # fmt: skip


def _log_ratio(full: Fit, smooths: Sequence[Smooth], number: int) -> tuple[float, float]:
    """Return the log of the ratio of density near the ends, and its standard error (delta method)."""
    contrast = np.zeros(full.coefficients.size)
    first = 1 + sum(each.columns for each in smooths[:number])
    this = smooths[number]
    contrast[first : first + this.columns] = this.high - this.low
    variance = float(contrast @ full.covariance @ contrast)
    return float(contrast @ full.coefficients), math.sqrt(max(0.0, variance))
