"""A run -> one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from bouton.errors import DataError
from bouton.report.curves import count_sets, curve_sets
from bouton.report.densities import density_sets
from bouton.report.errors import error_sets
from bouton.report.links import DEFAULT_ORIGIN, DEFAULT_PORT
from bouton.report.numbers import failures, score_table, seconds_text, step_rows, synapse_set
from bouton.report.pictures import png_bytes
from bouton.report.plan import PlanAndTruth, plan_and_truth
from bouton.report.plots import synapse_plots
from bouton.report.sections import Row, overview, picture_rows
from bouton.report.thresholds import ThresholdCurve
from bouton.volume import write_bytes
from bouton.volume.run_folder import Run, open_run
from bouton.volume.run_layers import read_tables

_LIBRARIES = ("numpy", "scipy", "numba", "tensorstore", "torch")


def write_report(run_folder: Path, curves: Sequence[ThresholdCurve] = (), problems: Sequence[str] = ()) -> Path:
    """Write the report of a run, whatever its state; ``overview.png`` beside it holds the pictures of one section.

    Parameters
    ----------
    run_folder : Path
        Folder with ``run.json``.
    curves : sequence of ThresholdCurve
        What its merge histories tell of other thresholds.
    problems : sequence of str
        Why some of them could not be read.

    Returns
    -------
    Path
        ``report/index.html`` in that folder.

    Raises
    ------
    DataError
        There is no run.
    """
    run = open_run(Path(run_folder))
    page = Path(run_folder) / "report" / "index.html"
    page.parent.mkdir(exist_ok=True)
    rows = picture_rows(run)
    content = _content(run, rows)
    content |= {"curves": curves, "problems": [*problems, *content["problems"]]}
    write_bytes(page, render(content).encode("utf-8"))
    picture = overview(rows)
    if picture is not None:
        write_bytes(page.with_name("overview.png"), png_bytes(picture))
    return page


def render(content: Mapping[str, Any], template: str = "page.html.jinja") -> str:
    """Return a page as HTML: a template of this folder with its content."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bouton.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)


def _content(run: Run, rows: list[Row]) -> dict[str, Any]:
    scores, bad_scores = read_tables(run, "scores")
    synapses, bad_synapses = read_tables(run, "synapses")
    errors, bad_errors = error_sets(run)
    over_score, bad_curves = curve_sets(run)
    counts, bad_counts = count_sets(run)
    densities, bad_densities = density_sets(run)
    planned, bad_plan = _planned(run)
    # What the run found comes before the truth it was made from.
    sets = [synapse_set(run, table, rows) for table, rows in reversed(synapses)]
    return {
        "name": run.folder.name,
        "facts": _facts(run),
        "state": _state(run),
        "steps": step_rows(run),
        "skipped": run.info.get("skipped") or {},
        "sources": {name: _source_text(run, name) for name in run.sources},
        "rows": rows,
        "scores": score_table({table.step: rows for table, rows in scores}),
        "errors": errors,
        "over_score": over_score,
        "counts": counts,
        "densities": densities,
        "sets": [(group, synapse_plots(group.rows) if group.count else "") for group in sets],
        "planned": planned,
        "failures": failures(run),
        "problems": [
            *bad_plan,
            *bad_scores,
            *bad_errors,
            *bad_curves,
            *bad_counts,
            *bad_densities,
            *bad_synapses,
        ],
        "viewer": DEFAULT_ORIGIN,
        "port": DEFAULT_PORT,
        "folder": str(run.folder),
    }


def _planned(run: Run) -> tuple[PlanAndTruth | None, list[str]]:
    try:
        return plan_and_truth(run), []
    except DataError as error:
        return None, [str(error)]


def _state(run: Run) -> str:
    states = {step.state for step in run.steps.values()}
    if states & {"failed", "blocked"}:
        return "failed"
    return "done" if states <= {"done"} and run.info.get("finished") else "unfinished"


def _facts(run: Run) -> dict[str, str]:
    info = run.info
    shape = " × ".join(f"{n:,}" for n in run.shape)
    size = " × ".join(f"{s:g}" for s in run.voxel_size_nm)
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    facts = {
        "Workflow": f"{info.get('workflow', '')} ({info.get('workflow_file', '')})",
        "Description": " ".join(info.get("description", "").split()),
        "Command": _command(info.get("command", "")),
        "Data": f"{shape} voxels of {size} nm (z, y, x)",
        "Started": _when(info.get("started")),
        "Finished": _when(info.get("finished")),
        "Time": seconds_text(_duration(info)),
        "Ran with": f"bouton {info.get('bouton', '?')}",
        "Report by": f"bouton {version('bouton')}, {libraries}",
    }
    return {name: text for name, text in facts.items() if text}


def _command(command: str | Sequence[str]) -> str:
    return command if isinstance(command, str) else " ".join(command)


def _when(stamp: str | float | None) -> str:
    moment = _moment(stamp)
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip() if moment else "not yet"


def _moment(stamp: str | float | None) -> datetime | None:
    if not stamp:
        return None
    if isinstance(stamp, int | float):
        return datetime.fromtimestamp(stamp).astimezone()
    try:
        return datetime.fromisoformat(stamp)
    except ValueError:
        return None


def _duration(info: Mapping[str, Any]) -> float | None:
    start, end = _moment(info.get("started")), _moment(info.get("finished"))
    return (end - start).total_seconds() if start and end else None


def _source_text(run: Run, name: str) -> str:
    info = run.sources[name]
    inside = f" : {info['dataset']}" if info.get("dataset") else ""
    offset = info.get("offset_zyx") or [0, 0, 0]
    moved = f" at voxel {', '.join(str(v) for v in offset)} (z, y, x)" if any(offset) else ""
    gone = "" if Path(info["path"]).exists() else " – not there any more"
    return f"{info['path']}{inside}{moved}{gone}"
