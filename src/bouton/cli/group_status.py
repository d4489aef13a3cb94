"""``bouton status`` of a workflow with several datasets: how far each of them is."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bouton.cli.progress import clock, human
from bouton.cli.results import short
from bouton.engine.step_states import RunState, run_state
from bouton.errors import BoutonError
from bouton.volume.run_group import GroupMember, RunGroup

STYLES = {"done": "green", "failed": "red", "crashed": "red", "running": "cyan", "pending": "dim"}
WORKING = ("running", "pausing", "cancelling", "unseen")
FINISHED = ("complete", "skipped")
WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class MemberState:
    """One dataset; ``run`` is None where it did not start or cannot be read, ``error`` says why."""

    member: GroupMember
    state: str
    run: RunState | None
    error: str = ""


def show_group(group: RunGroup, watch: bool, as_json: bool) -> None:
    """Print the state of every dataset; with ``watch`` anew every second until nobody works on any."""
    found = member_states(group)
    if as_json:
        _print(group, found)
        while watch and _is_working(found):
            time.sleep(WATCH_SECONDS)
            found = member_states(group)
            _print(group, found)
        return
    console = Console()
    if not watch:
        console.print(_page(group, found))
        return
    with Live(_page(group, found), console=console, auto_refresh=False) as live:
        while _is_working(found):
            time.sleep(WATCH_SECONDS)
            found = member_states(group)
            live.update(_page(group, found), refresh=True)


def member_states(group: RunGroup) -> list[MemberState]:
    """Return the state of every dataset, in the order of the file."""
    return [_state(group, member) for member in group.members]


def _state(group: RunGroup, member: GroupMember) -> MemberState:
    folder = group.run_folder(member)
    if not (folder / "run.json").is_file():
        return MemberState(member, "failed" if member.error else "pending", None, member.error)
    try:
        run = run_state(folder)
    except BoutonError as error:
        return MemberState(member, "failed", None, str(error))
    # A run that is worked on again has left its last error behind.
    told = "" if run.state in WORKING else member.error
    return MemberState(member, "failed" if told else run.state, run, told)


def _is_working(found: list[MemberState]) -> bool:
    return any(each.state in WORKING for each in found)


def _page(group: RunGroup, found: list[MemberState]) -> Group:
    table = Table(title=f"datasets of {group.name}")
    for name in ("dataset", "state", "steps", "now", "tasks", "left", "time", "size"):
        table.add_column(name, justify="left" if name in ("dataset", "state", "now") else "right", overflow="fold")
    for each in found:
        state = f"[{STYLES.get(each.state, 'yellow')}]{each.state}[/]"
        table.add_row(each.member.name, state, *(_numbers(each.run) if each.run else ()))
    lines: list[RenderableType] = [table]
    lines += [Text.assemble(("failed ", "red"), f"{each.member.name}: {each.error}") for each in found if each.error]
    first = group.members[0].run
    lines.append(Text(f"bouton status {short(group.folder.parent / first)} shows the steps of {group.members[0].name}"))
    return Group(*lines)


def _numbers(run: RunState) -> tuple[str, ...]:
    steps = [step for step in run.steps if step.state != "skipped"]
    complete = sum(step.state in FINISHED for step in steps)
    present = next((step for step in steps if step.state == "running"), None)
    left = clock(present.eta_s) if present is not None and present.eta_s is not None else ""
    tasks = f"{sum(step.done for step in steps)}/{sum(step.tasks for step in steps)}"
    seconds, size = sum(step.seconds for step in steps), sum(step.size_bytes for step in steps)
    now = present.name if present is not None else ""
    return f"{complete}/{len(steps)}", now, tasks, left, clock(seconds), f"{human(size)}B"


def _print(group: RunGroup, found: list[MemberState]) -> None:
    datasets = [
        {
            "dataset": each.member.name,
            "run": each.member.run,
            "state": each.state,
            "error": each.error,
            "steps": [dataclasses.asdict(step) for step in each.run.steps] if each.run else [],
        }
        for each in found
    ]
    sys.stdout.write(json.dumps({"workflow": group.name, "datasets": datasets}) + "\n")
    sys.stdout.flush()
