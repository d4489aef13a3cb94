"""Validation of a partner network in training: for how many clefts it finds both cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bouton.cli.training_validation import Validated, balanced_scores
from bouton.learn.model import Model
from bouton.learn.partner_network import partner_masks
from bouton.learn.partner_sampling import cleft_patch, known_clefts, patch_place, truth_of
from bouton.learn.sampling import TrainingVolume

NEAR_VOXELS = (2, 5, 5)


def validate_partners(model: Model, volumes: Sequence[TrainingVolume]) -> Validated:
    """Score a partner network on every cleft of the volumes, given the true cleft and the true cells.

    A cell's score is the mean output over its voxels near the cleft; the cell with the highest is the answer.
    """
    # torch: only who runs a network waits for it
    from bouton.learn.runners_torch import TorchRunner

    runner = TorchRunner(model)
    rows, right = [], []
    for which, cleft, centre in known_clefts(volumes):
        volume = volumes[which]
        place = patch_place(centre, model.info.tile_zyx, volume.image.shape)
        patch, synapses = cleft_patch(volume, cleft, place), truth_of(volume)
        found = partner_masks(runner, volume.image[place], synapses.clefts[place] == cleft)
        rows.append([balanced_scores(found[c], patch.truth[c], patch.weight[c] > 0) for c in range(2)])
        right.append(_answer(found, volume, place, cleft) == tuple(synapses.partners[cleft]))
    loss, accuracy = np.mean(rows, axis=(0, 1))
    scores = {"validation_loss": float(loss), "validation_accuracy": float(accuracy)}
    # no whole volume was predicted: there is nothing to show of any
    nothing: tuple[dict[str, np.ndarray], ...] = tuple({} for _ in volumes)
    return Validated(scores | {"partners_right": float(np.mean(right))}, nothing, (None,) * len(volumes))


def _answer(found: np.ndarray, volume: TrainingVolume, place: tuple[slice, ...], cleft: int) -> tuple[int, int]:
    mask, labels = truth_of(volume).clefts[place] == cleft, volume.labels[place]
    size = [2 * n + 1 for n in NEAR_VOXELS]
    near = ndimage.maximum_filter(mask, size) & (labels != 0)
    ids, row = np.unique(labels[near], return_inverse=True)
    means = [np.bincount(row, channel[near]) / np.bincount(row) for channel in found]
    pre, post = (int(ids[np.argmax(mean)]) for mean in means)
    return pre, post
