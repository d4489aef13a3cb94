"""Exposed volume and synapses of every tissue class in every block."""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.density.exposure import Exposure, bits_between, exposed_at
from bouton.density.grid import AnalysisGrid
from bouton.errors import DataError
from bouton.geometry import Box

MOST_CLASSES = 4096


def count_tissues(
    found: Exposure,
    tissue: np.ndarray,
    grid: AnalysisGrid,
    core: Box,
    inside: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count exposed voxels and synapses by block and tissue.

    Parameters
    ----------
    found : Exposure
        Of the core.
    tissue : numpy.ndarray
        Unsigned integers (z, y, x) over the core: classes, 0 = none.
    grid, core
        As of :func:`bouton.density.exposure.count_voxels`.
    inside : tuple
        From :func:`bouton.density.points.points_in`.

    Returns
    -------
    classes : numpy.ndarray
        uint64 (c,), sorted.
    exposed, synapses : numpy.ndarray
        int64 (blocks, c).

    Raises
    ------
    DataError
        There are more classes than kinds of tissue: it must be a segmentation.
    """
    classes = np.array(sorted(_classes(tissue, MOST_CLASSES)), dtype=np.uint64)
    if classes.size > MOST_CLASSES:
        raise DataError(
            f"more than {MOST_CLASSES} classes of tissue", where=f"tissue, box {core} (z,y,x)",
            expected="a number a kind of tissue", fix="is it a segmentation?",
        )  # fmt: skip
    edges = grid.edges(core, 0), grid.edges(core, 1), grid.edges(core, 2)
    blocks = int(np.prod([each.size - 1 for each in edges]))
    exposed = np.zeros((blocks, classes.size), dtype=np.int64)
    _count_exposed(tissue, found.hidden, (found.shift, found.none), edges, (classes, exposed))
    places, _, block = inside
    shown = exposed_at(found, places)
    values = tissue[places[shown, 0], places[shown, 1], places[shown, 2]].astype(np.uint64)
    known = values > 0
    synapses = np.zeros_like(exposed)
    np.add.at(synapses, (block[shown][known], np.searchsorted(classes, values[known])), 1)
    return classes, exposed, synapses


@njit(cache=True, nogil=True)
def _classes(tissue: np.ndarray, most: int) -> set[np.uint64]:
    """Return the classes; some of them where there are more than ``most``."""
    last = np.uint64(0)
    found = {last}
    for z in range(tissue.shape[0]):
        for y in range(tissue.shape[1]):
            for x in range(tissue.shape[2]):
                here = np.uint64(tissue[z, y, x])
                if here != last:
                    last = here
                    found.add(here)
            if len(found) > most + 1:
                return found
    found.remove(np.uint64(0))
    return found


@njit(cache=True, nogil=True)
def _count_exposed(
    tissue: np.ndarray,
    hidden: np.ndarray,
    form: tuple[int, bool],
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    out: tuple[np.ndarray, np.ndarray],
) -> None:
    (shift, none), (ez, ey, ex), (classes, exposed) = form, edges, out
    for bz in range(len(ez) - 1):
        for z in range(ez[bz], ez[bz + 1]):
            for by in range(len(ey) - 1):
                for y in range(ey[by], ey[by + 1]):
                    row = tissue[z, y]
                    for bx in range(len(ex) - 1):
                        number = (bz * (len(ey) - 1) + by) * (len(ex) - 1) + bx
                        x = ex[bx]
                        while x < ex[bx + 1]:
                            here, first = row[x], x
                            while x < ex[bx + 1] and row[x] == here:
                                x += 1
                            if here:
                                lost = 0 if none else bits_between(hidden[z, y], first + shift, x + shift)
                                exposed[number, np.searchsorted(classes, np.uint64(here))] += x - first - lost
