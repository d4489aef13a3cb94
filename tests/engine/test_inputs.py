"""What tasks read: a folder of parts is listed once for all blocks of a worker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.engine.context import InputPlace, make_context
from bouton.engine.inputs import Inputs
from bouton.errors import DataError, RunError
from bouton.geometry import Box
from bouton.volume import part_file, write_table
from engine.flows import shapes_flow

NEAR, FAR = Box((0, 0, 0), (2, 2, 2)), Box((4, 4, 4), (6, 6, 6))


def _inputs(folder: Path) -> Inputs:
    flow = shapes_flow()
    context = make_context(flow, flow.steps[1], folder / "run")
    return Inputs(
        replace(context, inputs={"rows": InputPlace(str(folder / "rows"), is_table=True)}),
        flow.steps[1].stage,
        flow.steps[1].params,
    )


def _write(folder: Path, box: Box, value: int) -> None:
    write_table(folder / "rows" / part_file("rows", box), {"value": np.array([value])}, {"value": "int64"})


def test_a_folder_of_parts_is_listed_once(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    with pytest.raises(DataError, match=r"input rows .*: no such file"):
        inputs.table("rows", NEAR)
    (tmp_path / "rows").mkdir()
    with pytest.raises(DataError, match=r"input rows .*, box 0:2,0:2,0:2 .*: no \.parquet file"):
        inputs.table("rows", NEAR)
    _write(tmp_path, NEAR, 1)
    _write(tmp_path, FAR, 2)
    assert inputs.table("rows", NEAR)["value"].tolist() == [1]
    # A part that comes now would be seen by whoever lists the folder again.
    _write(tmp_path, FAR.shift((1, 0, 0)), 3)
    assert inputs.table("rows", FAR)["value"].tolist() == [2]
    assert inputs.reads == [("rows", f"table@{NEAR}"), ("rows", f"table@{FAR}")]


def test_a_table_in_one_file_is_read_whole(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    write_table(tmp_path / "rows", {"value": np.arange(4)}, {"value": "int64"})
    assert inputs.table("rows", NEAR)["value"].tolist() == [0, 1, 2, 3]
    (tmp_path / "rows").unlink()
    assert list(inputs.table("rows")) == ["value"]
    assert inputs.reads == [("rows", "table")] * 2


def test_nothing_is_read_where_nobody_waits(tmp_path: Path) -> None:
    """An input may reach beyond the bounds of the step that reads it: there its blocks need not be done."""
    inputs = _inputs(tmp_path)
    inputs.context = replace(inputs.context, bounds_zyx="0:4,0:4,0:4")
    inputs.reach = Box((0, 0, 0), (4, 4, 2))
    inputs.check_reach("image", Box((1, 1, 0), (4, 4, 2)))
    for box in (Box((0, 0, 0), (4, 4, 3)), Box((0, 0, 0), (5, 4, 2)), Box((4, 4, 0), (6, 6, 2))):
        with pytest.raises(RunError, match="a box inside of 0:4,0:4,0:2"):
            inputs.check_reach("image", box)
