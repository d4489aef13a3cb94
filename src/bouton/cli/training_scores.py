"""The names of what a validation measures, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Sequence

SEGMENTATION = ("voi_split", "voi_merge", "voi_sum", "adapted_rand_error", "threshold")
HIGHER = ("_accuracy", "_ap", "_f1", "_right")
WORDS = {
    "validation_loss": "cross-entropy, 0 and 1 counted alike",
    "validation_accuracy": "share of right voxels, 0 and 1 counted alike",
    "voi_split": "variation of information: what is split, bits",
    "voi_merge": "variation of information: what is merged, bits",
    "voi_sum": "split + merge, bits, at the best threshold",
    "adapted_rand_error": "adapted Rand error at that threshold",
    "threshold": "mean affinity of that threshold",
    "partners_right": "share of clefts whose pre- and postsynaptic cell are both right",
}


def score_names(heads: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the scores that networks with these heads get."""
    if "partners" in heads:
        return "validation_loss", "validation_accuracy", "partners_right"
    detected = [head for head in heads if "affinities" not in head]
    own = [f"{head}_{score}" for head in detected for score in ("ap", "f1")]
    return "validation_loss", "validation_accuracy", *(SEGMENTATION if "affinities" in heads else ()), *own


def default_score(heads: Sequence[str]) -> str:
    """Return the score that chooses unless the training file names one."""
    if "partners" in heads:
        return "partners_right"
    if "affinities" in heads:
        return "voi_sum"
    return next((name for name in score_names(heads) if name.endswith("_ap")), "validation_loss")


def is_better(name: str, value: float, best: float | None) -> bool:
    """Whether a score is better than the best so far; NaN never is."""
    if math.isnan(value):
        return False
    return best is None or (value > best if name.endswith(HIGHER) else value < best)
