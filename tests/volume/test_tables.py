"""The names of a table's columns, without its rows."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume.tables import table_columns, write_table


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
