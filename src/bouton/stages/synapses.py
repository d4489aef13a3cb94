"""Synapses: the partners, position, size, score and type of every cleft; from tables, without a look at the voxels.

Where the segments are fragments, the merge history makes neurons of them first: another threshold or another
agglomeration gives other partners in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import centres_nm
from bouton.segment.components import relabel
from bouton.segment.history import MERGE_COLUMNS, cut
from bouton.stage import Output, Stage, Table, TableData, WholePart, WholeTask
from bouton.synapse.duplicates import chains, keepers
from bouton.synapse.partners import PartnerRule, decide, grouped, nearest_rows
from bouton.synapse.points import voxel_positions
from bouton.synapse.sums import CLEFT_COLUMNS, SIDE_COLUMNS, TOUCHING_COLUMNS
from bouton.synapse.tables import sum_rows
from bouton.volume.synapse_columns import SYNAPSE_COLUMNS

_RANK_SHIFT = 56


@dataclass(frozen=True)
class Params:
    """Parameters of ``synapses``.

    Attributes
    ----------
    threshold : float
        With ``merges``: fragments merge from this score on (0 to 1), as in stage segmentation.
    posts : str
        Postsynaptic partners of a cleft: ``one`` (mammals), or ``several`` (flies).
    min_post_score : float
        With ``several``: all but the best postsynaptic partner need this score, 0 to 1.
    min_contact_nm2 : float
        Segments that touch over a smaller area beside the cleft cannot be partners.
    without_contact : str
        What becomes of a segment that touches no other one beside the cleft, since background lies between: ``pairs``
        (it may be the partner of any) or ``none``.
    merge_nm : float
        Synapses of the same partners at most this far apart, centre to centre, are one; 0 = off.
    unsure : float
        The type is ``unknown`` where the mean probability of excitatory is nearer to 0.5 than this, in [0, 0.5].
    min_listed_score : float
        Candidates with a lower score, 0 to 1, are left out of ``assignments`` unless chosen.
    """

    threshold: float = 0.5
    posts: str = "one"
    min_post_score: float = 0.1
    min_contact_nm2: float = 0.0
    without_contact: str = "pairs"
    merge_nm: float = 0.0
    unsure: float = 0.0
    min_listed_score: float = 0.01

    def __post_init__(self) -> None:
        for name in ("threshold", "min_post_score", "min_listed_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name} = {getattr(self, name)}", expected="0 to 1")
        for name in ("min_contact_nm2", "merge_nm"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SpecError(f"{name} = {getattr(self, name)}", expected="at least 0")
        if self.posts not in ("one", "several"):
            raise SpecError(f"posts = {self.posts!r}", expected="one or several")
        if self.without_contact not in ("pairs", "none"):
            raise SpecError(f"without_contact = {self.without_contact!r}", expected="pairs or none")
        if not 0 <= self.unsure <= 0.5:
            raise SpecError(f"unsure = {self.unsure}", expected="0 to 0.5")


def _assign(task: WholeTask) -> Output:
    params: Params = task.params
    clefts = sum_rows(task.table("cleft_sums"), ["id"])
    sides = grouped(task.table("sides"), clefts["id"], "sides", "segment")
    touching = grouped(task.table("touching"), clefts["id"], "touching")
    roots = _roots(task, sides[0]["segment"])
    chosen, candidates = decide(sides, roots, touching, task.voxel_size_nm, _rule(params))
    del touching
    partners = {side: _partner(task, chosen, sides, roots, side) for side in ("pre", "post")}
    rows = _rows(clefts, chosen, partners)
    rows, merged = _merge(rows, task)
    number = candidates.pop("cleft")
    synapses = _finished(rows, task, params.unsure)
    return Output(
        tables={
            "synapses": synapses,
            "assignments": {"id": clefts["id"][number], **candidates},
            "merged_synapses": merged,
        }
    )


def _rule(params: Params) -> PartnerRule:
    return PartnerRule(
        several=params.posts == "several",
        min_post_score=params.min_post_score,
        min_contact_nm2=params.min_contact_nm2,
        bridge=params.without_contact == "pairs",
        min_listed=params.min_listed_score,
    )


def _roots(task: WholeTask, segment: np.ndarray) -> np.ndarray:
    """Return the segment that each fragment is part of."""
    if "merges" not in task.given:
        return segment
    merges = {name: values for name, values in task.table("merges").items() if name in MERGE_COLUMNS}
    return relabel(segment, *cut(merges, task.params.threshold))


def _partner(
    task: WholeTask, chosen: TableData, sides: tuple[TableData, np.ndarray], roots: np.ndarray, side: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return each partner's fragment, uint64 (n,), 0 = none, and position, int64 (n, 3); -1 where there is none."""
    row = nearest_rows(chosen["cleft"], chosen[f"{side}_id"], sides, roots, (task.shape, task.voxel_size_nm))
    known = row >= 0
    fragment, position = np.zeros(row.size, dtype=np.uint64), np.full((row.size, 3), -1, dtype=np.int64)
    fragment[known] = sides[0]["segment"][row[known]]
    position[known] = voxel_positions(sides[0]["point"][row[known]], task.shape)
    return fragment, position


def _rows(
    clefts: TableData, chosen: TableData, partners: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return a row a synapse: its ids, its partners and the sums of its cleft."""
    cleft = clefts["id"][chosen["cleft"]]
    further = chosen["rank"] > 0
    if np.any(cleft[further] >> np.uint64(_RANK_SHIFT)):
        raise DataError(
            f"cleft id {cleft[further].max()}", expected=f"ids below 2^{_RANK_SHIFT} where posts = several",
            fix="number the clefts anew, or set posts: one",
        )  # fmt: skip
    ids = cleft | (chosen["rank"].astype(np.uint64) << np.uint64(_RANK_SHIFT))
    rows = {"id": ids, "cleft_id": cleft, "partner_score": chosen["score"]}
    for side, (fragment, position) in partners.items():
        rows |= {f"{side}_id": chosen[f"{side}_id"], f"{side}_fragment": fragment, f"{side}_at": position}
    sums = {name: clefts[name][chosen["cleft"]] for name in clefts if name != "id"}
    order = np.argsort(ids, kind="stable")
    return {name: values[order] for name, values in (rows | sums).items()}


def _merge(rows: dict[str, np.ndarray], task: WholeTask) -> tuple[dict[str, np.ndarray], TableData]:
    """Merge synapses of the same partners: the largest stays, with the sums of all and the best score of them."""
    rows["score"] = rows["cleft"] / (255.0 * rows["voxels"])
    if not task.params.merge_nm or not rows["id"].size:
        return rows, {"id": np.zeros(0, np.uint64), "into": np.zeros(0, np.uint64)}
    centre = centres_nm(_centre(rows), task.voxel_size_nm)
    group = chains(rows["pre_id"], rows["post_id"], centre, task.params.merge_nm)
    kept = keepers(group, rows["voxels"], rows["id"])
    gone = kept != np.arange(kept.size)
    merged = {"id": rows["id"][gone], "into": rows["id"][kept[gone]]}
    sums = sum_rows({"row": kept} | {name: rows[name] for name in (*"zyx", "voxels", "cleft", "excitatory")}, ["row"])
    at = sums.pop("row")
    score = np.zeros(kept.size)
    np.maximum.at(score, kept, rows["score"])
    return {name: values[at] for name, values in rows.items()} | sums | {"score": score[at]}, merged


def _centre(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack([rows[axis] / rows["voxels"] for axis in "zyx"], axis=1)


def _finished(rows: Mapping[str, np.ndarray], task: WholeTask, unsure: float) -> TableData:
    centre = _centre(rows)
    at = {side: np.where(rows[f"{side}_at"] < 0, centre, rows[f"{side}_at"]) for side in ("pre", "post")}
    table = {
        "id": rows["id"],
        **_columns("", centres_nm(centre, task.voxel_size_nm)),
        "pre_id": rows["pre_id"],
        "post_id": rows["post_id"],
        **_columns("pre_", centres_nm(at["pre"], task.voxel_size_nm)),
        **_columns("post_", centres_nm(at["post"], task.voxel_size_nm)),
        "size_voxels": rows["voxels"],
        "score": rows["score"],
        "type": _types(rows["excitatory"], rows["voxels"], unsure),
    }
    return table | {name: rows[name] for name in ("cleft_id", "partner_score", "pre_fragment", "post_fragment")}


def _types(excitatory: np.ndarray, voxels: np.ndarray, unsure: float) -> np.ndarray:
    mean = excitatory / (255.0 * voxels)
    names = np.where(mean >= 0.5, "excitatory", "inhibitory").astype(object)
    names[(np.abs(mean - 0.5) < unsure) | (excitatory < 0)] = "unknown"
    return names


def _columns(prefix: str, positions_nm: np.ndarray) -> Mapping[str, np.ndarray]:
    return {f"{prefix}{axis}_nm": positions_nm[:, number] for number, axis in enumerate("zyx")}


def _uints(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "uint64")


SYNAPSES = Table(
    {name: kind for name, kind in SYNAPSE_COLUMNS.items() if name != "target"}
    | {"cleft_id": "uint64", "partner_score": "float64"}
    | _uints("pre_fragment", "post_fragment")
)
ASSIGNMENTS = Table(_uints("id", "pre_id", "post_id") | {"score": "float64", "faces": "int64", "chosen": "bool"})

STAGE = Stage(
    version=2,
    params=Params,
    reads={
        "sides": Table(SIDE_COLUMNS | {"point": "uint64"}),
        "cleft_sums": Table(CLEFT_COLUMNS),
        "touching": Table(TOUCHING_COLUMNS),
        "merges": Table(MERGE_COLUMNS),
    },
    optional=frozenset({"merges"}),
    writes=("synapses", "assignments", "merged_synapses"),
    parts=(
        WholePart(
            "assign",
            _assign,
            tables={"synapses": SYNAPSES, "assignments": ASSIGNMENTS, "merged_synapses": Table(_uints("id", "into"))},
            memory_bytes=5 << 29,
        ),
    ),
)
