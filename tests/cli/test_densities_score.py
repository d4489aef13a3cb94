"""``bouton densities score``: answers joined with the key, and bad sheets refused with their lines."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from bouton.cli.densities_sample import command as sample
from bouton.cli.densities_sample import sheet_name
from bouton.cli.densities_score import command
from bouton.errors import DataError
from cli.calling import call
from cli.density_run import densities, density_run


@pytest.fixture
def check(tmp_path: Path) -> Path:
    run = density_run(tmp_path / "cortex", densities()).folder
    call(sample, run, "--low", 5, "--high", 5, "--control", 10, "--out", tmp_path / "check")
    return tmp_path / "check"


def key_of(check: Path) -> dict[str, list]:
    return json.loads((check / "key.json").read_text())["tasks"]


def sheet_of(check: Path) -> str:
    return sheet_name(json.loads((check / "sample.json").read_text())["key_checksum"])


def fill(check: Path, share: float = 0.8, skip: int = 0) -> None:
    """Answer as somebody who counts ``1 / share`` synapses for a detected one; leave the last ``skip`` out."""
    tasks = key_of(check)
    lines, sheet = ["sheet,task,synapses,usable,matched,comment"], sheet_of(check)
    for name, count in list(zip(tasks["task"], tasks["all_synapses"], strict=True))[: len(tasks["task"]) - skip]:
        lines.append(f"{sheet},{name},{round(count / share)},yes,,")
    (check / "answers.csv").write_text("\n".join(lines) + "\n")


def scored(check: Path, *more: object) -> dict[str, dict]:
    found = json.loads(call(command, check, "--json", *more))
    return {row["test"]: row for row in found["findings"]} | {"all": found}


def test_a_careful_person_confirms_true_outliers(check: Path) -> None:
    fill(check)
    found = scored(check)
    assert found["confirmed, low"]["value"] == found["clearly confirmed, high"]["value"] == 1
    assert found["confirmed, low"]["low"] < 0.7
    assert found["detector over person, control"]["value"] == pytest.approx(0.8, abs=0.02)
    assert found["high over low"]["p"] < 0.01
    assert found["all"]["unanswered"] == []
    told = call(command, check)
    assert "clearly confirmed, low" in told and "Blinded check" in told and "not answered" not in told


def test_numbers_and_heads_are_whole_in_a_narrow_window(check: Path) -> None:
    fill(check)
    app = Typer()
    app.command()(command)
    wide, told = (CliRunner().invoke(app, [str(check)], env={"COLUMNS": width}).stdout for width in ("140", "60"))
    assert max(map(len, told[: told.index("┘")].splitlines())) <= 60
    assert "blocks" in told and "95 % interval" in told and "value" in told and "…" not in told
    of_wide, of_told = (re.findall(r" [\d.e+-]+ (?=[│-])", text) for text in (wide, told))
    assert of_told == of_wide and len(of_told) > 30


def test_missing_answers_are_named(check: Path) -> None:
    fill(check, skip=3)
    assert scored(check)["all"]["unanswered"] == key_of(check)["task"][-3:]
    assert "not answered: 3 of 20: 018, 019, 020" in call(command, check)


def test_spreadsheets_of_many_kinds(check: Path) -> None:
    fill(check)
    expected = scored(check)
    rows = list(csv.DictReader((check / "answers.csv").read_text().splitlines()))
    lines = ["Usable;Sheet;Comment;Task;Synapses"]
    lines += [f'Yes;{row["sheet"].upper()};"a; b";{int(row["task"])};{row["synapses"]} ' for row in rows]
    other = check.parent / "filled.csv"
    other.write_bytes(("\ufeff" + "\r\n".join([*lines, ";;;;", ""])).encode())
    assert scored(check, "--answers", other) == expected


def line(check: Path, number: int, text: str) -> None:
    path = check / "answers.csv"
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("999,5,yes,,", r"line 4: unknown task '999'"),
        ("first,5,yes,,", r"line 4: unknown task 'first'"),
        ("001,5,yes,,", r"line 4: task 001 twice; .* first is in line 2"),
        ("003,-5,yes,,", r"line 4: synapses '-5'"),
        ("003,5.5,yes,,", r"line 4: synapses '5.5'"),
        ("003,many,yes,,", r"line 4: synapses 'many'"),
        ("003,99999999,yes,,", r"line 4: synapses '99999999'"),
        ("003,5,maybe,,", r"line 4: usable 'maybe'; expected yes, no or unsure"),
        ("003,5,,,", r"line 4: synapses without a word in usable"),
        ("003,,yes,,", r"line 4: usable, but no number of synapses"),
        ("003,5,yes,6,", r"line 4: 6 matched"),
        ("003,5,yes", r"line 4: 4 fields; expected 6"),
        ("003,5,yes,,good, but dark", r"line 4: 7 fields; expected 6"),
    ],
)
def test_wrong_rows_are_refused_with_their_line(check: Path, text: str, told: str) -> None:
    fill(check)
    line(check, 4, f"{sheet_of(check)},{text}")
    with pytest.raises(DataError, match=told):
        call(command, check)


def test_wrong_heads_and_files(check: Path) -> None:
    with pytest.raises(DataError, match="no task is answered"):
        call(command, check)
    fill(check)
    line(check, 1, "sheet,task,count,usable,matched,comment")
    with pytest.raises(DataError, match="line 1: no column 'synapses'"):
        call(command, check)
    line(check, 1, "sheet,task,synapses,usable,usable,comment")
    with pytest.raises(DataError, match="column 'usable' twice"):
        call(command, check)
    (check / "answers.csv").write_bytes(b"\xff\xfe\x00task")
    with pytest.raises(DataError, match="no UTF-8 text"):
        call(command, check)
    with pytest.raises(DataError, match="no such file"):
        call(command, check, "--answers", check / "none.csv")
    with pytest.raises(DataError, match="folder of a blinded check"):
        call(command, check.parent)


def test_a_key_that_was_changed_is_refused(check: Path) -> None:
    fill(check)
    path = check / "key.json"
    path.write_text(path.read_text().replace('"low"', '"high"', 1))
    with pytest.raises(DataError, match="not the one that was written with the tasks"):
        call(command, check)
    path.write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        call(command, check)


def test_matched_gives_precision_and_recall(check: Path) -> None:
    tasks = key_of(check)
    lines, sheet = ["sheet,task,synapses,usable,matched"], sheet_of(check)
    random = np.random.default_rng(1)
    for name, count in zip(tasks["task"], tasks["all_synapses"], strict=True):
        matched = int(random.binomial(count, 0.9))
        lines.append(f"{sheet},{name},{round(matched / 0.75)},yes,{matched}")
    (check / "answers.csv").write_text("\n".join(lines) + "\n")
    found = scored(check)
    assert found["precision, control"]["value"] == pytest.approx(0.9, abs=0.04)
    assert found["recall, control"]["value"] == pytest.approx(0.75, abs=0.02)


def test_the_sheet_of_another_sample_is_refused(check: Path, tmp_path: Path) -> None:
    fill(check)
    call(sample, tmp_path / "cortex", "--low", 5, "--high", 5, "--control", 10, "--out", tmp_path / "second")
    with pytest.raises(DataError, match=f"line 2: a row of sheet '{sheet_of(check)}'"):
        call(command, tmp_path / "second", "--answers", check / "answers.csv")
