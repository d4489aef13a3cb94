"""The tables of a report: steps, scores, synapses, connections, failures. Plain values for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bouton.geometry import Box
from bouton.report.links import place_url
from bouton.volume.run_folder import Run, RunStep
from bouton.volume.run_layers import RunTable

MOST_ROWS = 15
MOST_FAILURES = 200
_BYTES = ("B", "kB", "MB", "GB", "TB")

Table = dict[str, np.ndarray]


@dataclass(frozen=True)
class StepRow:
    """One step as the report shows it; texts are ready, ``share`` is the part of the run's time."""

    name: str
    stage: str
    state: str
    tasks: str
    size: str
    reused: str
    seconds: str
    speed: str
    memory: str
    share: float
    details: Mapping[str, str]
    params: Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """One score: text, its part of the largest in its row, whether it is the row's best, what it counts over."""

    text: str
    share: float = 0.0
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """One metric over the steps that have it."""

    metric: str
    unit: str
    better: str
    cells: list[Cell]


@dataclass(frozen=True)
class Scores:
    """All scores of a run: a column per step."""

    columns: list[str]
    rows: list[ScoreRow]


@dataclass(frozen=True)
class SynapseSet:
    """One synapse table: counts by type, its values for the plots, its largest synapses and connections."""

    name: str
    count: int
    types: dict[str, int]
    facts: dict[str, str]
    rows: Table
    largest: list[dict[str, Any]] = field(default_factory=list)
    connections: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """One block that failed for good."""

    step: str
    part: str
    task: str
    box: str
    attempts: int
    error: str
    url: str


def step_rows(run: Run) -> list[StepRow]:
    """Return a row for each step, in order."""
    longest = max([step.seconds or 0 for step in run.steps.values()], default=0)
    return [_step_row(step, longest) for step in run.steps.values()]


def score_table(tables: Mapping[str, Table]) -> Scores:
    """Return the ``scores`` of several steps as one table: rows are metrics, columns the steps.

    The 95 % limits of a score stand behind it.
    """
    found: dict[tuple[str, str, str], dict[str, tuple[float, int]]] = {}
    for step, table in tables.items():
        for metric, value, unit, better, n in zip(
            *(table[c] for c in ("metric", "value", "unit", "better", "n")), strict=True
        ):
            found.setdefault((str(metric), str(unit), str(better)), {})[step] = (float(value), int(n))
    limits = {metric: values for (metric, _, _), values in found.items() if metric.endswith(("_low", "_high"))}
    names = {metric for metric, _, _ in found}
    rows = [
        _score_row(key, values, list(tables), limits)
        for key, values in found.items()
        if key[0] not in limits or key[0].rpartition("_")[0] not in names
    ]
    return Scores(list(tables), rows)


def failures(run: Run) -> list[Failure]:
    """Return the blocks that failed, at most MOST_FAILURES."""
    found = [_failure(run, name, entry) for name, step in run.steps.items() for entry in step.failures or []]
    return found[:MOST_FAILURES]


def seconds_text(seconds: float | None) -> str:
    """Return a duration: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def bytes_text(count: float | None) -> str:
    """Return a size: ``1.5 GB``."""
    if not count:
        return "–"
    power = min(len(_BYTES) - 1, int(np.log(count) / np.log(1000)))
    return f"{count / 1000**power:.3g} {_BYTES[power]}"


def number_text(value: float) -> str:
    """Return a number with the digits that matter."""
    if not np.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _step_row(step: RunStep, longest: float) -> StepRow:
    voxels = Box.parse(step.bounds_zyx).voxels
    computed = max(0, step.done - step.reused) / max(1, step.tasks)
    reads = ", ".join(f"{name} ← {source}" for name, source in step.reads.items())
    details = {
        "key": step.key,
        "version": str(step.version),
        "reads": reads or "nothing",
        "bounds (z, y, x)": step.bounds_zyx,
        "block (z, y, x)": " × ".join(str(v) for v in step.block_zyx),
        "writes": ", ".join(f"{name} ({_output_text(info)})" for name, info in step.outputs.items()),
        "folder": str(step.folder),
    }
    return StepRow(
        name=step.name,
        stage=step.stage,
        state=step.state,
        tasks=_tasks_text(step),
        size=bytes_text(step.size_bytes),
        reused=f"{step.reused or 0:,}",
        seconds=seconds_text(step.seconds),
        speed=_speed_text(voxels * computed, step.seconds),
        memory=bytes_text(step.peak_bytes),
        share=(step.seconds or 0) / longest if longest else 0.0,
        details=details,
        params={name: json.dumps(value, ensure_ascii=False) for name, value in step.params.items()},
    )


def _tasks_text(step: RunStep) -> str:
    return f"{step.tasks:,}" if step.done == step.tasks else f"{step.done:,} of {step.tasks:,}"


def _speed_text(voxels: float, seconds: float) -> str:
    if not voxels or not seconds:
        return "–"
    speed = voxels / seconds
    return f"{speed / 1e6:.3g} M" if speed >= 1e6 else f"{speed / 1e3:.3g} k" if speed >= 1e3 else f"{speed:.3g}"


def _output_text(info: Mapping[str, Any]) -> str:
    if info["type"] != "layer":
        return str(info["type"])
    channels = f"{info['channels']} × " if info.get("channels") else ""
    return f"{info.get('kind', 'layer')}, {channels}{info.get('dtype')}"


def _score_row(
    key: tuple[str, str, str],
    values: dict[str, tuple[float, int]],
    columns: Sequence[str],
    limits: Mapping[str, dict[str, tuple[float, int]]],
) -> ScoreRow:
    metric, unit, better = key
    finite = [value for value, _ in values.values() if np.isfinite(value)]
    top = max([abs(value) for value in finite], default=0.0)
    # A fraction fills its cell as far as it is near to one; other scores are compared with the row's largest.
    full = 1.0 if better == "higher" and 0 < top <= 1 else top
    best = {"lower": min, "higher": max}.get(better)
    winner = best(finite) if best is not None and len(finite) > 1 else None
    cells = []
    for column in columns:
        if column not in values:
            cells.append(Cell("–"))
            continue
        value, n = values[column]
        share = min(1.0, abs(value) / full) if better and full and np.isfinite(value) else 0.0
        text = number_text(value) + _limits_text(metric, column, limits)
        cells.append(Cell(text, share, value == winner, f"n = {n:,}"))
    return ScoreRow(metric, unit, better, cells)


def _limits_text(metric: str, column: str, limits: Mapping[str, dict[str, tuple[float, int]]]) -> str:
    """Return ``(low–high)``, the 95 % limits of a score; nothing where it has none."""
    ends = [limits.get(f"{metric}_{end}", {}).get(column) for end in ("low", "high")]
    if any(end is None for end in ends):
        return ""
    return " ({:.2f}–{:.2f})".format(*(end[0] for end in ends if end is not None))


def synapse_set(run: Run, table: RunTable, rows: Table) -> SynapseSet:
    """Return what the report tells of one synapse table."""
    count = len(rows["id"])
    names, numbers = np.unique(np.asarray(rows["type"], dtype=str), return_counts=True)
    pairs = _connections(run, rows)
    partners = len(np.unique(np.concatenate([rows["pre_id"], rows["post_id"]])))
    volume_um3 = Box.parse(run.steps[table.step].bounds_zyx).voxels * float(np.prod(run.voxel_size_nm)) / 1e9
    facts = {
        "synapses": f"{count:,}",
        "per µm³": f"{count / volume_um3:.3g}",
        "connected segments": f"{partners:,}",
        "connections": f"{pairs[0]:,}",
        "median size": f"{np.median(rows['size_voxels']):,.0f} voxels" if count else "–",
    }
    types = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    return SynapseSet(table.name, count, types, facts, rows, _largest(run, rows), pairs[1])


def _largest(run: Run, rows: Table) -> list[dict[str, Any]]:
    order = np.argsort(-np.asarray(rows["size_voxels"], dtype=np.int64), kind="stable")[:MOST_ROWS]
    return [
        {
            "id": int(rows["id"][i]),
            "pre": int(rows["pre_id"][i]),
            "post": int(rows["post_id"][i]),
            "type": str(rows["type"][i]),
            "size": f"{int(rows['size_voxels'][i]):,}",
            "score": f"{float(rows['score'][i]):.2f}",
            "url": _synapse_url(run, rows, int(i)),
        }
        for i in order
    ]


def _connections(run: Run, rows: Table) -> tuple[int, list[dict[str, Any]]]:
    """Return how many pairs are connected, and the strongest of them, each with the place of its largest synapse."""
    size = np.asarray(rows["size_voxels"], dtype=np.int64)
    order = np.lexsort((-size, rows["post_id"], rows["pre_id"]))
    pre, post = rows["pre_id"][order], rows["post_id"][order]
    differs = np.r_[True, (pre[1:] != pre[:-1]) | (post[1:] != post[:-1])] if len(pre) else np.zeros(0, dtype=bool)
    first = np.flatnonzero(differs)
    counts = np.diff(np.r_[first, len(pre)])
    sums = np.add.reduceat(size[order], first) if len(first) else np.array([], dtype=np.int64)
    strongest = np.lexsort((-sums, -counts))[:MOST_ROWS]
    return len(first), [
        {
            "pre": int(pre[first[k]]),
            "post": int(post[first[k]]),
            "count": int(counts[k]),
            "size": f"{int(sums[k]):,}",
            "url": _synapse_url(run, rows, int(order[first[k]])),
        }
        for k in strongest
    ]


def _synapse_url(run: Run, rows: Table, i: int) -> str:
    partners = [int(rows[c][i]) for c in ("pre_id", "post_id") if int(rows[c][i])]
    return place_url(run.folder.name, [float(rows[f"{axis}_nm"][i]) for axis in "zyx"], partners)


def _failure(run: Run, step: str, entry: Mapping[str, Any]) -> Failure:
    box = entry.get("box_zyx") or ""
    url = ""
    if box:
        parsed = Box.parse(box)
        middle = [(a + b) / 2 * s for a, b, s in zip(parsed.start, parsed.stop, run.voxel_size_nm, strict=True)]
        url = place_url(run.folder.name, middle)
    return Failure(
        step=step,
        part=str(entry.get("part", "")),
        task=str(entry.get("task", "")),
        box=box,
        attempts=int(entry.get("attempts", 0)),
        error=str(entry.get("error", "")),
        url=url,
    )
