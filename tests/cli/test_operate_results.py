"""What is said of the results of runs: states of steps, what nothing refers to, what bytes are, why two runs differ."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.cli.operating import POISON, bouton, here, run, sizes, states, status

from bouton.cli.main import main

__all__ = ["here"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return the JSON that a verb prints."""
    capsys.readouterr()
    assert bouton(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_states_of_steps(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*POISON) == 4
    found = status(capsys)
    assert found["state"] == "failed"
    # smooth waits for the copy; the blocks of trouble that did not fail are done
    assert {step["name"]: step["state"] for step in found["steps"]} == {
        "tissue": "complete",
        "trouble": "quarantined",
        "smooth": "blocked",
    }
    trouble = found["steps"][1]
    assert (trouble["tasks"], trouble["done"], trouble["failed"]) == (27, 23, 1)
    assert trouble["failures"][0]["error"] == "ValueError: a poison block"
    assert bouton("status", "toy") == 0
    text = capsys.readouterr().out
    assert "failed trouble, copy 1-0-0, box 4:8,0:5,0:6 (z,y,x)" in text
    assert "bouton logs runs/toy STEP [BLOCK]" in text

    # a box in which every block fails
    assert run("--set", "steps.trouble.params.how=raise", "--bounds-zyx", "0:4,0:5,0:6") == 4
    assert states(capsys) == {"tissue": "complete", "trouble": "failed", "smooth": "blocked"}


def test_only_older_results_are_stale(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    path = here / "runs/toy/run.json"
    info = json.loads(path.read_text())
    older, info["state"] = info["steps"][2]["folder"], "paused"
    # what stands there when a run with another parameter is stopped before it comes to the step
    info["steps"][2] |= {"key": "cafe", "folder": "smooth/cafe", "state": "pending", "done": 0}
    path.write_text(json.dumps(info))
    (here / "runs/toy/options.json").unlink()
    found = status(capsys)["steps"][2]
    assert found["state"] == "stale"
    assert older in found["reason"]
    (here / "runs/toy/smooth/cafe").mkdir()
    (here / "runs/toy/smooth/cafe/ledger.sqlite").write_bytes(b"no ledger")
    found = status(capsys)["steps"][2]
    assert found["state"] == "failed"
    assert "the ledger cannot be read" in found["reason"]


def test_steps_without_bounds_are_skipped(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (here / "toy.yaml").read_text()
    (here / "toy.yaml").write_text(text.replace("image: tissue}}", "image: tissue}, bounds_zyx: '8:12,0:10,0:9'}"))
    assert run("--bounds-zyx", "0:4,0:5,0:6") == 0
    found = status(capsys)
    assert {step["name"]: step["state"] for step in found["steps"]} == {
        "tissue": "complete",
        "trouble": "skipped",
        "smooth": "skipped",
    }
    assert "do not meet" in found["steps"][1]["reason"]


def test_gc_removes_what_no_key_refers_to_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "runs/toy"
    assert run() == 0
    whole = set(sizes(folder / "smooth"))
    assert run("--set", "steps.smooth.params.reach=4") == 0
    older = sorted(set(sizes(folder / "smooth")) - whole)
    # the last start was of one step on a box: the whole file's results stay
    assert run("--until", "tissue", "--bounds-zyx", "0:4,0:10,0:9") == 0
    (folder / "smooth" / older[0]).parent.joinpath(".tmp-block").write_bytes(b"12345")
    (folder / "smooth" / sorted(whole)[0]).parent.joinpath(".zarr.json.12.partial").write_bytes(b"123")
    (folder / ".probe/1-cafe").mkdir(parents=True)
    (folder / ".probe/1-cafe/ledger").write_bytes(b"1234")
    before = sizes(folder)

    found = said(capsys, "gc", "toy")
    assert found["deleted"] is False
    assert sizes(folder) == before
    garbage = {Path(each["path"]).relative_to(folder).as_posix(): each for each in found["runs"][0]["garbage"]}
    key = older[0].partition("/")[0]
    doomed = {name for name in before if name.startswith((f"smooth/{key}/", ".probe/")) or name.endswith(".partial")}
    assert {name.rpartition("/")[2] for name in garbage} == {key, ".probe", ".zarr.json.12.partial"}
    assert garbage[f"smooth/{key}"]["size_bytes"] >= sum(n for name, n in before.items() if key in name)
    assert garbage[".probe"]["size_bytes"] == 4

    with open(folder / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert bouton("gc", "toy", "--delete") == 2
        assert "left alone" in capsys.readouterr().err
    assert sizes(folder) == before
    assert bouton("gc", "--delete") == 0
    assert "removed" in capsys.readouterr().out
    left = sizes(folder)
    assert {name for name in before if name not in left} == doomed
    assert {name: n for name, n in left.items() if name != "lock"} == {
        name: n for name, n in before.items() if name not in doomed and name != "lock"
    }
    assert bouton("gc") == 0
    assert "nothing to remove" in capsys.readouterr().out
    # what is left is whole: nothing is computed again
    assert run("--json") == 0
    assert '"computed"' not in capsys.readouterr().out
    assert states(capsys) == {"tissue": "complete", "trouble": "complete", "smooth": "complete"}


def test_gc_keeps_what_another_run_reads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "tissue", "--set", "steps.tissue.params.factor=5") == 0
    (layer,) = here.glob("runs/toy/tissue/*/image")
    assert run("--until", "tissue") == 0
    reader = f"name: reader\ndata: {{image: {{path: {layer}}}}}\nblock_zyx: [4, 5, 6]\nsteps:\n"
    smooth = (here / "toy.yaml").read_text().splitlines()[-1].replace("trouble.copy", "image")
    (here / "reader.yaml").write_text(f"{reader}{smooth}\n")
    assert bouton("run", "reader.yaml", "--executor", "serial") == 0
    assert said(capsys, "gc", "toy")["runs"][0]["garbage"] == []
    for path in (here / "runs/reader").glob("run.json"):
        path.unlink()
    garbage = said(capsys, "gc", "toy")["runs"][0]["garbage"]
    assert [Path(each["path"]) for each in garbage] == [layer.parent]


def test_gc_does_not_guess(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "tissue") == 0
    (here / "runs/toy/options.json").unlink()
    capsys.readouterr()
    assert bouton("gc", "toy", "--delete") == 2
    assert "is not known" in capsys.readouterr().err
    assert said(capsys, "gc", "toy", "--workflow", "toy.yaml")["runs"][0]["garbage"] == []
    assert bouton("gc", "toy", "--workflow", "other.yaml") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_du_counts_every_byte_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert run("--until", "smooth", "--set", "steps.smooth.params.reach=4") == 0
    found = said(capsys, "du", "toy")
    total = sum(path.lstat().st_size for path in (here / "runs/toy").rglob("*") if path.is_file())
    assert found["size_bytes"] == sum(use["size_bytes"] for use in found["uses"]) == total
    uses = {(use["step"], use["name"], use["kind"]): use for use in found["uses"]}
    image = uses["tissue", "image", "layer"]
    # a uint8 image of 12 x 10 x 9 voxels
    assert image["raw_bytes"] == 1080
    assert image["ratio"] == pytest.approx(1080 / image["size_bytes"])
    assert sum(use["kind"] == "older" for use in found["uses"]) == 1
    assert uses["smooth", "", "ledger"]["size_bytes"] > 0
    assert bouton("du", "toy") == 0
    assert "results under other keys" in capsys.readouterr().out


def test_diff_names_the_parameter_and_what_became_of_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert run("--name", "slower", "--set", "steps.trouble.params.seconds=0.001") == 0
    assert run("--name", "other", "--set", "steps.tissue.params.factor=4") == 0
    assert run("--name", "part", "--until", "tissue") == 0

    steps = {step["name"]: step for step in said(capsys, "diff", "toy", "slower")["steps"]}
    assert steps["tissue"]["state"] == "same"
    assert steps["trouble"]["own"] == ["params.seconds: 0.0 -> 0.001"]
    assert (steps["smooth"]["state"], steps["smooth"]["own"]) == ("changed", [])
    assert steps["smooth"]["inputs"] == ["image: step trouble changed, but not the bytes of its output"]
    equal = [
        not (files["other"] or files["only_a"] or files["only_b"]) for files in steps["smooth"]["outputs"].values()
    ]
    assert all(equal)

    found = said(capsys, "diff", "toy", "other")
    steps = {step["name"]: step for step in found["steps"]}
    assert steps["tissue"]["own"] == ["params.factor: 3 -> 4"]
    assert steps["tissue"]["outputs"]["image"]["other"] > 0
    assert steps["trouble"]["inputs"] == ["image: step tissue changed, and the bytes of its output"]
    scores = {row["metric"]: row for row in found["scores"]}
    assert scores["voxels"]["a"] == scores["voxels"]["b"] == 1080
    assert scores["total"]["a"] != scores["total"]["b"]

    assert [step["state"] for step in said(capsys, "diff", "toy", "part")["steps"]] == ["same", "a", "a"]
    assert [step["state"] for step in said(capsys, "diff", "part", "toy")["steps"]] == ["same", "b", "b"]
    assert bouton("diff", "toy", "other") == 0
    text = capsys.readouterr().out
    assert "params.factor: 3 -> 4" in text
    assert "only in A" not in text
    assert bouton("diff", "toy", "runs/toy") == 3
    assert "both runs are one folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bouton status to", ["toy"]),
        ("bouton status runs/", ["runs/toy"]),
        ("bouton diff toy o", ["other"]),
        ("bouton path toy t", ["tissue", "tissue.image"]),
    ],
)
def test_names_are_completed(
    words: str, expected: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--until", "tissue") == 0
    if "other" in expected:
        assert run("--until", "tissue", "--name", "other") == 0
    capsys.readouterr()
    monkeypatch.setenv("_BOUTON_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.split() == expected
    assert os.environ["_BOUTON_COMPLETE"]


def test_du_of_a_run_in_a_store(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "tissue") == 0
    plain = {(use["name"], use["kind"]): use for use in said(capsys, "du", "toy")["uses"]}
    folder, info = here / "runs/toy", json.loads((here / "runs/toy/run.json").read_text())
    # what a run with store: leaves in its folder: ledgers and notes, no data
    path = Path(info["steps"][0]["folder"])
    (here / "store" / path).mkdir(parents=True)
    (folder / path / "image").rename(here / "store" / path / "image")
    (folder / "run.json").write_text(json.dumps(info | {"store": str(here / "store")}))
    stored = {(use["name"], use["kind"]): use for use in said(capsys, "du", "toy")["uses"]}
    assert stored["image", "layer"] == plain["image", "layer"]
    assert bouton("du", "toy") == 0
    assert "sizes as the ledgers tell" in capsys.readouterr().out
