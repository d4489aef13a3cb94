"""``bouton cut``: mappings against the volumes that the segmentation stage writes, and what cannot be cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from bouton import open_run
from bouton.cli.main import main
from bouton.errors import DataError
from bouton.segment.components import relabel
from bouton.segment.history import DENDROGRAM_COLUMNS
from bouton.volume import read_table, write_table
from bouton.volume.mapping import MAPPING_COLUMNS, read_mapping

READS = {"affinities": "aff", "fragments": "fragments"}
STEPS = {
    "fragments": {"stage": "fragments", "reads": {"affinities": "aff"}},
    "agglomeration": {
        "stage": "agglomeration",
        "reads": dict(READS),
        "params": {"floor": 0.1, "min_size_voxels": 4, "small_affinity": 0.6},
    },
    **{
        f"seg{name}": {
            "stage": "segmentation",
            "reads": {"fragments": "fragments", "merges": "agglomeration.merges"},
            "params": {"threshold": threshold, "dust_voxels": dust},
        }
        for name, threshold, dust in (("low", 0.45, 0), ("high", 0.6, 0), ("clean", 0.6, 40))
    },
}


def bouton(*words: object) -> int:
    """Run the command line in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def make_run(folder: Path, steps: dict, *words: object) -> None:
    tree = {"name": folder.name, "block_zyx": [8, 8, 8], "data": {"aff": {"path": "aff.npy"}}, "steps": steps}
    tree["data"]["aff"]["voxel_size_nm"] = [30, 10, 10]
    affinities = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 16), dtype=np.uint8)
    np.save(folder.parent / "aff.npy", affinities)
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(tree))
    assert bouton("run", file, "--executor", "serial", "--runs", folder.parent / "runs", *words) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut")
    make_run(folder / "t", STEPS)
    return folder / "runs" / "t"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert bouton("cut", *words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Return exit status and the one line that a bad command ends with."""
    capsys.readouterr()
    status = bouton("cut", *words)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return status, error


@pytest.mark.parametrize(
    ("step", "threshold", "dust"), [("seglow", 0.45, 0), ("seghigh", 0.6, 0), ("segclean", 0.6, 40)]
)
def test_a_mapping_makes_the_volume_that_the_stage_writes(
    made: Path, here: Path, capsys: pytest.CaptureFixture[str], step: str, threshold: float, dust: int
) -> None:
    cut = said(capsys, made, "--threshold", threshold, "--dust-voxels", dust)["cuts"][0]
    assert cut["path"] == f"cut-{threshold}.parquet"
    ids, roots = read_mapping(cut["path"])
    run = open_run(made)
    fragments, expected = run.volume("fragments")[...], run.volume(step)[...]
    assert len(ids)
    assert (ids != roots).all()
    assert np.array_equal(relabel(fragments, ids, roots), expected)
    names, voxels = np.unique(expected[expected > 0], return_counts=True)
    assert cut["segments"] == len(names)
    assert cut["fragments"] == len(np.unique(fragments[fragments > 0]))
    assert cut["fragments"] - cut["merges"] == cut["segments"] + cut["dust_segments"]
    best = sorted(zip((-voxels).tolist(), names.tolist(), strict=True))[:5]
    assert [(-row["voxels"], row["id"]) for row in cut["largest"]] == best


def test_every_fragment(made: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, made, "--threshold", 0.6, "--all", "--out", "all.parquet")
    said(capsys, made, "--threshold", 0.6, "--out", "some.parquet")
    fragments = np.unique(open_run(made).volume("fragments")[...])
    every, some = read_mapping("all.parquet"), read_mapping("some.parquet")
    assert np.array_equal(every[0], fragments[fragments > 0])
    assert np.array_equal(relabel(fragments, *every), relabel(fragments, *some))
    assert len(some[0]) < len(every[0])
    assert {name: values.dtype.name for name, values in read_table("all.parquet").items()} == MAPPING_COLUMNS


def test_several_thresholds_into_a_folder(made: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cuts = said(capsys, made, *["--threshold", 0.6, "--threshold", 0.45, "--threshold", 0.6], "--out", "cuts/deep")[
        "cuts"
    ]
    assert [cut["path"] for cut in cuts] == ["cuts/deep/cut-0.6.parquet", "cuts/deep/cut-0.45.parquet"]
    assert cuts[0]["segments"] > cuts[1]["segments"]
    assert all(Path(cut["path"]).is_file() for cut in cuts)


def test_words_say_what_to_do_next(made: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bouton("cut", "t", "--runs", made.parent, "--threshold", 0.6, "--dust-voxels", 40) == 0
    words = capsys.readouterr().out
    for part in ("segments", "are dust", "of small segments", "largest:", "written: cut-0.6.parquet"):
        assert part in words
    assert f"bouton view t --runs {made.parent} --mapping cut-0.6.parquet" in words
    assert (
        f"--segmentation $(bouton path t --runs {made.parent} fragments.fragments) --mapping cut-0.6.parquet" in words
    )


def test_dendrogram(made: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, made, "--dendrogram", "tree.parquet")["cuts"] == []
    tree = read_table("tree.parquet")
    assert {name: values.dtype.name for name, values in tree.items()} == DENDROGRAM_COLUMNS
    assert len(tree["b"]) == len(open_run(made).table("agglomeration.merges")["b"])
    assert tree["small"].any() and (np.diff(tree["small"].astype(int)) <= 0).all()
    assert (np.diff(tree["score"][tree["small"] == 0]) <= 0).all()
    fragments = open_run(made).volume("fragments")[...]
    assert tree["voxels"].max() <= np.count_nonzero(fragments)
    again = Path("tree.parquet").read_bytes()
    said(capsys, made, "--dendrogram", "tree.parquet")
    assert Path("tree.parquet").read_bytes() == again


def test_what_cannot_be_cut(made: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--threshold", 0.6)
    cases = [
        ((made,), 2, "--threshold or --dendrogram"),
        ((made, "--threshold", 0.05), 2, "at least 0.1, where the merge history ends"),
        ((made, *at, "--threshold", 0.05, "--out", "one"), 2, "at least 0.1"),
        ((made, "--threshold", 1.5), 2, "a number from 0 to 1"),
        ((made, "--threshold", "nan"), 2, "a number from 0 to 1"),
        ((made, "--threshold", "much"), 2, "'--threshold'"),
        (("nowhere", *at), 2, "no run 'nowhere'"),
        ((made, *at, "--step", "aglomeration"), 2, "did you mean agglomeration"),
        ((made, *at, "--step", "fragments"), 2, "step fragments holds no merge history"),
        ((made, *at, "--threshold", 0.7, "--out", "one.parquet"), 2, "--out one writes cut-0.6.parquet"),
        ((made, *at, "--out", made / "run.json" / "x"), 3, "run.json"),
        ((made, *at, "--dendrogram", made), 3, str(made)),
    ]
    for words, status, part in cases:
        found = refused(capsys, *words)
        assert found[0] == status and part in found[1], found
    assert not list(here.glob("one*"))


def test_runs_without_one_finished_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--threshold", 0.6, "--out", tmp_path / "x.parquet")
    make_run(tmp_path / "bare", {"fragments": STEPS["fragments"]})
    status, words = refused(capsys, tmp_path / "runs/bare", *at)
    assert status == 2 and "no step holds a merge history" in words
    steps = {name: STEPS[name] for name in ("fragments", "agglomeration")}
    make_run(tmp_path / "two", steps | {"other": {"stage": "agglomeration", "reads": dict(READS)}})
    status, words = refused(capsys, tmp_path / "runs/two", *at)
    assert status == 2 and "merge histories agglomeration, other" in words and "--step" in words
    assert said(capsys, tmp_path / "runs/two", *at, "--step", "other")["step"] == "other"
    info = json.loads((tmp_path / "runs/two/run.json").read_text())
    info["steps"][1]["state"] = "failed"
    (tmp_path / "runs/two/run.json").write_text(json.dumps(info))
    status, words = refused(capsys, tmp_path / "runs/two", *at, "--step", "agglomeration")
    assert status == 3 and "step agglomeration is failed" in words


def test_a_lost_table(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(made, tmp_path / "t")
    table = open_run(run).path("agglomeration.merges")
    shutil.rmtree(table) if table.is_dir() else table.unlink()
    status, words = refused(capsys, run, "--threshold", 0.6)
    assert status == 3 and "merges" in words


def test_mappings_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_table(path, {"root": np.array([1, 2]), "id": np.array([9, 4])}, {"root": "int64", "id": "int64"})
    assert [values.tolist() for values in read_mapping(path)] == [[4, 9], [2, 1]]
    bad = [
        ({"id": [1], "segment": [2]}, "int64", "no column root among id, segment"),
        ({"id": [1, 3, 1], "root": [1, 1, 2]}, "int64", "id 1 has two rows"),
        ({"id": [1.0], "root": [1.0]}, "float64", "float64 values"),
        ({"id": [-1], "root": [1]}, "int64", "no ids"),
    ]
    for columns, dtype, message in bad:
        table = {name: np.array(values, dtype) for name, values in columns.items()}
        write_table(path, table, dict.fromkeys(table, dtype))
        with pytest.raises(DataError, match=message) as caught:
            read_mapping(path)
        assert str(path) in str(caught.value)
