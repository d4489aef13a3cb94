"""``bouton densities`` as a user types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import fake_densities as fake
from bouton.cli.main import make_app
from bouton.errors import BoutonError, DataError, SpecError
from bouton.report.densities import CAPTIONS
from fake_run import FakeRun


def densities(*arguments: object) -> str:
    answer = CliRunner().invoke(
        make_app(["densities", "path"]), ["densities", *map(str, arguments)], env={"COLUMNS": "180"}
    )
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.density_run(tmp_path_factory.mktemp("runs") / "demo", None, fake.varying()).folder


def test_shows_a_run(demo: Path) -> None:
    text = densities(demo)
    assert densities("show", demo) == text
    total = int(fake.blocks()["synapses"].sum())
    for words in (f"{total:,} synapses", "not spread uniformly", "2.1 to 2.9", "no depth axis", "320:480, 1500:2000"):
        assert words in text


@pytest.mark.parametrize("name", ["show", "sample"])
def test_a_run_called_as_a_verb_is_told_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fake.density_run(tmp_path / "runs" / name, None, fake.varying())
    monkeypatch.chdir(tmp_path)
    assert "not spread uniformly" in densities(f"runs/{name}")
    assert "not spread uniformly" in densities("show", name)


def test_a_finding_without_a_value_tells_why(tmp_path: Path) -> None:
    row = fake.finding("variogram", p=0.01, note="lags 5 to 9 um; a model needs 3 lags, there are 2")
    text = densities(fake.density_run(tmp_path / "demo", None, fake.findings(row)).folder)
    assert "Evidence that blocks at some distance" in text and "a model needs 3 lags, there are 2" in text


def test_figures_are_files(demo: Path, tmp_path: Path) -> None:
    text = densities(demo, "--figures", "--out", tmp_path / "made" / "here")
    names = {path.name for path in (tmp_path / "made" / "here").iterdir()}
    assert names == {f"{name}.{kind}" for name in CAPTIONS for kind in ("png", "svg")}
    assert all(name in text for name in names)
    assert Image.open(tmp_path / "made" / "here" / "map.png").size[0] > 600
    assert "<svg" in (tmp_path / "made" / "here" / "map.svg").read_text()


def test_figures_go_beside_the_report(tmp_path: Path) -> None:
    run = fake.density_run(tmp_path / "demo")
    densities(run.folder, "--figures")
    assert {path.name for path in (run.folder / "report" / "densities").glob("*.png")} == {"map.png", "axes.png"}


def test_csv_has_the_published_columns(demo: Path, tmp_path: Path) -> None:
    densities(demo, "--csv", tmp_path / "blocks.csv")
    with (tmp_path / "blocks.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = fake.blocks()
    assert len(rows) == 60 and len(rows[0]) == 17
    assert [int(row["syn_count_unmasked"]) for row in rows] == table["synapses"].tolist()
    assert [int(row["xstart"]) for row in rows] == table["x_start"].tolist()
    # These voxels are no level of the case study's pyramid.
    assert rows[-1]["res"] == "0" and rows[-1]["center_x"] == "2250" and rows[-1]["center_z"] == "400"


def test_json(demo: Path) -> None:
    told = json.loads(densities(demo, "--json"))
    (only,) = told["sets"]
    assert told["run"] == "demo" and only["totals"]["synapses"] == int(fake.blocks()["synapses"].sum())
    assert only["findings"][0]["low"] == 2.1


def test_one_of_several_steps(tmp_path: Path) -> None:
    run = fake.density_run(tmp_path / "demo", None, fake.varying())
    other = run.step("coarse", "densities")
    run.table(other, "densities", fake.blocks((2, 2, 2)), fake.DENSITY_COLUMNS)
    run.save()
    assert [each["densities"] for each in json.loads(densities(run.folder, "--json"))["sets"]] == [
        "densities",
        "coarse",
    ]
    (only,) = json.loads(densities(run.folder, "--json", "--step", "coarse"))["sets"]
    assert only["totals"]["blocks"] == 8
    densities(run.folder, "--figures", "--out", tmp_path / "figures")
    assert (tmp_path / "figures" / "coarse-map.png").is_file() and (
        tmp_path / "figures" / "uniformity-map.svg"
    ).is_file()
    with pytest.raises(SpecError, match="--step STEP"):
        densities(run.folder, "--csv", tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "nothing"], "no densities of step 'nothing'"),
        (["--out", "somewhere"], "--out without --figures"),
    ],
)
def test_bad_options(demo: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(BoutonError, match=words):
        densities(demo, *arguments)


def test_no_run_and_no_densities(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no run"):
        densities(tmp_path)
    run = FakeRun(tmp_path / "demo")
    run.save()
    with pytest.raises(SpecError, match=r"no densities.*a finished step with stage densities"):
        densities(run.folder)


@pytest.mark.parametrize(("state", "told"), [("pending", "is not finished"), ("failed", "tasks failed")])
def test_a_step_that_is_not_finished(tmp_path: Path, state: str, told: str) -> None:
    run = fake.density_run(tmp_path / "demo")
    run.steps[-1]["state"] = state
    run.save()
    with pytest.raises(DataError, match=rf"run demo: step densities .*{told}.*way out: bouton status"):
        densities(run.folder)


@pytest.mark.parametrize("out", ["afile", "afile/x", "/proc/x", "/sys/x"])
def test_folders_that_refuse(demo: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "afile").write_text("here")
    with pytest.raises(BoutonError, match=out.split("/")[-1]) as told:
        densities(demo, "--figures", "--out", tmp_path / out)
    assert ("is a file; expected a folder" in str(told.value)) == (out == "afile")


def test_damaged_table(tmp_path: Path) -> None:
    run = fake.density_run(tmp_path / "demo")
    next(run.folder.glob("densities/*/densities.parquet")).write_bytes(b"no table")
    with pytest.raises(DataError, match=r"damaged or no table.*--repair") as told:
        densities(run.folder)
    assert str(told.value).count("way out") == 1


def test_help_teaches_by_example() -> None:
    assert "bouton densities runs/demo --figures" in densities("show", "--help")
    text = densities("--help")
    assert all(verb in text for verb in ("show", "sample", "score", "compare", "runs/sample"))
    assert "--answers" in densities("score", "--help")
    assert "exposed volume" in " ".join(densities("show", "--help").replace("│", " ").split())
