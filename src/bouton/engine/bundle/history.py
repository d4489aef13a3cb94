"""How a run went, in two small files: sessions and failures out of its events, and its plan beside what it took."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bouton.volume.run_folder import Run

NUMBERS = ("seconds", "peak_bytes", "size_bytes")
PLANNED = ("seconds", "peak_bytes", "output_bytes")


def events_summary(path: Path) -> dict[str, Any]:
    """Return the sessions of a run, and how often each kind of event came; a torn line is skipped."""
    counts: Counter[str] = Counter()
    sessions: list[dict[str, Any]] = []
    for event in _events(path):
        kind = str(event.get("event"))
        counts[kind] += 1
        if kind == "RunStarted":
            kept = {name: event.get(name) for name in ("time", "executor", "workers", "steps")}
            sessions.append({**kept, "state": "killed", "tasks": 0, "reused": 0, "retries": 0, "failed": []})
        elif sessions:
            _take(sessions[-1], kind, event)
    return {"sessions": sessions, "events": dict(sorted(counts.items()))}


def _take(session: dict[str, Any], kind: str, event: dict[str, Any]) -> None:
    if kind == "TasksDone":
        session["tasks"] += int(event.get("tasks", 0))
        session["reused"] += int(event.get("reused", 0))
    elif kind == "TaskRetried":
        session["retries"] += 1
    elif kind == "TaskFailed":
        session["failed"].append({name: event.get(name) for name in ("step", "part", "task", "box_zyx", "error")})
    elif kind == "RunFinished":
        session |= {"state": event.get("state"), "seconds": event.get("seconds"), "ended": event.get("time")}


def _events(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def plan_and_truth(run: Run, plan: Path) -> list[dict[str, Any]] | None:
    """Return what each step was planned to take and what it took; None where the run had no plan."""
    try:
        planned = {step["step"]: step for step in json.loads(plan.read_bytes())["steps"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    rows = []
    for step in run.steps.values():
        entry = planned.get(step.name, {})
        took = {name: getattr(step, name) for name in NUMBERS}
        rows.append({"step": step.name, "planned": {name: entry.get(name) for name in PLANNED}, "took": took})
    return rows
