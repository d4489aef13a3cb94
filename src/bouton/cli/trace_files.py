"""Tracing a run from its folder to the files that tell what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bouton.cli.evaluation_output import json_rows
from bouton.cli.trace_evidence import PLACE, SEGMENT, Asked, Found, Progress, find_causes, rule_of
from bouton.cli.trace_rows import ERROR_COLUMNS, error_rows, lowering, sweeps
from bouton.cli.trace_run import Given, Traced, read_run
from bouton.cli.trace_truth import misplaced
from bouton.evaluate.synapse_checks import check_truth_inside
from bouton.evaluate.synapses import points_nm
from bouton.evaluate.trace import CAUSES
from bouton.evaluate.trace_costs import cause_costs, recommend
from bouton.geometry import Box
from bouton.report.trace import ErrorPicture, TracePage, error_strip, write_trace_page
from bouton.stages.evaluate_synapses import Params as Scoring
from bouton.volume import TableData, write_bytes, write_csv, write_table
from bouton.volume.run_folder import open_run
from bouton.volume.synapse_nml import write_synapse_nml

__all__ = ["PLACE", "SEGMENT", "Traces", "Wanted", "trace_run"]


@dataclass(frozen=True)
class Wanted:
    """What the command line wants; None: as the run's evaluation."""

    max_distance_nm: float | None
    margin_nm: float | None
    partners: str
    pictures: int
    out: Path


@dataclass(frozen=True)
class Traces:
    """What was found: errors, costs, an example of each cause, what to do, how many are right, warnings."""

    errors: TableData
    costs: TableData
    examples: dict[str, str]
    recommendations: Sequence[dict[str, Any]]
    counted: str
    missing: Sequence[str]
    warnings: Sequence[str]


def trace_run(folder: Path, given: Given, wanted: Wanted, progress: Progress = lambda done, of: None) -> Traces:
    """Trace a run's errors and write all files.

    Raises
    ------
    SpecError, DataError
        The run has no truth, or what is given does not fit it.
    """
    traced = read_run(open_run(folder), given)
    asked = _asked(traced, wanted)
    check_truth_inside(points_nm(traced.truth), rule_of(traced, asked), "the true synapses")
    warnings = [text for text in (misplaced(traced),) if text]
    found = find_causes(traced, asked, progress)
    errors = error_rows(traced, found)
    counts = found.sorted.counts()
    costs = cause_costs(errors["kind"], errors["cause"], counts)
    advice = recommend(costs, sweeps(traced, found, asked), lowering(traced, found, counts))
    scored = errors["cause"] != "outside"
    missed, false, wrong = (int((scored & (errors["kind"] == kind)).sum()) for kind in ("missed", "false", "wrong"))
    f1 = counts.f1
    scores = f"F1 {f1.value:.3f} ({f1.low:.2f}-{f1.high:.2f})"
    beyond = f"; {int((~scored).sum())} in the margin do not count" if not scored.all() else ""
    counted = f"{counts.tp} right, {missed} missed, {false} false, {wrong} wrong; {scores}{beyond}"
    result = Traces(errors, costs, _examples(errors, costs), advice, counted, traced.missing, warnings)
    _write(traced, result, wanted)
    numbers = {"right": counts.tp, "missed": missed, "false": false, "wrong": wrong}
    _write_page(traced, found, (result, numbers), wanted)
    return result


def _asked(traced: Traced, wanted: Wanted) -> Asked:
    usual = Scoring()
    names = ("max_distance_nm", "margin_nm")
    found = [traced.param("evaluate_synapses", name, getattr(usual, name)) for name in names]
    given = [getattr(wanted, name) for name in names]
    distance, margin = (float(b if a is None else a) for a, b in zip(given, found, strict=True))
    return Asked(distance, margin, wanted.partners)


def _examples(errors: TableData, costs: TableData) -> dict[str, str]:
    """Return the first error of each cause in words."""
    first = {cause: int(np.flatnonzero(errors["cause"] == cause)[0]) for cause in costs["cause"]}
    return {cause: f"#{errors['id'][i]}: {errors['detail'][i]}" for cause, i in first.items()}


def _write(traced: Traced, result: Traces, wanted: Wanted) -> None:
    wanted.out.mkdir(parents=True, exist_ok=True)
    write_table(wanted.out / "errors.parquet", result.errors, ERROR_COLUMNS)
    write_csv(wanted.out / "errors.csv", result.errors)
    shown = {name: values for name, values in result.errors.items() if name != "detail"}
    shown["comment"] = result.errors["detail"]
    write_synapse_nml(
        wanted.out / "errors.nml", shown, traced.voxel_size_nm, groups="cause", name=f"{traced.run.folder.name} errors"
    )
    told = {
        "counted": result.counted,
        "causes": json_rows(result.costs),
        "recommendations": result.recommendations,
        "not_asked": list(result.missing),
        "warnings": list(result.warnings),
        "explained": {cause: CAUSES[cause] for cause in result.costs["cause"]},
    }
    write_bytes(wanted.out / "costs.json", json.dumps(told, indent=2, allow_nan=False).encode("utf-8"))


def _write_page(traced: Traced, found: Found, told: tuple[Traces, dict[str, int]], wanted: Wanted) -> None:
    result, numbers = told
    pictures = {str(c): _pictures(traced, result.errors, str(c), wanted.pictures) for c in result.costs["cause"]}
    page = TracePage(
        name=traced.run.folder.name,
        facts={"Result": result.counted, "Partners are right by": wanted.partners, "Scored": f"voxels {traced.bounds}"},
        counts=numbers,
        costs=result.costs,
        explained=CAUSES,
        recommendations=result.recommendations,
        missing=result.missing,
        warnings=result.warnings,
        pictures={cause: shown for cause, shown in pictures.items() if shown},
    )
    write_trace_page(page, wanted.out / "trace.html")


def _pictures(traced: Traced, errors: TableData, cause: str, most: int) -> list[ErrorPicture]:
    found = []
    for i in np.flatnonzero(errors["cause"] == cause)[:most]:
        error = {name: values[i] for name, values in errors.items()}
        strip = error_strip(error, lambda name, box: plane(traced, name, box), traced.bounds, traced.voxel_size_nm)
        title = f"#{error['id']} {error['kind']}"
        found.append(ErrorPicture(title, str(error["detail"]), str(error["link"]), strip))
    return found


def plane(traced: Traced, name: str, box: Box) -> np.ndarray | None:
    """Return a layer over a box, None where there is none."""
    source = traced.sources.get(name)
    if source is None or not source.bounds.contains(box):
        return None
    return source.read(box)
