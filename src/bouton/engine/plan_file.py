"""``plan.json``: the plan that a run started with, kept in its folder; the report compares it with the truth.

``bouton plan --probe`` writes it into the probe's folder; a run that has something to compute takes it over when the
plan holds one of its steps (same key).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bouton.engine.context import step_folder
from bouton.engine.ledger import LEDGER, Ledger
from bouton.engine.plan import Plan
from bouton.spec import Workflow
from bouton.volume import write_bytes

NAME = "plan.json"
PROBE_FOLDER = ".probe"


def plan_values(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON types; numbers with an interval are mappings with value, low and high."""
    values = dataclasses.asdict(plan)
    for step, entry in zip(plan.steps, values["steps"], strict=True):
        entry["seconds"] = step.forecast.seconds.value if step.forecast else None
    total = dataclasses.asdict(plan.seconds_left)
    return values | {"warnings": plan.warnings, "unknown": plan.unknown, "seconds_left": total}


def write_plan(plan: Plan, folder: Path) -> Path:
    """Keep a plan in the probe's folder of the run folder, for the run that may follow."""
    path = folder / PROBE_FOLDER / NAME
    write_bytes(path, json.dumps(plan_values(plan), indent=1).encode())
    return path


def keep_plan(workflow: Workflow, folder: Path, workers: int) -> None:
    """Take the probe's plan over into the run folder, with the number of workers that the run really has."""
    planned = _read(folder / PROBE_FOLDER / NAME)
    keys = {step["key"] for step in planned.get("steps", [])}
    fresh = [step for step in workflow.steps if not _is_complete(folder / step_folder(step))]
    if any(step.key in keys for step in fresh):
        write_bytes(folder / NAME, json.dumps({**planned, "ran_with_workers": workers}, indent=1).encode())


def _read(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        # No plan, or half of one: a run needs none.
        return {}
    return values if isinstance(values, dict) else {}


def _is_complete(folder: Path) -> bool:
    path = folder / LEDGER
    if not path.is_file():
        return False
    with Ledger(path, readonly=True) as ledger:
        return bool(ledger.fact("complete"))
