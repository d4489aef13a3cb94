"""``bouton export`` and ``bouton import-synapses``: every format there and back, filters, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from neuroglancer.read_precomputed_annotations import AnnotationReader

import fake_run
from bouton.cli.main import main
from bouton.volume import read_table
from bouton.volume.synapse_columns import POSITION_COLUMNS, SYNAPSE_COLUMNS
from bouton.volume.synapse_nml_reader import read_synapse_nml
from bouton.volume.synapse_tables import read_synapses

FOUND = fake_run.synapses(30)


def bouton(*words: object) -> int:
    """Run the command line in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run.whole_run(tmp_path_factory.mktemp("all") / "runs" / "demo").folder.parent


@pytest.fixture
def run(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run in the folder ``runs`` of the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(runs)
    return Path("runs/demo")


@pytest.mark.parametrize(
    ("to", "name"),
    [("nml", "a.nml"), ("cave", "a.csv"), ("cave", "a.parquet"), ("csv", "a.csv"), ("parquet", "a.parquet")],
)
def test_what_is_exported_is_imported_again(run: Path, to: str, name: str, capsys: pytest.CaptureFixture) -> None:
    assert bouton("export", "demo", "--to", to, "--out", name) == 0
    assert "30 of 30 synapses of synapses.synapses" in capsys.readouterr().out
    assert bouton("import-synapses", name, "back.parquet", "--voxel-size-nm", "30,10,10") == 0
    told = capsys.readouterr().out
    assert "30 synapses" in told and f"{(FOUND['type'] == 'excitatory').sum()} excitatory" in told
    back = read_table("back.parquet")
    assert list(back) == list(SYNAPSE_COLUMNS)
    for column in ("id", "pre_id", "post_id", "size_voxels", "type"):
        np.testing.assert_array_equal(back[column], FOUND[column])
    exact = to in ("csv", "parquet")
    for column in POSITION_COLUMNS:
        half = 0 if exact else 15 if column.endswith("z_nm") else 5
        np.testing.assert_allclose(back[column], FOUND[column], rtol=0, atol=half + 1e-9)


def test_neuroglancer_s_reader_opens_the_folder(run: Path) -> None:
    assert bouton("export", "demo", "--to", "precomputed") == 0
    reader = AnnotationReader(f"file://{Path('demo-synapses-lines').resolve()}/")
    found = reader.by_id[int(FOUND["id"][3])]
    np.testing.assert_allclose(found.point_a[2], FOUND["pre_z_nm"][3] / 30, rtol=1e-6)


def test_filters_and_groups(run: Path) -> None:
    box = "--bounds-zyx", "0:10,0:96,0:112"
    assert bouton("export", "demo", "--to", "nml", "--min-score", "0.5", *box, "--group-by", "type") == 0
    back = read_synapse_nml("demo-synapses.nml")
    kept = (FOUND["score"] >= 0.5) & (FOUND["z_nm"] < 300)
    assert 0 < kept.sum() < 30
    np.testing.assert_array_equal(back["id"], FOUND["id"][kept])
    np.testing.assert_array_equal(back["group"], FOUND["type"][kept])


def test_the_truth_of_a_phantom_is_not_the_default_but_can_be_named(run: Path) -> None:
    assert bouton("export", "demo", "--to", "csv", "--step", "tissue.synapses", "--out", "truth.csv") == 0
    assert len(read_synapses("truth.csv")["id"]) == 40
    assert bouton("export", "demo", "--to", "csv", "--step", "tissue", "--out", "again.csv") == 0


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["demo", "--to", "xls"], 2, ["xls", "nml"]),
        (["demo"], 2, ["--to"]),
        (["dema", "--to", "csv"], 2, ["no run 'dema'", "did you mean demo?"]),
        (["demo", "--to", "csv", "--out", "a.nml"], 2, ["--out a.nml", ".csv"]),
        (["demo", "--to", "csv", "--group-by", "type"], 2, ["--group-by type with --to csv", "--to nml"]),
        (["demo", "--to", "nml", "--group-by", "cause"], 2, ["--group-by cause", "type"]),
        (["demo", "--to", "csv", "--step", "nothing"], 2, ["nothing"]),
        (["demo", "--to", "csv", "--step", "segmentation"], 2, ["no finished table segmentation", "synapses.synapses"]),
        (["demo", "--to", "csv", "--step", "score_final.scores"], 3, ["no column id", "table of synapses"]),
        (["demo", "--to", "csv", "--bounds-zyx", "1:2"], 2, ["1:2"]),
        (["demo", "--to", "csv", "--out", "taken.csv"], 3, ["taken.csv", "exists already"]),
        (["demo", "--to", "precomputed", "--out", "taken.csv"], 3, ["taken.csv", "exists already"]),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(
    run: Path, words: list[str], status: int, told: list[str], capsys: pytest.CaptureFixture
) -> None:
    Path("taken.csv").write_text("mine")
    assert bouton("export", *words) == status
    error = capsys.readouterr().err
    assert all(word in error for word in told), error
    assert len(error.splitlines()) == 1
    assert Path("taken.csv").read_text() == "mine" and not list(Path().glob("demo-*"))


def test_columns_that_are_left_out_are_told_on_import(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.csv").write_text("cleft_id,z_nm,y_nm,x_nm,p_spine\n5,1,2,3,0.5\n")
    assert bouton("import-synapses", tmp_path / "a.csv", tmp_path / "b.parquet") == 0
    assert "  left out: cleft_id, p_spine\n" in capsys.readouterr().out


def test_strange_rows_are_told_on_import(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.csv").write_text("id,z_nm,y_nm,x_nm,pre_id,post_id\n5,1,2,3,7,7\n6,1,2,3,0,8\n")
    assert bouton("import-synapses", tmp_path / "a.csv", tmp_path / "b.parquet") == 0
    told = capsys.readouterr().out
    assert "1 from a segment to itself, such as synapse 5" in told
    assert "pre: 1 without a segment, 2 without a place" in told
    assert bouton("import-synapses", tmp_path / "a.csv", tmp_path / "b.parquet") == 3
    assert bouton("import-synapses", tmp_path / "a.csv", tmp_path / "b.txt") == 2
    assert bouton("import-synapses", tmp_path / "none.csv", tmp_path / "c.parquet") == 3
    assert len(capsys.readouterr().err.splitlines()) == 3
