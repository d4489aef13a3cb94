"""The scale page's arithmetic: where laws meet limits, numbers with prefixes, rows counted in files, the page."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bouton.volume import write_table

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("scale")
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (999.0, "999"), (1e3, "1 k"), (2.5e12, "2.5 T"), (9.996e11, "1 T"), (3e15, "3 P")],
)
def test_prefixes(scale: ModuleType, value: float, text: str) -> None:
    assert scale.si(value) == text
    assert scale.si(value, "B") == text + ("B" if text[-1].isalpha() else " B")


def test_a_limit_breaks_where_its_law_meets_it(scale: ModuleType) -> None:
    def limit(need: object, at: object) -> float:
        return scale.Limit("what", "law", "text", "mends", need, at).volume()

    assert limit(lambda v: 8 * v, 8e12) == pytest.approx(1e12, rel=0.06)
    # quadratic against work: 1e-9 v^2 = 3 v
    assert limit(lambda v: 1e-9 * v * v, lambda v: 3 * v) == pytest.approx(3e9, rel=0.06)
    assert limit(lambda v: v ** (2 / 3), 1e8) == pytest.approx(1e12, rel=0.06)
    assert math.isinf(limit(lambda v: 1.0, 2.0))


def test_rows_are_counted_a_voxel_over_all_places(scale: ModuleType, tmp_path: Path) -> None:
    columns = {"id": "uint64", "score": "float32", "name": "str"}
    for place, rows in (("one", 3), ("two", 5)):
        folder = tmp_path / "demo" / ".probe" / "2-abc" / "step" / place
        (folder / "many").mkdir(parents=True)
        (folder / "step.json").write_text(json.dumps({"bounds_zyx": "0:2,0:10,0:10"}))
        table = {"id": np.arange(rows, dtype=np.uint64), "score": np.zeros(rows, np.float32), "name": ["x"] * rows}
        write_table(folder / "whole.parquet", table, columns)
        for part in ("0-0-0", "0-0-1"):
            write_table(folder / "many" / f"{part}.parquet", table, columns)
    found = scale.Rows(tmp_path)
    assert found.per_voxel("step.whole") == 8 / 400
    assert found.per_voxel("step.many") == 16 / 400
    assert found.bytes_per_voxel("step.whole") == 8 * (8 + 4 + 64) / 400
    assert found.per_voxel("other.table") == 0


def test_the_page_keeps_what_is_outside_of_the_marks(scale: ModuleType) -> None:
    page = "before\n<!-- needs -->\nold\n<!-- end of needs -->\nafter\n"
    new = scale.put(page, "needs", ["| a |", "| b |"])
    assert new == "before\n<!-- needs -->\n| a |\n| b |\n<!-- end of needs -->\nafter\n"
    assert scale.put(new, "needs", ["old"]) == page
    with pytest.raises(SystemExit, match="no marks"):
        scale.put(page, "limits", [])


def test_blocks_on_a_side_make_the_volume(scale: ModuleType) -> None:
    measure = importlib.import_module("scale_measure")
    assert measure.blocks_on_a_side(1e12, (48, 192, 192)) == 83
    assert measure.blocks_on_a_side(10, (48, 192, 192)) == 1


def test_the_disk_is_measured(scale: ModuleType, tmp_path: Path) -> None:
    found = importlib.import_module("scale_measure").measure_disk(tmp_path, files=5, parts=27)
    assert min(found.files_s, found.commits_s, found.stat_s, found.part_s, found.scan_row_s) > 0
    assert list(tmp_path.iterdir()) == []


def test_every_mark_of_the_page_is_written_by_a_table(scale: ModuleType) -> None:
    page = (BENCHMARKS.parent / "docs" / "scale.md").read_text()
    for name in ("command", "figures", "needs", "steps", "limits", "peers"):
        assert scale.put(page, name, ["x"]) != page
