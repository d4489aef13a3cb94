"""From what was measured to a verdict with reasons: what was found, where, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bouton.geometry import NM, ZYX, Box
from bouton.learn.shift import (
    DOUBTFUL,
    STRANGE,
    TYPICAL_DOUBTFUL,
    TYPICAL_STRANGE,
    Reference,
    Remedy,
    Score,
)
from bouton.learn.shift_calibration import Calibration
from bouton.learn.shift_features import FEATURES, IMAGE_FEATURES, LEAST_SHARE, BoxReading

FITS, DOUBT, MISFIT = "fits", "doubtful", "does not fit"
NOTE = "note"
VOXEL_DOUBT, VOXEL_MISFIT = 0.10, 0.25
"""Relative differences of voxel sizes from which the verdict changes; the latter is what ``predict`` refuses."""
DOUBT_SHARE, FEWEST_DOUBTFUL = 0.2, 2
"""Share of doubtful boxes that makes a doubt, and how many there must be; in training data there are none."""
LARGEST_CALIBRATION_ERROR = 0.1
SHOWN = 3

_RESPONSE_FIX = "finetune the model on a labelled box of this image (bouton finetune), or choose another model"
_Text = tuple[str, Callable[[float], float], str]
WORDS: Mapping[str, _Text] = {
    "mean": ("mean grey value", lambda v: 32 * v, "normalise the contrast"),
    "contrast": ("standard deviation of grey values", lambda v: 2**v, "normalise the contrast"),
    "skewness": ("skewness of grey values", lambda v: v, "normalise the contrast"),
    "noise": ("noise over contrast", lambda v: 2**v, "denoise the image, or finetune the model with such noise"),
    "coarse_slope": (
        "spectral slope, periods of 24 to 8 voxels", lambda v: v,
        "check that this is the resolution that the model was trained at",
    ),
    "fine_slope": (
        "spectral slope, periods of 8 to 2 voxels", lambda v: v,
        "check focus and compression, and that this is no resampled or downsampled level",
    ),
    "likeness": (
        "correlation of neighbouring sections", lambda v: float(np.tanh(v)),
        "check the alignment and the section thickness",
    ),
    "worst_likeness": (
        "worst correlation of neighbouring sections", lambda v: float(np.tanh(v)),
        "look for lost or slipped sections there; align again, or mask them",
    ),
    "entropy": ("entropy of predictions, bits", lambda v: 2**v - LEAST_SHARE, _RESPONSE_FIX),
    "below_half": ("share of predictions below one half", lambda v: 2**v - LEAST_SHARE, _RESPONSE_FIX),
    "disagreement": ("difference when turned or flipped", lambda v: 2**v - LEAST_SHARE, _RESPONSE_FIX),
    "sides": ("share that changes sides of one half when flipped", lambda v: 2**v - LEAST_SHARE, _RESPONSE_FIX),
    "sensitivity": ("difference under mild contrast and noise", lambda v: 2**v - LEAST_SHARE, _RESPONSE_FIX),
}  # fmt: skip
"""For each feature: what people call it, its value as they say it, and what to do when it is far off."""

SHORT: Mapping[str, str] = {
    "mean": "mean grey value",
    "contrast": "grey values' deviation",
    "skewness": "skewness",
    "noise": "noise over contrast",
    "coarse_slope": "coarse spectral slope",
    "fine_slope": "fine spectral slope",
    "likeness": "likeness of sections",
    "worst_likeness": "worst likeness",
    "entropy": "entropy",
    "below_half": "share below one half",
    "disagreement": "difference, flipped",
    "sides": "changed sides, flipped",
    "sensitivity": "difference, grey and noise",
}
"""The same in a few words, for plots."""


@dataclass(frozen=True)
class Reason:
    """Why the verdict is what it is.

    Attributes
    ----------
    verdict : str
        The verdict that this alone would lead to; ``note`` where it changes none.
    found : str
        What was found, with its number.
    where : tuple of Box
        Boxes that show it; none where it holds everywhere.
    fix : str
        What to do.
    """

    verdict: str
    found: str
    where: tuple[Box, ...] = ()
    fix: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on.

    Attributes
    ----------
    model_nm, image_nm : (z, y, x)
        Voxel sizes.
    box_zyx, wanted_zyx : (z, y, x)
        Shape of the boxes looked at, and of those that the reference is made of.
    readings : sequence of BoxReading
    reference : Reference or None
    remedies : sequence of Remedy
    calibration : Calibration or None
    """

    model_nm: NM
    image_nm: NM
    box_zyx: ZYX
    wanted_zyx: ZYX
    readings: Sequence[BoxReading]
    reference: Reference | None = None
    remedies: Sequence[Remedy] = ()
    calibration: Calibration | None = None
    scores: Sequence[Score | None] = field(init=False)

    def __post_init__(self) -> None:
        found = [self.reference.score(r.features) if self.reference else None for r in self.readings]
        object.__setattr__(self, "scores", found)

    def level(self, index: int) -> str:
        """Return ``blank``, ``alike``, ``doubtful``, ``strange``, or ``unknown`` where there is no reference."""
        score = self.scores[index]
        return "blank" if self.readings[index].blank else score.level if score else "unknown"

    @property
    def worst_first(self) -> list[int]:
        """Indices of the boxes, the highest score first; without a reference the greatest contradiction first."""

        def rank(index: int) -> float:
            score = self.scores[index]
            return score.total if score else self.readings[index].plain["disagreement"]

        return sorted(range(len(self.readings)), key=lambda i: (-rank(i), i))


def judge(evidence: Evidence) -> tuple[str, list[Reason]]:
    """Return the verdict, ``fits``, ``doubtful`` or ``does not fit``, and its reasons, the gravest first."""
    reasons = [
        *_voxel_size(evidence),
        *_blank(evidence),
        *_repeated(evidence),
        *_boxes(evidence),
        *_calibration(evidence),
    ]
    reasons.sort(key=lambda reason: [MISFIT, DOUBT, NOTE].index(reason.verdict))
    verdict = next((reason.verdict for reason in reasons if reason.verdict != NOTE), FITS)
    return verdict, reasons


def _voxel_size(evidence: Evidence) -> list[Reason]:
    off = _off(evidence.image_nm, evidence.model_nm)
    if off <= VOXEL_DOUBT:
        return []
    mine, its = (" x ".join(f"{v:g}" for v in size) for size in (evidence.image_nm, evidence.model_nm))
    fix = "choose a model of this voxel size, or resample the image (a coarser level: bouton convert --levels)"
    verdict = MISFIT if off > VOXEL_MISFIT else DOUBT
    return [Reason(verdict, f"voxels of {mine} nm (z, y, x), the model was trained at {its} nm", fix=fix)]


def _off(found: NM, wanted: NM) -> float:
    return max(abs(a / b - 1) for a, b in zip(found, wanted, strict=True))


def _blank(evidence: Evidence) -> list[Reason]:
    count = len(evidence.readings)
    blank = [i for i in range(count) if evidence.level(i) == "blank"]
    if not blank:
        return []
    found = f"{len(blank)} of {count} boxes are blank (one grey value)"
    fix = "mask what holds no tissue, or give bounds without it (--bounds-zyx)"
    verdict = MISFIT if len(blank) == count else DOUBT
    return [Reason(verdict, found, tuple(evidence.readings[i].box for i in blank[:SHOWN]), fix)]


def _repeated(evidence: Evidence) -> list[Reason]:
    shares = [reading.plain["repeated"] for reading in evidence.readings]
    chosen = sorted((i for i, share in enumerate(shares) if share > 0), key=lambda i: -shares[i])
    if not chosen:
        return []
    found = f"{len(chosen)} of {len(shares)} boxes hold sections that copy their neighbour, up to {max(shares):.0%}"
    fix = "use sections once: undo a resampling along z, or mask lost sections that were filled with their neighbours"
    return [Reason(DOUBT, found, tuple(evidence.readings[i].box for i in chosen[:SHOWN]), fix)]


def _boxes(evidence: Evidence) -> list[Reason]:
    if evidence.reference is None:
        found = (
            "no reference statistics of the training data: grey values, noise, sharpness and the network's certainty "
            "were measured, but could not be compared with anything"
        )
        fix = "make them once: bouton check-model MODEL TRAINING-IMAGE --bounds-zyx BOX --make-reference"
        return [Reason(DOUBT, found, fix=fix)]
    tissue = [i for i in evidence.worst_first if evidence.level(i) != "blank"]
    if not tissue:
        return []
    totals = [score.total for i in tissue if (score := evidence.scores[i])]
    typical = float(np.median(totals))
    strange = [i for i in tissue if evidence.level(i) == "strange"]
    off = [i for i in tissue if evidence.level(i) != "alike"]
    reasons = []
    if evidence.box_zyx != evidence.wanted_zyx:
        mine, its = (" x ".join(map(str, shape)) for shape in (evidence.box_zyx, evidence.wanted_zyx))
        found = f"boxes of {mine} voxels, because the image holds none of the reference's {its}"
        reasons.append(Reason(NOTE, found, fix="scores of smaller boxes scatter more"))
    if typical >= TYPICAL_DOUBTFUL:
        verdict = MISFIT if typical >= TYPICAL_STRANGE else DOUBT
        found = f"the median of {len(tissue)} boxes scores {typical:.2f} (training data: below {TYPICAL_DOUBTFUL:g})"
        half = tissue[: max(1, len(tissue) // 2)]
        reasons.append(_told(evidence, Reason(verdict, found), half))
    elif strange or len(off) >= max(FEWEST_DOUBTFUL, DOUBT_SHARE * len(tissue)):
        chosen = strange or off
        limit = STRANGE if strange else DOUBTFUL
        found = f"{len(chosen)} of {len(tissue)} boxes score {limit:g} or more, up to {max(totals):.1f}"
        reasons.append(_told(evidence, Reason(DOUBT, found), chosen))
    elif off:
        found = f"{len(off)} of {len(tissue)} boxes score {DOUBTFUL:g} or more"
        reasons.append(Reason(NOTE, found, tuple(evidence.readings[i].box for i in off[:SHOWN])))
    return reasons


def _told(evidence: Evidence, reason: Reason, chosen: list[int]) -> Reason:
    """Return the reason with the features that tell these boxes from the training data, where, and what to do."""
    named = telling_features(evidence, chosen)
    told = "; ".join(feature_text(evidence, name, chosen) for name in named)
    where = tuple(evidence.readings[i].box for i in chosen[:SHOWN])
    remedy = min((r for r in evidence.remedies if r.helps), key=lambda r: r.after, default=None)
    if remedy:
        fix = (
            f"grey values v -> {remedy.scale:.3g} v {remedy.shift:+.0f} ({remedy.name}) bring the score of "
            f"{remedy.before:.2f} down to {remedy.after:.2f}: convert the image so, then check it again"
        )
    elif 2 * len(chosen) < len(evidence.readings):
        fix = f"look at these regions; mask them if they are damaged, else {WORDS[named[0]][2]}"
    else:
        fix = "; ".join(dict.fromkeys([WORDS[named[0]][2], _RESPONSE_FIX]))
    return replace(reason, found=f"{reason.found}: {told}", where=where, fix=fix)


def telling_features(evidence: Evidence, chosen: Sequence[int], count: int = 3) -> list[str]:
    """Return the features that most often are among the furthest off in these boxes, the first one always an image's.

    The image's come first because they are causes; what the network makes of them follows.
    """
    votes: Counter[str] = Counter()
    for index in chosen:
        score = evidence.scores[index]
        assert score is not None
        for name, deviation in zip(FEATURES, np.abs(score.deviations).tolist(), strict=True):
            votes[name] += min(deviation, 10.0)
    causes = [name for name, _ in votes.most_common() if name in IMAGE_FEATURES]
    effects = [name for name, _ in votes.most_common() if name not in IMAGE_FEATURES]
    far = [name for name in causes if votes[name] >= len(chosen)][: count - 1]
    return [*far, *effects[: count - len(far)]] if far else effects[:count]


def feature_text(evidence: Evidence, name: str, chosen: Sequence[int]) -> str:
    """Return a feature's median in these boxes beside its usual range in the training data."""
    assert evidence.reference is not None
    words, plain, _ = WORDS[name]
    value = float(np.median([evidence.readings[i].features[FEATURES.index(name)] for i in chosen]))
    low, _, high = evidence.reference.usual(name)
    return f"{words} {plain(value):.3g} (training {plain(low):.3g} to {plain(high):.3g})"


def _calibration(evidence: Evidence) -> list[Reason]:
    if evidence.calibration is None:
        return []
    error, edges = evidence.calibration.error, int(evidence.calibration.edges.sum())
    if not edges:
        return [
            Reason(
                NOTE,
                "no box lies wholly in the truth with a label in it: no calibration; give bounds that the truth covers",
            )
        ]
    found = f"expected calibration error {error:.3f} over {edges:,} edges with known truth"
    if error <= LARGEST_CALIBRATION_ERROR:
        return [Reason(NOTE, found)]
    fix = (
        "if the model was trained with widened borders, say so (--truth-erode-zyx); else choose thresholds on a "
        "labelled box of this image (bouton sweep), or finetune"
    )
    return [Reason(DOUBT, found, fix=fix)]
