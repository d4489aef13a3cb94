"""The pairs of segments beside each cleft, and the choice among them: what :mod:`bouton.synapse.partners` computes."""

from __future__ import annotations

import numpy as np
from numba import njit

MAX_POSTS = 255
Arrays = tuple[np.ndarray, ...]


@njit(cache=True, nogil=True)
def decide_all(
    keys: Arrays, columns: Arrays, faces: Arrays, switches: tuple[bool, bool], limits: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Choose the partners of every cleft.

    Parameters
    ----------
    keys : tuple
        Where the sides of each cleft begin (n + 1,), their segments and roots; where the contacts of each cleft begin
        (n + 1,), their segments a and b.
    columns : tuple
        Of the sides: voxels, pre, post; int64.
    faces : tuple
        Of the contacts: faces across z, y and x; int64.
    switches : (several, bridge)
    limits : numpy.ndarray
        float64: min_post_score, min_contact_nm2, min_listed, area of a face across z, y and x in nm^2.

    Returns
    -------
    chosen, listed : tuple
        ids uint64 (k, 2): pre, post; numbers int64 (k, 2): cleft, rank, or (k, 3): cleft, faces, chosen; scores (k,).
    """
    begins, segment, roots, touch_begins, touch_a, touch_b = keys
    n = len(begins) - 1
    ids, numbers, score = _rows(n + 64, 2)
    listed_ids, listed, listed_score = _rows(2 * n + 64, 3)
    rows, k = 0, 0
    for i in range(n):
        first, last = begins[i], begins[i + 1]
        names, slots, sums = _root_sums(roots[first:last], first, columns)
        contacts = (touch_begins[i], touch_begins[i + 1], touch_a, touch_b)
        codes, totals = _contacts(contacts, segment[first:last], slots, faces)
        pairs, count = _candidates(codes, totals, len(names), switches[1], limits)
        values = _scores(pairs, sums)
        pre, posts, post_scores = _choose(pairs, count, values, sums, (switches[0], limits[0]))
        for rank in range(len(posts)):
            ids, numbers, score = _grown(ids, numbers, score, rows)
            ids[rows, 0], ids[rows, 1] = _name(names, pre), _name(names, posts[rank])
            numbers[rows, 0], numbers[rows, 1], score[rows] = i, rank, post_scores[rank]
            rows += 1
        if len(pairs) == 0:
            listed_ids, listed, listed_score = _grown(listed_ids, listed, listed_score, k)
            listed_ids[k, 0], listed_ids[k, 1] = _name(names, pre), _name(names, posts[0])
            listed[k, 0], listed[k, 1], listed[k, 2], listed_score[k] = i, 0, 1, 0.0
            k += 1
        for p in range(len(pairs)):
            taken = pairs[p, 0] == pre and np.any(posts == pairs[p, 1])
            if taken or values[p] >= limits[2]:
                listed_ids, listed, listed_score = _grown(listed_ids, listed, listed_score, k)
                listed_ids[k, 0], listed_ids[k, 1] = names[pairs[p, 0]], names[pairs[p, 1]]
                listed[k, 0], listed[k, 1], listed[k, 2], listed_score[k] = i, count[p], taken, values[p]
                k += 1
    return (ids[:rows], numbers[:rows], score[:rows]), (listed_ids[:k], listed[:k], listed_score[:k])


@njit(cache=True, nogil=True)
def _rows(n: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty((n, 2), dtype=np.uint64), np.empty((n, columns), dtype=np.int64), np.empty(n)


@njit(cache=True, nogil=True)
def _grown(
    ids: np.ndarray, numbers: np.ndarray, score: np.ndarray, row: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays, larger where they have no room for ``row``."""
    n = len(score)
    if row < n:
        return ids, numbers, score
    larger = _rows(2 * n, numbers.shape[1])
    larger[0][:n], larger[1][:n], larger[2][:n] = ids, numbers, score
    return larger


@njit(cache=True, nogil=True)
def _name(names: np.ndarray, slot: int) -> np.uint64:
    return names[slot] if slot >= 0 else np.uint64(0)


@njit(cache=True, nogil=True)
def _distinct(values: np.ndarray) -> np.ndarray:
    """Return the values, sorted, each once: numba's own unique goes through a list."""
    ordered, k = np.sort(values), 0
    for i in range(len(ordered)):
        if k == 0 or ordered[i] != ordered[k - 1]:
            ordered[k] = ordered[i]
            k += 1
    return ordered[:k]


@njit(cache=True, nogil=True)
def _root_sums(roots: np.ndarray, first: int, columns: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a cleft's roots, sorted; the number of each row's root; voxels, pre and post of each root (k, 3)."""
    names, slots = _distinct(roots), np.empty(len(roots), dtype=np.int64)
    sums = np.zeros((len(names), 3), dtype=np.int64)
    for i in range(len(roots)):
        slots[i] = np.searchsorted(names, roots[i])
        for c in range(3):
            sums[slots[i], c] += columns[c][first + i]
    return names, slots, sums


@njit(cache=True, nogil=True)
def _contacts(
    contacts: tuple[int, int, np.ndarray, np.ndarray], segment: np.ndarray, slots: np.ndarray, faces: Arrays
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of roots (i, j), i < j, that touch, as sorted codes i << 32 | j, and their faces (p, 3)."""
    begin, end, touch_a, touch_b = contacts
    found, rows, n = np.empty(end - begin, dtype=np.int64), np.empty(end - begin, dtype=np.int64), 0
    for row in range(begin, end):
        a, b = np.searchsorted(segment, touch_a[row]), np.searchsorted(segment, touch_b[row])
        if a == len(segment) or b == len(segment) or segment[a] != touch_a[row] or segment[b] != touch_b[row]:
            continue
        i, j = min(slots[a], slots[b]), max(slots[a], slots[b])
        if i != j:
            found[n], rows[n] = (i << 32) | j, row
            n += 1
    codes = _distinct(found[:n])
    totals = np.zeros((len(codes), 3), dtype=np.int64)
    for m in range(n):
        p = np.searchsorted(codes, found[m])
        for axis in range(3):
            totals[p, axis] += faces[axis][rows[m]]
    return codes, totals


@njit(cache=True, nogil=True)
def _candidates(
    codes: np.ndarray, totals: np.ndarray, k: int, bridge: bool, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ordered pairs of root numbers, int64 (p, 2), and the faces of each, int64 (p,)."""
    alone = np.ones(k, dtype=np.bool_)
    for p in range(len(codes)):
        alone[codes[p] >> 32] = alone[codes[p] & 0xFFFFFFFF] = False
    single = alone.sum() if bridge else 0
    pairs = np.empty((2 * len(codes) + 2 * single * k, 2), dtype=np.int64)
    count, n = np.zeros(len(pairs), dtype=np.int64), 0
    for p in range(len(codes)):
        area = totals[p, 0] * limits[3] + totals[p, 1] * limits[4] + totals[p, 2] * limits[5]
        if area >= limits[1]:
            i, j = codes[p] >> 32, codes[p] & 0xFFFFFFFF
            pairs[n, 0], pairs[n, 1], pairs[n + 1, 0], pairs[n + 1, 1] = i, j, j, i
            count[n : n + 2] = totals[p].sum()
            n += 2
    if single:
        for i in range(k):
            for j in range(i + 1, k):
                if alone[i] or alone[j]:
                    pairs[n, 0], pairs[n, 1], pairs[n + 1, 0], pairs[n + 1, 1] = i, j, j, i
                    n += 2
    return pairs[:n], count[:n]


@njit(cache=True, nogil=True)
def _scores(pairs: np.ndarray, sums: np.ndarray) -> np.ndarray:
    voxels, pre, post = sums[:, 0].sum(), sums[:, 1].sum(), sums[:, 2].sum()
    values = np.empty(len(pairs))
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        share = (sums[a, 1] + sums[a, 0]) / (pre + voxels)
        values[p] = share * ((sums[b, 2] + sums[b, 0]) / (post + voxels))
    return values


@njit(cache=True, nogil=True)
def _choose(
    pairs: np.ndarray, count: np.ndarray, values: np.ndarray, sums: np.ndarray, rule: tuple[bool, float]
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the pre partner, the post partners (-1 = none), best first, and their scores."""
    several, min_post_score = rule
    if len(pairs) == 0:
        only_pre = len(sums) == 1 and sums[0, 1] >= sums[0, 2]
        only_post = len(sums) == 1 and not only_pre
        return 0 if only_pre else -1, np.full(1, 0 if only_post else -1), np.zeros(1)
    pre = _best_pre(pairs, values, sums) if several else -1
    left = np.ones(len(pairs), dtype=np.bool_)
    posts, scores, n = np.empty(len(pairs), dtype=np.int64), np.empty(len(pairs)), 0
    while n < (MAX_POSTS if several else 1):
        best = -1
        for p in range(len(pairs)):
            if (
                left[p]
                and (pre < 0 or pairs[p, 0] == pre)
                and (best < 0 or _beats(p, best, pairs, count, values, sums))
            ):
                best = p
        if best < 0 or (n > 0 and values[best] < min_post_score):
            break
        pre, left[best] = pairs[best, 0], False
        posts[n], scores[n] = pairs[best, 1], values[best]
        n += 1
    return pre, posts[:n], scores[:n]


@njit(cache=True, nogil=True)
def _best_pre(pairs: np.ndarray, values: np.ndarray, sums: np.ndarray) -> int:
    """Return the root whose pairs as pre have the largest sum of scores; if equal, of more voxels, then the first."""
    totals = np.zeros(len(sums))
    for p in range(len(pairs)):
        totals[pairs[p, 0]] += values[p]
    best = 0
    for i in range(1, len(sums)):
        if totals[i] > totals[best] or (totals[i] == totals[best] and sums[i, 0] > sums[best, 0]):
            best = i
    return best


@njit(cache=True, nogil=True)
def _beats(p: int, q: int, pairs: np.ndarray, count: np.ndarray, values: np.ndarray, sums: np.ndarray) -> bool:
    if values[p] != values[q]:
        return values[p] > values[q]
    if count[p] != count[q]:
        return count[p] > count[q]
    mine, other = sums[pairs[p, 0], 0], sums[pairs[q, 0], 0]
    both, others = mine + sums[pairs[p, 1], 0], other + sums[pairs[q, 1], 0]
    if both != others:
        return both > others
    if mine != other:
        return mine > other
    return pairs[p, 0] < pairs[q, 0] or (pairs[p, 0] == pairs[q, 0] and pairs[p, 1] < pairs[q, 1])
