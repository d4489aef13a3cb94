"""The names of a table's columns, without its rows; tables as CSV."""

import csv

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume.tables import table_columns, write_csv, write_table


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
