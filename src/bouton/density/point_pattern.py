"""Nearest neighbours and Ripley's K of synapses, against random places that cannot overlap.

Synapses take up room, so points placed at random would be closer than synapses can be. The null hypothesis is random
sequential adsorption: points placed one after the other at random in the exposed tissue, each at least a smallest
distance from all before it. Synapses of neocortical neuropil were found to be nearly such a pattern (Merchan-Perez et
al. 2014, doi:10.1093/cercor/bht018). As many points are drawn in the same window as there are synapses, so edges and
masks act on both alike and need no correction.

Many points are looked at in parts: boxes of tissue drawn at random that do not overlap, each against its own draws. So
trends of density over longer distances than a box do not count as clusters (blocks tell them).

Clark & Evans 1954, doi:10.2307/1931034; Ripley 1976, doi:10.2307/3212829. p and bands: `bouton.density.resampling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from bouton.density.finding import Curve, Finding
from bouton.density.resampling import envelope, two_sided_p
from bouton.density.window import Window, hard_core_points
from bouton.errors import DataError

NEAREST = ("nearest neighbour", "Are synapses nearer to one another than random ones?", "nearest distance over random")
RIPLEY = ("ripley", "Do synapses cluster or keep apart at any distance?", "neighbours over random")
MIN_POINTS = 20
RADII = 16
LONGEST_SPACINGS = 2.5
MIN_PAIRS = 5.0


@dataclass(frozen=True)
class PointOptions:
    """How points are tested.

    Attributes
    ----------
    simulations : int
        Patterns drawn, at least 1.
    seed : int
        Of the draws.
    hard_core_um : float
        The smallest distance of two synapses; nan: found from the points (smallest distance * n / (n + 1)).
    max_points : int
        More points than this are looked at in parts.
    parts : int
        How many boxes of tissue then, each of about max_points / parts points.
    """

    simulations: int = 199
    seed: int = 1
    hard_core_um: float = float("nan")
    max_points: int = 5000
    parts: int = 8


@dataclass(frozen=True)
class Sample:
    """A part of the tissue: its points, float64 (n, 3), z, y, x, and its window."""

    points_um: np.ndarray
    window: Window


@dataclass(frozen=True)
class Patterns:
    """Synapses, and the random patterns that every test compares them with.

    Attributes
    ----------
    samples : list of Sample
    core_um : float
        Smallest distance of two points of a random pattern.
    options : PointOptions
    missing : str
        Why nothing can be compared; empty if it can.
    """

    samples: list[Sample]
    core_um: float
    options: PointOptions
    missing: str = ""

    @property
    def count(self) -> int:
        """Synapses that are looked at."""
        return sum(len(sample.points_um) for sample in self.samples)

    @cached_property
    def drawn(self) -> list[list[np.ndarray]]:
        """The random points of each sample, float64 (n, 3), of each simulation."""
        rng = np.random.default_rng((self.options.seed, 1))
        return [
            [hard_core_points(sample.window, len(sample.points_um), self.core_um, rng) for sample in self.samples]
            for _ in range(self.options.simulations)
        ]

    def simulated(self, figure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return a figure of random points, summed over the samples, float64 (simulations, figures)."""
        rows = [np.sum([figure(points) for points in drawn], axis=0) for drawn in self.drawn]
        return np.array(rows, dtype=np.float64)

    @property
    def note(self) -> str:
        """What was compared, for people."""
        kind = "found" if np.isnan(self.options.hard_core_um) else "given"
        where = f"in {len(self.samples)} boxes of tissue, " if len(self.samples) > 1 else ""
        return f"{where}{self.options.simulations} random patterns at least {self.core_um:.3f} um apart ({kind})"


def patterns(points_um: np.ndarray, window: Window, options: PointOptions = PointOptions()) -> Patterns:
    """Return synapses with the random patterns of one null hypothesis.

    Parameters
    ----------
    points_um : float64 (n, 3)
        Places of synapses, z, y, x; those outside the window are left out.
    window : Window
        Where a synapse would have been seen.
    options : PointOptions, optional
        Draws, smallest distance, parts.

    Raises
    ------
    DataError
        Positions are not (n, 3) finite numbers, or the smallest distance that is given is negative or infinite.
    """
    samples, missing = samples_of(points_um, window, options)
    core = float("nan") if missing else hard_core(samples, options)
    return Patterns(samples, core, options, missing)


def nearest_neighbour(given: Patterns) -> Finding:
    """Compare the mean distance of synapses to their nearest neighbour with that of random ones.

    Returns
    -------
    Finding
        The ratio of the distances, below 1 for clusters, above for regular places, give or take 1.96 standard
        deviations of the draws; p is two-sided.
    """
    if given.missing:
        return Finding(*NEAREST, n=given.count, note=f"not available: {given.missing}")
    found = given.simulated(lambda points: np.array([nearest_um(points).sum()]))
    observed = sum(nearest_um(sample.points_um).sum() for sample in given.samples)
    ratio, reach = float(observed / found.mean()), 1.96 * float(found.std() / found.mean())
    p = two_sided_p(float(observed), found[:, 0])
    return Finding(*NEAREST, ratio, ratio - reach, ratio + reach, p, given.count, given.note)


def ripley(given: Patterns) -> tuple[Finding, Curve]:
    """Compare how many synapses lie within a distance of a synapse with random ones, for many distances at once.

    Returns
    -------
    Finding
        The ratio of neighbours at the distance where it departs most (the note tells it), above 1 for clusters, with
        the band that holds whole curves of random points in 95 %; p of the whole curve.
    Curve
        ``ripley``: x distance in um, y Ripley's K over that of random points, expected 1; ``low`` and ``high`` are y
        less and more the half-width of the band. ``weight``: pairs of synapses within x.
    """
    if given.missing:
        return Finding(*RIPLEY, n=given.count, note=f"not available: {given.missing}"), _no_curve()
    radii = radii_um(given.samples)
    simulated = given.simulated(lambda points: pairs_within(points, radii))
    pairs = np.sum([pairs_within(sample.points_um, radii) for sample in given.samples], axis=0)
    mean = simulated.mean(axis=0)
    shown = mean >= MIN_PAIRS
    if not shown.any():
        return Finding(*RIPLEY, n=given.count, note="not available: too few pairs of synapses"), _no_curve()
    mean, pairs, radii = mean[shown], pairs[shown].astype(np.float64), radii[shown]
    ratio = pairs / mean
    band = envelope(ratio, simulated[:, shown] / mean)
    low, high, at = ratio - band.half_width, ratio + band.half_width, band.strongest
    note = f"at {radii[at]:.2f} um; {given.note}"
    finding = Finding(*RIPLEY, float(ratio[at]), float(low[at]), float(high[at]), band.p, given.count, note)
    return finding, Curve("ripley", radii, ratio, low, high, np.ones_like(radii), pairs)


def samples_of(points_um: np.ndarray, window: Window, options: PointOptions) -> tuple[list[Sample], str]:
    """Return the parts of the tissue to look at, and why it cannot be done; empty if it can.

    Raises
    ------
    DataError
        Positions are not (n, 3) finite numbers.
    """
    points = np.asarray(points_um, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise DataError(f"positions of shape {points.shape}", expected="(n, 3) finite numbers in um, z, y, x")
    inside = points[window.holds(points)]
    samples = [Sample(inside, window)] if len(inside) <= options.max_points else _parts(inside, window, options)
    samples = [sample for sample in samples if len(sample.points_um) >= MIN_POINTS]
    if samples:
        return samples, ""
    return [Sample(inside, window)], f"{len(inside)} synapses in the exposed tissue, at least {MIN_POINTS} are needed"


def _parts(points: np.ndarray, window: Window, options: PointOptions) -> list[Sample]:
    """Return boxes of the tissue, drawn at random among those of which at least half is exposed (or the most)."""
    rng = np.random.default_rng(options.seed)
    side = (options.max_points / options.parts / len(points) * window.volume_um3) ** (1 / 3)
    window = _refined(window, side / 4)
    tile = np.maximum(np.round(side / np.array(window.voxel_um)), 1).astype(np.int64)
    share = _tile_shares(window.exposed, tile)
    usable = np.argwhere(share >= min(0.5, share.max()))
    chosen = usable[rng.permutation(len(usable))[: options.parts]] * tile
    return [_cut(points, window, low, np.minimum(low + tile, window.exposed.shape)) for low in chosen]


def _refined(window: Window, longest_um: float) -> Window:
    """Return the window in voxels of at most a length."""
    factors = [max(1, int(np.ceil(size / longest_um))) for size in window.voxel_um]
    exposed = window.exposed
    for axis, factor in enumerate(factors):
        exposed = np.repeat(exposed, factor, axis=axis) if factor > 1 else exposed
    z, y, x = (size / factor for size, factor in zip(window.voxel_um, factors, strict=True))
    return Window(exposed, (z, y, x), window.origin_um)


def _tile_shares(exposed: np.ndarray, tile: np.ndarray) -> np.ndarray:
    """Return the exposed share of each tile, float64 (z, y, x); a tile that the end cuts counts as a whole one."""
    sums = exposed.astype(np.int64)
    for axis, size in enumerate(tile):
        sums = np.add.reduceat(sums, np.arange(0, exposed.shape[axis], size), axis=axis)
    return np.asarray(sums / np.prod(tile), dtype=np.float64)


def _cut(points: np.ndarray, window: Window, low: np.ndarray, high: np.ndarray) -> Sample:
    """Return the part of the tissue between two places of the window's grid."""
    voxel = np.array(window.voxel_um)
    z, y, x = (float(corner) for corner in np.array(window.origin_um) + low * voxel)
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    part = Window(window.exposed[box], window.voxel_um, (z, y, x))
    return Sample(points[part.holds(points)], part)


def hard_core(samples: list[Sample], options: PointOptions) -> float:
    """Return the smallest distance of two synapses in um, as given or found.

    Raises
    ------
    DataError
        The one that is given is negative or infinite.
    """
    given = options.hard_core_um
    if np.isnan(given):
        count = sum(len(sample.points_um) for sample in samples)
        smallest = min(float(nearest_um(sample.points_um).min()) for sample in samples)
        return smallest * count / (count + 1)
    if not (np.isfinite(given) and given >= 0):
        raise DataError(f"hard_core_um of {given:g}", expected="at least 0 um")
    return given


def radii_um(samples: list[Sample]) -> np.ndarray:
    """Return the distances looked at: up to 2.5 mean spacings, float64 (radii,)."""
    count = sum(len(sample.points_um) for sample in samples)
    spacing = (sum(sample.window.volume_um3 for sample in samples) / count) ** (1 / 3)
    return np.linspace(0.0, LONGEST_SPACINGS * spacing, RADII + 1)[1:]


def nearest_um(points: np.ndarray) -> np.ndarray:
    """Return the distance of each point, float64 (n, 3), to the nearest other one, float64 (n,)."""
    return np.asarray(cKDTree(points).query(points, k=2)[0][:, 1], dtype=np.float64)


def pairs_within(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return how many pairs of points, float64 (n, 3), lie within each distance, float64 (radii,)."""
    tree = cKDTree(points)
    return np.asarray((tree.count_neighbors(tree, radii) - len(points)) / 2, dtype=np.float64)


def _no_curve() -> Curve:
    return Curve("ripley", *(np.zeros(0) for _ in range(6)))
