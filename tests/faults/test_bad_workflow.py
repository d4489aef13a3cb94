"""Bad workflow files, options, stages, models and run folders: one line, the right exit status, and a way back."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bouton.learn.shipped import model_path
from faults.command_line import CHAIN, DATA, PREDICT, RUN, SIZE, SPEC, Call, flow, results, run

GRID = "grid: {shape_zyx: [4, 8, 8], voxel_size_nm: [30, 10, 10]}\n"
TISSUE = GRID + "steps:\n  tissue: {stage: phantom}\n"
STAGE = """from dataclasses import dataclass
import numpy as np
from bouton.stage import BlockPart, Layer, Output, Stage
@dataclass(frozen=True)
class Params:
    n: int = 1
def f(task):
    return Output(layers={"o": np.zeros(task.core.shape, "u1")})
PART = BlockPart("b", f, layers={"o": Layer("uint8")})
STAGE = Stage(version=1, params=Params, reads={"a": Layer("uint8", channels=3)}, writes=("o",), parts=(PART,))
"""
TEXTS = [
    (b"", "no mapping at the top level"),
    (b"\xff\xfe", "not UTF-8 text"),
    (b"- a\n", "no mapping at the top level"),
    (b"a:\n\tb: 1\n", "no valid YAML"),
    (b"a: !!python/object:os.system x\n", "no valid YAML"),
    (b"name: 2020-13-45\n", "month must be in 1..12"),
    (b"a: " + b"[" * 5000 + b"]" * 5000, "nested more than 40 deep"),
    (b'a: &a ["lol"]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n', "bad.yaml:2: a YAML alias"),
    (TISSUE.encode() + b"  tissue: {stage: phantom}\n", "bad.yaml:4: key 'tissue' twice"),
    (b"naem: x\n" + TISSUE.encode(), "bad.yaml:1: unknown key 'naem'"),
    (TISSUE.replace("stage:", "stag:").encode(), "did you mean 'stage'?"),
    (TISSUE.replace("phantom", "fantom").encode(), "did you mean 'phantom'?"),
    (TISSUE.replace("phantom}", "phantom, params: {sed: 1}}").encode(), "did you mean 'seed'?"),
    (TISSUE.replace("phantom}", "phantom, params: {seed: -1}}").encode(), "bad.yaml:3: seed -1"),
    (TISSUE.replace("phantom}", "phantom, params: {seed: x}}").encode(), "bad.yaml:3: seed = 'x'"),
    (TISSUE.replace("phantom}", "segmentation, reads: {fragments: tissue}}").encode(), "tissue -> tissue"),
    (
        GRID.encode() + b"steps:\n  a: {stage: segmentation, reads: {fragments: b}}\n"
        b"  b: {stage: segmentation, reads: {fragments: a}}\n",
        "in a circle: a -> b -> a",
    ),
    (TISSUE.replace("[4, 8, 8]", "[0, 8, 8]").encode(), "three positive numbers"),
    (TISSUE.replace("[4, 8, 8]", "[10000000, 10000000, 10000000]").encode(), "at most 2.31e+18 voxels"),
    (TISSUE.replace("[30, 10, 10]", "[3000, 10, 10]").encode(), "1 to 200 nm"),
    (b"name: ../evil\n" + TISSUE.encode(), "run name '../evil'"),
    (b'name: "a\\0b"\n' + TISSUE.encode(), "run name 'a\\x00b'"),
    (b"block_zyx: [0, 8, 8]\n" + TISSUE.encode(), "at least one voxel on every axis"),
]
OPTIONS = [
    (["--workers", 0], "--workers"),
    (["--workers", -2], "--workers"),
    (["--executor", "ray"], "--executor"),
    (["--frob"], "--frob"),
    (["--retries", "x"], "--retries"),
    (["--block-zyx", "0,1,1"], "three whole numbers z,y,x, each at least 1"),
    (["--bounds-zyx", "0:8,0:12,0:13"], "way out: --bounds-zyx 0:8,0:12,0:12"),
    (["--bounds-zyx", "4:4,0:2,0:2"], "empty or negative"),
    (["--bounds-zyx=-1:4,0:2,0:2"], "empty or negative"),
    (["--bounds-zyx", "junk"], "is no box"),
    (["--until", "segmentatoin"], "did you mean 'segmentation'?"),
    (["--set", "steps.fragments.params.lo=0"], "did you mean 'low'?"),
    (["--set", "steps.fragmnts.params.low=0"], "with --set steps.fragmnts.params.low=0: step 'fragmnts' has no stage"),
    (["--set", "nonsense"], "PATH=VALUE"),
    (["--set", "name=&a [*a]"], "a YAML alias"),
    (["--name", "a/b"], "run name 'a/b'"),
    (["--name", ".."], "run name '..'"),
    (["--name", "n" * 300], "1 to 100 characters"),
]


@pytest.mark.parametrize(("text", "said"), TEXTS)
def test_workflow_file(text: bytes, said: str, folder: Path, bad: Call) -> None:
    Path("bad.yaml").write_bytes(text)
    bad(SPEC, ["bad.yaml", said], "run", "bad.yaml", "--executor", "serial")
    assert not Path("runs").exists()
    assert not Path("evil").exists()


@pytest.mark.parametrize("path", ["nothing.yaml", "."])
def test_no_workflow_file(path: str, folder: Path, bad: Call) -> None:
    for verb in ("run", "plan", "train"):
        bad(SPEC, [f"{path}: cannot read it", "check the path"], verb, path)


@pytest.mark.parametrize(("words", "said"), OPTIONS)
def test_options(words: list[object], said: str, folder: Path, bad_line: Call) -> None:
    bad_line(SPEC, [said, "; way out: "], *run(*words))
    assert not Path("runs").exists()


PRIVATE = [
    ("def x(:\n", SPEC, "my.py:1: my.py cannot be loaded: SyntaxError"),
    ("\n1 / 0\n", SPEC, "my.py:2: my.py cannot be loaded: ZeroDivisionError"),
    ("import nopackage\n", SPEC, "No module named 'nopackage'"),
    ("raise SystemExit(0)\n", SPEC, "SystemExit: 0"),
    ("raise ValueError('two\\nlines')\n", SPEC, "two lines"),
    ("x = 1\n", SPEC, "my.py holds no STAGE"),
    (STAGE.replace("params=Params", "params=dict"), SPEC, "a frozen dataclass"),
    (STAGE.replace('writes=("o",)', 'writes=("q",)'), SPEC, "writes = ('q',)"),
    (STAGE.replace("parts=(PART,)", "parts=(PART, 3)"), SPEC, "part 3"),
    (STAGE.replace('"b", f,', '"b", f, halo=lambda params, size: (1, 2),'), SPEC, "has the halo (1, 2)"),
    (STAGE.replace('"b", f,', '"b", f, halo=lambda params, size: 1 / 0,'), SPEC, "ZeroDivisionError"),
    (STAGE.replace("core.shape", "core.shape[:2]"), RUN, "layer o has shape (8, 8); expected (8, 8, 8)"),
    (STAGE.replace('"u1")', '"f4")'), RUN, "layer o is float32; expected uint8"),
    (STAGE.replace("return Output", "return 1 / 0 #"), RUN, "ZeroDivisionError"),
    (STAGE.replace("return Output", "return exit(0) #"), RUN, "left the process with status 0"),
]


@pytest.mark.parametrize(("code", "status", "said"), PRIVATE)
def test_private_stage(code: str, status: int, said: str, folder: Path, bad_line: Call, good: Call) -> None:
    Path("my.py").write_text(code)
    flow(steps={"mine": {"stage": "my.py", "reads": {"a": "aff"}}})
    bad_line(status, [said, "; way out: "], *run())
    if status == RUN:
        # The failed run is taken up with the corrected stage.
        Path("my.py").write_text(STAGE)
        good(*run())


def test_a_table_that_is_no_parquet_as_data(folder: Path, bad: Call) -> None:
    Path("t.csv").write_text("id,z_nm,y_nm,x_nm\n1,2,3,4\n")
    flow(path="t.csv")
    bad(DATA, ["t.csv: ", "a table must be Parquet", "bouton import-synapses t.csv t.parquet"], *run())


def test_model_files(folder: Path, bad: Call) -> None:
    np.save("image.npy", np.zeros((4, 8, 8), np.uint8))
    whole = (model_path("organelles-phantom") / "weights.safetensors").read_bytes()
    contents = {"text": b"hello", "empty": b"", "cut": whole[: len(whole) // 2], "flipped": whole[:-1] + b"\x77"}
    for name, content in contents.items():
        shutil.copytree(model_path("organelles-phantom"), name)
        (Path(name) / "weights.safetensors").write_bytes(content)
        flow(path="image.npy", steps={"network": PREDICT["network"] | {"params": {"model": name}}})
        bad(DATA, [f"{name}/weights.safetensors: no model of bouton, or a damaged one", "bouton train"], *run())
    Path("old.pt").write_bytes(pickle.dumps({"weights": 1}))
    flow(path="image.npy", steps={"network": PREDICT["network"] | {"params": {"model": "old.pt"}}})
    bad(DATA, ["old.pt: a pickle", "bouton model import"], *run())
    network = {"network": PREDICT["network"] | {"params": {"model": "phantm"}}}
    flow(path="image.npy", steps=network)
    bad(SPEC, ["flow.yaml:", "no model 'phantm'", "one of affinity-aniso, affinity-fib25, organelles-phantom"], *run())
    flow(path="image.npy", steps=PREDICT, size=[4, 4, 4])
    bad(SPEC, ["flow.yaml:", "trained at 30 x 10 x 10 nm (z, y, x), the image has 4 x 4 x 4 nm"], *run())
    network = PREDICT | {"fragments": {"stage": "fragments", "reads": {"affinities": "network.synapse_evidence"}}}
    flow(path="image.npy", steps=network)
    bad(SPEC, ["input 'affinities'", "network.synapse_evidence", "channels: 4", "3 channels"], *run())
    assert not Path("runs").exists()


@pytest.mark.parametrize("verb", ["status", "report", "view", "verify", "path"])
def test_no_run(verb: str, folder: Path, bad: Call) -> None:
    Path("file").write_text("x")
    for place in ("runs/none", ".", "file"):
        words = [place, "segmentation"] if verb == "path" else [place]
        bad(SPEC, ["bouton run WORKFLOW"], verb, *words)


def test_damaged_run(folder: Path, bad: Call, good: Call) -> None:
    good(*run())
    before = results()
    bad(SPEC, ["no 'segmentatoin'", "did you mean segmentation?"], "path", "t", "segmentatoin")
    bad(SPEC, ["no 'x' among the outputs", "bouton status"], "path", "t", "segmentation.x")
    record = Path("runs/t/run.json")
    info = json.loads(record.read_bytes())
    wrong = [{"shape_zyx": "abc"}, {"voxel_size_nm": ["a", 1, 1]}, {"sources": None}, {"steps": [1]}]
    wrong += [{"steps": [info["steps"][0] | {"outputs": []}]}, {"steps": [info["steps"][0] | {"outputs": {"a": {}}}]}]
    for content in [b"", b"[]", b"{", b"\xff", b"[" * 100_000, *(json.dumps(info | w).encode() for w in wrong)]:
        record.write_bytes(content)
        for words in (["status", "t"], ["report", "runs/t"], ["verify", "t"], ["path", "t", "segmentation"]):
            bad(DATA, ["run.json: run.json is damaged", "bouton run with the same workflow"], *words)
    good(*run())
    assert np.array_equal(results(), before)


@pytest.mark.parametrize("content", [b"junk" * 1000, None])
def test_damaged_ledger(content: bytes | None, folder: Path, bad_line: Call, good: Call) -> None:
    good(*run())
    before = results()
    (ledger,) = Path("runs/t/fragments").glob("*/ledger.sqlite")
    ledger.write_bytes(content or ledger.read_bytes()[:5000])
    bad_line(DATA, ["ledger.sqlite: the ledger cannot be read", "delete the step's folder"], *run())
    bad_line(DATA, ["step fragments: ", "ledger.sqlite is damaged"], "verify", "t")
    bad_line(DATA, ["the ledger is lost", "run the workflow again"], "verify", "t", "--repair")
    shutil.rmtree(ledger.parent)
    good(*run())
    good("verify", "t")
    assert np.array_equal(results(), before)


def test_runs_folder(folder: Path, bad: Call, good: Call) -> None:
    Path("runs").write_text("x")
    bad(RUN, ["runs", "Not a directory", "give another with --runs"], *run())
    if Path("/proc/self").exists():
        bad(RUN, ["/proc/", "give another with --runs"], *run("--runs", "/proc/bouton"))
    good(*run("--runs", "other"))
    results("other/t")


def test_synapse_tables(folder: Path, bad: Call, good: Call) -> None:
    names = [f"{side}{axis}_nm" for side in ("", "pre_", "post_") for axis in "zyx"]
    table = {"id": [1], "pre_id": [1], "post_id": [2], "type": ["unknown"], **{name: [0.0] for name in names}}
    nowhere = {"y_nm": [np.nan], "pre_y_nm": [np.nan]}
    for name, change in {"good": {}, "text": {"z_nm": ["a"]}, "nan": nowhere, "real": {"id": [1.5]}}.items():
        pq.write_table(pa.table(table | change), f"{name}.parquet")
    words = ["evaluate", "--truth-synapses", "good.parquet", "--synapses"]
    bad(DATA, ["text.parquet, row 1: z_nm 'a'", "a number"], *words, "text.parquet")
    bad(DATA, ["nan.parquet, row 1: no y_nm, but z_nm", "all of z, y, x of a place, or none"], *words, "nan.parquet")
    bad(DATA, ["real.parquet, row 1: id '1.5'", "a whole number"], *words, "real.parquet")
    bad(DATA, ["aff.npy", ".parquet"], *words, "aff.npy")
    good(*words, "good.parquet")
    np.save("real.npy", np.zeros((3, 4, 5)))
    bad(DATA, ["real.npy", "float64 values as truth"], *words, "good.parquet", "--truth", "real.npy")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shape-zyx", "0,1,1"], "three whole numbers"),
        (["--voxel-size-nm", "1000,1,1"], "1 to 200 nm"),
        (["--seed", "x"], "--seed"),
        (["--defects", "nope"], "unknown defect 'nope'"),
        (["--defect-rate", "nan"], "defect_rate nan"),
    ],
)
def test_phantom_options(words: list[str], said: str, folder: Path, bad_line: Call) -> None:
    bad_line(SPEC, [said], "phantom", "out", "--shape-zyx", "2,8,8", *words)
    assert not Path("out").exists()
    bad_line(DATA, ["aff.npy", "exists already"], "phantom", "aff.npy", "--shape-zyx", "2,8,8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name=../x", "name: '../x'"),
        ("data=[]", "data: []"),
        ("voxel_size_nm=[0, 1, 1]", "voxel_size_nm.0: 0"),
        ("voxel_size_nm=[.nan, 1, 1]", "voxel_size_nm.0: nan"),
        ("patch_zyx=[0, 1, 1]", "greater than 0"),
        ("heads=[affinity]", "'tissue' or 'partners'"),
        ("traning.steps=3", "did you mean 'training'?"),
        ("training.stepz=3", "did you mean 'steps'?"),
        ("augmentation.nois=3", "did you mean 'noise'?"),
    ],
)
def test_training_file(change: str, said: str, folder: Path, bad: Call) -> None:
    plan = Path(__file__).parents[2] / "workflows" / "train" / "organelles.yaml"
    bad(SPEC, [f"organelles.yaml with --set {change}", said], "train", plan, "--set", change)
    assert not Path("runs").exists()


def test_size_is_the_same_for_all_data(folder: Path, bad: Call) -> None:
    data = {"aff": {"path": "aff.npy", "voxel_size_nm": SIZE}, "b": {"path": "aff.npy", "voxel_size_nm": [40, 10, 10]}}
    flow(data=data, steps=CHAIN)
    bad(DATA, ["flow.yaml:", "'b'", "one voxel size for all volumes"], *run())
