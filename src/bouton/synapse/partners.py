"""Who is presynaptic and who is postsynaptic at a cleft, and where.

Of all ordered pairs of different segments beside the cleft, the one with the largest sum of presynaptic evidence in
the first and postsynaptic evidence in the second. Each partner's position is that voxel of it beside the cleft which
lies nearest to the centroid of such voxels: always inside of the partner, however it is bent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from bouton.geometry import NM, ZYX, Box, voxel_ids
from bouton.synapse.tables import changes

TableData = Mapping[str, np.ndarray]


def choose(ids: np.ndarray, sides: TableData) -> dict[str, np.ndarray]:
    """Choose the partners of each cleft.

    Parameters
    ----------
    ids : numpy.ndarray
        uint64 (n,), all clefts, sorted.
    sides : mapping
        Whole sums per (cleft, segment), as from :func:`bouton.synapse.sums.side_sums`, sorted.

    Returns
    -------
    dict
        ``id``, ``pre_id``, ``post_id`` uint64 (0 where fewer than two segments lie beside the cleft), and the centroids
        of the voxels beside the cleft, ``pre_z`` ... ``post_x`` float64 in voxel coordinates (NaN where the id is 0).
        A cleft beside one segment alone has it on the side with more evidence. Ties go to more voxels, then to the
        smaller segment.
    """
    begins = np.searchsorted(sides["id"], ids, side="left")
    ends = np.searchsorted(sides["id"], ids, side="right")
    rows = _best_pairs(begins, ends, sides["pre"], sides["post"], sides["voxels"])
    chosen: dict[str, np.ndarray] = {"id": ids}
    for side, row in (("pre", rows[0]), ("post", rows[1])):
        chosen[f"{side}_id"] = _take(sides["segment"], row, 0).astype(np.uint64)
    for side, row in (("pre", rows[0]), ("post", rows[1])):
        count = _take(sides["voxels"], row, 1).astype(np.float64)
        for axis in "zyx":
            total = _take(sides[axis], row, 0).astype(np.float64)
            chosen[f"{side}_{axis}"] = np.where(row >= 0, total / count, np.nan)
    return chosen


def nearest_voxels(
    owner: np.ndarray, segmentation: np.ndarray, chosen: TableData, core: Box, space: tuple[ZYX, NM]
) -> dict[str, np.ndarray]:
    """Return, for each partner beside a cleft, its voxel of the block that is nearest to the partner's centroid.

    Parameters
    ----------
    owner, segmentation : numpy.ndarray
        uint64 (z, y, x) over ``core``.
    chosen : mapping
        From :func:`choose`.
    core : Box
        Where the arrays lie in the data set.
    space : (shape, voxel_size_nm)
        Shape of the whole data set and voxel size, z, y, x.

    Returns
    -------
    dict
        ``id`` uint64, ``side`` int64 (0 = pre, 1 = post), ``squared`` float64 (nm^2), ``voxel`` uint64 (global voxel
        id). One row a cleft and side, sorted.
    """
    shape, voxel_size_nm = space
    at = np.nonzero(owner)
    row = np.searchsorted(chosen["id"], owner[at])
    segment, voxel = segmentation[at], voxel_ids(core, shape)[at]
    found = []
    for number, side in enumerate(("pre", "post")):
        here = (segment == chosen[f"{side}_id"][row]) & (segment != 0)
        squared = np.zeros(int(here.sum()))
        for axis, (name, size) in enumerate(zip("zyx", voxel_size_nm, strict=True)):
            squared += ((at[axis][here] + core.start[axis] - chosen[f"{side}_{name}"][row[here]]) * size) ** 2
        sides = np.full(squared.size, number, dtype=np.int64)
        found.append({"id": owner[at][here], "side": sides, "squared": squared, "voxel": voxel[here]})
    return nearest_of({name: np.concatenate([part[name] for part in found]) for name in found[0]})


def nearest_of(rows: TableData) -> dict[str, np.ndarray]:
    """Return the nearest row of each (id, side); of equally near ones that with the smallest voxel id."""
    order = np.lexsort((rows["voxel"], rows["squared"], rows["side"], rows["id"]))
    sorted_rows = {name: values[order] for name, values in rows.items()}
    firsts = changes([sorted_rows["id"], sorted_rows["side"]])
    return {name: values[firsts] for name, values in sorted_rows.items()}


def voxel_positions(voxel: np.ndarray, shape: ZYX) -> np.ndarray:
    """Return the coordinates int64 (n, 3) of global voxel ids uint64 (n,) > 0."""
    return np.stack(np.unravel_index(voxel.astype(np.int64) - 1, shape), axis=1).astype(np.int64)


def _take(values: np.ndarray, row: np.ndarray, missing: int) -> np.ndarray:
    if not values.size:
        return np.full(row.size, missing, dtype=values.dtype)
    return np.where(row >= 0, values[np.maximum(row, 0)], values.dtype.type(missing))


@njit(cache=True, nogil=True)
def _best_pairs(
    begins: np.ndarray, ends: np.ndarray, pre: np.ndarray, post: np.ndarray, voxels: np.ndarray
) -> np.ndarray:
    """Return int64 (2, n): rows of the pre and of the post partner of each cleft, -1 = none."""
    rows = np.full((2, len(begins)), -1, dtype=np.int64)
    for i in range(len(begins)):
        a1, a2 = _two_best(begins[i], ends[i], pre, voxels)
        b1, b2 = _two_best(begins[i], ends[i], post, voxels)
        if a1 >= 0 and a1 == b1:
            if a2 < 0:
                if pre[a1] >= post[a1]:
                    b1 = -1
                else:
                    a1 = -1
            elif pre[a1] + post[b2] >= pre[a2] + post[b1]:
                b1 = b2
            else:
                a1 = a2
        rows[0, i], rows[1, i] = a1, b1
    return rows


@njit(cache=True, nogil=True)
def _two_best(begin: int, end: int, evidence: np.ndarray, voxels: np.ndarray) -> tuple[int, int]:
    best, second = -1, -1
    for row in range(begin, end):
        if best < 0 or _beats(row, best, evidence, voxels):
            best, second = row, best
        elif second < 0 or _beats(row, second, evidence, voxels):
            second = row
    return best, second


@njit(cache=True, nogil=True)
def _beats(row: int, other: int, evidence: np.ndarray, voxels: np.ndarray) -> bool:
    if evidence[row] != evidence[other]:
        return evidence[row] > evidence[other]
    return voxels[row] > voxels[other]
