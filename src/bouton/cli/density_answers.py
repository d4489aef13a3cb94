"""The folder of a blinded check: its key, and the sheet that people filled in."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bouton.cli.densities_sample import ANSWER_COLUMNS, ANSWERS, KEY, SAMPLE, sheet_name
from bouton.errors import DataError
from bouton.volume import checksum
from bouton.volume.files import disk_errors

if TYPE_CHECKING:
    from bouton.density.blind_score import Answers, Tasks

NEEDED = ("sheet", "task", "synapses", "usable")
USABLE = {"yes": "yes", "y": "yes", "no": "no", "n": "no", "unsure": "unsure", "": ""}
MOST = 1_000_000
"""More synapses in one block are a slip of the pen."""


@dataclass(frozen=True)
class Check:
    """A blinded check: its sheet, names of its tasks, what the key tells of them, and the run they are of."""

    sheet: str
    names: tuple[str, ...]
    tasks: Tasks
    run: str


@dataclass(frozen=True)
class _Row:
    line: int
    synapses: float
    usable: str
    matched: float


def read_check(folder: Path) -> Check:
    """Read the key of a blinded check.

    Raises
    ------
    DataError
        The folder holds none, or the key was changed after the tasks were written.
    """
    from bouton.density.blind_score import Tasks

    path = folder / KEY
    sample, key = (_json(file) for file in (folder / SAMPLE, path))
    if checksum(path) != sample.get("key_checksum"):
        raise DataError(
            "the key is not the one that was written with the tasks", where=str(path),
            expected=f"the checksum in {SAMPLE}", fix="take the key from the folder that bouton densities sample wrote",
        )  # fmt: skip
    tasks = key["tasks"]
    groups = np.array(tasks["group"], dtype=object)
    detected = np.array(tasks["all_synapses"], np.int64)
    volume = np.array(tasks["unmasked_um3"], np.float64)
    place = np.stack([np.array(tasks[f"block_{axis}"], np.int64) for axis in "zyx"], axis=1)
    known = Tasks(groups, detected, volume, float(key["rate_um3"]), place)
    return Check(sheet_name(sample["key_checksum"]), tuple(tasks["task"]), known, str(key["run"]))


def _json(path: Path) -> dict:
    fix = "bouton densities sample RUN --out DIR writes it"
    try:
        with disk_errors(path):
            found = json.loads(path.read_bytes())
    except ValueError:
        raise DataError("no JSON, or damaged", where=str(path), fix=fix) from None
    except DataError as error:
        raise DataError(error.found, where=str(path), expected="the folder of a blinded check", fix=fix) from None
    if not isinstance(found, dict):
        raise DataError("no JSON object", where=str(path), fix=fix)
    return found


def read_answers(path: Path, check: Check) -> Answers:
    """Read a sheet of answers, in order of the tasks.

    Columns may come in any order and be separated by commas, semicolons or tabs. Rows may be missing.

    Raises
    ------
    DataError
        A row is wrong, of an unknown task, or the second of its task; the message names its line.
    """
    from bouton.density.blind_score import Answers

    rows = _rows(path, check)
    nothing = _Row(0, np.nan, "", np.nan)
    found = [rows.get(i, nothing) for i in range(len(check.names))]
    return Answers(
        np.array([row.synapses for row in found]),
        np.array([row.usable for row in found], dtype=object),
        np.array([row.matched for row in found]),
    )


def unanswered(check: Check, answers: Answers) -> list[str]:
    """Return the names of tasks without an answer."""
    return [name for name, usable in zip(check.names, answers.usable, strict=True) if not usable]


def _rows(path: Path, check: Check) -> dict[int, _Row]:
    numbers = {int(name): i for i, name in enumerate(check.names)}
    found: dict[int, _Row] = {}
    for line, fields in _lines(path):
        where = f"{path}, line {line}"
        name = fields["task"]
        if fields["sheet"].lower() != check.sheet:
            raise DataError(
                f"a row of sheet {fields['sheet']!r}", where=where,
                expected=f"{check.sheet}: other samples number their tasks alike",
                fix="score it in the folder that it came with",
            )  # fmt: skip
        # Spreadsheets make 7 of 007.
        task = numbers.get(int(name)) if name.isdecimal() else None
        if task is None:
            raise DataError(
                f"unknown task {name!r}", where=where, expected=f"one of {check.names[0]} to {check.names[-1]}"
            )
        if task in found:
            raise DataError(
                f"task {name} twice", where=where,
                expected=f"one row for each; the first is in line {found[task].line}",
                fix="keep the row that is right",
            )  # fmt: skip
        found[task] = _row(fields, line, where)
        _check_matched(found[task], int(check.tasks.detected[task]), where)
    return found


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield each line that is not empty, by number, as a mapping of column -> text without blanks around it."""
    try:
        with disk_errors(path):
            text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("no UTF-8 text", where=str(path), expected="a CSV file", fix="save it as CSV UTF-8") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=separator)
    head = [name.strip().lower() for name in next(reader, [])]
    _check_head(head, path)
    for fields in reader:
        if any(field.strip() for field in fields):
            if len(fields) != len(head):
                raise DataError(
                    f"{len(fields)} fields", where=f"{path}, line {reader.line_num}",
                    expected=f"{len(head)}, as in the head",
                    fix='put a comment that holds separators in "quotes"',
                )  # fmt: skip
            yield reader.line_num, {name: field.strip() for name, field in zip(head, fields, strict=True)}


def _check_head(head: Sequence[str], path: Path) -> None:
    missing = [name for name in NEEDED if name not in head]
    doubled = [name for name in head if head.count(name) > 1]
    if missing or doubled:
        found = f"no column {missing[0]!r}" if missing else f"column {doubled[0]!r} twice"
        raise DataError(
            found, where=f"{path}, line 1", expected=",".join(ANSWER_COLUMNS), fix=f"start from {ANSWERS} of the folder"
        )


def _row(fields: Mapping[str, str], line: int, where: str) -> _Row:
    usable = USABLE.get(fields["usable"].lower())
    if usable is None:
        raise DataError(f"usable {fields['usable']!r}", where=where, expected="yes, no or unsure")
    synapses = _count(fields["synapses"], "synapses", where)
    matched = _count(fields.get("matched", ""), "matched", where)
    if usable == "" and not np.isnan(synapses):
        raise DataError("synapses without a word in usable", where=where, expected="usable: yes, no or unsure")
    if usable == "yes" and np.isnan(synapses):
        raise DataError("usable, but no number of synapses", where=where, expected="a number; 0 where there are none")
    return _Row(line, synapses, usable, matched)


def _check_matched(row: _Row, detected: int, where: str) -> None:
    """Refuse more matches than there are synapses on either side."""
    most = min(row.synapses if not np.isnan(row.synapses) else 0, detected)
    if row.matched > most:
        raise DataError(
            f"{row.matched:.0f} matched", where=where, expected="at most the person's synapses, and the detected ones"
        )


def _count(text: str, name: str, where: str) -> float:
    if not text:
        return float("nan")
    if not (text.isascii() and text.isdecimal()) or int(text) > MOST:
        raise DataError(f"{name} {text!r}", where=where, expected=f"a whole number from 0 to {MOST:,}, or nothing")
    return float(text)
