"""Reading a log of events that is being written, has torn lines, or was written by another version."""

from __future__ import annotations

import json
from pathlib import Path

from bouton.engine.event_file import event_of, events_named, last_start, read_events, tail_of
from bouton.engine.events import RunStarted, StepStarted, TasksDone, to_json

FIRST = RunStarted("demo", "runs/demo", ("a", "b"), "serial", 1)
SECOND = RunStarted("demo", "runs/demo", ("a",), "processes", 2)
STEP = StepStarted("a", "predict", "cafe")


def line(event: object) -> bytes:
    # one time for all: lines of one event are then equally long
    return json.dumps({**to_json(event), "time": 1.5}).encode() + b"\n"  # type: ignore[arg-type]


def test_an_event_comes_back_as_it_was() -> None:
    assert event_of(json.loads(line(FIRST))) == FIRST
    values = json.loads(line(STEP))
    assert event_of(values | {"of_the_future": 3}) == STEP
    del values["key"]
    assert event_of(values) is None
    assert event_of({"event": "Rumour"}) is None


def test_only_whole_lines_are_read_and_reading_goes_on_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert read_events(path) == ([], 0)
    path.write_bytes(line(FIRST) + line(STEP)[:20])
    events, offset = read_events(path)
    assert [values["event"] for values in events] == ["RunStarted"]
    assert offset == len(line(FIRST))
    path.write_bytes(path.read_bytes()[:offset] + line(STEP))
    events, offset = read_events(path, offset)
    assert [event_of(values) for values in events] == [STEP]
    assert read_events(path, offset) == ([], offset)


def test_the_latest_run_is_found_and_its_rare_events_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert last_start(path) == 0
    # a coordinator that was killed left half a line; the next one began with a newline
    first = line(FIRST) + line(STEP) + line(TasksDone("a", "x", 1, 1)) + b'{"event": "StepStarted", "st\n'
    path.write_bytes(first + line(SECOND) + 50 * line(TasksDone("a", "x", 1, 1)) + line(STEP))
    assert last_start(path) == len(first)
    found = events_named(path, ("RunStarted", "StepStarted"), last_start(path))
    assert [event_of(values) for values in found] == [SECOND, STEP]
    assert [values["event"] for values in events_named(path, ("StepStarted",), 0)] == ["StepStarted", "StepStarted"]
    tail = tail_of(path, 0, len(line(STEP)) + 10)
    assert [event_of(values) for values in tail] == [STEP]
    assert len(tail_of(path, last_start(path), 10**9)) == 52


def test_a_bite_ends_with_a_whole_line_however_long(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    long = line(StepStarted("a" * 5000, "predict", "cafe"))
    path.write_bytes(line(FIRST) + long + line(STEP))
    places = [0]
    while (offset := read_events(path, places[-1], 10)[1]) > places[-1]:
        places.append(offset)
    assert places == [0, len(line(FIRST)), len(line(FIRST)) + len(long), path.stat().st_size]


def test_what_a_browser_could_not_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "TasksDone", "time": NaN}\n' + b"[" * 100_000 + b"\n" + line(STEP))
    assert [values["event"] for values in read_events(path)[0]] == ["StepStarted"]
