"""Validation of a network in training: what the segmentation and the detections would be worth, not only the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bouton.cli.sweep_inputs import merge_steps
from bouton.cli.training_scores import SEGMENTATION, score_names
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.sweep import sweep
from bouton.evaluate.voxels import voxel_scores
from bouton.geometry import Box
from bouton.learn.model import Model
from bouton.learn.predict import predict
from bouton.learn.runners import Runner
from bouton.learn.sampling import SamplingSettings, TrainingVolume, head_truths
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.segment.whole import WholeParams, merge_history

WHOLE = WholeParams(low=0.0, floor=0.02, small_affinity=0.05)
THRESHOLDS = np.array([*np.round(np.arange(0.95, 0.04, -0.05), 2), 0.02])


@dataclass(frozen=True)
class Validated:
    """Scores of a network on the validation volumes.

    Attributes
    ----------
    scores : dict of str -> float
        :func:`score_names`; NaN where nothing can be scored.
    predictions : tuple of dict of head -> numpy.ndarray
        Per volume, uint8 (c, z, y, x).
    segmentations : tuple of numpy.ndarray or None
        Per volume, at the best threshold.
    """

    scores: dict[str, float]
    predictions: tuple[dict[str, np.ndarray], ...]
    segmentations: tuple[np.ndarray | None, ...]


def validate(model: Model | Runner, volumes: Sequence[TrainingVolume], sampling: SamplingSettings) -> Validated:
    """Score a model.

    The segmentation is mean-affinity agglomeration of whole volumes. One threshold serves all volumes: the one of a
    grid at which the variation of information, averaged over annotated voxels, is least.

    Parameters
    ----------
    model : Model or Runner
    volumes : sequence of TrainingVolume
    sampling : SamplingSettings
        Heads and how their truth is made.
    """
    found = [_predicted(model, volume) for volume in volumes]
    names = score_names(sampling.heads)
    losses, detections = [], []
    for volume, values in zip(volumes, found, strict=True):
        truths = head_truths(volume, sampling)
        losses.append(_channel_scores(values, truths))
        detections.append(_detection_scores(values, truths))
    scores = dict.fromkeys(names, float("nan"))
    scores |= _means([{"validation_loss": loss, "validation_accuracy": right} for loss, right in losses])
    scores |= _means(detections)
    segmentations: list[np.ndarray | None] = [None] * len(volumes)
    if "affinities" in sampling.heads:
        known = [np.where(volume.known, volume.labels, 0) for volume in volumes]
        chosen, segmentations = _segmentation_scores([values["affinities"] for values in found], known)
        scores |= chosen
    return Validated(scores, tuple(found), tuple(segmentations))


def _predicted(model: Model | Runner, volume: TrainingVolume) -> dict[str, np.ndarray]:
    box = Box.of_shape(volume.image.shape)
    return predict(model, volume.image, box, box, box)


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the volumes that have it."""
    means = {}
    for name in {name for row in rows for name in row}:
        values = [row[name] for row in rows if name in row and not np.isnan(row[name])]
        means[name] = float(np.mean(values)) if values else float("nan")
    return means


def _channel_scores(
    found: Mapping[str, np.ndarray], truths: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float]:
    """Return cross-entropy and accuracy, 0 and 1 counted alike, over all channels that have a truth."""
    rows = [
        balanced_scores(values[c], truths[head][0][c], truths[head][1][c] > 0)
        for head, values in found.items()
        for c in range(len(values))
        if truths[head][1][c].any()
    ]
    return tuple(float(v) for v in np.mean(rows, axis=0)) if rows else (float("nan"), float("nan"))


def balanced_scores(values: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Return cross-entropy and accuracy of one channel, 0 and 1 counted alike."""
    probability = np.clip(values[known] / 255, 1 / 510, 1 - 1 / 510)
    one = truth[known] > 0.5
    loss = [-np.log(p).mean() if p.size else 0.0 for p in (probability[one], 1 - probability[~one])]
    right = [np.mean(p > 0.5) if p.size else 1.0 for p in (probability[one], 1 - probability[~one])]
    return float(np.mean(loss)), float(np.mean(right))


def _detection_scores(
    found: Mapping[str, np.ndarray], truths: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for head, values in found.items():
        if "affinities" in head:
            continue
        truth, weight = truths[head]
        each = [voxel_scores(values[c], truth[c] > 0.5, weight[c] > 0) for c in range(len(values))]
        scores |= _means([{f"{head}_ap": s.average_precision, f"{head}_f1": s.f1} for s in each])
    return scores


def _segmentation_scores(
    affinities: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> tuple[dict[str, float], list[np.ndarray | None]]:
    """Return the scores at the best threshold, and each volume's segmentation there."""
    histories = [merge_history(np.ascontiguousarray(values), WHOLE) for values in affinities]
    curves, weights = [], []
    for (fragments, merges), truth in zip(histories, truths, strict=True):
        table = count_pairs(truth, fragments)
        if table.voxels:
            curves.append(sweep(table, merge_steps(merges, THRESHOLDS), THRESHOLDS).scores)
            weights.append(table.voxels)
    if not curves:
        return {}, [None] * len(histories)
    mean = {
        name: np.average([curve[name] for curve in curves], axis=0, weights=weights)
        for name in SEGMENTATION
        if name != "threshold"
    }
    best = int(np.argmin(mean["voi_sum"]))
    threshold = float(THRESHOLDS[best])
    scores = {name: float(values[best]) for name, values in mean.items()} | {"threshold": threshold}
    return scores, [relabel(fragments, *cut(merges, threshold)) for fragments, merges in histories]
