"""``bouton densities sample``: the right blocks and boxes, and nothing public that gives the key away."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bouton.cli.densities_sample import command
from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.volume.density_columns import OUTLIER_COLUMNS
from bouton.volume.skeletons import read_nml
from bouton.volume.webknossos import read_annotation
from cli.calling import call
from cli.density_run import SIDE, densities, density_run
from fake_run import VOXEL_SIZE_NM

PUBLIC = ("answers.csv", "sample.json", "tasks.csv", "tasks.html", "tasks.nml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return density_run(tmp_path / "runs" / "cortex", densities()).folder


def sampled(run: Path, out: Path, *more: object) -> dict:
    call(command, run, "--low", 5, "--high", 5, "--out", out, *more)
    return json.loads((out / "key.json").read_text())


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_extreme_blocks_are_chosen(run: Path, tmp_path: Path) -> None:
    key = sampled(run, tmp_path / "check", "--control", 4, "--seed", 3)
    tasks = key["tasks"]
    for group, counts in (("low", {3}), ("high", {150})):
        chosen = [n for n, g in zip(tasks["synapses"], tasks["group"], strict=True) if g == group]
        assert len(chosen) == 5 and set(chosen) == counts
    assert tasks["group"].count("control") == 4
    assert sorted(path.name for path in (tmp_path / "check").iterdir()) == sorted((*PUBLIC, "key.json"))
    assert key["read_me"].startswith("Do not open before scoring")


def test_nml_opens_with_the_right_boxes(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "check"
    key = sampled(run, out, "--blind")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(out / "tasks.nml", "tasks.nml")
    annotation = read_annotation(tmp_path / "a.zip")
    assert annotation.voxel_size_nm == VOXEL_SIZE_NM and annotation.dataset == "cortex"
    places = zip(*(key["tasks"][f"block_{axis}"] for axis in "zyx"), strict=True)
    for (name, box), place in zip(annotation.boxes.items(), places, strict=True):
        start = tuple(i * n for i, n in zip(place, SIDE, strict=True))
        assert box == Box(start, tuple(a + n for a, n in zip(start, SIDE, strict=True))), name
    assert list(annotation.boxes)[:2] == ["task 001", "task 002"]
    nodes = read_nml(out / "tasks.nml")
    first = next(iter(annotation.boxes.values()))
    middle = [((a + b) // 2 + 0.5) * s for a, b, s in zip(first.start, first.stop, VOXEL_SIZE_NM, strict=True)]
    assert [nodes[f"{axis}_nm"][0] for axis in "zyx"] == pytest.approx(middle)
    assert 'topLeftX="' + str(first.start[2]) in (out / "tasks.nml").read_text()


def test_nothing_public_gives_the_key_away(tmp_path: Path) -> None:
    """Counts of this table are numbers that nothing else in the files is."""
    table = densities()
    table["synapses"][:5], table["synapses"][-5:] = 7919, 104_729
    table["all_synapses"][:5], table["all_synapses"][-5:] = 7927, 104_743
    run = density_run(tmp_path / "runs" / "cortex", table).folder
    out = tmp_path / "check"
    key = sampled(run, out, "--seed", 15_485_863)
    for name in PUBLIC:
        text = (out / name).read_text().lower()
        for word in ("7919", "104729", "7927", "104743", "15485863", "low", "high", "control", "outlier", "density"):
            if word == "low" and name == "tasks.html":
                text = text.replace("overflow", "").replace("yellow", "")
            assert word not in text, (name, word)
    head = rows(out / "tasks.csv")[0].keys()
    assert list(head) == ["task", "z_start", "z_stop", "y_start", "y_stop", "x_start", "x_stop", "link"]
    # what differs between the groups in the public files is the place alone
    assert len({row["task"] for row in rows(out / "tasks.csv")}) == len(key["tasks"]["task"]) == 10


def test_open_tells_why(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "check"
    key = sampled(run, out, "--open")
    assert [row["group"] for row in rows(out / "tasks.csv")] == key["tasks"]["group"]
    assert "low, 4 detected" in (out / "tasks.html").read_text()


def test_links_show_the_box_and_the_image_alone(run: Path, tmp_path: Path) -> None:
    sampled(run, tmp_path / "check")
    row = rows(tmp_path / "check" / "tasks.csv")[0]
    box = ",".join(f"{row[f'{axis}_start']}:{row[f'{axis}_stop']}" for axis in "zyx")
    assert f"box={box.replace(':', '%3A').replace(',', '%2C')}&lines=0" in row["link"]
    assert "layer=em&" in row["link"] and "run=cortex" in row["link"]
    assert row["link"].replace("&", "&amp;") in (tmp_path / "check" / "tasks.html").read_text()


def test_a_run_without_image_has_no_links(tmp_path: Path) -> None:
    run = density_run(tmp_path / "cortex", densities(), image=False).folder
    sampled(run, tmp_path / "check")
    assert {row["link"] for row in rows(tmp_path / "check" / "tasks.csv")} == {""}


def test_seeds(run: Path, tmp_path: Path) -> None:
    one, two, new = (sampled(run, tmp_path / name, *more)["tasks"]
                     for name, more in (("a", ["--seed", 1]), ("b", ["--seed", 1]), ("c", [])))  # fmt: skip
    assert one == two
    assert new["block_x"] != one["block_x"] or new["block_y"] != one["block_y"]


def test_outliers_are_taken_in_their_order(tmp_path: Path) -> None:
    table = densities()
    run = density_run(tmp_path / "cortex", table)
    chosen = np.arange(20, 40)
    outliers = {name: table[name][chosen] for name in OUTLIER_COLUMNS if name in table}
    outliers |= {name: np.full(20, 0.01) for name in ("expected", "p", "q")}
    outliers["side"] = np.array(["low", "high"] * 10, object)
    run.table(
        run.step("uniformity", "uniformity", reads={"densities": "densities"}), "outliers", outliers, OUTLIER_COLUMNS
    )
    run.save()
    tasks = sampled(run.folder, tmp_path / "check", "--max-masked-share", 1)["tasks"]
    low = {x + 14 * y for x, y, g in zip(tasks["block_x"], tasks["block_y"], tasks["group"], strict=True) if g == "low"}
    assert low == {20, 22, 24, 26, 28}
    key = json.loads((tmp_path / "check" / "key.json").read_text())
    assert key["chosen_by"] == "the table of outliers"
    call(command, run.folder, "--low", 30, "--high", 5, "--out", tmp_path / "more")
    assert "surprising" in json.loads((tmp_path / "more" / "key.json").read_text())["chosen_by"]


def test_refusals(run: Path, tmp_path: Path) -> None:
    sampled(run, tmp_path / "check")
    with pytest.raises(DataError, match="exists already"):
        sampled(run, tmp_path / "check")
    with pytest.raises(SpecError, match="2000 blocks wanted of 336"):
        call(command, run, "--low", 1000, "--high", 1000, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(SpecError, match="no blocks to look at"):
        call(command, run, "--low", 0, "--high", 0, "--out", tmp_path / "x")
    with pytest.raises(DataError, match="no table of densities of a step other"):
        call(command, run, "--step", "other", "--out", tmp_path / "x")
    table = tmp_path / "t.parquet"
    table.write_bytes(next((run / "densities").rglob("*.parquet")).read_bytes())
    with pytest.raises(SpecError, match="expected one run"):
        call(command, table, "--out", tmp_path / "x")
