"""Score a segmentation at many thresholds at once, and choose one.

The merge history tells the segments at every threshold; the fragments' overlap with the truth is counted once
(:mod:`bouton.evaluate.threshold_walk`), and so are the fragments at the nodes of true skeletons. Every score equals
that of the relabelled volume.

The recommendation comes with a confidence range by the bootstrap (Efron 1979, doi:10.1214/aos/1176344552) over true
neurons, because voxels of one neuron are not independent. A replicate draws as many neurons as there are, with
replacement, and weighs by how often it was drawn what each neuron adds to the scores:

* VOI = sum_i (split_i + merge_i) / sum_i n_i., with split_i = sum_j n_ij log2(n_i. / n_ij) and
  merge_i = sum_j n_ij log2(n_.j / n_ij);
* adapted Rand error = 1 - 2 sum_i both_i / sum_i (n_i.^2 + segment_i), with both_i = sum_j n_ij^2 and
  segment_i = sum_j n_ij n_.j (voxels of segment 0 apart, each a segment of its own);
* ERL = sum_k run_k / sum_k L_k over skeletons.

The segments, their sizes n_.j and which of them merge skeletons are those of the whole data in every replicate. (Adding
up n_.j anew from the drawn neurons would make a merge vanish whenever its other neuron is not drawn: the merge entropy
of replicates would be too low by a third or more, and lower thresholds would look better than they are.) The best
threshold of every replicate is found, and the range holds the middle 95 % of them. It says how far the choice depends
on these neurons; it knows nothing of other tissue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.evaluate.contingency import Contingency
from bouton.evaluate.skeletons import (
    TOLERANCES,
    SkeletonErrors,
    SkeletonOverlap,
    scores_of_errors,
    skeleton_errors,
)
from bouton.evaluate.threshold_walk import ClusterWalk, MergeSteps, Parts, TableWalk

PARTITION_METRICS = ("voi_split", "voi_merge", "voi_sum", "adapted_rand_error", "cremi_score")
RUN_METRICS = tuple(f"erl_tolerance_{tolerance}" for tolerance in TOLERANCES)
CHOICES = {
    "voi_sum": "lower",
    "adapted_rand_error": "lower",
    "cremi_score": "lower",
    **dict.fromkeys(RUN_METRICS, "higher"),
}
"""The metrics that can choose a threshold, and which way is better."""
SKELETON_SCORES = ("erl", "nerl", "edge_accuracy_length", "merges")
CONFIDENCE = 0.95
_REPLICATES_AT_ONCE = 128


@dataclass(frozen=True)
class NeuronParts:
    """What each true neuron adds to the partition scores at each threshold (see the module's text).

    Attributes
    ----------
    truth : numpy.ndarray
        uint64 (n,), ids.
    voxels : numpy.ndarray
        float64 (n,).
    split, merge, both, segment : numpy.ndarray
        float64 (t, n).
    """

    truth: np.ndarray
    voxels: np.ndarray
    split: np.ndarray
    merge: np.ndarray
    both: np.ndarray
    segment: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """The scores at every threshold, and what their bootstrap needs.

    Attributes
    ----------
    threshold : numpy.ndarray
        float64 (t,), falling.
    scores : dict of str -> numpy.ndarray
        (t,) each: ``segments``, ``PARTITION_METRICS``, and with skeletons ``splits``, and ``SKELETON_SCORES`` with
        ``_tolerance_<nodes>``.
    neurons : NeuronParts
    run_nm2 : dict of str -> numpy.ndarray
        float64 (t, k) for each of ``RUN_METRICS``: squared run lengths; empty without skeletons.
    length_nm : numpy.ndarray
        float64 (k,), the skeletons' lengths.
    """

    threshold: np.ndarray
    scores: Mapping[str, np.ndarray]
    neurons: NeuronParts
    run_nm2: Mapping[str, np.ndarray]
    length_nm: np.ndarray

    @property
    def choices(self) -> list[str]:
        """The metrics by which a threshold can be chosen here."""
        return [metric for metric in CHOICES if metric in self.scores]


@dataclass(frozen=True)
class Recommendation:
    """The threshold that is best by a metric.

    Attributes
    ----------
    metric : str
    threshold, value : float
        The best threshold, and the metric there. Of several best ones, the greatest: fewer merges.
    low, high : float
        The middle 95 % of the replicates' best thresholds.
    at_end : bool
        Whether the best threshold is the first or last one of the sweep, so that a better one may lie outside.
    """

    metric: str
    threshold: float
    value: float
    low: float
    high: float
    at_end: bool


@dataclass(frozen=True)
class Bootstrap:
    """Scores of replicates.

    Attributes
    ----------
    replicates, neurons, skeletons : int
        Replicates, and how many neurons, and skeletons, each draws.
    scores : dict of str -> numpy.ndarray
        float64 (t, replicates) for each metric.
    """

    replicates: int
    neurons: int
    skeletons: int
    scores: Mapping[str, np.ndarray]

    def band(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits of the middle 95 % of the replicates at each threshold, (t,) each."""
        tail = (1.0 - CONFIDENCE) / 2.0
        low, high = np.quantile(self.scores[metric], [tail, 1.0 - tail], axis=1)
        return low, high


def sweep(
    table: Contingency, merges: MergeSteps, threshold: np.ndarray, skeletons: SkeletonOverlap | None = None
) -> Sweep:
    """Score every threshold.

    Parameters
    ----------
    table : Contingency
        True objects x fragments.
    merges : MergeSteps
        In steps of ``threshold``.
    threshold : numpy.ndarray
        float64 (t,), falling.
    skeletons : SkeletonOverlap, optional
        True skeletons x fragments.

    Raises
    ------
    DataError
        No voxel has a true object, or no skeleton an edge.
    SpecError
        The thresholds do not fall.
    """
    if not table.voxels:
        raise DataError("no voxel of the truth has an id", expected="true neurons", fix="choose another box")
    if skeletons is not None and not skeletons.length_nm.any():
        raise DataError("skeletons without an edge", expected="one edge or more", fix="leave the skeletons out")
    if not len(threshold) or np.any(np.diff(threshold) >= 0):
        raise SpecError("thresholds that do not fall", expected="each below the one before")
    walk = ClusterWalk(merges, np.concatenate([table.segment, *_segments_of(skeletons)]))
    numbers = [walk.number(segments) for segments in _segments_of(skeletons)]
    rows = TableWalk(table, walk)
    parts, errors = [], []
    for step in range(len(threshold)):
        walk.advance(step)
        parts.append(rows.parts())
        if skeletons is not None:
            here = skeletons.moved(*(walk.clusters(each).astype(np.uint64) for each in numbers))
            errors.append({tolerance: skeleton_errors(here, tolerance) for tolerance in TOLERANCES})
    neurons = _stack(rows, parts)
    scores: dict[str, np.ndarray] = {"segments": np.array([at.segments for at in parts], np.int64)}
    scores |= {name: v[:, 0] for name, v in weighted_scores(neurons, np.ones((len(neurons.truth), 1))).items()}
    if skeletons is None:
        return Sweep(threshold, scores, neurons, {}, np.zeros(0))
    scores |= _skeleton_columns(skeletons, errors)
    runs = {f"erl_tolerance_{t}": np.stack([at[t].run_nm2 for at in errors]) for t in TOLERANCES}
    return Sweep(threshold, scores, neurons, runs, skeletons.length_nm)


def weighted_scores(neurons: NeuronParts, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return the partition scores when each neuron counts by its weight.

    Parameters
    ----------
    neurons : NeuronParts
    weights : numpy.ndarray
        float64 (n, b), >= 0: b sets of weights; 1 for all gives the scores of the volume.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``PARTITION_METRICS``, float64 (t, b).
    """
    total = neurons.voxels @ weights
    split, merge = neurons.split @ weights / total, neurons.merge @ weights / total
    pairs = np.square(neurons.voxels) @ weights + neurons.segment @ weights
    error = 1.0 - 2.0 * (neurons.both @ weights) / pairs
    return {
        "voi_split": split,
        "voi_merge": merge,
        "voi_sum": split + merge,
        "adapted_rand_error": error,
        # rounding alone could make a perfect error minus 1e-16
        "cremi_score": np.sqrt((split + merge) * np.maximum(0.0, error)),
    }


def bootstrap(found: Sweep, replicates: int = 1000, seed: int = 0) -> Bootstrap:
    """Draw true neurons, and skeletons, with replacement, and score each draw at every threshold."""
    metrics: dict[str, list[np.ndarray]] = {metric: [] for metric in (*PARTITION_METRICS, *found.run_nm2)}
    rng, other = (np.random.default_rng([seed, stream]) for stream in range(2))
    for weights in _draws(len(found.neurons.truth), replicates, rng):
        for metric, values in weighted_scores(found.neurons, weights).items():
            metrics[metric].append(values)
    real = np.flatnonzero(found.length_nm > 0)
    for weights in _draws(len(real), replicates, other) if found.run_nm2 else ():
        length = found.length_nm[real] @ weights
        for metric, runs in found.run_nm2.items():
            metrics[metric].append(runs[:, real] @ weights / length)
    scores = {metric: np.concatenate(values, axis=1) for metric, values in metrics.items()}
    return Bootstrap(replicates, len(found.neurons.truth), len(real), scores)


def recommend(found: Sweep, drawn: Bootstrap, metric: str = "voi_sum") -> Recommendation:
    """Return the threshold that is best by ``metric``, with its confidence range.

    Raises
    ------
    SpecError
        The metric chooses no threshold, or needs skeletons.
    """
    if metric not in found.choices:
        fix = "give skeletons" if metric in CHOICES else "choose one of them"
        raise SpecError(f"metric {metric!r}", expected=f"one of {', '.join(found.choices)}", fix=fix)
    values = found.scores[metric]
    best = int(_best(values[:, None], CHOICES[metric])[0])
    chosen = found.threshold[_best(drawn.scores[metric], CHOICES[metric])]
    tail = (1.0 - CONFIDENCE) / 2.0
    # thresholds of the sweep, not between them
    low, high = np.quantile(chosen, [tail, 1.0 - tail], method="inverted_cdf")
    return Recommendation(
        metric, float(found.threshold[best]), float(values[best]), float(low), float(high),
        at_end=len(values) > 1 and best in (0, len(values) - 1),
    )  # fmt: skip


def _best(values: np.ndarray, better: str) -> np.ndarray:
    """Return the first row, int64 (b,), in which each column of (t, b) is best but for rounding."""
    losses = values if better == "lower" else -values
    least = losses.min(axis=0)
    return np.argmax(losses <= least + 1e-9 * np.maximum(1.0, np.abs(least)), axis=0)


def _draws(n: int, replicates: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each of n things is drawn, float64 (n, at most 128), until all replicates are drawn."""
    for start in range(0, replicates, _REPLICATES_AT_ONCE):
        columns = min(_REPLICATES_AT_ONCE, replicates - start)
        drawn = rng.integers(0, n, (n, columns)) * columns + np.arange(columns)
        yield np.bincount(drawn.ravel(), minlength=n * columns).reshape(n, columns).astype(np.float64)


def _segments_of(skeletons: SkeletonOverlap | None) -> list[np.ndarray]:
    return [] if skeletons is None else [skeletons.node_segment, skeletons.edge_a, skeletons.edge_b]


def _stack(rows: TableWalk, parts: list[Parts]) -> NeuronParts:
    columns = (np.stack([getattr(at, name) for at in parts]) for name in ("split", "merge", "both", "segment"))
    return NeuronParts(rows.truth, rows.voxels, *columns)


def _skeleton_columns(skeletons: SkeletonOverlap, errors: list[dict[int, SkeletonErrors]]) -> dict[str, np.ndarray]:
    rows = [{score.metric: score.value for score in scores_of_errors(skeletons, at)} for at in errors]
    names = ["splits", *(f"{name}_tolerance_{t}" for t in TOLERANCES for name in SKELETON_SCORES)]
    return {name: np.array([row[name] for row in rows]) for name in names}
