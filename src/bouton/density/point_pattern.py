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


def nearest_neighbour(points_um: np.ndarray, window: Window, options: PointOptions = PointOptions()) -> Finding:
    """Compare the mean distance of synapses to their nearest neighbour with that of random ones.

    Parameters
    ----------
    points_um : float64 (n, 3)
        Places of synapses, z, y, x; those outside the window are left out.
    window : Window
        Where a synapse would have been seen.
    options : PointOptions, optional
        Draws, smallest distance, parts.

    Returns
    -------
    Finding
        The ratio of the distances, below 1 for clusters, above for regular places, give or take 1.96 standard
        deviations of the draws; p is two-sided.
    """
    samples, reason = samples_of(points_um, window, options)
    count = sum(len(sample.points_um) for sample in samples)
    if reason:
        return Finding(*NEAREST, n=count, note=f"not available: {reason}")
    core = hard_core(samples, options)
    found = _simulated(samples, core, options, lambda points: np.array([nearest_um(points).sum()]))
    observed = sum(nearest_um(sample.points_um).sum() for sample in samples)
    ratio, reach = float(observed / found.mean()), 1.96 * float(found.std() / found.mean())
    p = two_sided_p(float(observed), found[:, 0])
    return Finding(*NEAREST, ratio, ratio - reach, ratio + reach, p, count, _note(samples, core, options))


def ripley(points_um: np.ndarray, window: Window, options: PointOptions = PointOptions()) -> tuple[Finding, Curve]:
    """Compare how many synapses lie within a distance of a synapse with random ones, for many distances at once.

    Parameters
    ----------
    points_um : float64 (n, 3)
        Places of synapses, z, y, x; those outside the window are left out.
    window : Window
        Where a synapse would have been seen.
    options : PointOptions, optional
        Draws, smallest distance, parts.

    Returns
    -------
    Finding
        The ratio of neighbours at the distance where it departs most (the note tells it), above 1 for clusters, with
        the band that holds whole curves of random points in 95 %; p of the whole curve.
    Curve
        ``ripley``: x distance in um, y Ripley's K over that of random points, expected 1; ``low`` and ``high`` are y
        less and more the half-width of the band. ``weight``: pairs of synapses within x.
    """
    samples, reason = samples_of(points_um, window, options)
    count = sum(len(sample.points_um) for sample in samples)
    if reason:
        return Finding(*RIPLEY, n=count, note=f"not available: {reason}"), _no_curve()
    core, radii = hard_core(samples, options), radii_um(samples)
    simulated = _simulated(samples, core, options, lambda points: pairs_within(points, radii))
    pairs = np.sum([pairs_within(sample.points_um, radii) for sample in samples], axis=0)
    mean = simulated.mean(axis=0)
    shown = mean >= MIN_PAIRS
    if not shown.any():
        return Finding(*RIPLEY, n=count, note="not available: too few pairs of synapses"), _no_curve()
    mean, pairs, radii = mean[shown], pairs[shown].astype(np.float64), radii[shown]
    ratio = pairs / mean
    band = envelope(ratio, simulated[:, shown] / mean)
    low, high, at = ratio - band.half_width, ratio + band.half_width, band.strongest
    note = f"at {radii[at]:.2f} um; {_note(samples, core, options)}"
    finding = Finding(*RIPLEY, float(ratio[at]), float(low[at]), float(high[at]), band.p, count, note)
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


def _simulated(
    samples: list[Sample], core: float, options: PointOptions, figure: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return a figure of random points, summed over the parts, of each simulation, float64 (simulations, figures)."""
    rng = np.random.default_rng((options.seed, 1))
    rows = []
    for _ in range(options.simulations):
        drawn = [hard_core_points(sample.window, len(sample.points_um), core, rng) for sample in samples]
        rows.append(np.sum([figure(points) for points in drawn], axis=0))
    return np.array(rows, dtype=np.float64)


def _note(samples: list[Sample], core: float, options: PointOptions) -> str:
    """Return what was compared, for people."""
    kind = "found" if np.isnan(options.hard_core_um) else "given"
    where = f"in {len(samples)} boxes of tissue, " if len(samples) > 1 else ""
    return f"{where}{options.simulations} random patterns at least {core:.3f} um apart ({kind})"


def _no_curve() -> Curve:
    return Curve("ripley", *(np.zeros(0) for _ in range(6)))
