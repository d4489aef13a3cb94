"""``bouton sweep`` on a run: its scores are those of relabelled volumes; its files, warnings and refusals."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bouton import open_run
from bouton.cli.main import main
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import adapted_rand, variation_of_information
from bouton.evaluate.skeletons import overlap, skeleton_scores
from bouton.geometry import Box
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.volume import read_table

SIZE = np.array([30.0, 10.0, 10.0])
BOX = Box((2, 0, 3), (12, 48, 48))
STEPS = {
    "fragments": {"stage": "fragments", "reads": {"affinities": "aff"}, "params": {"low": 0.3}},
    "agglomeration": {
        "stage": "agglomeration",
        "reads": {"affinities": "aff", "fragments": "fragments"},
        "params": {"floor": 0.1, "min_size_voxels": 4, "small_affinity": 0.6},
    },
    "segmentation": {
        "stage": "segmentation",
        "reads": {"fragments": "fragments", "merges": "agglomeration.merges"},
    },
    "scores": {
        "stage": "evaluate_segmentation",
        "reads": {"segmentation": "segmentation", "truth": "truth"},
        "bounds_zyx": "0:2,0:48,0:48",
    },
}


def bouton(*words: object) -> int:
    """Run the command line in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 5, (2, 3, 3)), np.ones((6, 16, 16), np.int64)).astype(np.uint64)
    inside = np.stack([np.roll(truth, 1, axis) == truth for axis in range(3)])
    affinities = np.clip(rng.normal(np.where(inside, 170, 60), 50), 0, 255).astype(np.uint8)
    np.save(folder / "aff.npy", affinities)
    np.save(folder / "truth.npy", truth)
    data = {name: {"path": f"{name}.npy", "voxel_size_nm": SIZE.tolist()} for name in ("aff", "truth")}
    tree = {"name": "t", "block_zyx": [8, 24, 24], "data": data, "steps": STEPS}
    (folder / "t.yaml").write_text(yaml.safe_dump(tree))
    assert bouton("run", folder / "t.yaml", "--executor", "serial", "--runs", folder / "runs") == 0
    return folder / "runs" / "t"


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert bouton("sweep", *words) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Return exit status and the one line that a bad command ends with."""
    capsys.readouterr()
    status = bouton("sweep", *words)
    error = capsys.readouterr().err
    assert error.startswith("bouton: ")
    assert error.count("\n") == 1
    return status, error


def test_every_threshold_scores_like_the_relabelled_volume(made, tmp_path, capsys):
    options = ("--truth", "truth", "--bounds-zyx", BOX, "--out", tmp_path, "--replicates", 50)
    found = json.loads(said(capsys, made, *options, "--json"))
    run = open_run(made)
    merges = run.table("agglomeration.merges")
    fragments = run.volume("fragments").read(BOX)
    truth = np.load(made.parents[1] / "truth.npy")[BOX.slices]
    skeletons = read_table(tmp_path / "skeletons.parquet")
    voxel = np.floor(np.stack([skeletons[f"{a}_nm"] for a in "zyx"], axis=1) / SIZE).astype(int) - BOX.start
    assert np.array_equal(truth[tuple(voxel[:, i] for i in range(3))], skeletons["skeleton"])
    assert len(voxel) > 3
    rows = found["thresholds"]
    assert [row["threshold"] for row in rows] == [round(0.9 - 0.02 * i, 2) for i in range(41)]
    assert len({row["segments"] for row in rows}) > 5
    for row in rows:
        segments = relabel(fragments, *cut(merges, row["threshold"]))
        table = count_pairs(truth, segments)
        voi, rand = variation_of_information(table), adapted_rand(table)
        assert row["voi_split"] == pytest.approx(voi.split, abs=1e-12)
        assert row["voi_merge"] == pytest.approx(voi.merge, abs=1e-12)
        assert row["adapted_rand_error"] == pytest.approx(rand.error, abs=1e-12)
        scores = skeleton_scores(overlap(skeletons, segments[tuple(voxel[:, i] for i in range(3))]))
        values = {score.metric: score.value for score in scores}
        assert row["erl_tolerance_0"] == pytest.approx(values["erl_tolerance_0"])
        assert row["erl_tolerance_5"] == pytest.approx(values["erl_tolerance_5"])
    best = found["recommended"]
    assert best["value"] == min(row["voi_sum"] for row in rows)
    assert best["low"] <= best["threshold"] <= best["high"]
    assert found["bootstrap"]["replicates"] == 50


def test_files_words_and_warnings(made, tmp_path, capsys):
    words = said(capsys, made, "--bounds-zyx", BOX, "--out", tmp_path, "--metric", "adapted_rand_error", "--seed", 3)
    assert "recommended threshold" in words
    assert "by adapted_rand_error (95 % of bootstraps: " in words
    assert "Report scores on other voxels" in words
    # the step "scores" reports sections 0 and 1
    assert "would flatter it" not in words.replace("\n", " ")
    with (tmp_path / "sweep.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 41
    assert float(table[0]["adapted_rand_error_low"]) <= float(table[0]["adapted_rand_error_high"])
    assert Image.open(tmp_path / "sweep.png").size[0] > 800
    words = said(capsys, made, "--no-skeletons", "--thresholds", "0.3:0.8:0.1", "--replicates", 20)
    assert "a threshold chosen here would flatter it" in words.replace("\n", " ")
    assert "ERL" not in words.split("VOI in bits")[0]
    assert (made / "sweep" / "sweep.png").is_file()
    assert not (made / "sweep" / "skeletons.parquet").exists()
    # sections too thin to hold a skeleton: said, and swept without
    words = said(capsys, made, "--bounds-zyx", "0:1,0:2,0:48", "--thresholds", "0.3,0.5", "--out", tmp_path / "thin")
    assert "no skeleton" in words
    # one threshold: its scores, and nothing to recommend
    words = said(capsys, made, "--thresholds", 0.5, "--out", tmp_path / "one")
    assert "recommended" not in words
    assert "warning: 0.5 is the end" not in words


def test_the_truth_by_path_and_skeletons_from_files(made, tmp_path, capsys):
    truth = made.parents[1] / "truth.npy"
    swc = tmp_path / "7.swc"
    # x, y, z in um; the last node lies outside
    nodes = [(0.035, 0.045, 0.105), (0.075, 0.045, 0.105), (0.115, 0.045, 0.105), (9, 9, 9)]
    swc.write_text("".join(f"{i} 0 {x} {y} {z} 1 {i - 1 or -1}\n" for i, (x, y, z) in enumerate(nodes, 1)))
    options = ("--skeletons", swc, "--swc-unit-nm", 1000, "--out", tmp_path, "--thresholds", "0.2,0.6", "--json")
    found = json.loads(said(capsys, made, "--truth", truth, *options))
    run = open_run(made)
    assert found["bootstrap"]["skeletons"] == 1
    for row in found["thresholds"]:
        segments = relabel(run.volume("fragments")[:], *cut(run.table("agglomeration.merges"), row["threshold"]))
        at = segments[3, 4, [3, 7, 11]]
        runs = {s: sum(40.0 for a, b in pairwise(at) if a == b == s) for s in set(at.tolist()) - {0}}
        assert row["erl_tolerance_0"] == pytest.approx(sum(v * v for v in runs.values()) / 80)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--thresholds", "0.05:0.5:0.1"], 2, "at least 0.1"),
        (["--thresholds", "a:b"], 2, "start:stop:step"),
        (["--thresholds", "0.5:0.2:0.1"], 2, "start:stop:step"),
        (["--thresholds", "0.1:0.9:0"], 2, "start:stop:step"),
        (["--thresholds", "nan"], 2, "start:stop:step"),
        (["--truth", "truht"], 2, "did you mean truth?"),
        (["--bounds-zyx", "0:13,0:48,0:48"], 2, "0:12,0:48,0:48"),
        (["--metric", "voi"], 2, "adapted_rand_error"),
        (["--metric", "erl_tolerance_0", "--no-skeletons"], 2, "give skeletons"),
        (["--skeletons", "x.swc", "--no-skeletons"], 2, "leave one out"),
        (["--skeletons", "x.swc"], 3, "x.swc"),
        (["--step", "fragments"], 2, "no merge history"),
    ],
)
def test_what_cannot_be_swept_is_named(made, capsys, options, status, said):
    code, error = refused(capsys, made, *options)
    assert (code, said in error) == (status, True), error


def test_other_shapes_and_skeletons_elsewhere_are_named(made, tmp_path, capsys):
    np.save(tmp_path / "small.npy", np.ones((4, 4, 4), np.uint64))
    code, error = refused(capsys, made, "--truth", tmp_path / "small.npy")
    assert (code, "the same voxels" in error) == (3, True), error
    (tmp_path / "far.swc").write_text("1 0 1e6 1e6 1e6 1 -1\n2 0 1e6 1e6 2e6 1 1\n")
    code, error = refused(capsys, made, "--skeletons", tmp_path / "far.swc")
    assert (code, "--swc-unit-nm" in error) == (3, True), error
