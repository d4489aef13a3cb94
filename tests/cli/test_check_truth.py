"""``bouton check-truth`` on files."""

import csv
import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bouton.cli.check_truth import command
from bouton.errors import DataError, SpecError
from bouton.volume.synapse_tables import read_synapses
from cli.calling import call

SIZE = (30.0, 10.0, 10.0)
COLUMNS = [
    "id", "z_nm", "y_nm", "x_nm", "pre_id", "post_id", "pre_z_nm", "pre_y_nm", "pre_x_nm", "post_z_nm", "post_y_nm",
    "post_x_nm", "type",
]  # fmt: skip

PLAN = """
name: tiny
voxel_size_nm: [30, 10, 10]
network: {widths: [4, 6], kernels: [[1, 3, 3], [3, 3, 3]], pools: [[1, 2, 2]]}
data:
  - {seeds: [3, 4], shape_zyx: [20, 50, 60]}
patch_zyx: [4, 16, 16]
training: {steps: 50}
prediction: {tile_zyx: [4, 16, 16], overlap_zyx: [0, 4, 4]}
"""


def rows(n=12):
    """Synapses across the border of two cells at y = 50 voxels, one every 30 voxels along x."""
    found = []
    for i in range(n):
        x = (30 * i + 20) * 10.0
        found.append([i + 1, 300.0, 500.0, x, 1, 2, 300.0, 440.0, x, 300.0, 560.0, x, "excitatory"])
    return found


def write(path, table):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *table])
    return path


@pytest.fixture
def cells(tmp_path):
    ids = np.ones((20, 100, 400), np.uint32)
    ids[:, 50:] = 2
    path = tmp_path / "cells.npy"
    np.save(path, ids)
    return path


def asked(output):
    return sorted((row["suspicion"], row["id"]) for row in json.loads(output)["suspects"])


def test_a_clean_truth(tmp_path, cells):
    output = call(command, write(tmp_path / "t.csv", rows()), "--cells", cells, "--voxel-size-nm", "30,10,10", "--json")
    assert json.loads(output) == {"suspects": []}


def test_errors_by_hand_are_found_and_written(tmp_path, cells):
    table = rows()
    table[2][5] = 1
    table[4][8], table[4][11] = 4300.0, 4300.0
    table[6][6:9] = table[6][9:12]
    out = tmp_path / "questions"
    arguments = [write(tmp_path / "t.csv", table), "--cells", cells, "--voxel-size-nm", "30,10,10", "--out", out]
    found = asked(call(command, *arguments, "--json"))
    assert ("same_cell", 3) in found and ("other_cell", 7) in found and ("far_partner", 5) in found
    assert {number for _, number in found} == {3, 5, 7}
    with (out / "suspects.csv").open() as file:
        assert sorted((row["suspicion"], int(row["id"])) for row in csv.DictReader(file)) == found
    assert len(read_synapses(out / "suspects.nml", SIZE)["id"]) == len(found)
    assert (out / "suspects.nml").read_text().count('name="same_cell"') == 1
    shown = call(command, *arguments)
    assert "12 true synapses" in shown and "same_cell" in shown and "suspects.nml" in shown


def test_a_truth_in_other_units_is_told_with_both_extents(tmp_path, cells):
    table = [[row[0], *(v / 10 for v in row[1:4]), *row[4:6], *(v / 10 for v in row[6:12]), row[12]] for row in rows()]
    words = (cells, "--voxel-size-nm", "30,10,10")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    found = [
        CliRunner().invoke(app, [str(w) for w in (write(tmp_path / name, each), "--cells", *words)]).stderr
        for name, each in (("voxels.csv", table), ("nm.csv", rows()))
    ]
    assert found[0].count("\n") == 1 and "12 of 12 synapses do not fit the volume" in found[0]
    assert "they lie at z 30 to 30, y 50 to 50, x 20 to 350 nm" in found[0]
    assert "the volume at z 0 to 600, y 0 to 1000, x 0 to 4000 nm" in found[0]
    assert found[1] == ""


def test_detections_and_a_second_annotator(tmp_path, cells):
    first, second = rows(), rows()[:-2]
    second[0][12] = "inhibitory"
    second[1][6:12] = second[1][9:12] + second[1][6:9]
    second[1][4:6] = 2, 1
    truth, other = write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)
    base = [truth, "--cells", cells, "--voxel-size-nm", "30,10,10", "--margin-nm", "50", "--json"]
    found = asked(call(command, *base, "--detections", other))
    assert found == [("not_detected", 11), ("not_detected", 12), ("other_type", 1), ("reversed", 2)]
    agreed = json.loads(call(command, *base, "--second", other))["agreement"]
    assert agreed["levels"]["location"] == pytest.approx({"f1": 20 / 22, "both": 10, "first_only": 2, "second_only": 0})
    assert agreed["levels"]["partners"]["both"] == 9
    assert "Two annotators" in call(command, *base[:-1], "--second", other)


def test_leaks_into_the_training(tmp_path, cells):
    (tmp_path / "phantoms.yaml").write_text(PLAN)
    truth = write(tmp_path / "t.csv", rows())
    base = [truth, "--voxel-size-nm", "30,10,10", "--training", tmp_path / "phantoms.yaml", "--json"]
    leaked = json.loads(call(command, *base, "--bounds-zyx", "10:20,0:100,0:400", "--phantom-seed", 4))["leaks"]
    assert [leak["shared_voxels"] for leak in leaked] == [10 * 50 * 60]
    assert json.loads(call(command, *base, "--bounds-zyx", "10:20,0:100,0:400", "--phantom-seed", 5))["leaks"] == []
    near = json.loads(call(command, *base, "--bounds-zyx", "21:40,0:100,0:400", "--phantom-seed", 4))["leaks"]
    assert [leak["shared_voxels"] for leak in near] == [0]
    forest = PLAN[: PLAN.index("network")] + "forest: {}\n" + PLAN[PLAN.index("data:") : PLAN.index("patch")]
    (tmp_path / "forest.yaml").write_text(forest)
    words = [truth, "--voxel-size-nm", "30,10,10", "--training", tmp_path / "forest.yaml", "--json"]
    leaked = json.loads(call(command, *words, "--bounds-zyx", "10:20,0:100,0:400", "--phantom-seed", 4))["leaks"]
    assert [leak["shared_voxels"] for leak in leaked] == [10 * 50 * 60]
    shown = call(command, *base[:-1], "--bounds-zyx", "10:20,0:100,0:400", "--phantom-seed", 4)
    assert "LEAK" in shown and "seed 4" in shown


def test_bad_input(tmp_path, cells):
    truth = write(tmp_path / "t.csv", rows())
    with pytest.raises(SpecError, match="bounds"):
        call(command, truth, "--cells", cells, "--voxel-size-nm", "30,10,10", "--bounds-zyx", "0:30,0:100,0:400")
    with pytest.raises(SpecError, match="voxel size"):
        call(command, truth, "--bounds-zyx", "0:30,0:100,0:400")
    with pytest.raises(DataError, match="no"):
        call(command, tmp_path / "absent.csv")
    for option in ("--max-distance-nm", "--margin-nm", "--near-nm"):
        with pytest.raises(AssertionError, match="greater than or equal to 0"):
            call(command, truth, option, "nan")
    with pytest.raises(SpecError, match=r"margin_nm = inf.*finite"):
        call(command, truth, "--margin-nm", "inf")
    with pytest.raises(SpecError, match="--training"):
        call(command, truth, "--training", tmp_path / "plan.yaml")
    table = rows()
    table[3][0] = 1
    with pytest.raises(DataError, match="1"):
        call(command, write(tmp_path / "twice.csv", table))
