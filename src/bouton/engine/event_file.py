"""Reading ``events.jsonl`` of a run, while a coordinator writes it or afterwards; it may be gigabytes long."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, get_args

from bouton.engine.events import Event

NAME = "events.jsonl"
KINDS = {kind.__name__: kind for kind in get_args(Event)}


def event_of(values: dict[str, Any]) -> Event | None:
    """Return the event that a line holds; None for one of another version of bouton that this one cannot read."""
    kind = KINDS.get(str(values.get("event")))
    if kind is None:
        return None
    needed = {item.name for item in fields(kind) if item.default is MISSING}
    known = {item.name: _frozen(values[item.name]) for item in fields(kind) if item.name in values}
    return kind(**known) if needed <= set(known) else None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def size_of(path: Path) -> int:
    """Return the bytes of a file that need not exist yet."""
    return path.stat().st_size if path.exists() else 0


def read_events(path: Path, offset: int = 0, most_bytes: int = -1) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines from ``offset`` (bytes) on and where the next one begins; damaged lines are left out.

    No line is read that begins ``most_bytes`` or more after ``offset``; -1 reads all.
    """
    if size_of(path) <= offset:
        return [], offset
    with open(path, "rb") as handle:
        handle.seek(offset)
        content = handle.read(most_bytes)
        if not content.endswith(b"\n"):
            content += handle.readline()
    end = content.rfind(b"\n") + 1
    return list(_parsed(content[:end].splitlines())), offset + end


def tail_of(path: Path, offset: int, most_bytes: int) -> list[dict[str, Any]]:
    """Return the events of the last ``most_bytes`` of a file, those before ``offset`` left out."""
    # where the tail begins within a line, half of it is no JSON and is left out
    return read_events(path, max(offset, size_of(path) - most_bytes))[0]


def last_start(path: Path) -> int:
    """Return where (bytes) the latest run of this file begins: its line RunStarted; 0 where there is none."""
    if not size_of(path):
        return 0
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return max(content.rfind(_head("RunStarted")), 0)


def events_named(path: Path, names: Iterable[str], offset: int) -> list[dict[str, Any]]:
    """Return the events of these kinds from ``offset`` on, in the order of the file, without parsing any other."""
    if size_of(path) <= offset:
        return []
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        places = sorted(place for name in names for place in _places(content, _head(name), offset))
        lines = [content[place : content.find(b"\n", place) + 1] for place in places]
    return list(_parsed(lines))


def _head(name: str) -> bytes:
    return json.dumps({"event": name})[:-1].encode()


def _places(content: mmap.mmap, head: bytes, offset: int) -> Iterator[int]:
    place = content.find(head, offset)
    while place >= 0:
        yield place
        place = content.find(head, place + 1)


def _no_number(name: str) -> NoReturn:
    # NaN and Infinity are no JSON: a browser could not read them
    raise ValueError(name)


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            values = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and "event" in values:
            yield values
