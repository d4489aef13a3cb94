"""Starts and stops a real batch system through its script, and says why it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bouton.cluster import Cluster
from bouton.engine import RunSummary, run_workflow
from bouton.engine.events import Event, TasksDone
from bouton.engine.executors.dask import Dask
from engine.flows import trouble_flow

HERE = Path(__file__).parent


@contextmanager
def batch_system(name: str, programs: tuple[str, ...], folder: Path) -> Iterator[dict[str, str]]:
    """Run ``NAME.sh start`` and, at the end, ``stop``; yield the settings that it prints, set in this process, too."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing or programs)}")
    script = HERE / f"{name}.sh"
    try:
        done = subprocess.run([script, "start", folder], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        last = done.stdout.strip().splitlines()[-1]
        settings = dict(word.split("=", 1) for word in last.removeprefix("export ").split())
        before = {key: os.environ.get(key) for key in settings}
        os.environ.update(settings)
        try:
            yield settings
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})
    finally:
        subprocess.run([script, "stop", folder], capture_output=True, timeout=60)


def say(*words: str) -> str:
    """Return what a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def run_trouble(
    cluster: Cluster, folder: Path, when: Callable[[int], None] = lambda done: None, **params: Any
) -> tuple[RunSummary, list[Event]]:
    """Run the toy that may misbehave on a cluster; ``when`` is told after each event how many copies are done."""
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        when(sum(each.tasks for each in events if isinstance(each, TasksDone) and each.part == "copy"))

    executor = Dask(cluster, folder / "logs")
    return run_workflow(trouble_flow(**params), folder / "runs", executor, subscribers=[hear]), events
