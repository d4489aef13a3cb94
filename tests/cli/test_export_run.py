"""A run, its bundle, and the repetition of it: as a user does it, and as somebody hostile would."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from bouton.cli.main import main
from bouton.engine.bundle.repeat import RepeatOptions, repeat
from bouton.engine.environment import environment, note_environment
from bouton.errors import BoutonError, DataError
from bouton.geometry import Box
from bouton.volume import checksum, create_volume, fingerprint
from bouton.volume.places import Place, place
from object_server import KEYS, s3_server

TOYS = Path(__file__).parents[1] / "engine" / "toys"
WORKFLOW = """\
# a toy, with a comment
name: toy
grid: {shape_zyx: [12, 10, 9], voxel_size_nm: [30, 10, 10]}
block_zyx: [4, 5, 6]
steps:
  tissue: {stage: source.py}
  smooth: {stage: smooth.py, reads: {image: tissue}}
"""
READER = """\
name: reader
block_zyx: [4, 5, 6]
data:
  image: {path: data/em.npy, voxel_size_nm: [30, 10, 10], obtain: ask Ada}
steps:
  added: {stage: same.py, reads: {image: image}}
"""
# A stage whose bytes in one block depend on the surroundings: what a repetition is there to find.
UNSTEADY = '''\
"""Depends on an environment variable in the block at z 4."""

import os
from dataclasses import dataclass

import numpy as np

from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage


@dataclass(frozen=True)
class Params:
    """None."""


def run(task: BlockTask) -> Output:
    value = int(os.environ.get("UNSTEADY", "0")) if task.core.start == (4, 5, 0) else 0
    return Output({"image": np.full(task.core.shape, value, np.uint8)})


STAGE = Stage(
    version=1, params=Params, reads={}, writes=("image",),
    parts=(BlockPart("draw", run, {"image": Layer("uint8")}),),
)
'''
# A stage with a model: a folder with a card and weights.
MODELLED = '''\
"""Fills blocks with the first byte of its model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage


@dataclass(frozen=True)
class Params:
    """model: a folder."""

    model: str = "nowhere"


def run(task: BlockTask) -> Output:
    value = (Path(task.params.model) / "weights.safetensors").read_bytes()[0]
    return Output({"image": np.full(task.core.shape, value, np.uint8)})


STAGE = Stage(
    version=1, params=Params, reads={}, writes=("image",),
    parts=(BlockPart("draw", run, {"image": Layer("uint8")}),),
    files=lambda params: (Path(params.model) / "weights.safetensors",),
)
'''
Bouton = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("source", "smooth", "same"):
        shutil.copy(TOYS / f"{name}.py", tmp_path)
    (tmp_path / "toy.yaml").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture
def bouton(here: Path, capsys: pytest.CaptureFixture[str]) -> Bouton:
    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        if caught.value.code:
            assert streams.err.count("\n") == 1, streams.err
        return int(caught.value.code or 0), streams.out, streams.err

    return call


def run(bouton: Bouton, *arguments: object) -> tuple[int, str, str]:
    return bouton("run", *arguments, "--executor", "serial")


def exported(bouton: Bouton, *arguments: object, run_arguments: tuple[object, ...] = ()) -> Path:
    """Run the toy, and return its bundle."""
    code, _, err = run(bouton, "toy.yaml", *run_arguments)
    assert code == 0, err
    assert bouton("export-run", "toy", *arguments)[0] == 0
    return Path("toy.crate.zip")


def contents(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(bundle: Path, change: Callable[[dict[str, bytes]], None], target: str = "hostile.zip") -> Path:
    """Return another bundle with changed entries, whose ``bundle.json`` was made to agree with them."""
    entries = contents(bundle)
    change(entries)
    try:
        manifest = json.loads(entries.get("bundle.json", b"null"))
    except (ValueError, RecursionError):
        manifest = None
    if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict):
        for name in manifest["files"]:
            if name in entries:
                digest = hashlib.sha256(entries[name]).hexdigest()
                manifest["files"][name] = {"bytes": len(entries[name]), "sha256": digest}
        entries["bundle.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return Path(target)


def test_a_run_is_exported_looked_at_and_repeated(bouton: Bouton, here: Path) -> None:
    bundle = exported(bouton)
    code, out, _ = bouton("check-bundle", bundle)
    assert code == 0
    assert "every checksum is right" in out
    assert "code, which runs with --trust-stages only: stages/" in out

    # elsewhere: the lab's own files are gone
    for name in ("source.py", "smooth.py", "toy.yaml"):
        (here / name).unlink()
    shutil.rmtree("runs")
    code, out, _ = run(bouton, bundle, "--trust-stages")
    assert code == 0
    files = sum(len(content.splitlines()) for name, content in contents(bundle).items() if name.startswith("outputs/"))
    assert f"equal all {files} files" in out
    assert (here / "runs/toy-repeat/run.json").is_file()
    # and again: it goes on where it was
    assert run(bouton, bundle, "--trust-stages")[0] == 0


def test_what_is_in_it(bouton: Bouton) -> None:
    entries = contents(exported(bouton, run_arguments=("--set", "steps.tissue.params.factor=5")))
    manifest = json.loads(entries["bundle.json"])
    tissue, smooth = manifest["steps"]
    assert (tissue["params"], smooth["params"]) == ({"factor": 5}, {"reach": 2})
    assert (tissue["bounds_zyx"], tissue["block_zyx"]) == ("0:12,0:10,0:9", [4, 5, 6])
    assert entries[tissue["stage"]] == Path("source.py").read_bytes()
    assert manifest["environments"][-1]["versions"]["numpy"] == np.__version__
    assert manifest["environment_of"] == "run"
    assert yaml.safe_load(entries["original.yaml"])["steps"]["tissue"]["params"] == {"factor": 5}
    assert "written.yaml" not in entries
    assert entries["scores/smooth.csv"].startswith(b"metric,value,unit,better,n\nvoxels,1080,")
    assert set(manifest["files"]) | {"bundle.json", "ro-crate-metadata.json"} == set(entries)
    events = json.loads(entries["events.json"])
    assert [(each["state"], each["tasks"]) for each in events["sessions"]] == [("done", 60)]
    # the listing against the run's own ledger, on disk
    folder = Path("runs/toy") / "smooth" / smooth["key"]
    for line in entries[smooth["listing"]].decode().splitlines():
        path, _, _, size, _ = json.loads(line)
        assert (folder / path).stat().st_size == size


def test_the_file_as_its_author_wrote_it_is_in_it_where_the_run_was_made_of_just_that(bouton: Bouton) -> None:
    assert contents(exported(bouton))["written.yaml"].startswith(b"# a toy, with a comment")


def test_two_exports_have_the_same_bytes(bouton: Bouton) -> None:
    one = exported(bouton)
    assert bouton("export-run", "toy", "--out", "two.zip")[0] == 0
    assert one.read_bytes() == Path("two.zip").read_bytes()
    code, _, err = bouton("export-run", "toy")
    assert (code, "exists" in err) == (2, True)


def test_box_block_and_steps_of_the_command_line_are_repeated(bouton: Bouton) -> None:
    arguments = ("--bounds-zyx", "2:9,0:10,1:9", "--block-zyx", "3,4,5", "--until", "tissue")
    bundle = exported(bouton, run_arguments=arguments)
    code, out, _ = run(bouton, bundle, "--trust-stages", "--name", "again", "--json")
    assert code == 0
    compared = json.loads(out.splitlines()[-1])
    # ceil(7/3) * ceil(10/4) * ceil(8/5) blocks, a shard and a table each, and the layer's two files of metadata
    assert [(step["step"], step["equal"]) for step in compared["steps"]] == [("tissue", 18 * 2 + 2)]


def test_what_differs_is_counted_and_the_first_block_named(
    bouton: Bouton, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "source.py").write_text(UNSTEADY)
    bundle = exported(bouton)
    monkeypatch.setenv("UNSTEADY", "7")
    code, out, err = run(bouton, bundle, "--trust-stages")
    assert code == 4
    assert "the first: step tissue, draw 1-1-0, box 4:8,5:10,0:6 (z,y,x): image/0/c/1/1/0 differs" in err
    table = out[out.index("the repetition beside the bundle") :]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]
    files = len(contents(bundle)["outputs/tissue.jsonl"].splitlines())
    assert rows[0] == ["tissue", str(files - 1), "1", "0", "0"]


def test_code_runs_only_for_who_says_so(bouton: Bouton, here: Path) -> None:
    source = (here / "source.py").read_text()
    marker = here / "ran"
    (here / "source.py").write_text(source + f"\nopen({str(marker)!r}, 'a').close()\n")
    bundle = exported(bouton)
    marker.unlink()
    for arguments in (("check-bundle", bundle), ("run", bundle)):
        code, _, err = bouton(*arguments)
        assert not marker.exists()
    assert code == 2
    assert "holds code" in err
    assert "--trust-stages" in err
    assert not Path("runs/toy-repeat").exists()
    code, _, err = run(bouton, "toy.yaml", "--trust-stages")
    assert (code, "without a bundle" in err) == (2, True)


def test_a_bundle_takes_no_changes_and_its_run_a_folder_of_its_own(bouton: Bouton, here: Path) -> None:
    bundle = exported(bouton)
    for option in (("--set", "a=1"), ("--until", "tissue"), ("--dataset", "a"), ("--bounds-zyx", "0:1,0:1,0:1")):
        code, _, err = run(bouton, bundle, "--trust-stages", *option)
        assert (code, f"{option[0]} with a bundle" in err) == (2, True)
    for name in ("toy", "../x", ".x"):
        code, _, err = run(bouton, bundle, "--trust-stages", "--name", name)
        assert code == 2, err
    assert run(bouton, bundle, "--trust-stages")[0] == 0
    other = rewritten(bundle, lambda entries: entries.update({"events.json": b"{}"}))
    code, _, err = run(bouton, other, "--trust-stages")
    assert (code, "repeats another bundle" in err) == (2, True)


@pytest.fixture
def reader(here: Path) -> Path:
    """A workflow over a data source; returns the source."""
    (here / "data").mkdir()
    path = here / "data" / "em.npy"
    np.save(path, np.random.default_rng(5).integers(0, 200, (12, 10, 9), dtype=np.uint8))
    (here / "toy.yaml").write_text(READER.replace("name: reader", "name: toy"))
    return path


def test_sources_are_asked_for_and_compared_by_content(bouton: Bouton, here: Path, reader: Path) -> None:
    bundle = exported(bouton)
    record = json.loads(contents(bundle)["bundle.json"])["sources"]["image"]
    assert (record["state"], record["path"], record["bytes"]) == ("same", str(reader), reader.stat().st_size)
    moved = here / "elsewhere.npy"
    reader.rename(moved)
    code, _, err = run(bouton, bundle, "--trust-stages")
    assert code == 2
    assert f"image at {reader} (ask Ada)" in err
    assert "--data image=PATH" in err
    # another time of change, another place: the same content
    os.utime(moved, (1, 1))
    code, out, _ = run(bouton, bundle, "--trust-stages", "--data", f"image={moved}")
    assert code == 0
    assert "equal all" in out
    np.save(moved, np.zeros((12, 10, 9), np.uint8))
    code, _, err = run(bouton, bundle, "--trust-stages", "--data", f"image={moved}", "--name", "b")
    assert (code, "is another one" in err) == (3, True)
    assert run(bouton, bundle, "--trust-stages", "--data", "imge=x")[0] == 2
    assert run(bouton, bundle, "--trust-stages", "--data", "image")[0] == 2


def test_data_says_where_a_source_of_a_plain_workflow_lies(bouton: Bouton, here: Path, reader: Path) -> None:
    reader.rename(here / "a b=c.npy")
    assert run(bouton, "toy.yaml")[0] == 3
    assert run(bouton, "toy.yaml", "--data", f"image={here}/a b=c.npy")[0] == 0


def test_a_source_that_changed_or_went_is_told(bouton: Bouton, here: Path, reader: Path) -> None:
    assert run(bouton, "toy.yaml")[0] == 0
    os.utime(reader, (1, 1))
    code, out, _ = bouton("export-run", "toy", "--json")
    assert (code, "other names, sizes or times" in json.loads(out)["warnings"][0]) == (0, True)
    content = reader.read_bytes()
    reader.unlink()
    code, out, _ = bouton("export-run", "toy", "--out", "gone.zip")
    assert (code, "is gone from" in out) == (0, True)
    reader.write_bytes(content)
    code, out, _ = run(bouton, "gone.zip", "--trust-stages")
    assert code == 0
    assert "not checked the bundle does not tell the content of source image" in out


def test_a_bundle_holds_the_code_that_made_the_results_or_is_not_written(bouton: Bouton, here: Path) -> None:
    assert run(bouton, "toy.yaml")[0] == 0
    with (here / "smooth.py").open("a") as file:
        file.write("# changed\n")
    code, _, err = bouton("export-run", "toy")
    assert (code, "has changed since the run" in err) == (3, True)
    assert not Path("toy.crate.zip").exists()


def test_models_travel_if_asked_and_are_recognised(bouton: Bouton, here: Path) -> None:
    (here / "source.py").write_text(MODELLED)
    model = here / "model"
    model.mkdir()
    (model / "card.json").write_text('{"name": "toy"}')
    (model / "weights.safetensors").write_bytes(b"\x05weights")
    (here / "toy.yaml").write_text(WORKFLOW.replace("source.py}", f"source.py, params: {{model: {model}}}}}"))
    card_only = exported(bouton)
    assert set(contents(card_only)) & {"models/tissue/card.json", "models/tissue/weights.safetensors"} == {
        "models/tissue/card.json"
    }
    assert bouton("export-run", "toy", "--with-models", "--out", "whole.zip")[0] == 0
    # another model at its place is found out, when exporting and when repeating
    (model / "weights.safetensors").write_bytes(b"\x06weights")
    code, _, err = bouton("export-run", "toy", "--out", "late.zip")
    assert (code, "has changed since the run" in err) == (3, True)
    code, _, err = run(bouton, card_only, "--trust-stages")
    assert (code, "--with-models" in err) == (3, True)
    shutil.rmtree(model)
    code, out, _ = run(bouton, "whole.zip", "--trust-stages", "--name", "whole")
    assert code == 0
    assert "equal all" in out


def test_other_versions_are_shown(bouton: Bouton, here: Path) -> None:
    assert run(bouton, "toy.yaml")[0] == 0
    then = environment()
    then["versions"]["numpy"] = "1.0"
    noted = here / "runs/toy/environments.json"
    assert json.loads(noted.read_text()) == [environment()]
    noted.write_text(json.dumps([then]))
    assert bouton("export-run", "toy")[0] == 0
    noted.unlink()
    code, out, _ = bouton("export-run", "toy", "--out", "unknown.zip")
    assert (code, "did not note its versions" in out) == (0, True)
    code, out, _ = run(bouton, "toy.crate.zip", "--trust-stages")
    assert code == 0
    line = next(line for line in out.splitlines() if "numpy" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["numpy", "1.0", np.__version__]


def test_environments_are_noted_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "environments.json"
    for threads, expected in (("1", 1), ("1", 1), ("2", 2), ("1", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        note_environment(tmp_path)
        assert len(json.loads(path.read_text())) == expected
    path.write_text("[torn")
    note_environment(tmp_path)
    assert len(json.loads(path.read_text())) == 1


def test_a_run_that_failed_is_told_and_compared_as_far_as_it_came(bouton: Bouton, here: Path) -> None:
    """One poisoned block; what reads it is blocked, what comes after it never began. The repetition fails likewise."""
    flow = yaml.safe_load(WORKFLOW)
    flow["steps"] = {
        "tissue": {"stage": "source.py"},
        "poison": {"stage": "same.py", "reads": {"image": "tissue"}, "params": {"fails": True}},
        "smooth": {"stage": "smooth.py", "reads": {"image": "poison"}},
    }
    (here / "toy.yaml").write_text(yaml.safe_dump(flow, sort_keys=False))
    assert run(bouton, "toy.yaml", "--retries", "0")[0] == 4
    (here / "elsewhere").mkdir()
    os.chdir(here / "elsewhere")
    code, out, _ = bouton("export-run", here / "runs/toy", "--json")
    assert (code, json.loads(out)["warnings"][0]) == (0, "not finished: poison, smooth")
    manifest = json.loads(contents(Path("toy.crate.zip"))["bundle.json"])
    assert [(step["state"], step["failed"]) for step in manifest["steps"]][:2] == [("done", 0), ("failed", 1)]
    code, out, err = run(bouton, "toy.crate.zip", "--trust-stages", "--retries", "0")
    assert (code, "a poison block" in err) == (4, True)
    assert "the bundle's checksums" in out


def test_nothing_to_export(bouton: Bouton, here: Path) -> None:
    code, _, err = bouton("export-run", "nothing")
    assert (code, "no run 'nothing'" in err) == (2, True)


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda entries: entries.pop(name) and None


def edit(change: Callable[[dict], object]) -> Callable[[dict[str, bytes]], None]:
    """Return a change of ``bundle.json``."""

    def apply(entries: dict[str, bytes]) -> None:
        values = json.loads(entries["bundle.json"])
        change(values)
        entries["bundle.json"] = json.dumps(values).encode()

    return apply


def text(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda entries: entries.update({name: content})


def workflow(change: Callable[[dict], object]) -> Callable[[dict[str, bytes]], None]:
    def apply(entries: dict[str, bytes]) -> None:
        tree = yaml.safe_load(entries["workflow.yaml"])
        change(tree)
        entries["workflow.yaml"] = yaml.safe_dump(tree).encode()

    return apply


HOSTILE = {
    "no manifest": (drop("bundle.json"), 3, "no bundle.json in it"),
    "no workflow": (drop("workflow.yaml"), 3, "no entry 'workflow.yaml'"),
    "no json": (text("bundle.json", b"{"), 3, "is no JSON"),
    "deep json": (text("bundle.json", b"[" * 100_000), 3, "is no JSON"),
    "json of another shape": (text("bundle.json", b"[]"), 3, "holds no mapping"),
    "another format": (edit(lambda v: v.update(format="bouton-bundle/9")), 3, "bouton-bundle/1"),
    "unknown key": (edit(lambda v: v.update(extra=1)), 3, "extra"),
    "a model that is elsewhere": (edit(lambda v: v["steps"][0].update(model_folder="/etc")), 3, "'/etc'"),
    "text that steers a terminal": (edit(lambda v: v.update(description="\x1b[2J")), 3, "control characters"),
    "steps of another type": (edit(lambda v: v.update(steps={"a": 1})), 3, "steps"),
    "a run that is a path": (edit(lambda v: v.update(run="../../x")), 3, "'../../x'"),
    "a step that is a path": (edit(lambda v: v["steps"][0].update(name="../x")), 3, "'../x'"),
    "a step twice": (edit(lambda v: v["steps"].append(v["steps"][0])), 3, "twice"),
    "a file that is a path": (edit(lambda v: v["files"].update({"../x": v["files"]["events.json"]})), 3, "'../x'"),
    "a stage that is elsewhere": (edit(lambda v: v["steps"][0].update(stage="/x.py")), 3, "'/x.py'"),
    "a voxel size that is none": (edit(lambda v: v.update(voxel_size_nm=[0, 1, 1])), 3, "voxel size"),
    "workflow with other stages": (
        workflow(lambda t: t["steps"]["tissue"].update(stage="/tmp/evil.py")), 3, "other steps or stages"),
    "workflow with another step": (
        workflow(lambda t: t["steps"].update(more={"stage": "phantom"})), 3, "other steps or stages"),
    "workflow with a cluster": (workflow(lambda t: t.update(cluster={"kind": "slurm"})), 3, "key 'cluster'"),
    "workflow with data": (workflow(lambda t: t.update(data={"x": {"path": "/etc"}})), 3, "other data sources"),
    "workflow that is none": (text("workflow.yaml", b"- a\n"), 2, "no mapping"),
    "workflow with aliases": (text("workflow.yaml", b"a: &x [1]\nb: *x\n"), 2, "alias"),
}  # fmt: skip


def test_hostile_bundles_are_refused_and_touch_nothing(bouton: Bouton, here: Path) -> None:
    bundle = exported(bouton)
    before = {path for path in here.rglob("*") if "runs" not in path.parts}
    for name, (change, status, expected) in HOSTILE.items():
        hostile = rewritten(bundle, change)
        code, _, err = run(bouton, hostile, "--trust-stages", "--name", "hostile")
        assert (code, expected in err) == (status, True), f"{name}: {err}"
        hostile.unlink()
        assert not Path("runs/hostile/run.json").exists(), name
        shutil.rmtree("runs/hostile", ignore_errors=True)
        assert {path for path in here.rglob("*") if "runs" not in path.parts} == before, name


VALUES = [None, -1, 0, 10**30, 1e300, True, "", "x", "../x", "/", "a" * 10_000, [], {}, [[]], {"a": {"b": 1}}, ["x"]]


def leaves(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from leaves(each, (*path, key))


def replaced(values: object, path: tuple, new: object) -> object:
    if not path:
        return new
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", ["bundle.json", "workflow.yaml"])
def test_any_value_at_any_place_is_taken_or_told(bouton: Bouton, here: Path, reader: Path, name: str) -> None:
    """Random values all over ``bundle.json`` and the workflow: it opens, or one of bouton's errors tells why not."""
    bundle = exported(bouton)
    rng = np.random.default_rng(11)
    read, write = (json.loads, json.dumps) if name == "bundle.json" else (yaml.safe_load, yaml.safe_dump)
    values = read(contents(bundle)[name])
    places = [path for path in leaves(values) if "environments" not in path]
    told = 0
    for _ in range(150):
        place, new = places[rng.integers(len(places))], VALUES[rng.integers(len(VALUES))]
        hostile = rewritten(bundle, text(name, write(replaced(values, place, new)).encode()))
        try:
            repetition = repeat(hostile, here / "fuzz", None, RepeatOptions({}, trusts_stages=True))
            assert repetition.workflow.steps
        except BoutonError as error:
            told += "\n" not in str(error)
        except (OSError, RecursionError) as error:
            raise AssertionError(f"{place} = {new!r}") from error
        hostile.unlink()
        shutil.rmtree(here / "fuzz", ignore_errors=True)
    assert told > 50


def test_a_changed_listing_or_stage_is_no_surprise(bouton: Bouton) -> None:
    """Entries that do not agree with ``bundle.json``, and a list of checksums that is none."""
    bundle = exported(bouton)
    entries = contents(bundle)
    for name in ("workflow.yaml", "outputs/tissue.jsonl"):
        with zipfile.ZipFile("changed.zip", "w") as archive:
            for each, content in entries.items():
                archive.writestr(each, content + b" " if each == name else content)
        code, _, err = bouton("check-bundle", "changed.zip")
        assert (code, name in err) == (3, True)
    hostile = rewritten(bundle, text("outputs/tissue.jsonl", b'["../../etc/passwd", 1]\n'))
    code, _, err = run(bouton, hostile, "--trust-stages")
    assert (code, "outputs/tissue.jsonl:1" in err) == (3, True)


def test_files_that_are_no_zips(bouton: Bouton, here: Path) -> None:
    bundle = exported(bouton)
    whole = bundle.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[: len(whole) - 30]):
        Path("x.zip").write_bytes(content)
        for arguments in (("check-bundle", "x.zip"), ("run", "x.zip")):
            code, _, err = bouton(*arguments)
            assert (code, "no bundle, or a damaged one" in err) == (3, True)
    assert bouton("check-bundle", "nowhere.zip")[0] == 3


def test_the_crate_describes_every_file_and_every_link_leads_somewhere(bouton: Bouton) -> None:
    entries = contents(exported(bouton, "--license", "CC-BY-4.0", "--author", "Ada L. <https://orcid.org/0000-0001>"))
    crate = json.loads(entries["ro-crate-metadata.json"])
    nodes = {node["@id"]: node for node in crate["@graph"]}
    assert len(nodes) == len(crate["@graph"])
    parts = {part["@id"] for part in nodes["./"]["hasPart"]}
    assert parts == set(entries) - {"ro-crate-metadata.json"}
    manifest = json.loads(entries["bundle.json"])
    for name, entry in manifest["files"].items():
        assert (nodes[name]["sha256"], nodes[name]["contentSize"]) == (entry["sha256"], str(entry["bytes"]))
    for node in nodes.values():
        for key, value in node.items():
            for link in value if isinstance(value, list) else [value]:
                if isinstance(link, dict):
                    assert link["@id"] in nodes or key in ("conformsTo",), f"{node['@id']} {key} {link}"
    action = nodes["#run"]
    assert action["instrument"] == nodes["./"]["mainEntity"] == {"@id": "workflow.yaml"}
    assert action["agent"] == {"@id": "https://orcid.org/0000-0001"}
    assert nodes["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert "ComputationalWorkflow" in nodes["workflow.yaml"]["@type"]


def test_the_crate_opens_with_the_reference_library(bouton: Bouton) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate", reason="needs the package rocrate")
    bundle = exported(bouton)
    crate = rocrate.ROCrate(str(bundle))
    assert crate.mainEntity.id == "workflow.yaml"
    assert {entity.id for entity in crate.data_entities} == set(contents(bundle)) - {"ro-crate-metadata.json"}
    crate.write_zip("again.zip")
    assert contents(Path("again.zip"))["outputs/smooth.jsonl"] == contents(bundle)["outputs/smooth.jsonl"]


def test_a_large_source_is_known_by_samples_unless_read_whole(
    bouton: Bouton, here: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bouton.engine.bundle.sources.SMALL_BYTES", 100)
    assert run(bouton, "toy.yaml")[0] == 0
    code, out, _ = bouton("export-run", "toy", "--out", "sample.zip")
    assert (code, "--whole-sources reads all of it" in out) == (0, True)
    code, out, _ = bouton("export-run", "toy", "--out", "whole.zip", "--whole-sources")
    assert (code, "whole-sources" in out) == (0, False)
    found = [json.loads(contents(Path(f"{name}.zip"))["bundle.json"]) for name in ("sample", "whole")]
    records = [manifest["sources"]["image"] for manifest in found]
    assert [bool(record["content"]) for record in records] == [False, True]
    assert records[0]["sample"] == records[1]["sample"]
    for name in ("sample", "whole"):
        assert run(bouton, f"{name}.zip", "--trust-stages", "--name", name)[0] == 0
    np.save(reader, np.zeros((12, 10, 9), np.uint8))
    for name in ("sample", "whole"):
        assert run(bouton, f"{name}.zip", "--trust-stages", "--name", f"{name}2")[0] == 3


def test_a_source_in_an_object_store_is_recognised_at_its_url(
    bouton: Bouton, here: Path, reader: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto", reason="needs moto[server]")
    bundle, values, url = exported(bouton), np.load(reader), "s3://bucket/em.zarr"
    with s3_server("bucket") as server:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
            monkeypatch.setenv(name, value)
        fill(place(url), values)
        stored = {"path": url, "fingerprint": fingerprint(url), "content": "", "sample": ""}
        remote = rewritten(bundle, edit(lambda v: v["sources"]["image"].update(stored)), "remote.zip")
        found = repeat(remote, here / "a", None, RepeatOptions({}, trusts_stages=True))
        assert (str(found.workflow.sources["image"].path), found.unchecked) == (url, [])
        # a copy elsewhere may be the same, but the bundle does not tell its content
        fill(here / "em.zarr", values)
        elsewhere = RepeatOptions({"image": str(here / "em.zarr")}, trusts_stages=True)
        assert repeat(remote, here / "b", None, elsewhere).unchecked == ["image"]
        # read whole, it does, and voxels written anew under the same metadata are found out
        told = edit(lambda v: v["sources"]["image"].update(stored, content=checksum(url)))
        whole = rewritten(bundle, told, "whole.zip")
        assert repeat(whole, here / "d", None, RepeatOptions({}, trusts_stages=True)).unchecked == []
        place(url).remove_below()
        fill(place(url), values + 1)
        with pytest.raises(DataError, match="is another one"):
            repeat(whole, here / "e", None, RepeatOptions({}, trusts_stages=True))
        place(url).remove_below()
        fill(place(url), values[:-1])
        with pytest.raises(DataError, match="is another one"):
            repeat(remote, here / "c", None, RepeatOptions({}, trusts_stages=True))


def fill(path: Place, values: np.ndarray) -> None:
    """Write a volume whose blocks are one file each."""
    new = {"shape_zyx": values.shape, "dtype": "uint8", "voxel_size_nm": (30, 10, 10), "block_zyx": values.shape}
    create_volume(path, **new, kind="image").write(Box.of_shape(values.shape), values)
