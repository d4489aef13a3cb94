"""Synapses from Parquet, CSV, CAVE tables, RAMON tables and NML: one set of columns, and errors that name the row."""

import os
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume.synapse_columns import POSITION_COLUMNS, SYNAPSE_COLUMNS
from bouton.volume.synapse_nml import write_synapse_nml
from bouton.volume.synapse_tables import read_synapse_file, read_synapses, write_cave_table
from bouton.volume.tables import read_table, write_csv, write_table

DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
SIZE = (40.0, 4.0, 8.0)


def synapses(rows=40, seed=0):
    rng = np.random.default_rng(seed)
    table = {"id": np.uint64(2**62) + rng.permutation(rows).astype(np.uint64)}
    for side in ("", "pre_", "post_"):
        for axis, size in zip("zyx", SIZE, strict=True):
            table[f"{side}{axis}_nm"] = (rng.integers(0, 500, rows) + 0.5) * size
    # Greater than what a double holds: an id that goes through float comes back changed.
    table |= {name: rng.integers(2**60, 2**63, rows).astype(np.uint64) * 2 + 1 for name in ("pre_id", "post_id")}
    table |= {"size_voxels": rng.integers(1, 10**6, rows), "score": rng.random(rows)}
    table["type"] = rng.choice(np.array(["unknown", "excitatory", "inhibitory"], dtype=object), rows)
    table["target"] = rng.choice(np.array(["unknown", "spine", "shaft", "soma"], dtype=object), rows)
    return {name: table[name] for name in SYNAPSE_COLUMNS}


def same(back, table):
    assert list(back) == list(SYNAPSE_COLUMNS)
    for name, kind in SYNAPSE_COLUMNS.items():
        assert back[name].dtype == (object if kind == "str" else kind)
        np.testing.assert_array_equal(back[name], table[name], err_msg=name)


def write_as(style, path, table):
    if style == "parquet":
        write_table(path, table, SYNAPSE_COLUMNS)
    elif style == "csv":
        write_csv(path, table)
    elif style == "nml":
        write_synapse_nml(path, table, SIZE)
    else:
        write_cave_table(path, table, SIZE)


FILES = [
    ("parquet", "a.parquet"),
    ("csv", "a.csv"),
    ("nml", "a.nml"),
    ("cave", "c.csv"),
    ("cave", "c.parquet"),
]


@pytest.mark.parametrize(("style", "name"), FILES)
def test_every_format_gives_back_the_same_table(tmp_path, style, name):
    table = synapses()
    write_as(style, tmp_path / name, table)
    same(read_synapses(tmp_path / name, SIZE), table)


@pytest.mark.parametrize(("style", "name"), FILES)
def test_no_synapses_are_a_table_without_rows(tmp_path, style, name):
    table = synapses(0)
    write_as(style, tmp_path / name, table)
    same(read_synapses(tmp_path / name, SIZE), table)


@pytest.mark.parametrize(("style", "name"), FILES)
def test_places_that_are_not_known_stay_unknown(tmp_path, style, name):
    table = synapses(5)
    for axis in "zyx":
        table[f"pre_{axis}_nm"][2] = np.nan
    write_as(style, tmp_path / name, table)
    same(read_synapses(tmp_path / name, SIZE), table)


@pytest.mark.parametrize(("style", "name"), FILES)
def test_columns_that_are_no_synapse_s_are_named(tmp_path, style, name):
    table = synapses(5)
    assert style == "cave" or not left_out(style, tmp_path / f"plain-{name}", table)
    more = table | {"cleft_id": table["id"], "p_spine": np.linspace(0, 1, 5)}
    found = left_out(style, tmp_path / name, more)
    fragments = ["pre_pt_supervoxel_id", "post_pt_supervoxel_id"]
    assert found == (fragments if style == "cave" else ["cleft_id", "p_spine"])


def left_out(style, path, table):
    if style == "parquet":
        write_table(
            path,
            table,
            SYNAPSE_COLUMNS | {name: table[name].dtype.name for name in table if name not in SYNAPSE_COLUMNS},
        )
    else:
        write_as(style, path, table)
    back, names = read_synapse_file(path, SIZE)
    same(back, table)
    return names


def test_a_folder_of_parts_is_one_table(tmp_path):
    table = synapses()
    for part, rows in (("a_0", slice(0, 10)), ("a_1", slice(10, None))):
        write_table(tmp_path / "parts" / f"{part}.parquet", {k: v[rows] for k, v in table.items()}, SYNAPSE_COLUMNS)
    same(read_synapses(tmp_path / "parts"), table)


def test_a_cave_table_holds_voxels_x_y_z(tmp_path):
    table = synapses(3)
    table["pre_fragment"] = np.array([7, 8, 9], dtype=np.uint64)
    write_cave_table(tmp_path / "c.csv", table, SIZE)
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0].replace('"', "").split(",") == [
        "id", "pre_pt_position", "pre_pt_supervoxel_id", "pre_pt_root_id", "ctr_pt_position", "post_pt_position",
        "post_pt_supervoxel_id", "post_pt_root_id", "size", "score", "type", "target",
    ]  # fmt: skip
    place = [int(table[f"pre_{axis}_nm"][0] // size) for axis, size in zip("xyz", (8, 4, 40), strict=True)]
    assert lines[1].startswith(f'{table["id"][0]},"[{place[0]}, {place[1]}, {place[2]}]",7,{table["pre_id"][0]},')
    write_cave_table(tmp_path / "c.parquet", table, SIZE)
    assert read_table(tmp_path / "c.parquet")["pre_pt_position"][0].tolist() == place


def test_cave_tables_as_caveclient_writes_them(tmp_path):
    path = tmp_path / "query.csv"
    path.write_text(
        ",id,created,pre_pt_supervoxel_id,pre_pt_root_id,post_pt_root_id,size,pre_pt_position,post_pt_position,"
        "ctr_pt_position\n"
        "0,5,2020-11-04,1,864691135000000001,864691135000000003,1000,[10 20 30],[14 24 32],[12 22 31]\n"
        '1,6,2020-11-04,1,864691135000000005,0,8,"[10.5, 20, 30]","(1, 2, 3)",\n'
    )
    table = read_synapses(path, (40, 4, 4))
    assert table["id"].tolist() == [5, 6] and table["size_voxels"].tolist() == [1000, 8]
    assert table["pre_id"].tolist() == [864691135000000001, 864691135000000005]
    # A broken number among the places of pre: there they are points, elsewhere whole voxels.
    assert [table[f"pre_{axis}_nm"].tolist() for axis in "zyx"] == [[1200, 1200], [80, 80], [40, 42]]
    assert [table[f"post_{axis}_nm"].tolist() for axis in "zyx"] == [[1300, 140], [98, 10], [58, 6]]
    assert table["x_nm"].tolist() == [50, 24]
    split = tmp_path / "split.csv"
    split.write_text("id,pre_pt_position_x,pre_pt_position_y,pre_pt_position_z,post_pt_position_x,"
                     "post_pt_position_y,post_pt_position_z\n1,1,2,3,4,5,6\n")  # fmt: skip
    assert read_synapses(split, (40, 4, 4))["z_nm"].tolist() == [(3.5 + 6.5) / 2 * 40]


def test_a_cave_table_needs_the_voxel_size_and_the_right_one(tmp_path):
    write_cave_table(tmp_path / "c.csv", synapses(3), SIZE)
    with pytest.raises(DataError, match=r"c\.csv: a CAVE table.*--voxel-size-nm"):
        read_synapses(tmp_path / "c.csv")
    write_cave_table(tmp_path / "c.parquet", synapses(3), SIZE)
    same(read_synapses(tmp_path / "c.parquet"), synapses(3))
    with pytest.raises(DataError, match=r"\[40, 4, 4\].*\[40, 4, 8\]"):
        read_synapses(tmp_path / "c.parquet", (40, 4, 4))


def test_what_a_file_does_not_have(tmp_path):
    (tmp_path / "a.csv").write_text("z_nm,y_nm,x_nm\n1,2,3\n4,5,6\n")
    table = read_synapses(tmp_path / "a.csv")
    assert table["id"].tolist() == [1, 2] and table["score"].tolist() == [1, 1]
    assert table["pre_id"].tolist() == [0, 0] and table["size_voxels"].tolist() == [0, 0]
    assert np.isnan(table["post_z_nm"]).all() and set(table["type"]) == set(table["target"]) == {"unknown"}
    (tmp_path / "b.csv").write_text(f"{','.join(POSITION_COLUMNS[3:])},score,type\n1,2,3,5,6,7,,\n")
    table = read_synapses(tmp_path / "b.csv")
    assert [table[f"{axis}_nm"][0] for axis in "zyx"] == [3, 4, 5] and table["score"][0] == 1
    (tmp_path / "c.csv").write_text(f"{','.join(POSITION_COLUMNS)}\n,,,1,2,3,5,6,7\nnan,nan,nan,1,2,3,5,6,7\n")
    assert read_synapses(tmp_path / "c.csv")["x_nm"].tolist() == [5, 5]


def test_kasthuri_s_table_in_micrometres():
    path = DATA / "kasthuri2015_synapses" / "kasthuri2015_synapse_table.csv"
    if not path.is_file():
        pytest.skip(f"no {path} (BOUTON_DATA)")
    table = read_synapses(path)
    assert len(table["id"]) == 1700
    first = [table[name][0] for name in ("id", "pre_id", "post_id")]
    assert first == [1, 16492, 10017]
    np.testing.assert_allclose([table[f"{axis}_nm"][0] for axis in "zyx"], [31380, 48020, 26640])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("z_nm,y_nm,x_nm\n1,2,3\n4,five,6\n", ["a.csv:3", "y_nm 'five'", "a number"]),
        ("z_nm,y_nm,x_nm\n1,2,3\n4,,6\n", ["a.csv:3", "no y_nm"]),
        ("z_nm,y_nm,x_nm\n1,2,inf\n", ["a.csv:2", "no x_nm"]),
        (f"{','.join(POSITION_COLUMNS)}\n1,2,nan,1,2,3,5,6,7\n", ["a.csv:2", "no x_nm, but z_nm"]),
        (f"{','.join(POSITION_COLUMNS)}\n,,,1,2,3,5,6,7\n1,2,3,1,2,3,5,,7\n", ["a.csv:3", "no post_y_nm"]),
        (f"z_nm,y_nm,{','.join(POSITION_COLUMNS[3:])}\n1,2,1,2,3,5,6,7\n", ["a.csv", "no column x_nm"]),
        ("id,pre_pt_position_x,pre_pt_position_y,pre_pt_position_z\n1,2,,3\n", ["a.csv:2", "no pre_y_nm"]),
        ("z_nm,y_nm,x_nm,score\n1,2,3,0.5\n1,2,3,143\n", ["a.csv:3", "score 143", "0 to 1", "scale"]),
        ("z_nm,y_nm,x_nm,score\n1,2,3,-0.1\n", ["a.csv:2", "score -0.1"]),
        ("id,z_nm,y_nm,x_nm\n7,2,3,4\n8,2,3,4\n7,2,3,4\n", ["a.csv:4", "id 7 a second time", "a.csv:2"]),
        ("id,z_nm,y_nm,x_nm\n0,2,3,4\n", ["a.csv:2", "id 0"]),
        ("id,z_nm,y_nm,x_nm\n-1,2,3,4\n", ["a.csv:2", "id '-1'", "whole number"]),
        ("id,z_nm,y_nm,x_nm\n1.5,2,3,4\n", ["a.csv:2", "id '1.5'", "whole number"]),
        ("pre_id,z_nm,y_nm,x_nm\n18446744073709551616,2,3,4\n", ["a.csv:2", "pre_id"]),
        ("z_nm,y_nm,x_nm,type\n1,2,3,exitatory\n", ["a.csv:2", "type 'exitatory'", "excitatory, inhibitory"]),
        ("z_nm,y_nm,x_nm,target\n1,2,3,axon\n", ["a.csv:2", "target 'axon'", "spine, shaft, soma"]),
        ("z_nm,y_nm,x_nm,score\n1,2,3,nan\n", ["a.csv:2", "score"]),
        ("z_nm,y_nm,x_nm,size_voxels\n1,2,3,-4\n", ["a.csv:2", "negative size"]),
        ("z,y,x\n1,2,3\n", ["a.csv", "columns z, y, x", "z_nm, y_nm, x_nm"]),
        ("z_nm,y_nm,x_nm\n1,2\n", ["a.csv", "damaged"]),
        ("", ["a.csv", "damaged"]),
        ("id,pre_pt_position\n1,[1 2]\n", ["a.csv:2", "pre_pt_position", "[x, y, z]"]),
        ("id,pre_pt_position_x\n1,2\n", ["a.csv", "no column pre_pt_position_z"]),
        ("SynapseID,FromSegmentID,ToSegmentID,xPosition\n1,2,3,4\n", ["a.csv", "no column zPosition"]),
    ],
)  # fmt: skip
def test_bad_rows_are_named(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_synapses(tmp_path / "a.csv", (40, 4, 4))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_ids_that_went_through_float_are_refused(tmp_path):
    table = synapses(3)
    kinds = SYNAPSE_COLUMNS | {"pre_id": "float64"}
    write_table(tmp_path / "a.parquet", table | {"pre_id": np.array([1.0, np.nan, 3.0])}, kinds)
    with pytest.raises(DataError, match=r"row 2: pre_id 'nan'.*whole number"):
        read_synapses(tmp_path / "a.parquet")
    write_table(tmp_path / "a.parquet", table | {"pre_id": np.array([1, 2, -3])}, SYNAPSE_COLUMNS | {"pre_id": "int64"})
    with pytest.raises(DataError, match=r"row 3: pre_id '-3'"):
        read_synapses(tmp_path / "a.parquet")


def test_files_that_are_no_tables_are_told(tmp_path):
    for name in ("a.parquet", "a.nml", "a.zip", "a.txt"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(DataError, match=name):
            read_synapses(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_synapses(tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"suffix '\.xls'"):
        write_cave_table(tmp_path / "a.xls", synapses(1), SIZE)
