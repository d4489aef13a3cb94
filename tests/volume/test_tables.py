"""Folders of parts, read by box; the names of a table's columns, without its rows; tables as CSV."""

import csv

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.volume import part_file, read_table
from bouton.volume.tables import TableParts, table_columns, write_csv, write_table


def test_columns_of_a_file_and_of_a_folder(tmp_path):
    kinds = {"b": "int64", "a": "str"}
    table = {"b": np.arange(3), "a": np.array(["x", "y", "z"], dtype=object)}
    write_table(tmp_path / "one.parquet", table, kinds)
    for part in ("p_0", "p_1"):
        write_table(tmp_path / "parts" / f"{part}.parquet", table, kinds)
    assert table_columns(tmp_path / "one.parquet") == table_columns(tmp_path / "parts") == ["b", "a"]


def test_what_is_no_table_is_told(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    (tmp_path / "empty").mkdir()
    for name in ("bad.parquet", "none.parquet", "empty"):
        with pytest.raises(DataError, match=name):
            table_columns(tmp_path / name)


def test_csv_by_hand(tmp_path):
    table = {"a": np.array([-1, 2]), "b": np.array([np.nan, 0.1]), "c": np.array(["=1+1", "fine"], object)}
    write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "a,b,c\n-1,,'=1+1\n2,0.1,fine\n"
    write_csv(tmp_path / "none.csv", {name: values[:0] for name, values in table.items()})
    assert (tmp_path / "none.csv").read_text() == "a,b,c\n"


def test_csv_keeps_every_digit_and_text(tmp_path):
    rng = np.random.default_rng(0)
    texts = np.array(["a,b", 'q"t', "two\nlines", "", "plain", "'"], object)
    table = {
        "id": rng.integers(0, 2**64 - 1, 300, dtype=np.uint64, endpoint=True),
        "value": rng.normal(size=300) * 10.0 ** rng.integers(-300, 300, 300),
        "text": texts[rng.integers(0, len(texts), 300)],
    }
    write_csv(tmp_path / "t.csv", table)
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == table["id"].tolist()
    assert [float(row["value"]) for row in rows] == table["value"].tolist()
    assert [row["text"] for row in rows] == table["text"].tolist()


@pytest.mark.parametrize("first", "=+-@\t\r")
def test_no_text_of_a_csv_runs_as_a_formula(tmp_path, first):
    write_csv(tmp_path / "t.csv", {"text": np.array([f"{first}cmd", "=", f"x{first}"], object)})
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == [f"'{first}cmd", "'=", f"x{first}"]


def _write_part(folder, name, value):
    write_table(folder / name, {"value": np.array([value])}, {"value": "int64"})


def test_parts_over_a_box_are_those_that_share_a_voxel(tmp_path):
    rng = np.random.default_rng(0)
    starts, shapes = rng.integers(0, 30, (60, 3)), rng.integers(0, 9, (60, 3))
    boxes = [Box(tuple(a), tuple(b)) for a, b in zip(starts.tolist(), (starts + shapes).tolist(), strict=True)]
    for number, box in enumerate(boxes):
        _write_part(tmp_path, part_file(f"p{number}", box), number)
    no_boxes = ("q.parquet", "q_1-2_3-4.parquet", f"q_0-1_0-1_0-{10**20}.parquet")
    for number, name in enumerate(no_boxes, 60):
        _write_part(tmp_path, name, number)
    parts = TableParts(tmp_path)
    assert parts.read()["value"].tolist() == read_table(tmp_path)["value"].tolist()
    assert sorted(parts.read()["value"]) == list(range(63))
    for start, shape in zip(rng.integers(0, 35, (40, 3)).tolist(), rng.integers(0, 12, (40, 3)).tolist(), strict=True):
        over = Box(tuple(start), tuple(a + b for a, b in zip(start, shape, strict=True)))
        wanted = [number for number, box in enumerate(boxes) if not (box & over).is_empty]
        found = parts.read(over)["value"].tolist()
        assert found[: len(wanted)] == wanted and sorted(found[len(wanted) :]) == [60, 61, 62]
        assert read_table(tmp_path, over)["value"].tolist() == found


def test_parts_are_listed_once_and_each_is_opened_anew(tmp_path):
    _write_part(tmp_path, "a_0-2_0-2_0-2.parquet", 1)
    parts = TableParts(tmp_path)
    _write_part(tmp_path, "b_0-2_0-2_0-2.parquet", 2)
    assert parts.read()["value"].tolist() == [1]
    assert TableParts(tmp_path).read()["value"].tolist() == [1, 2]
    (tmp_path / "a_0-2_0-2_0-2.parquet").unlink()
    with pytest.raises(DataError, match=r"a_0-2_0-2_0-2\.parquet.*no such file|no such file.*a_0-2"):
        parts.read()
    with pytest.raises(DataError, match="no part lies over the box"):
        parts.read(Box((5, 5, 5), (6, 6, 6)))


def test_a_lost_node_of_an_octree_is_told(tmp_path):
    for node in ("t-level0-0_0-2_0-2_0-2", "t-level0-1_2-4_0-2_0-2", "t-level1-0_0-4_0-2_0-2"):
        _write_part(tmp_path, f"{node}.parquet", 0)
    assert len(TableParts(tmp_path).read()["value"]) == 3
    (tmp_path / "t-level0-1_2-4_0-2_0-2.parquet").unlink()
    with pytest.raises(DataError, match="parts of t are missing"):
        TableParts(tmp_path)
