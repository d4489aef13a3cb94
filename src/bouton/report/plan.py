"""Plan and truth: what ``bouton plan --probe`` said of each step before the run, beside what the ledgers measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bouton.errors import DataError
from bouton.report.numbers import bytes_text, seconds_text
from bouton.volume.run_folder import Run, RunStep

NAME = "plan.json"
FAR = 0.20
"""From which relative difference on a figure is flagged."""


@dataclass(frozen=True)
class Compared:
    """One figure: planned with its 90 % interval, measured, measured / planned."""

    planned: str
    interval: str
    measured: str
    ratio: str
    is_far: bool
    is_outside: bool


@dataclass(frozen=True)
class PlanRow:
    """One step: seconds of its run, peak memory of one worker, bytes on disk."""

    name: str
    seconds: Compared
    memory: Compared
    size: Compared


@dataclass(frozen=True)
class PlanAndTruth:
    """All steps that were planned and are done; ``note`` says what makes the comparison unfair, if anything does."""

    rows: list[PlanRow]
    total: Compared
    note: str


def plan_and_truth(run: Run) -> PlanAndTruth | None:
    """Return the comparison; None where the run has no plan, or no planned step is done.

    Raises
    ------
    DataError
        ``plan.json`` is damaged.
    """
    path = run.folder / NAME
    if not path.is_file():
        return None
    try:
        return _compare(run, json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"plan.json is damaged: {type(error).__name__}: {error}", where=str(path),
            expected="what bouton plan wrote", fix="remove it",
        ) from error  # fmt: skip


def _compare(run: Run, plan: Mapping[str, Any]) -> PlanAndTruth | None:
    planned = {step["key"]: step["forecast"] for step in plan["steps"] if step["forecast"]}
    steps = [step for step in run.steps.values() if step.key in planned and step.state == "done"]
    if not steps:
        return None
    ends = {end: sum(planned[step.key]["seconds"][end] for step in steps) for end in ("value", "low", "high")}
    total = _figure(ends, sum(step.seconds for step in steps), seconds_text)
    return PlanAndTruth([_row(step, planned[step.key]) for step in steps], total, _note(plan, steps))


def _row(step: RunStep, found: Mapping[str, Any]) -> PlanRow:
    return PlanRow(
        step.name,
        _figure(found["seconds"], step.seconds, seconds_text),
        _figure(found["worker_bytes"], step.peak_bytes, bytes_text),
        _figure(found["size_bytes"], step.size_bytes, bytes_text),
    )


def _figure(planned: Mapping[str, float], measured: float, text: Any) -> Compared:
    value, low, high = planned["value"], planned["low"], planned["high"]
    ratio = measured / value if value else float("nan")
    return Compared(
        planned=text(value),
        interval=f"{text(low)} to {text(high)}",
        measured=text(measured),
        ratio=f"{ratio:.2f}" if value else "–",
        is_far=not 1 - FAR <= ratio <= 1 + FAR,
        is_outside=not low <= measured <= high,
    )


def _note(plan: Mapping[str, Any], steps: list[RunStep]) -> str:
    notes = []
    ran = plan.get("ran_with_workers", plan["workers"])
    if ran != plan["workers"]:
        notes.append(f"Planned for {plan['workers']} workers, ran with {ran}: times do not compare.")
    reused = [step.name for step in steps if step.reused]
    if reused:
        notes.append(f"Blocks of {', '.join(reused)} were copied from a run over another box, which takes less time.")
    return " ".join(notes)
