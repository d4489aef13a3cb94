"""How often tests reject simulated tissues: 5 % of uniform ones if they are right, the more of others the better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from bouton.density.blocks import DensityBlocks
from bouton.density.dispersion import dispersion
from bouton.density.finding import Finding
from bouton.density.moran import morans_i
from bouton.density.noise import detector_null
from bouton.density.point_pattern import PointOptions, nearest_neighbour, patterns, ripley
from bouton.density.published import published_chi_square
from bouton.density.regression import axis_findings, depth_finding
from bouton.density.simulate import Tissue, point_tissue, tissue
from bouton.density.variogram import variogram

LEVEL = 0.05
BlockTests = Callable[[DensityBlocks, int], Sequence[Finding]]
"""Tests of blocks with a seed."""
PERMUTATIONS = 199
RATES = (0.9, 0.9)
"""Recall and precision of the detector of simulated tissues."""
DEPTH_ZYX = (0.1, 1.0, 0.2)
"""Which way depth grows in them: mostly along y, a little tilted."""


def block_findings(blocks: DensityBlocks, seed: int) -> list[Finding]:
    """Return the findings of all tests of blocks, the published chi-square last."""
    depth_um = (blocks.centre_um * np.array(DEPTH_ZYX)).sum(axis=1)
    return [
        dispersion(blocks, PERMUTATIONS, seed),
        *axis_findings(blocks),
        depth_finding(blocks, depth_um),
        morans_i(blocks, PERMUTATIONS, seed),
        variogram(blocks, PERMUTATIONS, seed)[0],
        detector_null(blocks, *RATES, simulations=PERMUTATIONS, seed=seed),
        published_chi_square(blocks.density_um3),
    ]


@dataclass(frozen=True)
class Rejections:
    """How often a test rejected tissues at the 5 % level.

    Attributes
    ----------
    test, kind, mask : str
        The test, and the kind and the mask of the tissues.
    strength : float
        Of their pattern.
    rejected, tissues : int
        How many of them; those where p is not available count as not rejected.
    low, high : float
        95 % interval of the share (Wilson).
    """

    test: str
    kind: str
    mask: str
    strength: float
    rejected: int
    tissues: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Share of the tissues that were rejected."""
        return self.rejected / self.tissues


def rejections(
    tests: BlockTests, kind: str, mask: str, seeds: Sequence[int], settings: Tissue = Tissue()
) -> list[Rejections]:
    """Return how often each test rejects tissues of a kind.

    Parameters
    ----------
    tests : function
        Takes blocks and a seed, returns findings; the same tests for each tissue.
    kind, mask : str
        As `bouton.density.simulate.tissue` takes them.
    seeds : sequence of int
        One a tissue.
    settings : Tissue, optional
        Size, density and strength.
    """
    p = [{f.test: f.p for f in tests(tissue(kind, mask, seed, settings), seed)} for seed in seeds]
    return counted(p, (kind, mask, settings.strength))


def point_rejections(kind: str, mask: str, seeds: Sequence[int], settings: Tissue) -> list[Rejections]:
    """Return how often nearest neighbours and Ripley's K reject point patterns of a kind; 99 simulations each.

    Parameters
    ----------
    kind, mask : str
        As `bouton.density.simulate.point_tissue` takes them.
    seeds : sequence of int
        One a tissue.
    settings : Tissue
        Size, density and strength.
    """
    p = []
    for seed in seeds:
        points, window = point_tissue(kind, mask, seed, settings)
        drawn = patterns(points, window, PointOptions(simulations=99, seed=seed))
        p.append({f.test: f.p for f in (nearest_neighbour(drawn), ripley(drawn)[0])})
    return counted(p, (kind, mask, settings.strength))


def counted(p: Sequence[Mapping[str, float]], of: tuple[str, str, float]) -> list[Rejections]:
    """Count the rejections among p of each test and tissue; ``of``: kind, mask and strength of the tissues."""
    found = []
    for test in p[0] if p else ():
        values = np.array([row[test] for row in p])
        rejected = int(np.count_nonzero(values <= LEVEL))
        interval = binomtest(rejected, len(values)).proportion_ci(method="wilson")
        found.append(Rejections(test, *of, rejected, len(values), float(interval.low), float(interval.high)))
    return found


def power(
    tests: BlockTests, kind: str, strengths: Sequence[float], seeds: Sequence[int], mask: str = "none",
    settings: Tissue = Tissue(),
) -> Iterator[Rejections]:  # fmt: skip
    """Yield how often each test rejects tissues of a kind, for each strength of its pattern."""
    for strength in strengths:
        yield from rejections(tests, kind, mask, seeds, replace(settings, strength=strength))
