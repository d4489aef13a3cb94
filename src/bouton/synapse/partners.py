"""Who is presynaptic and who is postsynaptic at a cleft, from tables alone.

Candidates are the ordered pairs of segments that touch beside the cleft. The score of pair (a, b) is a's share of the
presynaptic evidence beside the cleft times b's share of the postsynaptic one: the probability that a random piece of
each lies in a and in b. Every voxel adds 1/255 to either evidence, so that segments without any count by their size:
where there is no evidence at all, the two largest win, with a score of at most 1/4.

Shares are ratios of integer sums, so the same sums give the same scores, in whatever order they were added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.geometry import NM, ZYX
from bouton.synapse.candidates import decide_all

TableData = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PartnerRule:
    """How partners are chosen.

    Attributes
    ----------
    several : bool
        Whether a cleft may have more than one postsynaptic partner.
    min_post_score : float
        Further postsynaptic partners need this score.
    min_contact_nm2 : float
        Pairs that touch over a smaller area beside the cleft are no candidates.
    bridge : bool
        Whether a segment that touches no other one beside the cleft (background lies between) may pair with any.
    min_listed : float
        Candidates with a lower score are not listed, unless chosen.
    """

    several: bool = False
    min_post_score: float = 0.1
    min_contact_nm2: float = 0.0
    bridge: bool = True
    min_listed: float = 0.0


def grouped(table: TableData, ids: np.ndarray, name: str, then: str = "") -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the rows sorted by ``id`` (and column ``then``), and where those of each of ``ids`` begin, int64 (n + 1,).

    Raises
    ------
    DataError
        A row is about an id that is not among ``ids`` (uint64, sorted), or two rows about one id and ``then``.
    """
    rows = dict(table)
    if np.any(rows["id"][1:] < rows["id"][:-1]):
        # tables come as sorted stretches, which this sort takes as they are
        rows = _taken(rows, np.argsort(rows["id"], kind="stable"))
    if then and np.any((rows["id"][1:] == rows["id"][:-1]) & (rows[then][1:] < rows[then][:-1])):
        rows = _taken(rows, np.lexsort([rows[then], rows["id"]]))
    begins = np.searchsorted(rows["id"], ids, side="left")
    ends = np.searchsorted(rows["id"], ids, side="right")
    if int((ends - begins).sum()) != rows["id"].size:
        lost = rows["id"][~np.isin(rows["id"], ids)][0]
        raise DataError(
            f"table {name!r} has rows about cleft {lost}, table 'cleft_sums' has none",
            expected="tables of one synapse_sides step", fix="read all of them from the same step",
        )  # fmt: skip
    twice = (rows["id"][1:] == rows["id"][:-1]) & (rows[then][1:] == rows[then][:-1]) if then else np.zeros(0, bool)
    if twice.any():
        row = int(np.argmax(twice))
        raise DataError(
            f"table {name!r} has two rows about cleft {rows['id'][row]} and {then} {rows[then][row]}",
            expected="one row a cleft and segment",
        )
    return rows, np.append(begins, rows["id"].size).astype(np.int64)


def _taken(rows: TableData, order: np.ndarray) -> dict[str, np.ndarray]:
    return {column: values[order] for column, values in rows.items()}


def decide(
    sides: tuple[TableData, np.ndarray],
    roots: np.ndarray,
    touching: tuple[TableData, np.ndarray],
    voxel_size_nm: NM,
    rule: PartnerRule,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Choose the partners of each cleft.

    Parameters
    ----------
    sides, touching : (mapping, numpy.ndarray)
        Rows per (cleft, segment), sorted by both, and per (cleft, pair of segments), as from :func:`grouped`.
    roots : numpy.ndarray
        uint64, one a row of sides: the segment that the row's fragment is part of. Rows of one root add up.
    voxel_size_nm : (z, y, x)
    rule : PartnerRule

    Returns
    -------
    chosen : dict
        Sorted by cleft, then rank: ``cleft`` int64 (number of the cleft), ``rank`` int64 (0 = best post), ``pre_id``,
        ``post_id`` uint64 (roots, 0 = none), ``score`` float64. Every cleft has rank 0. A cleft beside one root alone
        has it on the side with more evidence, presynaptic if equal. Ties go to more faces, more voxels, more of them
        presynaptic, then to the smaller roots.
    candidates : dict
        ``cleft`` int64, ``pre_id``, ``post_id`` uint64, ``score`` float64, ``faces`` int64, ``chosen`` bool; sorted by
        cleft. A cleft without candidates has one row.
    """
    z, y, x = voxel_size_nm
    rows, listed = decide_all(
        (sides[1], sides[0]["segment"], roots, touching[1], touching[0]["a"], touching[0]["b"]),
        tuple(np.ascontiguousarray(sides[0][name]) for name in ("voxels", "pre", "post")),
        tuple(np.ascontiguousarray(touching[0][f"faces_{axis}"]) for axis in "zyx"),
        (rule.several, rule.bridge),
        np.array([rule.min_post_score, rule.min_contact_nm2, rule.min_listed, y * x, z * x, z * y]),
    )
    chosen = {"cleft": rows[1][:, 0], "rank": rows[1][:, 1], "pre_id": rows[0][:, 0], "post_id": rows[0][:, 1]}
    candidates = {"cleft": listed[1][:, 0], "pre_id": listed[0][:, 0], "post_id": listed[0][:, 1], "score": listed[2]}
    candidates |= {"faces": listed[1][:, 1], "chosen": listed[1][:, 2] != 0}
    return chosen | {"score": rows[2]}, candidates


def nearest_rows(
    cleft: np.ndarray,
    root: np.ndarray,
    sides: tuple[TableData, np.ndarray],
    roots: np.ndarray,
    space: tuple[ZYX, NM],
) -> np.ndarray:
    """Return, for each partner, the row of ``sides`` whose point is nearest to the partner's centroid there.

    Parameters
    ----------
    cleft : numpy.ndarray
        int64 (n,): number of the cleft.
    root : numpy.ndarray
        uint64 (n,): the partner; 0 = none.
    sides, roots
        As for :func:`decide`.
    space : (shape, voxel_size_nm)
        Shape of the whole data set and voxel size, z, y, x.

    Returns
    -------
    numpy.ndarray
        int64 (n,), -1 where there is no partner. Ties go to the smaller point.
    """
    table, begins = sides
    columns = tuple(np.ascontiguousarray(table[name]) for name in ("voxels", "z", "y", "x"))
    shape = np.asarray(space[0], dtype=np.int64)
    keys = (begins, roots, table["point"])
    return _nearest_rows((cleft, root), keys, columns, shape, np.asarray(space[1], dtype=np.float64))


@njit(cache=True, nogil=True)
def _nearest_rows(
    partners: tuple[np.ndarray, np.ndarray],
    keys: tuple[np.ndarray, np.ndarray, np.ndarray],
    columns: tuple[np.ndarray, ...],
    shape: np.ndarray,
    size: np.ndarray,
) -> np.ndarray:
    cleft, root = partners
    begins, roots, point = keys
    found = np.full(len(cleft), -1)
    sums = np.empty(4, dtype=np.int64)
    for i in range(len(cleft)):
        sums[:] = 0
        best = np.inf
        # a root of 0 is no partner, and no row has it
        for row in range(begins[cleft[i]], begins[cleft[i] + 1]):
            if roots[row] == root[i]:
                for k in range(4):
                    sums[k] += columns[k][row]
        for row in range(begins[cleft[i]], begins[cleft[i] + 1]):
            if roots[row] == root[i]:
                index, squared = np.int64(point[row]) - 1, 0.0
                for axis in range(2, -1, -1):
                    squared += ((index % shape[axis] - sums[1 + axis] / sums[0]) * size[axis]) ** 2
                    index //= shape[axis]
                if squared < best or (squared == best and point[row] < point[found[i]]):
                    best, found[i] = squared, row
    return found
