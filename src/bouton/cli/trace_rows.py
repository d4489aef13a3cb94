"""Errors as rows of a table: what, where, why, and the sentence that says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bouton.cli.trace_edges import Edge, MergeHistory, joining
from bouton.cli.trace_evidence import Asked, Found, cleft_ids, rule_of, rules_of
from bouton.cli.trace_run import Traced
from bouton.cli.trace_truth import twice_in_truth
from bouton.evaluate.detection import Detection
from bouton.evaluate.synapses import points_nm, synapse_set
from bouton.evaluate.trace_costs import (
    FALSE,
    MISSED,
    NOISE_FLOOR,
    WRONG,
    Lowering,
    Sweep,
    best_threshold,
    in_digits,
    keeping,
    lower_threshold,
)
from bouton.report.links import place_url
from bouton.volume import TableData
from bouton.volume.synapse_columns import CENTRE_COLUMNS, POSITION_COLUMNS

ERROR_COLUMNS = {
    "id": "uint64",
    "kind": "str",
    "cause": "str",
    **dict.fromkeys(POSITION_COLUMNS, "float64"),
    **dict.fromkeys(("truth_id", "synapse_id", "cleft_id"), "uint64"),
    **dict.fromkeys(("true_pre", "true_post", "pre_neuron", "post_neuron"), "uint64"),
    **dict.fromkeys(("pre_beside", "post_beside", "pre_main", "post_main", "pre_chosen", "post_chosen"), "uint64"),
    "true_type": "str",
    "type": "str",
    **dict.fromkeys(("peak", "score", "partner_score"), "float64"),
    "size_voxels": "int64",
    "removed_by": "str",
    "parameter": "str",
    "parameter_value": "float64",
    "edge_action": "str",
    **dict.fromkeys(("edge_a", "edge_b"), "uint64"),
    "edge_score": "float64",
    "detail": "str",
    "link": "str",
}
"""``parameter`` would have kept or removed this one at ``parameter_value``; NaN and 0 where something was not asked."""
SHOWN = {
    "not_visible": ("image", "evidence"),
    "removed": ("image", "evidence", "clefts"),
    "merged_away": ("image", "clefts", "truth"),
    "found_twice": ("image", "clefts"),
    "no_contact_merge": ("image", "segments", "truth"),
    "no_contact_split": ("image", "segments", "truth"),
    "false_detection": ("image", "evidence", "clefts"),
}
"""Layers to look at; for all other causes image, clefts and segments."""


def error_rows(traced: Traced, found: Found) -> TableData:
    """Return one row an error, true synapses first, in the order of their rows: :data:`ERROR_COLUMNS`."""
    tools = _Tools(traced, found)
    rows = [tools.of_truth(i) for i in range(len(found.truth_rows))]
    rows += [tools.of_false(i) for i in range(len(found.sorted.false))]
    for number, row in enumerate(rows, start=1):
        row["id"] = number
    columns = {name: [row[name] for row in rows] for name in ERROR_COLUMNS}
    return {name: np.array(columns[name], object if kind == "str" else kind) for name, kind in ERROR_COLUMNS.items()}


class _Tools:
    def __init__(self, traced: Traced, found: Found) -> None:
        self.traced, self.found, self.rules = traced, found, rules_of(traced)
        self.history = MergeHistory(traced.tables["merges"]) if "merges" in traced.tables else None
        self.voxel_nm3 = float(np.prod(traced.voxel_size_nm))
        self.clefts = cleft_ids(traced.synapses)

    def of_truth(self, i: int) -> dict[str, Any]:
        found, truth = self.found, self.traced.truth
        t, p, saw, cause = int(found.truth_rows[i]), int(found.pair[i]), found.looks[i], str(found.truth_causes[i])
        row = _blank() | {"kind": MISSED if p < 0 else WRONG, "cause": cause, "peak": saw.peak, "cleft_id": saw.cleft}
        row |= _positions(truth, t) | {"truth_id": int(truth["id"][t]), "true_type": str(truth["type"][t])}
        row |= {"true_pre": int(truth["pre_id"][t]), "true_post": int(truth["post_id"][t])}
        if p >= 0:
            row |= self._of_synapse(p)
        for name, values in (("beside", saw.beside), ("main", saw.main)):
            row |= {f"pre_{name}": values[0], f"post_{name}": values[1]}
        if cause == "removed":
            row |= self._removal(int(found.candidate[i]), saw.peak)
            if row["removed_by"] == "volume" and NOISE_FLOOR <= saw.enough < self.rules["low"]:
                row["detail"] = f" or low = {in_digits(keeping(saw.enough))}"
        if cause == "not_visible" and not math.isnan(saw.peak):
            row |= {"parameter": "low", "parameter_value": saw.enough}
        if cause.startswith("no_contact"):
            row |= _edge_columns(self._edge(cause, saw, row))
        if cause == "truth_doubtful":
            row["detail"] = self._repeated(t)
        return self._finished(row)

    def of_false(self, i: int) -> dict[str, Any]:
        found = self.found
        p, cause = int(found.sorted.false[i]), str(found.false_causes[i])
        row = _blank() | {"kind": FALSE, "cause": cause, "peak": float(found.peaks[p])}
        row |= _positions(self.traced.synapses, p) | self._of_synapse(p)
        if cause == "false_detection":
            row |= self._remover(p)
        return self._finished(row)

    def _of_synapse(self, p: int) -> dict[str, Any]:
        synapses, neurons = self.traced.synapses, self.found.neurons
        row: dict[str, Any] = {}
        names = [name for name in ("score", "partner_score", "size_voxels") if name in synapses]
        row |= {name: synapses[name][p].item() for name in names}
        row |= {"synapse_id": int(synapses["id"][p]), "cleft_id": int(self.clefts[p])}
        row |= {"pre_neuron": int(neurons[0][p]), "post_neuron": int(neurons[1][p])}
        row |= {f"{side}_chosen": int(synapses[f"{side}_id"][p]) for side in ("pre", "post")}
        return row | {"type": str(synapses["type"][p]) if "type" in synapses else "unknown"}

    def _removal(self, candidate: int, peak: float) -> dict[str, Any]:
        """Return the rule that removed a candidate, and the value that would have kept it."""
        if candidate < 0:
            return {"removed_by": "unknown", "parameter": "", "parameter_value": peak}
        table = self.traced.tables["candidates"]
        rule, size = str(table["removed_by"][candidate]), int(table["size_voxels"][candidate])
        kept = {
            "peak": ("high", float(table["peak"][candidate])),
            "volume": ("min_volume_nm3", size * self.voxel_nm3),
            "sections": ("min_sections", float(table["sections"][candidate])),
        }
        name, value = kept.get(rule, (rule, float("nan")))
        known = {"removed_by": rule, "parameter": name, "parameter_value": value, "size_voxels": size}
        if rule == "peak" and size * self.voxel_nm3 < self.rules["min_volume_nm3"]:
            known["detail"] = f", with min_volume_nm3 = {in_digits(keeping(size * self.voxel_nm3))}"
        return known | {"cleft_id": int(table["id"][candidate])}

    def _remover(self, p: int) -> dict[str, Any]:
        """Return the parameter that removes a false synapse at the cost of the fewest right ones, and from where."""
        synapses, found = self.traced.synapses, self.found
        right = found.sorted.predicted[found.sorted.right]
        asked = {"high": found.peaks, "min_volume_nm3": synapses["size_voxels"] * self.voxel_nm3}
        asked |= {name: synapses[name] for name in ("score", "partner_score") if name in synapses}
        known = {name: values for name, values in asked.items() if not math.isnan(float(values[p]))}
        lost = {name: int((values[right] <= values[p]).sum()) for name, values in known.items()}
        name = min(lost, key=lambda n: lost[n])
        return {"parameter": name, "parameter_value": float(known[name][p]), "detail": f"{lost[name]} of {len(right)}"}

    def _repeated(self, t: int) -> str:
        """Return which true synapse this one repeats, in words."""
        truth = self.traced.truth
        right = self.found.sorted.truth[self.found.sorted.partners_right]
        other = int(twice_in_truth(synapse_set(truth), np.array([t]), right)[0])
        if other < 0:
            return ""
        apart = float(np.linalg.norm(points_nm(truth)[t] - points_nm(truth)[other]))
        return f"true synapse {truth['id'][other]} joins the same two, {apart:.0f} nm away: the truth has it twice"

    def _edge(self, cause: str, saw: Any, row: Mapping[str, Any]) -> Edge:
        if cause == "no_contact_merge":
            if self.history is None or saw.beside[0] != saw.beside[1]:
                return Edge()
            return self.history.weakest(*saw.fragments)
        cut = [s for s in (0, 1) if saw.beside[s] != saw.main[s]]
        if not cut:
            return self._edge_of_chosen(saw, row)
        side = cut[0]
        ours, whole = saw.fragments[side], saw.main_fragments[side]
        return joining(self.history, self.traced.tables.get("region_graph"), ours, whole)

    def _edge_of_chosen(self, saw: Any, row: Mapping[str, Any]) -> Edge:
        """Return the edge between the piece that was chosen and the neuron's largest segment."""
        sides = [s for s, side in enumerate(("pre", "post")) if row[f"{side}_chosen"] not in (0, saw.main[s])]
        synapses = self.traced.synapses
        if not sides or "pre_fragment" not in synapses:
            return Edge()
        name = ("pre_fragment", "post_fragment")[sides[0]]
        p = int(np.flatnonzero(synapses["id"] == np.uint64(row["synapse_id"]))[0])
        graph = self.traced.tables.get("region_graph")
        return joining(self.history, graph, int(synapses[name][p]), saw.main_fragments[sides[0]])

    def _finished(self, row: dict[str, Any]) -> dict[str, Any]:
        row["detail"] = sentence(row, self.rules)
        ids = [row[f"{side}_{which}"] for which in ("beside", "chosen") for side in ("pre", "post")]
        names = SHOWN.get(row["cause"], ("image", "clefts", "segments"))
        sources = self.traced.sources
        layers = [s.layer.name for n in names if (s := sources.get(n)) is not None and s.layer is not None]
        at_nm = [row[name] for name in CENTRE_COLUMNS]
        row["link"] = place_url(self.traced.run.folder.name, at_nm, [i for i in dict.fromkeys(ids) if i], layers)
        return row


def _blank() -> dict[str, Any]:
    zero = {"str": "", "float64": float("nan"), "uint64": 0, "int64": 0}
    return {name: zero[kind] for name, kind in ERROR_COLUMNS.items()}


def _positions(table: TableData, row: int) -> dict[str, float]:
    return {name: float(table[name][row]) for name in POSITION_COLUMNS if name in table}


def _edge_columns(edge: Edge) -> dict[str, Any]:
    return {"edge_action": edge.action, "edge_a": edge.a, "edge_b": edge.b, "edge_score": edge.score}


def sentence(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    """Return what the evidence says of one error, in one sentence."""
    return _SENTENCES[row["cause"]](row, rules)


def _not_visible(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    if math.isnan(row["peak"]):
        return "no cleft there"
    peak, enough = keeping(row["peak"]), keeping(row["parameter_value"])
    seen = f"at most {peak:g}, below low = {rules['low']:g}"
    if enough < NOISE_FLOOR:
        return f"{seen}; large enough only from {enough:g} on, in the noise"
    return f"{seen}; low and high = {enough:g} would find it"


def _removed(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    if row["removed_by"] == "unknown":
        return f"probability {row['peak']:.2f} reaches low = {rules['low']:g}, but no cleft is there; no rule is known"
    if math.isnan(row["parameter_value"]):
        return f"removed by {row['removed_by']}; no value that would keep it is known"
    now = f" (now {in_digits(rules[row['parameter']])})" if row["parameter"] in rules else ""
    value = f"{row['parameter']} = {in_digits(keeping(row['parameter_value']))}"
    return f"removed by {row['removed_by']}; {value}{row['detail']} would keep it{now}"


def _merged(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    return f"cleft {row['cleft_id']} is another true synapse's, too" if row["cleft_id"] else "taken for a copy"


def _twice(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    return f"neurons {row['pre_neuron']} and {row['post_neuron']} have a found synapse near by"


def _contact_merge(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    segments = f"segment {row['pre_beside']} holds both partners"
    if row["pre_beside"] != row["post_beside"]:
        segments = f"segments {row['pre_beside']} and {row['post_beside']} hold other neurons, too"
    return f"{segments}{_edge_words(row)}"


def _contact_split(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    sides = []
    for side in ("pre", "post"):
        beside, main = row[f"{side}_beside"], row[f"{side}_main"]
        if beside != main or not beside:
            sides.append(f"{side}: beside the cleft {beside or 'nothing'}, around {main or 'nothing'}")
        elif row[f"{side}_chosen"] not in (0, main):
            sides.append(f"{side}: chosen {row[f'{side}_chosen']}, a piece cut off from its neuron, around {main}")
    return "; ".join(sides) + _edge_words(row)


def _edge_words(row: Mapping[str, Any]) -> str:
    if not row["edge_action"]:
        return "; no edge is known"
    score = "" if math.isnan(row["edge_score"]) else f" (score {row['edge_score']:.3f})"
    return f"; {row['edge_action']} {row['edge_a']} - {row['edge_b']}{score}"


def _partners(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    true = f"{row['true_pre']} -> {row['true_post']}"
    if not row["synapse_id"]:
        return f"{true} was chosen by no synapse of cleft {row['cleft_id']}"
    return f"{true}, but {row['pre_neuron'] or 'none'} -> {row['post_neuron'] or 'none'} was chosen"


def _type(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    return f"{row['true_type']}, but {row['type']} was found"


def _doubtful(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    if row["detail"]:
        return str(row["detail"])
    if row["kind"] == FALSE:
        return f"{row['pre_neuron']} -> {row['post_neuron']}, score {row['score']:.2f}: as sure as the right ones"
    if row["true_pre"] == row["true_post"] or not row["true_pre"] or not row["true_post"]:
        return f"true partners {row['true_pre']} and {row['true_post']}"
    return "the second annotator has no synapse there"


def _false(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    value = in_digits(-keeping(-row["parameter_value"]))
    return f"{row['parameter']} above {value} removes it, and {row['detail']} right ones"


def _outside(row: Mapping[str, Any], rules: Mapping[str, float]) -> str:
    return "in the margin; not scored"


_SENTENCES = {
    "not_visible": _not_visible,
    "removed": _removed,
    "merged_away": _merged,
    "found_twice": _twice,
    "no_contact_merge": _contact_merge,
    "no_contact_split": _contact_split,
    "partner_swapped": _partners,
    "polarity_reversed": _partners,
    "wrong_post": _partners,
    "type_wrong": _type,
    "truth_doubtful": _doubtful,
    "false_detection": _false,
    "outside": _outside,
}


def sweeps(traced: Traced, found: Found, asked: Asked) -> list[Sweep]:
    """Return the best value of each threshold that the run's tables can tell of.

    A removed candidate at the place of a missed synapse counts as far as found ones are right; any other as false.
    """
    total = int((~found.sorted.neutral_truth).sum())
    hits, falses = _weights(found, len(traced.synapses["id"]))
    tested = []
    for name in ("score", "partner_score"):
        if name in traced.synapses:
            tested.append(best_threshold(traced.synapses[name].astype(float), hits, falses, total, (name, 0.0)))
    rules, size = rules_of(traced), float(np.prod(traced.voxel_size_nm))
    if "candidates" not in traced.tables or math.isnan(rules["high"]):
        return tested
    found_all = float(hits.sum() + falses.sum())
    share = float(hits.sum()) / found_all if found_all else 1.0
    table = traced.tables["candidates"]
    volumes = traced.synapses["size_voxels"] * size
    columns = {"high": (found.peaks, table["peak"]), "min_volume_nm3": (volumes, table["size_voxels"] * size)}
    for name, (values, column) in columns.items():
        rows = _returning(traced, name)
        good, bad = _candidate_weights(traced, found, asked, rows)
        known = ~np.isnan(values)
        tested.append(
            best_threshold(
                np.concatenate([values[known], column[rows]]),
                np.concatenate([hits[known], good * share]),
                np.concatenate([falses[known], bad + good * (1.0 - share)]),
                total,
                (name, rules[name]),
            )
        )
    return tested


def _returning(traced: Traced, name: str) -> np.ndarray:
    """Return the rows of candidates that nothing but this parameter removed."""
    table, rules = traced.tables["candidates"], rules_of(traced)
    size = float(np.prod(traced.voxel_size_nm))
    fits = table["sections"] >= rules["min_sections"]
    if name == "high":
        return np.flatnonzero(
            fits & (table["removed_by"] == "peak") & (table["size_voxels"] >= rules["min_volume_nm3"] / size)
        )
    return np.flatnonzero(fits & (table["removed_by"] == "volume"))


def _candidate_weights(traced: Traced, found: Found, asked: Asked, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which removed candidates are at a missed synapse, and which are false, float64; neutral ones neither."""
    removed = found.truth_causes == "removed"
    good = np.isin(rows, found.candidate[removed])
    others = np.isin(rows, found.candidate[~removed])
    neutral = others | rule_of(traced, asked).neutral(points_nm(traced.tables["candidates"])[rows])
    return good.astype(float), (~good & ~neutral).astype(float)


def lowering(traced: Traced, found: Found, counts: Detection) -> Lowering | None:
    """Return what a lower threshold of the evidence would find; None where the evidence was not asked."""
    low = rules_of(traced)["low"]
    if math.isnan(low) or "evidence" not in traced.sources:
        return None
    unseen = found.truth_causes == "not_visible"
    enough = np.array([saw.enough for saw in found.looks], np.float64).reshape(-1)
    faint = unseen | ((found.truth_causes == "removed") & (enough < low))
    return lower_threshold(enough[faint], unseen[faint], low, counts)


def _weights(found: Found, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which predicted synapses are right, and which false or wrong, float64 (n,); neutral ones are neither."""
    hits, falses = np.zeros(n), np.zeros(n)
    scored = ~found.sorted.neutral_truth[found.sorted.truth]
    hits[found.sorted.predicted[found.sorted.right & scored]] = 1.0
    falses[found.sorted.predicted[~found.sorted.right & scored]] = 1.0
    falses[found.sorted.false[~found.sorted.neutral_predicted[found.sorted.false]]] = 1.0
    return hits, falses
