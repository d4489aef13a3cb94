"""Where synapses sit: decided at each crossing of two rods from the tissue around that crossing alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from bouton.phantom.defects import jitter_nm
from bouton.phantom.field import GRID_NM, Field, evaluate, lattice_place, make_field, section_shift
from bouton.phantom.hashing import hash3, subkey, unit
from bouton.phantom.lattice import DENDRITE, EXC, INH, SPINE, TWIG, Bodies, Tables, encode
from bouton.phantom.obstacles import SOMA
from bouton.phantom.params import PhantomParams
from bouton.phantom.warp import rod_offset, to_volume

APART_NM = 560.0
RADIUS_NM = (135.0, 195.0)
CLEFT_NM = 18.0
REACH_NM = 460.0
FACING = 0.7
CHANCE = 1.06
STEP_NM = 12.0
WANDER_NM = 2000.0
FAILED, SETTLED, LEFT = range(3)
TARGETS = ("shaft", "spine", "soma")


@dataclass(frozen=True)
class Synapses:
    """Synapses sorted by id; n rows.

    Attributes
    ----------
    id, pre, post : uint64 (n,)
    centre, normal : float64 (n, 3)
        Middle of the cleft in nm, and the unit vector from pre to post.
    radius : float64 (n,)
        Radius of the cleft in nm.
    excitatory : bool (n,)
    target : int64 (n,)
        Index into ``TARGETS``: what of the post-synaptic neurite the cleft lies on.
    pre_point, post_point : float64 (n, 3)
        Centres, in nm, of a voxel of either partner.
    """

    id: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    centre: np.ndarray
    normal: np.ndarray
    radius: np.ndarray
    excitatory: np.ndarray
    target: np.ndarray
    pre_point: np.ndarray
    post_point: np.ndarray

    def pick(self, chosen: np.ndarray) -> Synapses:
        """Return the rows where ``chosen`` (bool (n,) or indices) says so."""
        return Synapses(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@njit(cache=True, nogil=True)
def _chance(pre: int, post: int) -> float:
    if pre == EXC:
        return 0.62 if post == SPINE else (0.05 if post == DENDRITE else (0.10 if post == TWIG else 0.0))
    return 0.05 if post == SPINE else (0.42 if post == DENDRITE else (0.32 if post == TWIG else 0.0))


@njit(cache=True, nogil=True)
def _facing(key: np.uint64, tables: Tables, axis: int, c: tuple[int, int, int], side: int) -> np.ndarray:
    """Return the lattice place, in cells, where the membranes of two crossing rods meet."""
    e, f = (axis + 1) % 3, (axis + 2) % 3
    k, i, j = c[axis], c[e], c[f]
    across = rod_offset(key, e, j - 1 + side, k, i + 0.5, 1)
    q = np.empty(3)
    q[axis] = k + across
    q[e] = i + 0.5 + rod_offset(key, axis, i, j, q[axis], 0)
    mine = j + rod_offset(key, axis, i, j, q[axis], 1)
    theirs = j - 0.5 + side + rod_offset(key, e, j - 1 + side, k, q[e], 0)
    here = (axis, c[0] - tables.first[0], c[1] - tables.first[1], c[2] - tables.first[2])
    there = np.array([e, here[1], here[2], here[3]])
    there[1 + f] -= 1 - side
    lean = tables.weight[here] - tables.weight[there[0], there[1], there[2], there[3]]
    gap = theirs - mine
    q[f] = mine + 0.5 * gap + 0.5 * lean * (1.0 if gap > 0 else -1.0)
    return q


@njit(cache=True, nogil=True)
def _signed(
    tables: Tables, bodies: Bodies, ids: np.ndarray, first: np.ndarray, grid: np.ndarray, p: np.ndarray, pair: tuple
) -> float:
    """Return the gap in cells, positive in ``pair[1]``, negative in ``pair[0]``, 9 where another neurite interferes."""
    q0, q1, q2 = lattice_place(first, grid, p[0], p[1], p[2])
    _, _, t1, t2, gap, _ = evaluate(tables, bodies, ids, q0, q1, q2)
    if t1 == pair[0] and t2 == pair[1]:
        return -gap
    if t1 == pair[1] and t2 == pair[0]:
        return gap
    return 9.0


@njit(cache=True, nogil=True)
def _sampled(first: np.ndarray, grid: np.ndarray, p: np.ndarray) -> bool:
    """Return whether the grid holds ``p`` (nm) and what is ``STEP_NM`` around it."""
    for axis in range(3):
        low, high = np.floor((p[axis] - STEP_NM) / GRID_NM), np.floor((p[axis] + STEP_NM) / GRID_NM)
        if low < first[axis] or high + 1 >= first[axis] + grid.shape[axis]:
            return False
    return True


@njit(cache=True, nogil=True)
def _settle(
    tables: Tables, bodies: Bodies, ids: np.ndarray, first: np.ndarray, grid: np.ndarray, p: np.ndarray, pair: tuple
) -> tuple[int, np.ndarray, np.ndarray, float]:
    """Move ``p`` onto the membrane; return how it went, place, unit normal towards post, gap in cells per nm.

    Where the gap is nearly flat a step is long: beyond ``WANDER_NM`` the search has ``FAILED``, whatever the field;
    short of that, but where the field ends, it has ``LEFT``, and only a wider field can tell.
    """
    normal, steep, start = np.zeros(3), 0.0, p
    for turn in range(7):
        if np.any(np.abs(p - start) > WANDER_NM):
            return FAILED, p, normal, 0.0
        if not _sampled(first, grid, p):
            return LEFT, p, normal, 0.0
        if turn == 6:
            break
        here = _signed(tables, bodies, ids, first, grid, p, pair)
        if here == 9.0:
            return FAILED, p, normal, 0.0
        for axis in range(3):
            probe = p.copy()
            probe[axis] += STEP_NM
            up = _signed(tables, bodies, ids, first, grid, probe, pair)
            probe[axis] -= 2 * STEP_NM
            down = _signed(tables, bodies, ids, first, grid, probe, pair)
            if up == 9.0 or down == 9.0:
                return FAILED, p, normal, 0.0
            normal[axis] = (up - down) / (2 * STEP_NM)
        steep = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
        if steep < 1e-4:
            return FAILED, p, normal, 0.0
        normal /= steep
        p = p - normal * (here / steep)
    return SETTLED, p, normal, steep


@njit(cache=True, nogil=True)
def _face_share(
    tables: Tables, bodies: Bodies, ids: np.ndarray, first: np.ndarray, grid: np.ndarray, disc: tuple, pair: tuple
) -> float:
    """Return the fraction of a disc (centre, normal, radius, steepness) where the two membranes face each other."""
    centre, normal, radius, steep = disc
    helper = np.zeros(3)
    helper[np.argmin(np.abs(normal))] = 1.0
    u = np.cross(normal, helper)
    u /= np.sqrt(np.sum(u * u))
    v = np.cross(normal, u)
    hits = 0
    for n in range(20):
        ring = 0.45 if n < 8 else 0.9
        angle = 2 * np.pi * (n / 8.0 if n < 8 else n / 12.0)
        p = centre + ring * radius * (np.cos(angle) * u + np.sin(angle) * v)
        gap = _signed(tables, bodies, ids, first, grid, p, pair)
        if abs(gap) < 9.0 and abs(gap) / steep < 90.0:
            hits += 1
    return hits / 20.0


@njit(cache=True, nogil=True)
def find_candidates(
    key: np.uint64,
    tables: Tables,
    bodies: Bodies,
    ids: np.ndarray,
    first: np.ndarray,
    grid: np.ndarray,
    frame: tuple[np.ndarray, np.ndarray, float],
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.uint64, np.ndarray]]]:
    """Return the crossings that could be synapses in a region; ``frame`` is (low, high, density scale).

    Returns
    -------
    names : uint64 (n, 6)
        id, pre, post, priority, excitatory, on a spine's head.
    numbers : float64 (n, 7)
        centre, normal, radius.
    lost : list of (id, place in nm (3,))
        Crossings that only a field with ``WANDER_NM`` around the place could decide.
    """
    low, high, scale = frame
    near = (bodies.centre, bodies.axis, bodies.radius)
    shape = tables.kind.shape[1:]
    draws = subkey(key, 80)
    names = np.empty((20000, 6), dtype=np.uint64)
    numbers = np.empty((20000, 7))
    n, lost = 0, [(np.uint64(0), low) for _ in range(0)]
    for axis in range(3):
        e, f = (axis + 1) % 3, (axis + 2) % 3
        for z in range(1, shape[0] - 1):
            for y in range(1, shape[1] - 1):
                for x in range(1, shape[2] - 1):
                    for side in range(2):
                        other = np.array([z, y, x])
                        other[f] -= 1 - side
                        mine = (axis, z, y, x)
                        theirs = (e, other[0], other[1], other[2])
                        a, b = int(tables.kind[mine]), int(tables.kind[theirs])
                        flip = a not in (EXC, INH)
                        pre, post = (b, a) if flip else (a, b)
                        if pre not in (EXC, INH):
                            continue
                        c = (z + tables.first[0], y + tables.first[1], x + tables.first[2])
                        name = encode(axis, c[e], c[f], c[axis]) * np.uint64(2) + np.uint64(side)
                        draw = hash3(draws, int(name), 0, 0)
                        if unit(draw) >= CHANCE * scale * _chance(pre, post):
                            continue
                        t1, t2 = tables.tree[mine], tables.tree[theirs]
                        pair = (t2, t1) if flip else (t1, t2)
                        q = _facing(key, tables, axis, c, side)
                        found, p = to_volume(key, near, q)
                        if not found or np.any(p < low) or np.any(p > high):
                            continue
                        start = p
                        how, p, normal, steep = _settle(tables, bodies, ids, first, grid, p, pair)
                        if how == LEFT:
                            lost.append((name, start))
                        if how != SETTLED or np.any(p < low) or np.any(p > high):
                            continue
                        size = unit(hash3(draws, int(name), 1, 0))
                        radius = RADIUS_NM[0] + (RADIUS_NM[1] - RADIUS_NM[0]) * size
                        disc = (p, normal, radius, steep)
                        if _face_share(tables, bodies, ids, first, grid, disc, pair) < FACING:
                            continue
                        names[n, 0], names[n, 1], names[n, 2] = name, pair[0], pair[1]
                        names[n, 3] = hash3(draws, int(name), 2, 0)
                        names[n, 4], names[n, 5] = np.uint64(pre == EXC), np.uint64(post == SPINE)
                        numbers[n, :3], numbers[n, 3:6], numbers[n, 6] = p, normal, radius
                        n += 1
                        if n == len(names):
                            names = np.concatenate((names, np.empty_like(names)))
                            numbers = np.concatenate((numbers, np.empty_like(numbers)))
    return names[:n], numbers[:n], lost


def find_synapses(field: Field, params: PhantomParams, low: np.ndarray, high: np.ndarray) -> Synapses:
    """Return the synapses centred between ``low`` and ``high`` (nm, (3,)), sorted by id.

    ``field`` must reach ``2 * APART_NM`` beyond on every side: of two candidates closer than ``APART_NM`` the one with
    the lower priority gives way, whatever its own neighbours do, so the decision is local.
    """
    names, numbers = _all_candidates(field, params, (low - APART_NM, high + APART_NM, params.synapses_per_um3))
    order = np.argsort(names[:, 0], kind="stable")
    names, numbers = names[order], numbers[order]
    centre = numbers[:, :3]
    keep = np.all((centre >= low) & (centre < high), axis=1)
    for n in np.flatnonzero(keep):
        near = np.sum((centre - centre[n]) ** 2, axis=1) < APART_NM**2
        keep[n] = not np.any(names[near, 3] > names[n, 3])
    nothing = np.full(centre.shape, np.nan)
    kinds = (names[:, 4].astype(bool), names[:, 5].astype(np.int64))
    columns = (names[:, 0], names[:, 1], names[:, 2], centre, numbers[:, 3:6], numbers[:, 6], *kinds)
    found = Synapses(*columns, nothing, nothing).pick(keep)
    return _with_points(field, params, found)


def _candidates(field: Field, frame: tuple[np.ndarray, np.ndarray, float]) -> tuple:
    places = (field.grid_first, field.grid)
    return find_candidates(field.key, field.tables, field.bodies, field.body_ids, *places, frame)


def _all_candidates(
    field: Field, params: PhantomParams, frame: tuple[np.ndarray, np.ndarray, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return :func:`find_candidates`, with those of the lost crossings that a field of their own shows to be some."""
    names, numbers, lost = _candidates(field, frame)
    parts = [(names, numbers)]
    # the cleft around the place lies in the field, too
    reach = WANDER_NM + RADIUS_NM[1]
    for name, place in lost:
        found, details, _ = _candidates(make_field(params, place - reach, place + reach), frame)
        mine = found[:, 0] == name
        parts.append((found[mine], details[mine]))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _with_points(field: Field, params: PhantomParams, found: Synapses) -> Synapses:
    """Return the synapses whose partners both show a voxel near the cleft, with those voxels."""
    frame = (np.array(params.voxel_size_nm, dtype=np.float64), jitter_nm(params))
    pre = [partner_point(field, found, n, True, frame) for n in range(len(found.id))]
    post = [partner_point(field, found, n, False, frame) for n in range(len(found.id))]
    points = np.array(pre).reshape(-1, 3), np.array(post).reshape(-1, 3)
    whole = replace(found, pre_point=points[0], post_point=points[1])
    whole = whole.pick(~np.isnan(points[0] + points[1]).any(axis=1))
    on_soma = [_in_soma(field, np.floor(point / frame[0]).astype(np.int64), frame) for point in whole.post_point]
    target = np.where(np.array(on_soma, dtype=bool), TARGETS.index("soma"), whole.target)
    return replace(whole, target=target)


def _in_soma(field: Field, voxel: np.ndarray, frame: tuple[np.ndarray, float]) -> bool:
    own, _ = _owner_at(field, voxel, frame)
    body = own - field.tables.kind.size
    return bool(body >= 0 and field.bodies.kind[body] == SOMA)


def _owner_at(field: Field, voxel: np.ndarray, frame: tuple[np.ndarray, float]) -> tuple[int, np.uint64]:
    at = (int(voxel[0]), int(voxel[1]), int(voxel[2]), *frame)
    return _evaluate_at(field.key, field.tables, field.bodies, field.body_ids, field.grid_first, field.grid, at)


@njit(cache=True, nogil=True)
def _evaluate_at(
    key: np.uint64, tables: Tables, bodies: Bodies, ids: np.ndarray, first: np.ndarray, grid: np.ndarray, at: tuple
) -> tuple[int, np.uint64]:
    z, y, x, size, jitter = at
    sy, sx = section_shift(key, z, jitter)
    q0, q1, q2 = lattice_place(first, grid, (z + 0.5) * size[0], (y + 0.5) * size[1] + sy, (x + 0.5) * size[2] + sx)
    own, _, tree, _, _, _ = evaluate(tables, bodies, ids, q0, q1, q2)
    return own, tree


def place_in_volume(field: Field, place: np.ndarray, size: np.ndarray, jitter: float) -> np.ndarray:
    """Return where, in nm, the section that holds ``place`` shows it: sections that slipped show it elsewhere."""
    shift = section_shift(field.key, int(np.floor(place[0] / size[0])), jitter)
    return place - np.array([0.0, shift[0], shift[1]])


def partner_point(field: Field, synapse: Synapses, n: int, pre: bool, frame: tuple[np.ndarray, float]) -> np.ndarray:
    """Return the centre, in nm, of a voxel of the partner; NaN where none is near. ``frame``: voxel size, jitter."""
    size, jitter = frame
    wanted = synapse.pre[n] if pre else synapse.post[n]
    way = -synapse.normal[n] if pre else synapse.normal[n]
    for distance in (90.0, 75.0, 110.0, 60.0, 140.0, 45.0, 170.0):
        place = place_in_volume(field, synapse.centre[n] + way * distance, size, jitter)
        voxel = np.floor(place / size).astype(np.int64)
        if _owner_at(field, voxel, frame)[1] == wanted:
            return (voxel + 0.5) * size
    return np.full(3, np.nan)
