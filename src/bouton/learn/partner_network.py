"""A partner network at work: the image around one cleft and the mask of that cleft -> its two cells.

Turner et al. 2019, doi:10.48550/arXiv.1904.09947.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX
from bouton.learn.info import ModelInfo
from bouton.learn.runners import normalised, to_bytes


class _Runs(Protocol):
    info: ModelInfo

    def run(self, values: np.ndarray) -> np.ndarray: ...


def check_partner_network(info: ModelInfo) -> None:
    """Check that a model is a partner network.

    Raises
    ------
    SpecError
        It is not.
    """
    if "partners" not in info.heads:
        raise SpecError(
            f"a model with heads {', '.join(info.heads)}", expected="a partner network, whose one head is partners",
            fix="bouton model list names models; bouton train makes one with heads: [partners]",
        )  # fmt: skip


def partner_masks(runner: _Runs, image: np.ndarray, cleft: np.ndarray) -> np.ndarray:
    """Return where the presynaptic and the postsynaptic cell of a cleft lie.

    Parameters
    ----------
    runner : Runner
        Of a partner network (:func:`bouton.learn.runners.open_runner`).
    image : numpy.ndarray
        uint8 (z, y, x), at most one tile of the model; a smaller one is continued by its outermost voxels.
    cleft : numpy.ndarray
        bool, same shape: the voxels of that one cleft.

    Returns
    -------
    numpy.ndarray
        uint8 (2, z, y, x): probability * 255 of the presynaptic and of the postsynaptic cell.
    """
    shown = np.stack([_whole(image, runner.info.tile_zyx), _whole(cleft, runner.info.tile_zyx) * np.uint8(255)])
    values = normalised(shown, runner.info)[0]
    z, y, x = image.shape
    return to_bytes(runner.run(np.ascontiguousarray(values))[:, :z, :y, :x])


def _whole(part: np.ndarray, tile: ZYX) -> np.ndarray:
    room = [(0, t - n) for t, n in zip(tile, part.shape, strict=True)]
    return np.pad(part, room, mode="constant" if part.dtype == bool else "edge")


def network_sums(
    masks: np.ndarray, segmentation: np.ndarray, beside: np.ndarray, rows: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network says of each segment beside a cleft, in the units of the rows that it replaces.

    Parameters
    ----------
    masks : numpy.ndarray
        uint8 (2, z, y, x), from :func:`partner_masks`.
    segmentation : numpy.ndarray
        Ids (z, y, x).
    beside : numpy.ndarray
        bool (z, y, x): voxels that belong to the cleft.
    rows : mapping
        The cleft's rows of ``sides``: ``segment`` uint64, sorted, and ``voxels`` int64.

    Returns
    -------
    pre, post : numpy.ndarray
        int64, one a row: mean of the mask over the segment's voxels beside the cleft, times ``voxels``; 0 where the
        patch holds none of them.
    """
    segments = rows["segment"]
    ids = segmentation[beside]
    at = np.minimum(np.searchsorted(segments, ids), max(0, len(segments) - 1))
    known = segments[at] == ids if len(segments) else np.zeros(len(ids), bool)
    counts = np.bincount(at[known], minlength=len(segments))
    sums = [np.bincount(at[known], mask[beside][known].astype(np.int64), len(segments)) for mask in masks]
    pre, post = (s.astype(np.int64) * rows["voxels"] // np.maximum(counts, 1) for s in sums)
    return pre, post
