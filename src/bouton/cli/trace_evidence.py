"""The evidence about each error of a run: voxels are read around errors alone, tables whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial import cKDTree

from bouton.cli.trace_run import Traced
from bouton.cli.trace_truth import doubted, same_neurons, twice_in_truth
from bouton.evaluate.matching import match_points
from bouton.evaluate.synapses import MatchRule, SynapseSet, points_nm, synapse_set
from bouton.evaluate.trace import FalseEvidence, TruthEvidence, as_sure_as, false_causes, truth_causes
from bouton.evaluate.trace_matching import Sorted, sort_synapses
from bouton.evaluate.trace_places import CLOSE_LAYERS, WIDE_LAYERS, Look, Reach, Site, close_box, look, window_box
from bouton.stages.clefts import Params as CleftParams
from bouton.stages.evaluate_synapses import Params as Scoring
from bouton.stages.evaluate_synapses import match_rule, neurons_at
from bouton.volume import TableData

PLACE, SEGMENT = "place", "segment"
SURE = {"score": 0.8, "partner_score": 0.8, "peak": 0.9, "size_voxels": 0.3}
"""As sure as a right synapse: these shares of the medians of the right ones."""
RULES = ("low", "high", "min_volume_nm3", "min_sections")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Asked:
    """How errors are told and looked at.

    Attributes
    ----------
    max_distance_nm, margin_nm : float
        As of stage ``evaluate_synapses``.
    partners : str
        ``place``: a partner is right where the true neuron lies at its position, as in the scores; ``segment``: and the
        segment is that neuron's largest around.
    reach : Reach
    """

    max_distance_nm: float
    margin_nm: float
    partners: str = PLACE
    reach: Reach = field(default_factory=Reach)


@dataclass(frozen=True)
class Found:
    """Errors and their causes.

    Attributes
    ----------
    sorted : Sorted
        After pairs whose synapse is none of the true one's cleft were parted.
    truth_rows : numpy.ndarray
        int64 (n,): rows of the missed and wrong true synapses, in order.
    pair : numpy.ndarray
        int64 (n,): the predicted row of a wrong one, -1 where it was missed.
    looks : sequence of Look
    truth_causes : numpy.ndarray
        str (n,).
    false_causes : numpy.ndarray
        str, of ``sorted.false``.
    candidate : numpy.ndarray
        int64 (n,): row of the removed candidate at the place, -1 without.
    neurons : (numpy.ndarray, numpy.ndarray)
        uint64: true neurons at the pre and post positions of all predicted synapses.
    peaks : numpy.ndarray
        float64, of all predicted synapses: the greatest evidence of their clefts; NaN where unknown.
    """

    sorted: Sorted
    truth_rows: np.ndarray
    pair: np.ndarray
    looks: Sequence[Look]
    truth_causes: np.ndarray
    false_causes: np.ndarray
    candidate: np.ndarray
    neurons: tuple[np.ndarray, np.ndarray]
    peaks: np.ndarray


def cleft_ids(synapses: TableData) -> np.ndarray:
    """Return each synapse's cleft, uint64; tables that name none have one synapse a cleft."""
    return np.asarray(synapses.get("cleft_id", synapses["id"]), np.uint64)


def find_causes(traced: Traced, asked: Asked, progress: Progress = lambda done, of: None) -> Found:
    """Compare, look around every error, and name the causes."""
    truth, synapses = traced.truth, traced.synapses
    neurons = _neurons(traced)
    true = synapse_set(truth)
    compared = sort_synapses(true, synapse_set(synapses, neurons), rule_of(traced, asked))
    scored = ~compared.neutral_truth[compared.truth]
    examined = scored & (np.ones(len(scored), bool) if asked.partners == SEGMENT else ~compared.right)
    missed = compared.missed[_within(true.centre_nm[compared.missed], traced)]
    rows = np.concatenate([missed, compared.truth[examined]])
    pair = np.concatenate([np.full(len(missed), -1), compared.predicted[examined]]).astype(np.int64)
    order = np.argsort(rows, kind="stable")
    rows, pair = rows[order], pair[order]
    sites = _sites(traced, true, rows, (compared, asked.reach))
    looks = _looks(traced, sites, (asked.reach, compared.neutral_truth[rows]), progress)
    compared = _checked_segments(compared, traced, (rows, pair, looks), asked)
    compared = _parted(compared, traced, (rows, pair, looks))
    return _named(traced, asked, (true, compared, neurons), (rows, looks))


def rule_of(traced: Traced, asked: Asked) -> MatchRule:
    """Return how synapses are matched."""
    return match_rule(Scoring(asked.max_distance_nm, asked.margin_nm), traced.voxel_size_nm, traced.bounds)


def _neurons(traced: Traced) -> tuple[np.ndarray, np.ndarray]:
    """Return the true neurons at the pre and post positions, uint64 (n,); 0 where the synapse has no partner."""
    if "truth" not in traced.sources:
        return traced.synapses["pre_id"], traced.synapses["post_id"]
    return neurons_at(traced.synapses, traced.sources["truth"], traced.voxel_size_nm, traced.bounds)


def _sites(traced: Traced, true: SynapseSet, rows: np.ndarray, known: tuple[Sorted, Reach]) -> list[Site]:
    """Return the places to look at; others' clefts are those of right pairs at other sites."""
    compared, reach = known
    clefts = cleft_ids(traced.synapses)
    mine = {int(t): int(clefts[p]) for t, p in zip(*_sure_pairs(compared), strict=True)}
    near = _near(true.centre_nm, rows, 2 * reach.place_nm)
    volume = rules_of(traced)["min_volume_nm3"]
    least = 1 if np.isnan(volume) else int(np.ceil(volume / np.prod(traced.voxel_size_nm)))
    sites = []
    for row, others in zip(rows, near, strict=True):
        apart = [o for o in others if o != row and not _same_site(true, int(row), int(o), reach)]
        taken = frozenset(mine[o] for o in apart if o in mine)
        there = true.centre_nm[np.array(apart, np.int64)]
        sites.append(Site(true.centre_nm[row], int(true.pre[row]), int(true.post[row]), there, taken, least))
    return sites


def _near(centres_nm: np.ndarray, rows: np.ndarray, distance_nm: float) -> list[list[int]]:
    if not len(rows):
        return []
    return list(cKDTree(centres_nm).query_ball_point(centres_nm[rows], distance_nm, return_sorted=True))


def _same_site(true: SynapseSet, row: int, other: int, reach: Reach) -> bool:
    near = float(np.linalg.norm(true.centre_nm[row] - true.centre_nm[other])) <= reach.place_nm
    return near and bool(true.pre[row] == true.pre[other])


def _sure_pairs(compared: Sorted) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs between the right two neurons, in either direction."""
    sure = compared.partners_right | compared.reversed
    return compared.truth[sure], compared.predicted[sure]


def _within(centre_nm: np.ndarray, traced: Traced) -> np.ndarray:
    """Return which positions (n, 3) lie in the bounds."""
    voxel = np.floor(centre_nm / np.asarray(traced.voxel_size_nm))
    return np.asarray((voxel >= traced.bounds.start).all(axis=-1) & (voxel < traced.bounds.stop).all(axis=-1))


def _looks(traced: Traced, sites: Sequence[Site], how: tuple[Reach, np.ndarray], progress: Progress) -> list[Look]:
    reach, neutral = how
    names = [n for n in (*CLOSE_LAYERS, *WIDE_LAYERS) if n in traced.sources]
    inside = traced.bounds
    for name in names:
        inside = inside & traced.sources[name].bounds
    looks = []
    for number, site in enumerate(sites):
        progress(number, len(sites))
        box = window_box(site.centre_nm, reach, traced.voxel_size_nm, inside)
        if neutral[number] or box.is_empty or not names:
            looks.append(Look(float("nan"), site.centre_nm, 0, touches_core=False, joint_nm=site.centre_nm))
            continue
        near = close_box(site.centre_nm, reach, traced.voxel_size_nm, box)
        layers = {n: traced.sources[n].read(near if n in CLOSE_LAYERS else box) for n in names}
        layers = {n: v if n == "evidence" else v.astype(np.uint64, copy=False) for n, v in layers.items()}
        looks.append(look(layers, box, site, (traced.voxel_size_nm, reach)))
    progress(len(sites), len(sites))
    return looks


def _checked_segments(compared: Sorted, traced: Traced, seen: tuple, asked: Asked) -> Sorted:
    """With ``partners = segment``, a partner's segment must also be its neuron's largest around."""
    if asked.partners != SEGMENT or "segments" not in traced.sources:
        return compared
    partners = compared.partners_right.copy()
    for row, p, saw in zip(*seen, strict=True):
        if p >= 0 and tuple(int(traced.synapses[f"{side}_id"][p]) for side in ("pre", "post")) != saw.main:
            partners[compared.truth == row] = False
    return replace(compared, partners_right=partners)


def _parted(compared: Sorted, traced: Traced, seen: tuple) -> Sorted:
    """Part pairs that agree in place alone where the true synapse's place holds another cleft, or none."""
    if "clefts" not in traced.sources:
        return compared
    clefts = cleft_ids(traced.synapses)
    apart = {int(row) for row, p, saw in zip(*seen, strict=True) if p >= 0 and int(clefts[p]) != saw.cleft}
    loose = np.isin(compared.truth, np.array(sorted(apart), np.int64)) & ~compared.partners_right & ~compared.reversed
    kept = ~loose
    return replace(
        compared,
        truth=compared.truth[kept],
        predicted=compared.predicted[kept],
        partners_right=compared.partners_right[kept],
        reversed=compared.reversed[kept],
        type_right=compared.type_right[kept],
        missed=np.sort(np.concatenate([compared.missed, compared.truth[loose]])),
        false=np.sort(np.concatenate([compared.false, compared.predicted[loose]])),
    )


def _named(traced: Traced, asked: Asked, sets: tuple, seen: tuple) -> Found:
    true, compared, neurons = sets
    rows, looks = seen
    pair = _pairs(compared, rows)
    candidate = _candidates(traced, true.centre_nm, (rows, looks), asked)
    evidence = _truth_evidence(traced, asked, (true, compared, neurons), (rows, pair, looks, candidate))
    causes = truth_causes(evidence)
    peaks = _peaks(traced)
    wrong = causes != ""
    told = false_causes(_false_evidence(traced, asked, (true, compared, neurons, peaks), (looks, causes)))
    return Found(
        compared,
        rows[wrong],
        pair[wrong],
        [saw for saw, is_wrong in zip(looks, wrong, strict=True) if is_wrong],
        causes[wrong],
        told,
        candidate[wrong],
        neurons,
        peaks,
    )


def _pairs(compared: Sorted, rows: np.ndarray) -> np.ndarray:
    """Return the predicted row of each true row, -1 without."""
    of = dict(zip(compared.truth.tolist(), compared.predicted.tolist(), strict=True))
    return np.array([of.get(int(row), -1) for row in rows], np.int64)


def _candidates(traced: Traced, centre_nm: np.ndarray, seen: tuple, asked: Asked) -> np.ndarray:
    """Return the removed candidate at each place without a cleft, -1 without one."""
    rows, looks = seen
    found = np.full(len(rows), -1, np.int64)
    if "candidates" not in traced.tables:
        return found
    table = traced.tables["candidates"]
    removed = np.flatnonzero(table["removed_by"] != "")
    empty = np.array([i for i, saw in enumerate(looks) if saw.cleft == 0], np.int64)
    matched = match_points(centre_nm[rows[empty]], points_nm(table)[removed], asked.max_distance_nm)
    found[empty[matched.truth]] = removed[matched.predicted]
    return found


def _truth_evidence(traced: Traced, asked: Asked, sets: tuple, seen: tuple) -> TruthEvidence:
    true, compared, neurons = sets
    rows, pair, looks, candidate = seen
    found = pair >= 0
    places = np.searchsorted(compared.truth, rows).clip(0, max(0, len(compared.truth) - 1))

    def of_pair(values: np.ndarray) -> np.ndarray:
        return found & values[places] if len(values) else np.zeros(len(rows), bool)

    removed_by = np.full(len(rows), "", object)
    if "candidates" in traced.tables:
        removed_by[candidate >= 0] = traced.tables["candidates"]["removed_by"][candidate[candidate >= 0]]
    chosen = np.zeros((len(rows), 2), np.uint64)
    for column, side in enumerate(("pre", "post")):
        chosen[found, column] = traced.synapses[f"{side}_id"][pair[found]]
    right = compared.truth[compared.partners_right]
    cleft = np.array([saw.cleft for saw in looks], np.uint64)
    if "clefts" not in traced.sources:
        cleft[found] = cleft_ids(traced.synapses)[pair[found]]
    return TruthEvidence(
        outside=compared.neutral_truth[rows],
        doubted=doubted(true, rows, asked.max_distance_nm, traced.second) | (twice_in_truth(true, rows, right) >= 0),
        found=found,
        partners_right=of_pair(compared.partners_right),
        reversed=of_pair(compared.reversed),
        type_right=of_pair(compared.type_right),
        same_neurons=same_neurons(true, neurons, (rows, pair)),
        peak=np.array([saw.peak for saw in looks], np.float64),
        low=rules_of(traced)["low"],
        cleft=cleft,
        removed_by=removed_by,
        shared=_shared(traced, (true, compared), (rows, looks, cleft), asked.reach),
        dropped=_dropped(traced, cleft),
        same_site=_crowded(true, rows, asked.reach),
        segments_known="segments" in traced.sources,
        beside=np.array([saw.beside for saw in looks], np.uint64).reshape(-1, 2),
        main=np.array([saw.main for saw in looks], np.uint64).reshape(-1, 2),
        chosen=chosen,
    )


def rules_of(traced: Traced) -> dict[str, float]:
    """Return the clefts step's :data:`RULES`; NaN where no such step is known."""
    if "clefts" not in traced.steps:
        return dict.fromkeys(RULES, float("nan"))
    rules = CleftParams(**traced.steps["clefts"].params).rules
    return {name: float(getattr(rules, name)) for name in RULES}


def _shared(traced: Traced, sets: tuple, seen: tuple, reach: Reach) -> np.ndarray:
    """Return whether the cleft is that of a true synapse at another site, too."""
    true, compared = sets
    rows, looks, cleft = seen
    clefts = cleft_ids(traced.synapses)
    owners: dict[int, list[int]] = {}
    for t, p in zip(*_sure_pairs(compared), strict=True):
        owners.setdefault(int(clefts[p]), []).append(int(t))
    for row, saw in zip(rows, looks, strict=True):
        if saw.cleft and saw.touches_core:
            owners.setdefault(saw.cleft, []).append(int(row))
    return np.array(
        [
            any(other != row and not _same_site(true, int(row), other, reach) for other in owners.get(int(c), []))
            for row, c in zip(rows, cleft, strict=True)
        ],
        bool,
    )


def _dropped(traced: Traced, cleft: np.ndarray) -> np.ndarray:
    if "merged_synapses" not in traced.tables:
        return np.zeros(len(cleft), bool)
    left = np.isin(cleft, cleft_ids(traced.synapses))
    return np.isin(cleft, traced.tables["merged_synapses"]["id"]) & ~left


def _crowded(true: SynapseSet, rows: np.ndarray, reach: Reach) -> np.ndarray:
    near = _near(true.centre_nm, rows, reach.place_nm)
    return np.array(
        [
            any(int(o) != int(row) and _same_site(true, int(row), int(o), reach) for o in others)
            for row, others in zip(rows, near, strict=True)
        ],
        bool,
    )


def _peaks(traced: Traced) -> np.ndarray:
    """Return the greatest evidence of each synapse's cleft."""
    peaks = np.full(len(traced.synapses["id"]), np.nan)
    if "candidates" in traced.tables and len(traced.tables["candidates"]["id"]):
        table = traced.tables["candidates"]
        order = np.argsort(table["id"], kind="stable")
        at = np.searchsorted(table["id"][order], cleft_ids(traced.synapses)).clip(0, len(order) - 1)
        known = table["id"][order][at] == cleft_ids(traced.synapses)
        peaks[known] = table["peak"][order][at][known]
    return peaks


def _false_evidence(traced: Traced, asked: Asked, sets: tuple, known: tuple) -> FalseEvidence:
    true, compared, neurons, peaks = sets
    looks, causes = known
    rows = compared.false
    columns = {"peak": peaks} | {name: traced.synapses[name] for name in SURE if name in traced.synapses}
    columns = {name: values.astype(np.float64) for name, values in columns.items()}
    right = compared.predicted[compared.right]
    follows = {saw.cleft: str(cause) for saw, cause in zip(looks, causes, strict=True) if saw.cleft and cause}
    seconded = np.zeros(len(rows), bool)
    if traced.second is not None:
        there = match_points(points_nm(traced.synapses)[rows], points_nm(traced.second), asked.max_distance_nm)
        seconded[there.truth] = True
    pairs = np.stack(neurons, axis=1)[rows]
    return FalseEvidence(
        outside=compared.neutral_predicted[rows],
        seconded=seconded,
        follows=np.array([follows.get(int(c), "") for c in cleft_ids(traced.synapses)[rows]], object),
        twice=_twice(traced, (true, compared), pairs, asked.max_distance_nm),
        sure=as_sure_as(
            np.stack([values[right] for values in columns.values()], axis=1),
            np.stack([values[rows] for values in columns.values()], axis=1),
            np.array([SURE[name] for name in columns]),
        ),
        neurons=pairs,
    )


def _twice(traced: Traced, sets: tuple, pairs: np.ndarray, distance_nm: float) -> np.ndarray:
    """Return which false synapses lie near a true one between the same neurons that was found already."""
    true, compared = sets
    done, _ = _sure_pairs(compared)
    found = np.zeros(len(pairs), bool)
    if not len(done):
        return found
    tree = cKDTree(true.centre_nm[done])
    near = tree.query_ball_point(points_nm(traced.synapses)[compared.false], distance_nm)
    for i, others in enumerate(near):
        found[i] = any({int(true.pre[done[o]]), int(true.post[done[o]])} == set(pairs[i].tolist()) for o in others)
    return found
