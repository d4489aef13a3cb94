"""Which pairs of clusters are live, and which of two is better: scores and accept rules of :mod:`contraction`.

Every rule has one form: a pair is dead *while its score lies below a level and a condition holds*, and the condition,
once true of a pair, stays true whatever either cluster merges with. Sizes and contacts only grow, and a merged cluster
keeps its parts' soma, so the conditions used here all persist:

=============  ==========  =====================================================================================
rule           level       condition
=============  ==========  =====================================================================================
floor          the floor   none
size limit     none        neither cluster has fewer voxels than the limit
somata         none        both clusters hold a soma, and not the same one
large          its own     the smaller has more than ``smaller_voxels``, both more than ``together_voxels``
twig           its own     the smaller has at least ``smaller_voxels``, or the contact more than ``faces`` faces
=============  ==========  =====================================================================================

Hence, for scores by which a merged pair is never better than the better of its two parts: where that better part is
dead, the merged pair is dead too (its score lies below the same level, its condition still holds). A live pair thus
always comes from a live pair of at least its order, which is what contraction in any order needs.

Levels are compared with the rule's own score. A level on another score would break this: the part with the greater
maximum need not be the one with the greater mean.

Size and twig rules: Lu et al. 2021 (abiss), arXiv:2106.10795; size limit: Zlateski & Seung 2015, arXiv:1505.00249.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from bouton.errors import SpecError
from bouton.segment.compiled import kernel
from bouton.segment.ratios import compare_ratios, level

NO_LIMIT = np.iinfo(np.int64).max
MEAN, MAXIMUM, QUANTILE = 0, 1, 2


@dataclass(frozen=True)
class LargeRule:
    """Two large clusters merge only with confidence.

    Attributes
    ----------
    affinity : float
        Score (0 to 1) from which the rule no longer applies.
    smaller_voxels, together_voxels : int
        Below ``affinity``, a pair is dead if its smaller cluster and its clusters together have more voxels than this.
    """

    affinity: float = 0.35
    smaller_voxels: int = 10**6
    together_voxels: int = 10**7


@dataclass(frozen=True)
class TwigRule:
    """Weak contacts merge only twigs.

    Attributes
    ----------
    affinity : float
        Score (0 to 1) from which the rule no longer applies.
    smaller_voxels : int
        Below ``affinity``, a pair is live only if one of its clusters has fewer voxels.
    faces : int
        Below ``affinity``, a pair is live only if its contact has at most so many faces (edges of the voxel graph).
    """

    affinity: float = 0.35
    smaller_voxels: int = 10**5
    faces: int = 50


@dataclass(frozen=True)
class Accept:
    """What two clusters must be, to merge; all of it holds at once.

    Attributes
    ----------
    somata_apart : bool
        A pair is dead if each of its clusters holds a soma, and not the same (column ``soma`` of the sizes, 0: none).
    large : LargeRule, optional
    twig : TwigRule, optional
    """

    somata_apart: bool = False
    large: LargeRule | None = None
    twig: TwigRule | None = None


@dataclass(frozen=True)
class Rule:
    """Which pairs are live, and which of them is better.

    Attributes
    ----------
    score : int
        ``MEAN`` (affinity sum / count), ``MAXIMUM`` (greatest affinity) or ``QUANTILE``, all in 1/255.
    floor : Fraction
        A pair is live only if its score is at least this, in 1/255 (see :func:`bouton.segment.ratios.level`).
    size_limit_voxels : int
        A pair is live only if one of its clusters has fewer voxels.
    accept : Accept
    quantile : float
        Of ``QUANTILE``: the smallest affinity that at least this share (above 0, to 1) of the contact does not exceed.
    """

    score: int
    floor: Fraction
    size_limit_voxels: int = NO_LIMIT
    accept: Accept = field(default_factory=Accept)
    quantile: float = 0.5


class Level(NamedTuple):
    """A score in 1/255: rounded, and exact."""

    value: float
    numerator: int
    denominator: int


class Limits(NamedTuple):
    """A :class:`Rule` as the kernels read it; a level of 0 turns its rule off."""

    score: int
    floor: Level
    size_limit: int
    somata_apart: int
    large: Level
    large_smaller: int
    large_together: int
    twig: Level
    twig_smaller: int
    twig_faces: int
    share: Level
    by_score_alone: int


def limits_of(rule: Rule) -> Limits:
    """Return the rule's numbers.

    Raises
    ------
    SpecError
        A level lies outside of 0 to 1, the quantile is not above 0 or above 1, or the score is none of the three.
    """
    if rule.score not in (MEAN, MAXIMUM, QUANTILE):
        raise SpecError(f"score {rule.score}", expected="MEAN, MAXIMUM or QUANTILE")
    if not 0 < rule.quantile <= 1:
        raise SpecError(f"quantile {rule.quantile}", expected="a number above 0, to 1")
    large, twig = rule.accept.large or LargeRule(0.0), rule.accept.twig or TwigRule(0.0)
    share = Fraction(str(rule.quantile)).limit_denominator(10**6)
    free = rule.size_limit_voxels == NO_LIMIT and rule.accept == Accept()
    return Limits(
        score=rule.score,
        floor=_level(rule.floor),
        size_limit=rule.size_limit_voxels,
        somata_apart=int(rule.accept.somata_apart),
        large=_level(level(large.affinity)),
        large_smaller=large.smaller_voxels,
        large_together=large.together_voxels,
        twig=_level(level(twig.affinity)),
        twig_smaller=twig.smaller_voxels,
        twig_faces=twig.faces,
        share=_level(share),
        by_score_alone=int(free),
    )


def _level(value: Fraction) -> Level:
    return Level(value.numerator / value.denominator, value.numerator, value.denominator)


@kernel
def score_of(edges: np.ndarray, e: int, limits: Limits) -> float:
    """Return the score of edge e in 1/255, rounded.

    Correctly rounded division is monotone: unequal quotients are in the true order (sums and counts below 2^53).
    """
    if limits.score == MEAN:
        return edges[e].sum / edges[e].count
    return float(edges[e].level)


@kernel
def compare_scores(edges: np.ndarray, e: int, f: int, limits: Limits) -> int:
    """Return the sign of the score of edge e less that of edge f, exactly, where the rounded scores are equal."""
    if limits.score != MEAN:
        return 0
    return compare_ratios(edges[e].sum, edges[e].count, edges[f].sum, edges[f].count)


@kernel
def below(edges: np.ndarray, e: int, score: float, level: Level) -> bool:
    """Return whether edge e, of this rounded score, lies below the level, exactly."""
    if score != level.value or level.numerator == 0:
        return score < level.value
    if edges[e].level >= 0:
        return compare_ratios(edges[e].level, 1, level.numerator, level.denominator) < 0
    return compare_ratios(edges[e].sum, edges[e].count, level.numerator, level.denominator) < 0


@kernel
def is_live(edges: np.ndarray, clusters: np.ndarray, e: int, score: float, limits: Limits) -> bool:
    """Return whether edge e, of this rounded score, may merge its two clusters."""
    if below(edges, e, score, limits.floor):
        return False
    if limits.by_score_alone:
        return True
    a, b = clusters[edges[e].u], clusters[edges[e].v]
    smaller, together = min(a.size, b.size), a.size + b.size
    if smaller >= limits.size_limit:
        return False
    if limits.somata_apart and a.soma != b.soma and a.soma != 0 and b.soma != 0:
        return False
    large = smaller > limits.large_smaller and together > limits.large_together
    if large and below(edges, e, score, limits.large):
        return False
    no_twig = smaller >= limits.twig_smaller or edges[e].count > limits.twig_faces
    return not (no_twig and below(edges, e, score, limits.twig))
