"""Which neurite every step of every rod of the lattice belongs to.

The lattice is the packing of three families of orthogonal rods: rod (axis, i, j) runs along ``axis`` at ``i + 0.5``
cells on axis ``axis + 1`` and ``j`` cells on axis ``axis + 2`` (modulo 3). Crossing rods pass at half a cell, so no
neurite ever cuts another one. Step ``k`` of a rod covers ``[k - 0.25, k + 0.75)`` and holds both of its crossings,
at ``k`` and at ``k + 0.5``. A rod is cut in windows; a walk along the window, seeded by rod and window alone,
lays neurites, spines and gaps, so that any step can be known without any other window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bouton.phantom.hashing import hash3, subkey, uniform, unit
from bouton.phantom.obstacles import CELL_NM, CORE
from bouton.phantom.warp import is_dendrite, rod_offset, typical_radius

VOID, EXC, INH, DENDRITE, TWIG, SPINE, GLIA, NECK, MYELINATED = range(9)
WINDOW = 26
SPINE_CHANCE = 0.34
BREAK_CHANCE = 0.045
BRANCH_CHANCE = 0.5
HALF_IDS = 1 << 15
# Of the axon with its sheath; a g-ratio of 0.67.
SHEATH_SHARE = 0.33


class Bodies(NamedTuple):
    """What bends, cuts or clothes rods, as numba sees it.

    The arrays are those of :class:`bouton.phantom.obstacles.Obstacles`; ``myelin`` is the share of the thick rods
    across the somata's dendrites that are myelinated axons.
    """

    kind: np.ndarray
    centre: np.ndarray
    axis: np.ndarray
    radius: np.ndarray
    dendrite: np.ndarray
    myelin: float


class Tables(NamedTuple):
    """What each rod step is, for the lattice cells ``first + (0 .. shape)``.

    Attributes
    ----------
    first : int64 (3,)
    tree : uint64 (3, z, y, x)
        Neurite of the step of the rod along axis 0, 1, 2 in each cell; 0 in a gap.
    kind : uint8 (3, z, y, x)
        ``VOID`` .. ``MYELINATED``.
    weight : float64 (3, z, y, x)
        How much thicker than its neighbours the neurite is there, in cells.
    offset : float64 (3, z, y, x, 2)
        Where the rod passes, at the middle of the step, relative to its straight line, in cells.
    mito : float64 (3, z, y, x, 3)
        Middle along the rod, half length and radius of a mitochondrion in cells; radius 0: none.
    """

    first: np.ndarray
    tree: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    mito: np.ndarray


@njit(cache=True, nogil=True)
def encode(axis: int, i: int, j: int, k: int) -> np.uint64:
    """Return an id below 2**50, one to one for places within 2**15 cells of the origin; axis -1 names a soma."""
    word = (np.int64(axis + 1) << 48) | (np.int64(i + HALF_IDS) << 32) | (np.int64(j + HALF_IDS) << 16)
    return np.uint64(word | np.int64(k + HALF_IDS))


@njit(cache=True, nogil=True)
def is_myelinated(key: np.uint64, share: float, axis: int, i: int, j: int) -> bool:
    """Return whether thick rod (axis, i, j) is a myelinated axon; those along axis 0 may bear a soma and never are."""
    return axis != 0 and uniform(subkey(key, 23), axis, i, j) < share


@njit(cache=True, nogil=True)
def sheath_nm(key: np.uint64, tree: np.uint64) -> float:
    """Return how thick the sheath of myelinated axon ``tree`` is, in nm: 66 to 132."""
    axis = int(tree >> np.uint64(48)) - 1
    i = int((tree >> np.uint64(32)) & np.uint64(0xFFFF)) - HALF_IDS
    j = int((tree >> np.uint64(16)) & np.uint64(0xFFFF)) - HALF_IDS
    return SHEATH_SHARE * typical_radius(key, axis, i, j)


@njit(cache=True, nogil=True)
def forced_break(bodies: Bodies, axis: int, i: int, j: int, k: int) -> bool:
    """Return whether a soma or vessel cuts rod (axis, i, j) at the start of step ``k``."""
    place = np.empty(3)
    place[axis], place[(axis + 1) % 3], place[(axis + 2) % 3] = k - 0.25, i + 0.5, j
    for n in range(len(bodies.radius)):
        if bodies.axis[n] == axis:
            continue
        c = bodies.centre[n] / CELL_NM
        if abs(place[axis] - c[axis]) > 0.5:
            continue
        own = bodies.dendrite[n]
        if own[0] == axis and own[2] == i and own[3] == j:
            continue
        d2 = 0.0
        for other in range(3):
            if other != axis and other != bodies.axis[n]:
                d2 += (place[other] - c[other]) ** 2
        if d2 < (CORE * bodies.radius[n] / CELL_NM + 0.5) ** 2:
            return True
    return False


@njit(cache=True, nogil=True)
def window_start(key: np.uint64, axis: int, i: int, j: int, k: int) -> int:
    """Return the first step of the window of rod (axis, i, j) that holds step ``k``."""
    shift = int(hash3(subkey(key, 40 + axis), i, j, 0) % np.uint64(WINDOW))
    return ((k + shift) // WINDOW) * WINDOW - shift


@njit(cache=True, nogil=True)
def dendrite_id(key: np.uint64, bodies: Bodies, axis: int, i: int, j: int, k: int) -> np.uint64:
    """Return the id of dendrite rod (axis, i, j) at step ``k``."""
    start = window_start(key, axis, i, j, k)
    while k > start and not forced_break(bodies, axis, i, j, k):
        k -= 1
    return encode(axis, i, j, k)


@njit(cache=True, nogil=True)
def crossing(axis: int, i: int, j: int, k: int, which: int) -> tuple[int, int, int, int]:
    """Return (axis, i, j, k) of the rod step number ``which`` (0 to 3) that crosses step ``k`` of rod (axis, i, j)."""
    if which < 2:
        return (axis + 1) % 3, j - 1 + which, k, i
    return (axis + 2) % 3, k, i + which - 2, j


@njit(cache=True, nogil=True)
def _spine_parent(key: np.uint64, bodies: Bodies, axis: int, i: int, j: int, k: int) -> np.uint64:
    """Return the id of a dendrite that crosses step ``k``, or 0."""
    for which in range(4):
        a, ci, cj, ck = crossing(axis, i, j, k, which)
        if is_dendrite(key, a, ci, cj) and not is_myelinated(key, bodies.myelin, a, ci, cj):
            return dendrite_id(key, bodies, a, ci, cj, ck)
    return np.uint64(0)


@njit(cache=True, nogil=True)
def _new_kind(draw: float) -> int:
    if draw < 0.10:
        return VOID
    if draw < 0.70:
        return EXC
    if draw < 0.82:
        return INH
    if draw < 0.93:
        return TWIG
    return GLIA


@njit(cache=True, nogil=True)
def walk(
    key: np.uint64, bodies: Bodies, axis: int, i: int, j: int, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return kind, first step of the neurite and parent of the spine along one window.

    Returns
    -------
    kind : int64 (WINDOW,)
    first : int64 (WINDOW,)
        First step of the neurite.
    parent : uint64 (WINDOW,)
        Id of a spine's dendrite, else 0.
    """
    kind = np.zeros(WINDOW, dtype=np.int64)
    first = np.zeros(WINDOW, dtype=np.int64)
    parent = np.zeros(WINDOW, dtype=np.uint64)
    thick = is_dendrite(key, axis, i, j)
    stem = MYELINATED if is_myelinated(key, bodies.myelin, axis, i, j) else DENDRITE
    rod = hash3(subkey(key, 45 + axis), i, j, 0)
    n, fresh = 0, True
    while n < WINDOW:
        k = start + n
        cut = forced_break(bodies, axis, i, j, k)
        if thick:
            kind[n], first[n] = stem, k if n == 0 or cut else first[n - 1]
            n += 1
            continue
        can_spine = n + 1 < WINDOW and unit(hash3(rod, k, 1, 0)) < SPINE_CHANCE
        if can_spine and not forced_break(bodies, axis, i, j, k + 1):
            ahead = _spine_parent(key, bodies, axis, i, j, k)
            behind = _spine_parent(key, bodies, axis, i, j, k + 1)
            owner = ahead if ahead else behind
            if owner:
                for m in range(2):
                    is_head = (m == 1) == (ahead > np.uint64(0))
                    kind[n + m], parent[n + m], first[n + m] = SPINE if is_head else NECK, owner, k
                n, fresh = n + 2, True
                continue
        if fresh or cut or unit(hash3(rod, k, 2, 0)) < BREAK_CHANCE:
            kind[n], first[n] = _new_kind(unit(hash3(rod, k, 3, 0))), k
        else:
            kind[n], first[n] = kind[n - 1], first[n - 1]
        n, fresh = n + 1, False
    return kind, first, parent


@njit(cache=True, nogil=True)
def _is_branch(key: np.uint64, axis: int, i: int, j: int, first: int) -> bool:
    return unit(hash3(hash3(subkey(key, 50 + axis), i, j, first), 0, 0, 0)) < BRANCH_CHANCE


@njit(cache=True, nogil=True)
def tree_of(key: np.uint64, bodies: Bodies, axis: int, i: int, j: int, first: int, kind: int) -> np.uint64:
    """Return the id of the neurite that starts at step ``first``: its own, or that of the trunk it branches from."""
    own = encode(axis, i, j, first)
    if kind not in (EXC, INH, GLIA, TWIG) or not _is_branch(key, axis, i, j, first):
        return own
    if forced_break(bodies, axis, i, j, first):
        return own
    turn = int(hash3(subkey(key, 55 + axis), i, j, first) & np.uint64(3))
    for n in range(4):
        a, ci, cj, ck = crossing(axis, i, j, first, (turn + n) % 4)
        start = window_start(key, a, ci, cj, ck)
        kinds, firsts, _ = walk(key, bodies, a, ci, cj, start)
        trunk = firsts[ck - start]
        if kinds[ck - start] == kind and not _is_branch(key, a, ci, cj, trunk):
            return encode(a, ci, cj, trunk)
    return own


@njit(cache=True, nogil=True)
def _weight(key: np.uint64, kind: int, place: tuple[int, int, int, int]) -> float:
    axis, i, j, k = place
    rod = hash3(subkey(key, 60 + axis), i, j, k)
    draw = unit(rod)
    if kind == SPINE:
        return 0.11
    if kind == NECK:
        return -0.04
    if kind in (DENDRITE, MYELINATED):
        return 0.06
    if kind == TWIG:
        return 0.06 + 0.06 * draw
    if kind in (EXC, INH):
        return -0.06 + 0.07 * draw + (0.09 if unit(hash3(rod, 1, 0, 0)) < 0.3 else 0.0)
    return -0.03 + 0.1 * draw


@njit(cache=True, nogil=True)
def _mito(key: np.uint64, kind: int, place: tuple[int, int, int, int]) -> tuple[float, float, float]:
    axis, i, j, k = place
    rod = hash3(subkey(key, 65 + axis), i, j, k)
    chance = 0.0
    radius = 0.17
    if kind in (DENDRITE, MYELINATED):
        chance, radius = 0.30, 0.125
    elif kind in (EXC, INH, TWIG):
        chance = 0.16
    if unit(rod) >= chance:
        return 0.0, 0.0, 0.0
    middle = k + 0.25 + 0.5 * (unit(hash3(rod, 1, 0, 0)) - 0.5)
    return middle, 0.35 + 0.55 * unit(hash3(rod, 2, 0, 0)), radius * (0.7 + 0.6 * unit(hash3(rod, 3, 0, 0)))


@njit(cache=True, nogil=True)
def build_tables(key: np.uint64, bodies: Bodies, first: np.ndarray, shape: np.ndarray) -> Tables:
    """Return the tables of the lattice cells ``first + (0 .. shape)``."""
    n0, n1, n2 = shape[0], shape[1], shape[2]
    tree = np.zeros((3, n0, n1, n2), dtype=np.uint64)
    kind = np.zeros((3, n0, n1, n2), dtype=np.uint8)
    weight = np.zeros((3, n0, n1, n2))
    offset = np.zeros((3, n0, n1, n2, 2))
    mito = np.zeros((3, n0, n1, n2, 3))
    c = np.zeros(3, dtype=np.int64)
    for axis in range(3):
        e, f = (axis + 1) % 3, (axis + 2) % 3
        for ie in range(shape[e]):
            for jf in range(shape[f]):
                i, j = first[e] + ie, first[f] + jf
                start = first[axis] - WINDOW - 1
                last_first, last_tree = -(1 << 40), np.uint64(0)
                for n in range(shape[axis]):
                    k = first[axis] + n
                    if n == 0 or k >= start + WINDOW:
                        start = window_start(key, axis, i, j, k)
                        kinds, firsts, parents = walk(key, bodies, axis, i, j, start)
                        last_first = -(1 << 40)
                    c[axis], c[e], c[f] = n, ie, jf
                    s = k - start
                    if kinds[s] in (SPINE, NECK):
                        t = parents[s]
                    elif firsts[s] == last_first:
                        t = last_tree
                    else:
                        t = tree_of(key, bodies, axis, i, j, firsts[s], kinds[s])
                        last_first, last_tree = firsts[s], t
                    here = (axis, c[0], c[1], c[2])
                    place = (axis, i, j, k)
                    kind[here] = kinds[s]
                    tree[here] = t if kinds[s] != VOID else np.uint64(0)
                    weight[here] = _weight(key, kinds[s], place)
                    offset[axis, c[0], c[1], c[2], 0] = rod_offset(key, axis, i, j, k + 0.25, 0)
                    offset[axis, c[0], c[1], c[2], 1] = rod_offset(key, axis, i, j, k + 0.25, 1)
                    middle, half, radius = _mito(key, kinds[s], place)
                    mito[axis, c[0], c[1], c[2], 0] = middle
                    mito[axis, c[0], c[1], c[2], 1] = half
                    mito[axis, c[0], c[1], c[2], 2] = radius
    return Tables(first, tree, kind, weight, offset, mito)
