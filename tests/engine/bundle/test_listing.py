"""Lists of checksums and their comparison, counted by hand and against sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow
from bouton.engine.bundle.listing import compare, read_listing, write_listing
from bouton.engine.bundle.sources import PIECE_BYTES, PIECES, look_at, sample
from bouton.engine.context import step_folder
from bouton.errors import DataError
from engine.flows import shapes_flow

PARTS = ("smooth", "merge", "above", "label", "profile", "finish")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flow = shapes_flow()
    summary = run_workflow(flow, tmp_path_factory.mktemp("runs"), executor="serial")
    return summary.folder / step_folder(flow.steps[1]) / "ledger.sqlite"


@pytest.fixture(scope="module")
def rows(ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    target = tmp_path_factory.mktemp("listing") / "x.jsonl"
    count = write_listing(ledger, target)
    found = list(read_listing([target.read_bytes()], "x"))
    assert count == len(found) == len({row[0] for row in found})
    assert found == sorted(found)
    return found


def test_a_listing_names_every_file(ledger: Path, rows: list[tuple]) -> None:
    root = ledger.parent
    known = {"step.json", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"}
    on_disk = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - known
    assert {row[0] for row in rows} <= on_disk
    assert {row[1] for row in rows} >= set(PARTS)
    assert all((root / row[0]).stat().st_size == row[3] for row in rows)


def test_equal(ledger: Path, rows: list[tuple]) -> None:
    found = compare("smooth", rows, ledger, PARTS)
    assert (found.equal, found.differs, found.missing, found.extra, found.first) == (len(rows), 0, 0, 0, None)
    assert found.is_same


def test_every_kind_of_difference_is_counted_and_the_earliest_part_is_named(ledger: Path, rows: list[tuple]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        kinds = rng.choice(["equal", "differs", "missing", "extra"], len(rows), p=[0.7, 0.1, 0.1, 0.1])
        listed = []
        for row, kind in zip(rows, kinds, strict=True):
            if kind == "differs":
                row = (*row[:4], "0" * 64)
            elif kind == "missing":
                row = (row[0] + ".gone", *row[1:])
            if kind != "extra":
                listed.append(row)
        found = compare("smooth", listed, ledger, PARTS)
        counts = {kind: int((kinds == kind).sum()) for kind in ("equal", "differs", "missing", "extra")}
        assert (found.equal, found.differs, found.missing) == (counts["equal"], counts["differs"], counts["missing"])
        # a file under another name is missing under the one and beyond under the other
        assert found.extra == counts["extra"] + counts["missing"]
        wrong = [
            (PARTS.index(r[1]), r[2]) for r, k in zip(rows, kinds, strict=True) if k in ("differs", "missing") and r[1]
        ]
        if wrong and found.first is not None and found.first.part:
            assert (PARTS.index(found.first.part), found.first.task) == min(wrong)


def test_the_first_difference_names_block_and_box(ledger: Path, rows: list[tuple]) -> None:
    place = next(i for i, row in enumerate(rows) if row[1] == "smooth" and row[2] == "1-0-1")
    listed = [*rows[:place], (*rows[place][:4], "0" * 64), *rows[place + 1 :]]
    first = compare("smooth", listed, ledger, PARTS).first
    assert str(first) == f"step smooth, smooth 1-0-1, box 4:8,0:5,6:9 (z,y,x): {rows[place][0]} differs"


def test_of_a_step_that_was_not_finished_only_what_both_have_is_compared(ledger: Path, rows: list[tuple]) -> None:
    listed = [("half.parquet", "merge", "level1-0-0-0", 5, "0" * 64), *rows[:10]]
    found = compare("smooth", listed, ledger, PARTS, whole=False)
    assert (found.equal, found.differs, found.missing, found.extra, found.is_same) == (10, 0, 0, 0, True)
    listed[3] = (*listed[3][:4], "0" * 64)
    found = compare("smooth", listed, ledger, PARTS, whole=False)
    assert (found.equal, found.differs, found.first.path) == (9, 1, listed[3][0])


def test_a_path_that_steers_a_terminal_is_shown_as_text(ledger: Path) -> None:
    row = ("a\x1b[2J", "smooth", "0-0-0", 1, "0" * 64)
    assert "\\x1b[2J missing" in str(compare("smooth", [row], ledger, PARTS).first)


def test_a_step_that_never_began_misses_everything(rows: list[tuple], tmp_path: Path) -> None:
    found = compare("smooth", rows, tmp_path / "ledger.sqlite", PARTS)
    assert (found.equal, found.missing) == (0, len(rows))


def test_lines_may_be_cut_anywhere(rows: list[tuple]) -> None:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    for size in (1, 7, 64, 10**6):
        assert list(read_listing([content[i : i + size] for i in range(0, len(content), size)], "x")) == rows


@pytest.mark.parametrize(
    "line",
    [b"nothing", b"{}", b"[1,2,3,4,5]", b'["a","b","c",-1,"d"]', b'["a","b","c",1]', b'["a","b","c",true,"d"]',
     b'["a","b","c",1e3,"d"]', b"[" * 100_000, b'["a","b","c",99999999999999999999,"d"]', b"\xff\xfe"],
)  # fmt: skip
def test_a_hostile_line_is_told(line: bytes) -> None:
    with pytest.raises(DataError, match=r"x"):
        list(read_listing([b'["a","b","c",1,"d"]\n', line + b"\n"], "x"))


def test_a_sample_sees_sizes_names_and_every_longer_change(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder = tmp_path / "v"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(rng.bytes(50 << 20))
    size = 100 << 20
    assert size > PIECES * PIECE_BYTES
    before = look_at(folder)
    assert (before.bytes, before.files) == (size, 2)
    with (folder / "b").open("r+b") as file:
        file.seek(int(rng.integers(40 << 20)))
        file.write(bytes(size // PIECES))
    changed = sample(folder)
    assert changed != before.sample
    (folder / "b").rename(folder / "c")
    assert sample(folder) != changed


def test_a_small_source_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    for content in (b"", b"abc"):
        path.write_bytes(content)
        found = look_at(path)
        assert found.content
        assert found.sample
    one = found.sample
    path.write_bytes(b"abd")
    assert sample(path) != one
