"""Do affinities of 0.8 hold in 80 of 100 cases? Counts for a reliability diagram, and its summary.

Expected calibration error: mean over bins of |mean probability - share that is true|, weighted by the bins' sizes (Guo
et al. 2017, doi:10.48550/arXiv.1706.04599).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.geometry import ZYX
from bouton.learn.edges import NEAREST
from bouton.learn.targets import affinity_truth, interior

BINS = 20


@dataclass(frozen=True)
class Calibration:
    """Counts of edges between voxels, by predicted affinity.

    Attributes
    ----------
    edges, true : numpy.ndarray
        int64 (256,): edges with predicted affinity v / 255, and how many of them lie within one cell.
    """

    edges: np.ndarray
    true: np.ndarray

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(self.edges + other.edges, self.true + other.true)

    def bins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return edges (int64), mean probability and share that is true (float64; nan where empty) of 20 bins."""
        which = np.minimum(np.arange(256) * BINS // 255, BINS - 1)
        edges = np.bincount(which, self.edges, BINS)
        with np.errstate(invalid="ignore"):
            mean = np.bincount(which, self.edges * np.arange(256) / 255, BINS) / edges
            share = np.bincount(which, self.true, BINS) / edges
        return edges.astype(np.int64), mean, share

    @property
    def error(self) -> float:
        """Expected calibration error; nan where no edge is known."""
        edges, mean, share = self.bins()
        total = int(edges.sum())
        return float(np.nansum(edges * np.abs(mean - share)) / total) if total else float("nan")


def calibrate(affinities: np.ndarray, labels: np.ndarray, erode_zyx: ZYX, margin_zyx: ZYX) -> Calibration:
    """Return how affinities compare with labels.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x), v / 255, of the offsets ``NEAREST``.
    labels : numpy.ndarray
        Integer cell ids (z, y, x); 0 is unknown, edges to it are left out.
    erode_zyx : (z, y, x)
        Voxels within so many of a border count as membrane: as the network was trained.
    margin_zyx : (z, y, x)
        Voxels so near to the box's faces are left out: the network saw half of their surroundings.
    """
    truth, weight = affinity_truth(labels, interior(labels, erode_zyx), labels != 0, NEAREST)
    inner = (slice(None), *(slice(m, n - m) for m, n in zip(margin_zyx, labels.shape, strict=True)))
    values, truth, known = affinities[inner], truth[inner] > 0, weight[inner] > 0
    edges = np.bincount(values[known], minlength=256).astype(np.int64)
    return Calibration(edges, np.bincount(values[known & truth], minlength=256).astype(np.int64))
