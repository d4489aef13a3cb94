"""What in a table of true synapses looks wrong: rows that contradict themselves, the cells, or a sure detector.

A suspicion is a question to a person, not a correction. Ranking disagreements with a model by its confidence finds
label errors: Northcutt et al. 2021, doi:10.1613/jair.1.12125.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from bouton.evaluate.matching import match_points
from bouton.evaluate.synapses import UNKNOWN, MatchRule, SynapseSet, points_nm, same_pair, same_partners

SUSPICIONS = {
    "outside": "lies outside of the volume",
    "same_cell": "is a synapse of a cell with itself",
    "no_partner": "names no cell on one side",
    "repeated": "joins the same two cells as another one near it",
    "far_partner": "has a partner's point unusually far from the cleft",
    "other_cell": "has a partner's point in another cell than it names",
    "not_detected": "has no detection near it",
    "not_annotated": "is a sure detection where the truth has nothing",
    "other_partners": "joins other cells than the detection there",
    "reversed": "runs the other way than the detection there",
    "other_type": "has another type than the detection there",
}
OUTLIER = 6.0
"""Robust standard deviations beyond which a distance is unusual."""
MAD_TO_SIGMA = 1.4826

Table = Mapping[str, np.ndarray]
Rows = list[tuple[str, int, float, str]]


@dataclass(frozen=True)
class Detections:
    """What a detector says, for comparison: its table, and as :class:`SynapseSet` with *true* cells (0: not known)."""

    table: Table
    synapses: SynapseSet


def check_rows(truth: Table, rule: MatchRule, near_nm: float) -> Rows:
    """Return what is suspicious about rows by themselves.

    Parameters
    ----------
    truth : mapping
        ``z_nm``, ``y_nm``, ``x_nm``, ``pre_id``, ``post_id``, and ``pre_z_nm`` ... ``post_x_nm`` (NaN: not given).
    rule : MatchRule
        Its box is the volume.
    near_nm : float
        Two synapses of the same ordered pair nearer than this are suspected to be one.

    Returns
    -------
    list of (suspicion, row, strength, words)
        Strength in [0, 1]: how sure the suspicion is.
    """
    centre, pre, post = points_nm(truth), truth["pre_id"], truth["post_id"]
    low, high = np.asarray(rule.start_nm), np.asarray(rule.stop_nm)
    outside = ((centre < low) | (centre > high)).any(axis=1)
    found: Rows = [("outside", int(row), 1.0, f"centre {_place(centre[row])}") for row in np.flatnonzero(outside)]
    found += [("same_cell", int(row), 1.0, f"cell {pre[row]}") for row in np.flatnonzero((pre == post) & (pre != 0))]
    lost = (pre == 0) | (post == 0)
    found += [("no_partner", int(row), 1.0, f"pre {pre[row]}, post {post[row]}") for row in np.flatnonzero(lost)]
    return found + _repeated(truth, near_nm) + _far(truth)


def _repeated(truth: Table, near_nm: float) -> Rows:
    centre, ids = points_nm(truth), truth["id"]
    pairs = cKDTree(centre).query_pairs(near_nm, output_type="ndarray") if len(centre) else np.zeros((0, 2), int)
    pre, post = truth["pre_id"][pairs], truth["post_id"][pairs]
    same = (pre[:, 0] == pre[:, 1]) & (post[:, 0] == post[:, 1]) & (pre[:, 0] != 0)
    found: Rows = []
    for a, b in np.sort(pairs[same], axis=1).tolist():
        distance = float(np.linalg.norm(centre[a] - centre[b]))
        found.append(("repeated", b, 1 - distance / near_nm if near_nm else 1.0, f"{distance:.0f} nm from {ids[a]}"))
    return found


def _far(truth: Table) -> Rows:
    found: Rows = []
    for side in ("pre", "post"):
        distance = np.linalg.norm(points_nm(truth, f"{side}_") - points_nm(truth), axis=1)
        known = np.isfinite(distance)
        if known.sum() < 4:
            continue
        middle = float(np.median(distance[known]))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(distance[known] - middle)))
        limit = middle + OUTLIER * max(spread, 0.1 * middle)
        for row in np.flatnonzero(known & (distance > limit)):
            words = f"{side} {distance[row]:.0f} nm from the cleft, usual are {middle:.0f} nm"
            found.append(("far_partner", int(row), float(1 - limit / distance[row]), words))
    return found


def check_cells(truth: Table, cells: tuple[np.ndarray, np.ndarray], rule: MatchRule) -> Rows:
    """Return rows whose partners' points lie in other cells than the row names.

    Parameters
    ----------
    cells : (pre, post)
        uint64 (n,): the cell at each point; 0 = none, or no point.
    rule : MatchRule
        Its box is the volume: of points outside nobody knows.
    """
    found: Rows = []
    for side, here in zip(("pre", "post"), cells, strict=True):
        named = truth[f"{side}_id"]
        places = points_nm(truth, f"{side}_")
        # a point without a place is in no box
        inside = ((places >= rule.start_nm) & (places < rule.stop_nm)).all(axis=1)
        wrong = (here != named) & inside & (named != 0)
        found += [
            ("other_cell", int(row), 1.0 if here[row] else 0.5, f"{side} {named[row]}, there is {here[row] or 'none'}")
            for row in np.flatnonzero(wrong)
        ]
    return found


def check_against(truth: SynapseSet, found: Detections, rule: MatchRule) -> tuple[Rows, Rows]:
    """Return where a detector disagrees with the truth; synapses in the margin of the box are left alone.

    A detection counts as sure where its score is at least the median score of the detections that have a true synapse.

    Returns
    -------
    about_truth, about_detections : list of (suspicion, row, strength, words)
        Rows of the truth, and rows of the detections.
    """
    predicted, score = found.synapses, np.asarray(found.table["score"], np.float64)
    matches = match_points(truth.centre_nm, predicted.centre_nm, rule.max_distance_nm)
    t, p = matches.truth, matches.predicted
    alone = np.setdiff1d(np.flatnonzero(~rule.neutral(truth.centre_nm)), t)
    about: Rows = [("not_detected", int(row), 0.5, f"none within {rule.max_distance_nm:g} nm") for row in alone]
    counted = ~rule.neutral(truth.centre_nm)[t]
    about += _disagreements(truth, found, t[counted], p[counted])
    sure = float(np.median(score[p])) if len(p) else 1.0
    extra = np.setdiff1d(np.flatnonzero(~rule.neutral(predicted.centre_nm) & (score >= sure)), p)
    known = (predicted.pre[extra] != 0) & (predicted.post[extra] != 0) & (predicted.pre[extra] != predicted.post[extra])
    silent: Rows = [("not_annotated", int(row), float(score[row]), f"score {score[row]:.2f}") for row in extra[known]]
    return about, silent


def _disagreements(truth: SynapseSet, found: Detections, t: np.ndarray, p: np.ndarray) -> Rows:
    predicted, score = found.synapses, np.asarray(found.table["score"], np.float64)
    rows: Rows = []
    known = (predicted.pre[p] != 0) & (predicted.post[p] != 0) & (truth.pre[t] != 0) & (truth.post[t] != 0)
    met, right = same_pair(truth, predicted, t, p), same_partners(truth, predicted, t, p)
    for i in np.flatnonzero(known & ~met):
        words = f"{truth.pre[t[i]]} -> {truth.post[t[i]]}, detected {predicted.pre[p[i]]} -> {predicted.post[p[i]]}"
        rows.append(("other_partners", int(t[i]), float(score[p[i]]), words))
    for i in np.flatnonzero(known & met & ~right):
        rows.append(("reversed", int(t[i]), float(score[p[i]]), f"{truth.pre[t[i]]} -> {truth.post[t[i]]}"))
    typed = (truth.type[t] != UNKNOWN) & (predicted.type[p] != UNKNOWN) & (truth.type[t] != predicted.type[p])
    for i in np.flatnonzero(typed):
        words = f"{truth.type[t[i]]}, detected {predicted.type[p[i]]}"
        rows.append(("other_type", int(t[i]), float(score[p[i]]), words))
    return rows


def suspects(rows: Rows, table: Table) -> dict[str, np.ndarray]:
    """Return suspicions as a table, the surest of each kind first.

    Returns
    -------
    dict
        ``suspicion`` str, ``id`` uint64, ``z_nm``, ``y_nm``, ``x_nm``, ``strength`` float64, ``words`` str.
    """
    order = {name: number for number, name in enumerate(SUSPICIONS)}
    rows = sorted(rows, key=lambda row: (order[row[0]], -row[2], row[1]))
    at = np.array([row[1] for row in rows], dtype=np.int64)
    centre = points_nm(table)[at] if len(at) else np.zeros((0, 3))
    return {
        "suspicion": np.array([row[0] for row in rows], dtype=object),
        "id": np.asarray(table["id"], np.uint64)[at] if len(at) else np.zeros(0, np.uint64),
        **{f"{axis}_nm": centre[:, number] for number, axis in enumerate("zyx")},
        "strength": np.array([row[2] for row in rows], dtype=np.float64),
        "words": np.array([row[3] for row in rows], dtype=object),
    }


def _place(point_nm: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in point_nm) + " nm (z, y, x)"
