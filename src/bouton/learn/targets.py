"""What a network is trained to say, from labels: affinities between voxels, and synapse evidence.

Truth often has cells that touch: a membrane is one label change, thinner than it is in the image. :func:`interior`
widens it, as is usual for training (GrowBoundary of gunpowder; Funke et al. 2019, doi:10.1109/TPAMI.2018.2835450).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bouton.geometry import NM, ZYX, nm_to_voxels
from bouton.learn.edges import pair_slices

CLEFT, PRE, POST, EXCITATORY = 1, 2, 4, 8
UNKNOWN = 255  # in a layer of bits: not annotated


def fill_unlabelled(labels: np.ndarray, distance_voxels: float) -> np.ndarray:
    """Return labels (z, y, x) in which each 0 within ``distance_voxels`` of a label carries the nearest label."""
    if labels.all() or not labels.any():
        return labels.copy()
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    filled = labels[tuple(nearest)]
    filled[distance > distance_voxels] = 0
    return filled


def interior(labels: np.ndarray, erode_zyx: Sequence[int]) -> np.ndarray:
    """Return where labels (z, y, x) stay the same within ``erode_zyx`` voxels along every axis, and are not 0.

    Returns
    -------
    numpy.ndarray
        bool (z, y, x).
    """
    inside = labels != 0
    for axis, steps in enumerate(erode_zyx):
        for step in range(1, steps + 1):
            head = _axis_slice(axis, slice(step, None))
            tail = _axis_slice(axis, slice(None, -step))
            same = labels[head] == labels[tail]
            inside[head] &= same
            inside[tail] &= same
    return inside


def _axis_slice(axis: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if a == axis else slice(None) for a in range(3))


def affinity_truth(
    labels: np.ndarray, inside: np.ndarray, known: np.ndarray, offsets: Sequence[ZYX]
) -> tuple[np.ndarray, np.ndarray]:
    """Return affinities and where they are known.

    Parameters
    ----------
    labels : numpy.ndarray
        Integer ids (z, y, x), 0 = no cell.
    inside : numpy.ndarray
        bool (z, y, x): only two such voxels can have an affinity of 1.
    known : numpy.ndarray
        bool (z, y, x): where the labels are to be believed.
    offsets : sequence of (z, y, x)
        Channel c tells of voxel p and p + offsets[c].

    Returns
    -------
    truth, weight : numpy.ndarray
        float32 (c, z, y, x), values 0 and 1. Weight is 0 where the partner lies outside or is unknown.
    """
    truth = np.zeros((len(offsets), *labels.shape), np.float32)
    weight = np.zeros_like(truth)
    for channel, offset in enumerate(offsets):
        here, there = pair_slices(labels.shape, offset)
        truth[channel][here] = (labels[here] == labels[there]) & inside[here] & inside[there]
        weight[channel][here] = known[here] & known[there]
    return truth, weight


@dataclass(frozen=True)
class SynapseTruth:
    """Known synapses, one entry a synapse: ``ids`` of the cleft volume, partners, and whether they are excitatory."""

    ids: np.ndarray
    pre_ids: np.ndarray
    post_ids: np.ndarray
    excitatory: np.ndarray


def synapse_classes(
    clefts: np.ndarray, neuron_ids: np.ndarray, synapses: SynapseTruth, reach_nm: float, voxel_size_nm: NM
) -> np.ndarray:
    """Return what each voxel is to a synapse, as bits.

    Parameters
    ----------
    clefts : numpy.ndarray
        Synapse ids (z, y, x), 0 = no cleft.
    neuron_ids : numpy.ndarray
        Cell ids (z, y, x).
    synapses : SynapseTruth
    reach_nm : float
        How far from the cleft, in nm, its two cells are marked.
    voxel_size_nm : (z, y, x)

    Returns
    -------
    numpy.ndarray
        uint8 (z, y, x): sum of ``CLEFT``, ``PRE``, ``POST``, and ``EXCITATORY`` (on cleft voxels only).
    """
    classes = np.where(clefts != 0, np.uint8(CLEFT), np.uint8(0))
    halo = nm_to_voxels(reach_nm, voxel_size_nm)
    present, inverse = np.unique(clefts, return_inverse=True)
    places = ndimage.find_objects(inverse.reshape(clefts.shape))
    # find_objects knows no label 0; where a background exists it is the first of the unique values
    boxes = dict(zip(present[1:] if present[0] == 0 else present, places, strict=False))
    rows = zip(synapses.ids, synapses.pre_ids, synapses.post_ids, synapses.excitatory, strict=True)
    for synapse_id, pre_id, post_id, excitatory in rows:
        if synapse_id not in boxes:
            continue
        box = tuple(slice(max(0, s.start - h), s.stop + h) for s, h in zip(boxes[synapse_id], halo, strict=True))
        cleft, cells, part = clefts[box] == synapse_id, neuron_ids[box], classes[box]
        near = ndimage.distance_transform_edt(~cleft, sampling=voxel_size_nm) <= reach_nm
        part[near & (cells == pre_id)] |= PRE
        part[near & (cells == post_id)] |= POST
        part[cleft] |= EXCITATORY if excitatory else 0
    return classes


def bits_truth(layer: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one channel per bit of an annotated layer, and where it is known.

    Parameters
    ----------
    layer : numpy.ndarray
        uint8 (z, y, x): bit c tells of channel c; :data:`UNKNOWN` where nobody looked.
    channels : int

    Returns
    -------
    truth, weight : numpy.ndarray
        float32 (channels, z, y, x).
    """
    known = layer != UNKNOWN
    truth = np.stack([(layer >> bit) & 1 for bit in range(channels)]).astype(np.float32) * known
    return truth, np.repeat(known[None].astype(np.float32), channels, axis=0)


def synapse_truth(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the four channels of synapse evidence (cleft, pre, post, excitatory) and where they are known.

    Parameters
    ----------
    classes : numpy.ndarray
        uint8 bits (z, y, x) of :func:`synapse_classes`, or :data:`UNKNOWN`.

    Returns
    -------
    truth, weight : numpy.ndarray
        float32 (4, z, y, x). Whether a synapse excites is asked on cleft voxels only.
    """
    truth, weight = bits_truth(classes, 4)
    weight[3] *= truth[0]
    return truth, weight


def boundary_truth(inside: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where cells end, float32 (1, z, y, x), from bool (z, y, x) of :func:`interior`, and where it is known."""
    return (~inside)[None].astype(np.float32), known[None].astype(np.float32)
