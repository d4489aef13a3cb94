"""Contacts and patches by brute force: voxel by voxel, patches by scipy's connected components."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

HALF = [d for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0)]
NAMES = {d: "n_" + "".join({-1: "m1", 0: "0", 1: "1"}[s] for s in d) for d in HALF}


def contact_rows(labels: np.ndarray) -> dict[tuple[int, int], dict[str, int]]:
    """Return {(a, b): {column: value}}."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for step in HALF:
        for q in np.ndindex(labels.shape):
            p = tuple(a - d for a, d in zip(q, step, strict=True))
            pair = _pair(labels, p, q)
            if pair is None:
                continue
            row = found.setdefault(pair, dict.fromkeys((*NAMES.values(), "z_sum", "y_sum", "x_sum"), 0))
            row[NAMES[step]] += 1
            if sum(map(abs, step)) == 1:
                for axis, name in enumerate(("z_sum", "y_sum", "x_sum")):
                    row[name] += p[axis] + q[axis] + 1  # the face's centre is between those of p and q, at + 0.5
    return found


def patch_rows(labels: np.ndarray) -> tuple[dict[int, tuple[int, int, int]], set[tuple[int, int]]]:
    """Return {patch: (a, b, faces)} and the links."""
    places: dict[tuple[int, int], dict[tuple, list[int]]] = {}
    for axis in range(3):
        step = [int(i == axis) for i in range(3)]
        for q in np.ndindex(labels.shape):
            pair = _pair(labels, tuple(a - d for a, d in zip(q, step, strict=True)), q)
            if pair is not None:
                places.setdefault(pair, {}).setdefault(q, []).append(axis)
    patches, at = {}, {}
    for pair, voxels in places.items():
        mask = np.zeros(labels.shape, np.bool_)
        mask[tuple(np.array(list(voxels)).T)] = True
        parts, n = ndimage.label(mask, np.ones((3, 3, 3)))
        for part in range(1, n + 1):
            members = [v for v in voxels if parts[v] == part]
            faces = [3 * int(np.ravel_multi_index(v, labels.shape)) + axis + 1 for v in members for axis in voxels[v]]
            patches[min(faces)] = (*pair, len(faces))
            for v in members:
                at.setdefault(v, []).append((min(faces), pair))
    links = set()
    for v, here in at.items():
        for step in itertools.product((-1, 0, 1), repeat=3):
            for (p, one), (q, other) in itertools.product(here, at.get(tuple(np.add(v, step)), [])):
                if one != other:
                    links.add((min(p, q), max(p, q)))
    return patches, links


def _pair(labels: np.ndarray, p: tuple, q: tuple) -> tuple[int, int] | None:
    if not all(0 <= a < n for a, n in zip(p, labels.shape, strict=True)):
        return None
    a, b = int(labels[p]), int(labels[q])
    return None if a == b or not a or not b else (min(a, b), max(a, b))
