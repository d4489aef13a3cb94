"""Which neurite owns a place, how far the next one is, and how deep inside a mitochondrion it lies.

A place belongs to the rod with the smallest distance minus weight (an additively weighted Voronoi partition, which
fills space); the difference to the best rod of any other neurite vanishes on the membrane.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.geometry import NM, Box
from bouton.phantom.hashing import subkey, uniform
from bouton.phantom.lattice import VOID, Bodies, Tables, build_tables, dendrite_id, encode
from bouton.phantom.obstacles import CELL_NM, CORE, SOMA, find_obstacles
from bouton.phantom.params import PhantomParams
from bouton.phantom.warp import MAX_SHIFT_NM, ROTATION, is_dendrite, sample_map

GRID_NM = 60.0
CAP = 0.09
FAR = 1e9
NUCLEUS = 0.62
WALL_NM = 350.0


@dataclass(frozen=True)
class Field:
    """Everything needed to know the tissue in a region.

    Attributes
    ----------
    key : uint64
    bodies : Bodies
    body_ids : uint64 (n,)
    tables : Tables
    grid_first : int64 (3,)
        Global index of the first grid point of ``grid``.
    grid : float64 (z, y, x, 3)
        Lattice place of every grid point, ``GRID_NM`` apart.
    """

    key: np.uint64
    bodies: Bodies
    body_ids: np.ndarray
    tables: Tables
    grid_first: np.ndarray
    grid: np.ndarray


def make_field(params: PhantomParams, low: np.ndarray, high: np.ndarray) -> Field:
    """Return the field for the region between ``low`` and ``high`` (nm, (3,))."""
    key = np.uint64(subkey(np.uint64(params.seed), 1))
    rotation = np.array(ROTATION)
    half = np.abs(rotation) @ ((high - low) / 2) + MAX_SHIFT_NM
    middle = rotation @ ((high + low) / 2)
    # The walk along a rod looks up to a window beyond the region for somata that cut it.
    window = 34 * CELL_NM
    found = find_obstacles(params, middle - half - window, middle + half + window)
    bodies = Bodies(found.kind, found.centre, found.axis, found.radius, found.dendrite, float(params.myelin))
    close = find_obstacles(params, middle - half, middle + half)
    near = Bodies(close.kind, close.centre, close.axis, close.radius, close.dendrite, float(params.myelin))
    first = np.floor(low / GRID_NM).astype(np.int64) - 1
    shape = np.ceil(high / GRID_NM).astype(np.int64) + 2 - first
    grid = sample_map(key, (near.centre, near.axis, near.radius), first, shape, GRID_NM)
    cell_first = np.floor(grid.min(axis=(0, 1, 2))).astype(np.int64) - 2
    cell_shape = np.ceil(grid.max(axis=(0, 1, 2))).astype(np.int64) + 3 - cell_first
    tables = build_tables(key, bodies, cell_first, cell_shape)
    return Field(key, near, _body_ids(key, near, bodies), tables, first, grid)


def _body_ids(key: np.uint64, bodies: Bodies, around: Bodies) -> np.ndarray:
    ids = np.zeros(len(bodies.kind), dtype=np.uint64)
    for n, (axis, k, i, j) in enumerate(bodies.dendrite.tolist()):
        if bodies.kind[n] == SOMA:
            on = is_dendrite(key, axis, i, j)
            ids[n] = dendrite_id(key, around, axis, i, j, k) if on else encode(-1, i, j, k)
        else:
            place = (bodies.centre[n] / CELL_NM).astype(int)
            ids[n] = encode(-1, int(place[1]), int(place[2]), 0)
    return ids


@njit(cache=True, nogil=True)
def lattice_place(grid_first: np.ndarray, grid: np.ndarray, p0: float, p1: float, p2: float) -> tuple:
    """Return the lattice place of volume place (p0, p1, p2) in nm, from the sampled map."""
    z, y, x = p0 / GRID_NM, p1 / GRID_NM, p2 / GRID_NM
    fz, fy, fx = np.floor(z), np.floor(y), np.floor(x)
    wz, wy, wx = z - fz, y - fy, x - fx
    iz, iy, ix = int(fz) - grid_first[0], int(fy) - grid_first[1], int(fx) - grid_first[2]
    q0, q1, q2 = 0.0, 0.0, 0.0
    for n in range(8):
        dz, dy, dx = n >> 2, (n >> 1) & 1, n & 1
        w = (wz if dz else 1.0 - wz) * (wy if dy else 1.0 - wy) * (wx if dx else 1.0 - wx)
        q0 += w * grid[iz + dz, iy + dy, ix + dx, 0]
        q1 += w * grid[iz + dz, iy + dy, ix + dx, 1]
        q2 += w * grid[iz + dz, iy + dy, ix + dx, 2]
    return q0, q1, q2


@njit(cache=True, nogil=True, inline="always")
def _better(state: tuple, index: int, tree: np.uint64, f: float, r: float, t: float) -> tuple:
    i1, t1, f1, i2, t2, f2, r1, s1 = state
    if tree == t1:
        if f < f1:
            return index, t1, f, i2, t2, f2, r, t
        return state
    if f < f1:
        return index, tree, f, i1, t1, f1, r, t
    if f < f2:
        return i1, t1, f1, index, tree, f, r1, s1
    return state


@njit(cache=True, nogil=True)
def evaluate(tables: Tables, bodies: Bodies, body_ids: np.ndarray, q0: float, q1: float, q2: float) -> tuple:
    """Return (own index, other index, own tree, other tree, gap, mito) at a lattice place in cells.

    An index points into the flattened tables; beyond their size it is a body. ``gap`` is in cells, 0 on the membrane;
    ``mito`` is the depth in cells inside a mitochondrion, a nucleus or the lumen of a vessel, negative outside.
    """
    n0, n1, n2 = tables.kind.shape[1], tables.kind.shape[2], tables.kind.shape[3]
    total = 3 * n0 * n1 * n2
    o0, o1, o2 = tables.first[0], tables.first[1], tables.first[2]
    state = (-1, np.uint64(0), FAR, -1, np.uint64(0), FAR, FAR, 0.0)
    tree, kind = tables.tree.reshape(-1), tables.kind.reshape(-1)
    weight, offset, mito = tables.weight.reshape(-1), tables.offset.reshape(-1), tables.mito.reshape(-1)
    for axis in range(3):
        base = axis * n0 * n1 * n2
        if axis == 0:
            t, e, f, st, se, sf, ot, oe_, of_ = q0, q1, q2, n1 * n2, n2, 1, o0, o1, o2
        elif axis == 1:
            t, e, f, st, se, sf, ot, oe_, of_ = q1, q2, q0, n2, 1, n1 * n2, o1, o2, o0
        else:
            t, e, f, st, se, sf, ot, oe_, of_ = q2, q0, q1, 1, n1 * n2, n2, o2, o0, o1
        step = int(np.floor(t + 0.25))
        u = t - 0.25
        k = int(np.floor(u))
        g = u - k
        w = g * g * (3.0 - 2.0 * g)
        along = t + 0.25 - step
        near = step - 1 if along < 0.5 else step + 1
        axial = along if along < 0.5 else 1.0 - along
        ie, jf = int(np.floor(e - 0.5)), int(np.floor(f))
        for de in range(2):
            for df in range(2):
                rod = base + (ie + de - oe_) * se + (jf + df - of_) * sf - ot * st
                knot = rod + k * st
                o = 2 * knot
                oe = offset[o] + (offset[o + 2 * st] - offset[o]) * w
                of = offset[o + 1] + (offset[o + 2 * st + 1] - offset[o + 1]) * w
                x, y = e - 0.5 - ie - de - oe, f - jf - df - of
                r2 = x * x + y * y
                own, next_ = rod + step * st, rod + near * st
                v = weight[knot] + (weight[knot + st] - weight[knot]) * w
                if tree[own] == tree[next_]:
                    if kind[own] != VOID:
                        r = math.sqrt(r2)
                        state = _better(state, own, tree[own], r - v, r, t)
                    continue
                if kind[own] != VOID:
                    end = max(0.0, CAP - axial)
                    state = _better(state, own, tree[own], math.sqrt(r2 + end * end) - v, math.sqrt(r2), t)
                if kind[next_] != VOID:
                    end = CAP + axial
                    state = _better(state, next_, tree[next_], math.sqrt(r2 + end * end) - v, FAR, t)
    for n in range(len(body_ids)):
        c0, c1, c2 = bodies.centre[n, 0] / CELL_NM, bodies.centre[n, 1] / CELL_NM, bodies.centre[n, 2] / CELL_NM
        d2 = 0.0
        d2 += (q0 - c0) ** 2 if bodies.axis[n] != 0 else 0.0
        d2 += (q1 - c1) ** 2 if bodies.axis[n] != 1 else 0.0
        d2 += (q2 - c2) ** 2 if bodies.axis[n] != 2 else 0.0
        core = CORE * bodies.radius[n] / CELL_NM
        if d2 < (core + 1.5) ** 2:
            state = _better(state, total + n, body_ids[n], math.sqrt(d2) - core, math.sqrt(d2), 0.0)
    i1, t1, f1, i2, t2, f2, r1, s1 = state
    depth = -1.0
    if i1 >= total:
        radius = bodies.radius[i1 - total]
        inner = NUCLEUS * radius if bodies.kind[i1 - total] == SOMA else radius - WALL_NM
        depth = inner / CELL_NM - r1 / CORE
    elif r1 < 0.5:
        stride = n1 * n2 if i1 < total // 3 else (n2 if i1 < 2 * (total // 3) else 1)
        for d in range(-1, 2):
            m = i1 + d * stride
            if 0 <= m < total and tree[m] == t1 and mito[3 * m + 2] > 0.0:
                beyond = max(0.0, abs(s1 - mito[3 * m]) - mito[3 * m + 1])
                depth = max(depth, mito[3 * m + 2] - math.sqrt(r1 * r1 + beyond * beyond))
        depth = min(depth, 0.5 * (f2 - f1) - 0.04)
    return i1, i2, t1, t2, f2 - f1, depth


@njit(cache=True, nogil=True)
def section_shift(key: np.uint64, z: int, amplitude: float) -> tuple[float, float]:
    """Return by how many nm (y, x) section ``z`` sampled the tissue off its place."""
    if amplitude == 0.0:
        return 0.0, 0.0
    sub = subkey(key, 70)
    return amplitude * (2 * uniform(sub, z, 0, 0) - 1), amplitude * (2 * uniform(sub, z, 1, 0) - 1)


@njit(cache=True, nogil=True)
def fill(
    key: np.uint64,
    tables: Tables,
    bodies: Bodies,
    body_ids: np.ndarray,
    first: np.ndarray,
    grid: np.ndarray,
    frame: tuple,
) -> tuple:
    """Evaluate every voxel of a box; ``frame`` is (start (3,), shape (3,), voxel size (3,), jitter in nm).

    Returns
    -------
    own, other : int32 (z, y, x)
        Indices into the flattened tables.
    tree, other_tree : uint64 (z, y, x)
    gap, mito : float32 (z, y, x)
        In cells.
    """
    start, shape, size, jitter = frame
    dims = (shape[0], shape[1], shape[2])
    own, other = np.empty(dims, dtype=np.int32), np.empty(dims, dtype=np.int32)
    tree, other_tree = np.empty(dims, dtype=np.uint64), np.empty(dims, dtype=np.uint64)
    gap, mito = np.empty(dims, dtype=np.float32), np.empty(dims, dtype=np.float32)
    for z in range(shape[0]):
        sy, sx = section_shift(key, start[0] + z, jitter)
        p0 = (start[0] + z + 0.5) * size[0]
        for y in range(shape[1]):
            p1 = (start[1] + y + 0.5) * size[1] + sy
            for x in range(shape[2]):
                p2 = (start[2] + x + 0.5) * size[2] + sx
                q0, q1, q2 = lattice_place(first, grid, p0, p1, p2)
                i1, i2, t1, t2, g, m = evaluate(tables, bodies, body_ids, q0, q1, q2)
                own[z, y, x], other[z, y, x], tree[z, y, x], other_tree[z, y, x] = i1, i2, t1, t2
                gap[z, y, x], mito[z, y, x] = g, m
    return own, other, tree, other_tree, gap, mito


def fill_box(field: Field, box: Box, voxel_size_nm: NM, jitter_nm: float = 0.0) -> tuple:
    """Return :func:`fill` over ``box`` (voxels)."""
    frame = (np.array(box.start), np.array(box.shape), np.array(voxel_size_nm, dtype=np.float64), jitter_nm)
    return fill(field.key, field.tables, field.bodies, field.body_ids, field.grid_first, field.grid, frame)
