"""What the layers hold at the place of a true synapse.

A synapse's own place is where both of its neurons are near, at most a reach from its centre and nearer to it than to
any other true synapse of another site. What is looked at depends on the voxels around the place alone, never on blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from bouton.geometry import NM, Box, nm_to_voxels

CLOSE_LAYERS = ("evidence", "clefts")
WIDE_LAYERS = ("segments", "fragments", "truth")


@dataclass(frozen=True)
class Reach:
    """How far is looked, nm.

    Attributes
    ----------
    place_nm : float
        A synapse's place ends this far from its centre.
    core_nm : float
        A cleft that comes this near to a centre is that synapse's, whosesoever else it is.
    contact_nm : float
        Both neurons are at most this far away.
    beside_nm : float
        Segments are beside a cleft up to here.
    window_nm : float
        A neuron's main segment is the largest at most this far away.
    """

    place_nm: float = 250.0
    core_nm: float = 100.0
    contact_nm: float = 80.0
    beside_nm: float = 100.0
    window_nm: float = 750.0


@dataclass(frozen=True)
class Site:
    """A true synapse: centre (3,) nm, its neurons, other centres (m, 3) nm, and clefts known to be others'.

    ``least_voxels`` make a cleft.
    """

    centre_nm: np.ndarray
    pre: int
    post: int
    others_nm: np.ndarray
    taken: frozenset[int] = frozenset()
    least_voxels: int = 1


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes
    ----------
    peak : float
        Greatest cleft probability at the place outside of clefts that are others'; NaN without evidence.
    peak_nm : numpy.ndarray
        float64 (3,), where that is.
    cleft : int
        The cleft at the place; 0 = none.
    touches_core : bool
        Whether it comes near the centre.
    beside, main, fragments : tuple of int
        For pre and post: the segment beside the cleft, the main segment around, the fragment beside the cleft.
    main_fragments : tuple of int
        The fragment of the main segment that is the largest around.
    joint_nm : numpy.ndarray
        float64 (3,): where the two partners' sides are nearest to the cleft: what to look at.
    enough : float
        The greatest threshold at which as many connected voxels as make a cleft reach it there; NaN without evidence.
    """

    peak: float
    peak_nm: np.ndarray
    cleft: int
    touches_core: bool
    beside: tuple[int, int] = (0, 0)
    main: tuple[int, int] = (0, 0)
    fragments: tuple[int, int] = (0, 0)
    main_fragments: tuple[int, int] = (0, 0)
    joint_nm: np.ndarray = field(default_factory=lambda: np.zeros(3))
    enough: float = float("nan")


def window_box(centre_nm: np.ndarray, reach: Reach, voxel_size_nm: NM, bounds: Box) -> Box:
    """Return the voxels to read around a place, clipped to ``bounds``; empty where it lies far outside."""
    z, y, x = (int(np.floor(c / s)) for c, s in zip(centre_nm, voxel_size_nm, strict=True))
    return Box((z, y, x), (z + 1, y + 1, x + 1)).grow(nm_to_voxels(reach.window_nm, voxel_size_nm)) & bounds


def close_box(centre_nm: np.ndarray, reach: Reach, voxel_size_nm: NM, bounds: Box) -> Box:
    """Return the voxels around a place in which evidence and clefts are looked at, clipped to ``bounds``."""
    return window_box(centre_nm, Reach(window_nm=reach.place_nm + reach.contact_nm), voxel_size_nm, bounds)


def look(layers: Mapping[str, np.ndarray], box: Box, site: Site, space: tuple[NM, Reach]) -> Look:
    """Look at one place.

    Parameters
    ----------
    layers : mapping of str -> numpy.ndarray
        Any of :data:`WIDE_LAYERS`, uint64 (z, y, x) over ``box``, and of :data:`CLOSE_LAYERS`, (z, y, x) over the
        :func:`close_box` inside of it: ``evidence`` uint8 (probability of cleft * 255), ``clefts`` uint64. Without
        ``truth`` the segments are taken for the true neurons.
    box : Box
        Not empty; from :func:`window_box`.
    site : Site
    space : (voxel_size_nm, Reach)
    """
    size, reach = space
    neurons = layers.get("truth", layers.get("segments"))
    near = close_box(site.centre_nm, reach, size, box)
    close = near.within(box).slices
    place, core = _place(None if neurons is None else neurons[close], near, site, space)
    cleft, touches = _cleft(layers["clefts"], place, core, site) if "clefts" in layers else (0, False)
    peak, peak_nm, enough = float("nan"), np.array(site.centre_nm), float("nan")
    if "evidence" in layers:
        ours = place & ~_others(layers["clefts"], site, cleft) if "clefts" in layers else place
        peak, peak_nm = _peak(layers["evidence"], ours, near, (size, site.centre_nm))
        enough = enough_for(np.where(ours, layers["evidence"], 0), site.least_voxels)
    if neurons is None or "segments" not in layers:
        return Look(peak, peak_nm, cleft, touches, enough=enough)
    around = layers["clefts"] == cleft if cleft else core
    found = _sides(layers, neurons, close, (around, site, size, reach))
    return Look(peak, peak_nm, cleft, touches, *found, _centroid(around & place, near, size, site.centre_nm), enough)


def _distances(box: Box, centre_nm: np.ndarray, size: NM) -> np.ndarray:
    """Return each voxel centre's squared distance to a point, nm^2, float64 (z, y, x)."""
    axes = [
        ((np.arange(a, b) + 0.5) * s - c) ** 2 for a, b, s, c in zip(box.start, box.stop, size, centre_nm, strict=True)
    ]
    return axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]


def _place(neurons: np.ndarray | None, box: Box, site: Site, space: tuple[NM, Reach]) -> tuple[np.ndarray, np.ndarray]:
    """Return the synapse's own place, and its core."""
    size, reach = space
    own = _distances(box, site.centre_nm, size)
    place, core = own <= reach.place_nm**2, own <= max(reach.core_nm, 1.01 * max(size)) ** 2
    for other in site.others_nm:
        mine = own <= _distances(box, other, size)
        place, core = place & mine, core & mine
    if neurons is not None:
        meets = np.ones(box.shape, bool)
        for neuron in (site.pre, site.post):
            meets &= _within(neurons == np.uint64(neuron), max(reach.contact_nm, 1.01 * max(size)), size)
        if (meets & core).any():
            place, core = place & meets, core & meets
    return place, core


def _within(mask: np.ndarray, distance_nm: float, size: NM) -> np.ndarray:
    """Return where ``mask`` is at most a distance away."""
    if not mask.any():
        return np.zeros(mask.shape, bool)
    return np.asarray(distance_transform_edt(~mask, sampling=size) <= distance_nm)


def _cleft(clefts: np.ndarray, place: np.ndarray, core: np.ndarray, site: Site) -> tuple[int, bool]:
    """Return the cleft at the place and whether it reaches the core; outside of it, others' clefts are left out."""
    for where, left_out in ((core, frozenset[int]()), (place, site.taken)):
        ids, counts = np.unique(clefts[where], return_counts=True)
        known = (ids != 0) & ~np.isin(ids, np.array(sorted(left_out), np.uint64))
        if known.any():
            return int(ids[known][np.argmax(counts[known])]), where is core
    return 0, False


def _others(clefts: np.ndarray, site: Site, own: int) -> np.ndarray:
    taken = np.array(sorted(site.taken - {own}), np.uint64)
    return np.isin(clefts, taken) if len(taken) else np.zeros(clefts.shape, bool)


def _peak(evidence: np.ndarray, place: np.ndarray, box: Box, at: tuple[NM, np.ndarray]) -> tuple[float, np.ndarray]:
    size, centre_nm = at
    if not place.any():
        return 0.0, np.array(centre_nm)
    values = np.where(place, evidence.astype(np.int64), -1)
    where = np.unravel_index(int(np.argmax(values)), values.shape)
    return float(values.max()) / 255, (np.array(where) + box.start + 0.5) * size


def enough_for(evidence: np.ndarray, voxels: int) -> float:
    """Return the greatest threshold at which so many connected voxels are left, 0 to 1; 0 where there never are."""
    below, above = 0, int(evidence.max(initial=0)) + 1
    # a component only grows as the threshold falls, so that the greatest one can be halved for
    while above - below > 1:
        middle = (below + above) // 2
        sizes = np.bincount(label(evidence >= middle)[0].ravel())[1:]
        below, above = (middle, above) if sizes.max(initial=0) >= voxels else (below, middle)
    return below / 255


def _sides(
    layers: Mapping[str, np.ndarray], neurons: np.ndarray, close: tuple, around: tuple
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the segments beside the cleft, the main ones, and their fragments, of pre and post."""
    mask, site, size, reach = around
    segments, fragments = layers["segments"], layers.get("fragments", layers["segments"])
    near = _within(mask, max(reach.beside_nm, 1.01 * max(size)), size)
    rows = []
    for neuron in (site.pre, site.post):
        mine = neurons == np.uint64(neuron)
        here = mine[close] & near
        beside = most(segments[close][here])
        main = most(segments[mine])
        ours, theirs = here & (segments[close] == np.uint64(beside)), mine & (segments == np.uint64(main))
        rows.append((beside, main, most(fragments[close][ours]), most(fragments[theirs])))
    (a, b, c, d), (e, f, g, h) = rows
    return (a, e), (b, f), (c, g), (d, h)


def most(labels: np.ndarray) -> int:
    """Return the commonest label that is not 0, the smallest of equals; 0 where less than a tenth is labelled."""
    ids, counts = np.unique(labels, return_counts=True)
    known = ids != 0
    if not known.any() or counts[known].sum() * 10 < counts.sum():
        return 0
    return int(ids[known][np.argmax(counts[known])])


def _centroid(mask: np.ndarray, box: Box, size: NM, centre_nm: np.ndarray) -> np.ndarray:
    if not mask.any():
        return np.array(centre_nm)
    return (np.argwhere(mask).mean(axis=0) + box.start + 0.5) * size
