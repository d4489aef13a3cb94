"""Skeleton files: SWC, NML, Parquet; axes, units, and what is wrong with them."""

import os
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate import skeletons as kernel
from bouton.volume.skeletons import SKELETON_COLUMNS, read_nml, read_skeletons, read_swc, write_skeletons

DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
NML = """<?xml version="1.0" encoding="utf-8"?>
<things>
  <parameters><experiment name="x"/><scale unit="{unit}" x="11.0" y="12.0" z="25.0"/></parameters>
  <thing id="5" name="one">
    <nodes><node id="2" x="0.0" y="1.0" z="2.0"/><node id="3" x="3" y="1" z="2"/><node id="4" x="4" y="1" z="2"/>
    <node id="9" x="40" y="1" z="2"/></nodes>
    <edges><edge source="3" target="2"/><edge source="2" target="4"/>{more}</edges>
  </thing>
  <thing id="6"><nodes/><edges/></thing>
</things>
"""


def nml(path, unit="nanometer", more=""):
    path.write_text(NML.format(unit=unit, more=more))
    return path


def test_swc_flips_axes_and_scales(tmp_path):
    file = tmp_path / "123.swc"
    file.write_text("# comment\n\n1 0 1.0 2.0 3.0 0.5 -1\n 2 0 4 5 6 0.5 1\n7 2 8 9 10 1 2\n")
    table = read_swc(file, unit_nm=1000)
    assert list(table) == list(SKELETON_COLUMNS) == list(kernel.SKELETON_COLUMNS)
    assert table["skeleton"].tolist() == [123] * 3
    assert table["node"].tolist() == [1, 2, 7]
    assert table["parent"].tolist() == [-1, 1, 2]
    assert [table[f"{a}_nm"].tolist() for a in "zyx"] == [[3000, 6000, 10000], [2000, 5000, 9000], [1000, 4000, 8000]]
    assert {name: values.dtype.name for name, values in table.items()} == SKELETON_COLUMNS


def test_nml_is_in_voxels_with_the_centre_in_the_middle(tmp_path):
    table = read_nml(nml(tmp_path / "a.nml"))
    assert table["skeleton"].tolist() == [5] * 4
    assert table["node"].tolist() == [2, 3, 4, 9]
    assert table["parent"].tolist() == [-1, 2, 2, -1]
    assert table["z_nm"].tolist() == [62.5] * 4
    assert table["y_nm"].tolist() == [18.0] * 4
    assert table["x_nm"].tolist() == [5.5, 38.5, 49.5, 445.5]
    assert read_nml(nml(tmp_path / "b.nml", "micrometer"))["z_nm"][0] == 62500.0


def test_several_files_and_folders(tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    for name in ("10.swc", "9.swc", "neuron.swc"):
        (folder / name).write_text("1 0 1 2 3 1 -1\n2 0 1 2 9 1 1\n")
    table = read_skeletons([folder, nml(tmp_path / "a.nml")])
    # a name that is no number: its place among the files
    assert sorted(set(table["skeleton"].tolist())) == [3, 5, 9, 10]
    write_skeletons(tmp_path / "s.parquet", table)
    again = read_skeletons([tmp_path / "s.parquet"])
    assert all(np.array_equal(again[name], table[name]) for name in SKELETON_COLUMNS)
    kernel.overlap(table, np.ones(len(table["node"]), np.uint64))
    with pytest.raises(DataError, match="skeleton 5 is also in"):
        read_skeletons([tmp_path / "a.nml", tmp_path / "s.parquet"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.swc", "1 0 1 2 3\n", "a.swc:1"),
        ("a.swc", "# nothing\n", "no node"),
        ("a.swc", "1 0 x 2 3 1 -1\n", "number type x y z"),
        ("a.swc", "1 0 nan 2 3 1 -1\n", "number type x y z"),
        ("a.swc", f"{10**30} 0 1 2 3 1 -1\n", "number type x y z"),
        ("a.nml", NML.format(unit="nm", more="").replace('"40"', '"inf"'), "inf is no place"),
        ("a.nml", NML.format(unit="nm", more="").replace('id="5"', 'id="-5"'), "damaged or no NML"),
        ("a.nml", "<things>", "damaged or no NML"),
        ("a.nml", "<things><thing id='1'/></things>", "no scale"),
        ("a.nml", NML.format(unit="mile", more=""), "mile"),
        ("a.nml", NML.format(unit="nm", more='<edge source="2" target="77"/>'), "77"),
        ("a.nml", NML.format(unit="nm", more='<edge source="3" target="4"/>'), "ring"),
        ("a.txt", "", "no skeleton file"),
        ("a.parquet", "", "damaged"),
    ],
)
def test_bad_files_are_named(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said) as error:
        read_skeletons([tmp_path / name])
    assert name in str(error.value)


def test_no_file_and_no_skeleton_in_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"none\.swc"):
        read_skeletons([tmp_path / "none.swc"])
    with pytest.raises(DataError, match="no skeleton in the folder"):
        read_skeletons([tmp_path])


@pytest.mark.real
def test_files_that_webknossos_wrote():
    folder = DATA / "webknossos_annotations"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set BOUTON_DATA")
    table = read_nml(folder / "generated_skeleton_snapshot.nml")
    assert table["skeleton"].tolist()[:4] == [1, 1, 1, 6]
    assert table["x_nm"][:3].tolist() == [5.5, 38.5, 49.5]
    # 4.0 um in x, 35 um in z
    table = read_nml(folder / "test_a.nml")
    assert table["z_nm"][0] == 3593.5 * 35000
    for file in sorted(folder.glob("*.nml")):
        found = read_nml(file)
        kernel.overlap(found, np.ones(len(found["node"]), np.uint64))
