"""The datasets of one workflow side by side: states, times, sizes, counts and every score, as a page and as tables.

``compare.parquet`` has a row for each number of each dataset, ``compare.csv`` a row for each number and a column for
each dataset, ``compare.html`` shows what people look at, with links to the reports.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.report.numbers import Cell, ScoreRow, Scores, bytes_text, number_text, score_table, seconds_text
from bouton.report.page import render
from bouton.volume import write_bytes, write_csv, write_table
from bouton.volume.run_folder import Run
from bouton.volume.run_group import GroupMember, RunGroup
from bouton.volume.run_layers import run_tables
from bouton.volume.tables import TableData, table_rows

COLUMNS = {
    "dataset": "str",
    "run": "str",
    "step": "str",
    "metric": "str",
    "value": "float64",
    "unit": "str",
    "better": "str",
}
COUNTED = {"segment_sizes": "segments", "synapses": "synapses", "connectome": "connections"}
"""Tables whose rows are counted at the top of the page, and what a row is."""
TRUTH_STAGES = ("phantom",)
STEP_UNITS = ("s", "bytes")
SCORE_COLUMNS = ("metric", "value", "unit", "better", "n")
HEADS = ("step", "metric", "unit", "better")
PICTURE_WIDTH = 1190
PAGE = "compare.html"


@dataclass(frozen=True)
class Number:
    """One number of one dataset. ``better`` is ``lower``, ``higher`` or empty."""

    dataset: str
    run: str
    step: str
    metric: str
    value: float
    unit: str
    better: str = ""


@dataclass(frozen=True)
class DatasetRow:
    """One dataset as the page shows it; texts are ready, ``report`` is relative to the page."""

    name: str
    state: str
    voxels: str
    voxel_size_nm: str
    seconds: str
    size: str
    counts: Mapping[str, str]
    report: str
    error: str


@dataclass(frozen=True)
class Comparison:
    """All datasets of a group.

    Attributes
    ----------
    scores, seconds, sizes : Scores
        Rows are metrics or steps, columns the datasets; ``scores`` has one for each step.
    numbers : tuple of Number
        What the tables on disk hold.
    problems : tuple of str
        Why some results could not be read.
    """

    name: str
    datasets: tuple[DatasetRow, ...]
    scores: Mapping[str, Scores]
    seconds: Scores
    sizes: Scores
    numbers: tuple[Number, ...]
    problems: tuple[str, ...]

    @property
    def counted(self) -> list[str]:
        """What some dataset has any of: segments, synapses, connections."""
        return [label for label in COUNTED.values() if any(row.counts[label] != "–" for row in self.datasets)]


def compare_runs(group: RunGroup) -> Comparison:
    """Read the runs of a group, whatever their states, and set them side by side."""
    problems: list[str] = []
    numbers: list[Number] = []
    rows = []
    scores: dict[str, dict[str, TableData]] = {}
    for member in group.members:
        try:
            run = group.open(member)
        except DataError as error:
            run = None
            problems.append(str(error))
        found = [] if run is None else list(_numbers(member, run, scores, problems))
        numbers += found
        rows.append(_dataset_row(member, run, found))
    names = [member.name for member in group.members]
    return Comparison(
        group.name,
        tuple(rows),
        {step: _in_order(tables, names) for step, tables in scores.items()},
        _steps(numbers, names, "seconds", seconds_text),
        _steps(numbers, names, "size_bytes", bytes_text),
        tuple(numbers),
        tuple(problems),
    )


def write_comparison(group: RunGroup) -> Comparison:
    """Compare the runs of a group; write ``compare.html``, ``compare.parquet`` and ``compare.csv`` into its folder."""
    compared = compare_runs(group)
    names = [member.name for member in group.members]
    write_table(group.folder / "compare.parquet", _long(compared.numbers), COLUMNS)
    write_csv(group.folder / "compare.csv", _wide(compared.numbers, names))
    strips = {member.name: uri for member in group.members if (uri := _strip(group.run_folder(member)))}
    content = {"compared": compared, "strips": strips, "file": group.workflow_file, "counted": compared.counted}
    write_bytes(group.folder / PAGE, render(content, "compare.html.jinja").encode("utf-8"))
    return compared


def _numbers(
    member: GroupMember, run: Run, scores: dict[str, dict[str, TableData]], problems: list[str]
) -> Iterator[Number]:
    """Yield a dataset's numbers; add its score tables and what cannot be read."""
    for step in run.steps.values():
        facts = {"seconds": (step.seconds, "s"), "voxels": (Box.parse(step.bounds_zyx).voxels, "voxels")}
        facts |= {"size_bytes": (step.size_bytes, "bytes"), "peak_bytes": (step.peak_bytes, "bytes")}
        facts |= {"tasks": (step.tasks, "tasks"), "done": (step.done, "tasks"), "failed": (step.failed, "tasks")}
        for metric, (value, unit) in facts.items():
            yield Number(member.name, member.run, step.name, metric, float(value), unit)
    for table in run_tables(run):
        try:
            count = table_rows(run.path(table.ref))
            rows = run.table(table.ref) if table.output == "scores" else {}
        except DataError as error:
            problems.append(f"{member.name}: {error}")
            continue
        if not set(SCORE_COLUMNS) <= set(rows) or rows["value"].dtype.kind not in "fiu":
            yield Number(member.name, member.run, table.step, f"{table.output}_rows", float(count), "rows")
            continue
        scores.setdefault(table.step, {})[member.name] = rows
        for metric, value, unit, better in zip(*(rows[c] for c in ("metric", "value", "unit", "better")), strict=True):
            yield Number(member.name, member.run, table.step, str(metric), float(value), str(unit), str(better))


def _dataset_row(member: GroupMember, run: Run | None, numbers: Sequence[Number]) -> DatasetRow:
    if run is None:
        counts = dict.fromkeys(COUNTED.values(), "–")
        return DatasetRow(member.name, _state(member, run), "–", "–", "–", "–", counts, "", member.error)

    def of(metric: str) -> list[float]:
        return [number.value for number in numbers if number.metric == metric]

    page = run.folder / "report" / "index.html"
    return DatasetRow(
        name=member.name,
        state=_state(member, run),
        voxels=number_text(max(of("voxels"), default=0.0)),
        voxel_size_nm=" × ".join(f"{size:g}" for size in run.voxel_size_nm),
        seconds=seconds_text(sum(of("seconds"))),
        size=bytes_text(sum(of("size_bytes"))),
        counts={label: _count(run, numbers, output) for output, label in COUNTED.items()},
        report=f"../{quote(member.run)}/report/index.html" if page.is_file() else "",
        error=member.error,
    )


def _count(run: Run, numbers: Sequence[Number], output: str) -> str:
    """Return the rows of the last table of this name that holds no truth."""
    found = [n.value for n in numbers if n.metric == f"{output}_rows" and run.steps[n.step].stage not in TRUTH_STAGES]
    return f"{int(found[-1]):,}" if found else "–"


def _state(member: GroupMember, run: Run | None) -> str:
    if member.error:
        return "failed"
    return "pending" if run is None else str(run.info.get("state", "unfinished"))


def _in_order(tables: Mapping[str, TableData], names: Iterable[str]) -> Scores:
    nothing: TableData = {column: np.array([], dtype=object) for column in SCORE_COLUMNS}
    return score_table({name: tables.get(name, nothing) for name in names})


def _steps(numbers: Sequence[Number], names: Sequence[str], metric: str, text: Callable[[float], str]) -> Scores:
    """Return one metric of every step, a column for each dataset."""
    found: dict[str, dict[str, float]] = {}
    for n in numbers:
        if n.metric == metric and n.unit in STEP_UNITS:
            found.setdefault(n.step, {})[n.dataset] = n.value
    rows = []
    for step, values in found.items():
        top = max(values.values())
        cells = [Cell(text(values[n]), values[n] / top if top else 0.0) if n in values else Cell("–") for n in names]
        rows.append(ScoreRow(step, "", "", cells))
    return Scores(list(names), rows)


def _long(numbers: Sequence[Number]) -> dict[str, np.ndarray]:
    kinds = {"str": object, "float64": np.float64}
    return {name: np.array([getattr(n, name) for n in numbers], dtype=kinds[kind]) for name, kind in COLUMNS.items()}


def _wide(numbers: Sequence[Number], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return a row for each step and metric, a column for each dataset; NaN where it has no such number."""
    keys = list(dict.fromkeys((n.step, n.metric, n.unit, n.better) for n in numbers))
    place = {key: row for row, key in enumerate(keys)}
    columns = {name: np.full(len(keys), np.nan) for name in names}
    for n in numbers:
        columns[n.dataset][place[n.step, n.metric, n.unit, n.better]] = n.value
    texts = {head: np.array([key[i] for key in keys], dtype=object) for i, head in enumerate(HEADS)}
    return texts | {f"dataset {name}" if name in HEADS else name: values for name, values in columns.items()}


def _strip(run_folder: Path) -> str:
    """Return the overview of a run's report, small, as a ``data:`` address; nothing where there is none."""
    try:
        with Image.open(run_folder / "report" / "overview.png") as picture:
            height = max(1, round(picture.height * PICTURE_WIDTH / picture.width))
            small = picture.convert("RGB").resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)
    except OSError:
        return ""
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
