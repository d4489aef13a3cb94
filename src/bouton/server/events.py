"""The events of a run, read from ``events.jsonl`` while its coordinator writes: what they add up to, and as a stream.

A place in the stream is the offset in bytes at which its next line begins, so that a reader who comes back with the
place of the last event that it saw loses nothing, whatever happened in between to server, browser or coordinator.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bouton.engine.event_file import NAME, read_events, size_of

BATCH_BYTES = 1 << 18
KEPT_EVENTS = 200
KEPT_SECONDS = 600
SECONDS_BETWEEN_LOOKS = 0.25
LOOKS_BETWEEN_SIGNS = 40
PLAIN = {"TasksDone"}


class EventIndex:
    """What the events of a run add up to. It reads on where it stopped, each line once.

    Attributes
    ----------
    offset : int
        Place in the stream up to which it has read.
    started : dict
        The latest ``RunStarted``; empty before the first.
    finished : dict
        The ``RunFinished`` that came after it; empty while there is none.
    parts : dict of (step, part) -> dict
        The latest ``PartStarted`` of each part.
    recent : deque of dict
        The latest events that tell more than that tasks are done.
    rates : dict of step -> dict of second -> [tasks, voxels]
        What became done in each of the last ten minutes' seconds of the wall clock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.offset, self._file = 0, -1
        self.started: dict[str, Any] = {}
        self.finished: dict[str, Any] = {}
        self.parts: dict[tuple[str, str], dict[str, Any]] = {}
        self.recent: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self.rates: dict[str, dict[int, list[int]]] = {}

    def current(self) -> EventIndex:
        """Return self, up to date."""
        with self._lock:
            try:
                status = self.path.stat()
            except FileNotFoundError:
                self._clear()
                return self
            if status.st_ino != self._file or status.st_size < self.offset:
                self._clear()
                self._file = status.st_ino
            while True:
                events, place = read_events(self.path, self.offset, BATCH_BYTES)
                if place == self.offset:
                    return self
                self.offset = place
                for event in events:
                    self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        name, step = str(event["event"]), str(event.get("step", ""))
        if name == "RunStarted":
            self.started, self.finished = event, {}
        elif name == "RunFinished":
            self.finished = event
        elif name == "PartStarted":
            self.parts[step, str(event.get("part", ""))] = event
        elif name == "TasksDone":
            self._count(step, event)
        if name not in PLAIN:
            self.recent.append(event)

    def _count(self, step: str, event: dict[str, Any]) -> None:
        values = [event.get(key) for key in ("time", "tasks", "voxels")]
        second, tasks, voxels = (int(value) if isinstance(value, int | float) else -1 for value in values)
        if min(second, tasks, voxels) < 0:
            return
        seconds = self.rates.setdefault(step, {})
        sums = seconds.setdefault(second, [0, 0])
        sums[0] += tasks
        sums[1] += voxels
        for old in [key for key in seconds if key < second - KEPT_SECONDS] if len(seconds) > KEPT_SECONDS else ():
            del seconds[old]


async def event_stream(path: Path, place: int, ending: threading.Event) -> AsyncIterator[str]:
    """Yield the events from ``place`` on as Server-Sent Events, and those that are still to come.

    Each message is a JSON list of events; its id is the place after them. Comments are signs of life. ``reset`` says
    that the file has become shorter: what the reader knows is of another file, and it must ask for the state anew.
    """
    quiet = LOOKS_BETWEEN_SIGNS
    yield "retry: 1000\n\n"
    while not ending.is_set():
        if await asyncio.to_thread(size_of, path) < place:
            place = 0
            yield "id: 0\nevent: reset\ndata: {}\n\n"
        events, after = await asyncio.to_thread(read_events, path, place, BATCH_BYTES)
        if events:
            yield f"id: {after}\ndata: {json.dumps(events)}\n\n"
            quiet = 0
        elif quiet >= LOOKS_BETWEEN_SIGNS:
            yield ": here\n\n"
            quiet = 0
        if after == place:
            quiet += 1
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        place = after
