"""What a step reads against what its stage accepts: numbers of channels, columns, and what goes together."""

import time
from pathlib import Path

import numpy as np
import pytest

import bouton
from bouton.engine import run_workflow
from bouton.engine.plan import make_plan
from bouton.errors import DataError, SpecError
from bouton.spec import Choices, load_workflow
from bouton.stage import Layer
from bouton.step_checks import check_layer
from bouton.volume import write_table

FLOW = """
name: flow
block_zyx: [4, 8, 8]
data: {evidence: {path: evidence.npy, voxel_size_nm: [30, 10, 10]}}
steps:
  clefts: {stage: clefts, reads: {synapse_evidence: evidence}, params: {min_volume_nm3: 0, gap_nm: 20}}
"""


def write(folder: Path, evidence: np.ndarray) -> Path:
    np.save(folder / "evidence.npy", evidence)
    (folder / "flow.yaml").write_text(FLOW)
    return folder / "flow.yaml"


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_a_run_takes_each_number_of_channels(channels, tmp_path: Path) -> None:
    cleft = np.zeros((6, 12, 20), np.uint8)
    cleft[2:5, 3:10, 6:9] = 200
    evidence = cleft if channels is None else np.stack([cleft] + [255 - cleft] * (channels - 1))
    run = run_workflow(load_workflow(write(tmp_path, evidence)), tmp_path / "runs", "serial")
    found = bouton.open_run(run.folder)
    assert np.array_equal(found.volume("clefts")[...] > 0, cleft > 0)
    assert found.table("clefts.candidates")["size_voxels"].tolist() == [63]
    assert found.table("clefts.cleft_sizes")["id"].tolist() == [2 * 240 + 3 * 20 + 6 + 1]


def test_another_number_is_refused_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_workflow(write(tmp_path, np.zeros((3, 6, 12, 20), np.uint8)))
    text = str(error.value)
    assert "4-D array of shape (3, 6, 12, 20) as probability" in text
    assert "a 3-D array (z, y, x) or a 4-D array (1, z, y, x) or a 4-D array (4, z, y, x)" in text
    assert "\n" not in text


def test_layers_of_steps() -> None:
    wanted = Layer("uint8", channels=(None, 1, 4), kind="probability")
    for channels in (None, 1, 4):
        check_layer(Layer("uint8", channels=channels), wanted, "here")
    with pytest.raises(SpecError, match=r"channels: 3; expected no channels, 1 or 4 channels"):
        check_layer(Layer("uint8", channels=3), Layer("uint8", channels=(None, 1, 4)), "")
    with pytest.raises(SpecError, match="channels: none; expected 1 channel;"):
        check_layer(Layer("uint8"), Layer("uint8", channels=1), "")
    with pytest.raises(SpecError, match=r"channels: 4; expected a \(z, y, x\) volume without channels"):
        check_layer(Layer("uint8", channels=4), Layer("uint8"), "")


def test_parts_that_a_parameter_leaves_out_make_no_task(tmp_path: Path) -> None:
    """The rule about areas needs three more parts."""
    evidence = np.zeros((6, 12, 20), np.uint8)
    evidence[2:5, 3:10, 6:9] = 200
    evidence[0, 0, 0] = 255
    path, found = write(tmp_path, evidence), {}
    for area in ("0", "200"):
        choices = Choices(overrides=[f"steps.clefts.params.min_section_area_nm2={area}"])
        run = bouton.open_run(run_workflow(load_workflow(path, choices), tmp_path / "runs" / area, "serial").folder)
        step = run.folder / "clefts" / next(p.name for p in (run.folder / "clefts").iterdir())
        found[area] = {p.name for p in step.iterdir()}, run.table("clefts.candidates")["removed_by"].tolist()
    assert found["200"][0] - found["0"][0] >= {"_kept", "_section_parts", "_deleted", "_deleted_rows"}
    assert not any("section" in name for name in found["0"][0])
    assert found["0"][1] == ["", ""]
    assert found["200"][1] == ["section_area", ""]


DENSITIES = """
name: densities
block_zyx: [16, 16, 16]
data:
  marks: {path: marks.npy, voxel_size_nm: [100, 100, 100]}
  unusable: {path: unusable.npy, voxel_size_nm: [100, 100, 100]}
  synapses: {path: synapses.parquet}
steps:
  densities: {stage: densities, reads: READS, params: PARAMS}
"""


def densities(
    folder: Path, reads: str, params: str = "{block_um: [1, 1, 1], exclusion_nm: 0}", height: int = 20
) -> Path:
    np.save(folder / "marks.npy", np.zeros((20, 20, 20), np.uint32))
    np.save(folder / "unusable.npy", np.zeros((height, 20, 20), np.uint8))
    rows = {f"{axis}_nm": np.linspace(100, 1900, 30) for axis in "zyx"}
    if not (folder / "synapses.parquet").exists():
        write_table(folder / "synapses.parquet", rows, dict.fromkeys(rows, "float64"))
    (folder / "flow.yaml").write_text(DENSITIES.replace("READS", reads).replace("PARAMS", params))
    return folder / "flow.yaml"


@pytest.mark.parametrize(
    ("reads", "params", "message"),
    [
        ("{mask: unusable}", "{}", "neither given; expected either labels or synapses"),
        ("{labels: marks, synapses: synapses}", "{}", "labels and synapses given"),
        ("{synapses: synapses}", "{rule: neurodata-2016}", "with a table of synapses; expected labels"),
        ("{synapses: synapses}", "{block_um: [1, 1, 3]}", r"no whole block of \(10, 10, 30\) voxels fits the bounds"),
        ("{synapses: synapses}", "{block_um: [0.01, 1, 1]}", "expected blocks of at least a voxel"),
        ("{synapses: synapses}", "{block_um: [1, 1]}", r"block_um = \[1, 1\]; expected at least 3 values"),
        ("{synapses: synapses}", "{block_um: [1, 1, much]}", r"block_um.2 = 'much'; expected a valid number"),
    ],
)
def test_a_stage_refuses_before_anything_runs(tmp_path: Path, reads: str, params: str, message: str) -> None:
    with pytest.raises(SpecError, match=rf"flow.yaml:9: .*{message}"):
        load_workflow(densities(tmp_path, reads, params))


def test_a_mask_of_another_grid_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"flow.yaml:9: mask of \(12, 20, 20\) voxels, the data set has \(20, 20, 20\)"):
        load_workflow(densities(tmp_path, "{labels: marks, mask: unusable}", height=12))
    assert load_workflow(densities(tmp_path, "{labels: marks, mask: unusable}")).steps


def test_text_in_a_column_of_numbers_is_refused_before_anything_runs(tmp_path: Path) -> None:
    rows = {f"{axis}_nm": np.full(3, "100", object) for axis in "zyx"}
    write_table(tmp_path / "synapses.parquet", rows, dict.fromkeys(rows, "str"))
    with pytest.raises(SpecError, match="column z_nm holds text; expected float64"):
        load_workflow(densities(tmp_path, "{synapses: synapses}"))


def test_everything_beyond_reach_is_quick(tmp_path: Path) -> None:
    path = densities(tmp_path, "{labels: marks, mask: unusable}", "{block_um: [1, 1, 1], exclusion_nm: 1.0e+9}")
    started = time.process_time()
    run = run_workflow(load_workflow(path), tmp_path / "runs", "serial")
    found = bouton.open_run(run.folder).table("densities")
    assert set(found["reason"]) == {"no exposed volume"} and np.isnan(found["density_um3"]).all()
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("raise SpecError('no such package')", SpecError, r"flow.yaml:\d+: no such package"),
        ("raise DataError('it is wet', where='stack')", DataError, "stack: it is wet"),
        ("return plan.nothing", SpecError, "the check of the stage fails: AttributeError"),
    ],
)
def test_what_a_check_of_a_lab_s_own_stage_says(tmp_path: Path, body: str, kind: type, message: str) -> None:
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\n"
        "from bouton.errors import DataError, SpecError\n"
        "from bouton.stage import Layer, Output, Stage, Table, WholePart\n"
        "@dataclass(frozen=True)\nclass Params:\n    pass\n"
        f"def check(plan):\n    {body}\n"
        "PART = WholePart('a', lambda task: Output(), {'rows': Table()})\n"
        "STAGE = Stage(1, Params, {}, ('rows',), (PART,), check=check)\n"
    )
    flow = "grid: {shape_zyx: [2, 2, 2], voxel_size_nm: [1, 1, 1]}\nsteps:\n  own: {stage: own.py}\n"
    (tmp_path / "flow.yaml").write_text(flow)
    with pytest.raises(kind, match=message):
        load_workflow(tmp_path / "flow.yaml")


def test_memory_is_not_planned_for_what_lies_outside_of_the_bounds(tmp_path: Path) -> None:
    path = densities(tmp_path, "{labels: marks, mask: unusable}", "{block_um: [1, 1, 1], exclusion_nm: 1.0e+9}")
    (step,) = make_plan(load_workflow(path), tmp_path / "runs", workers=1).steps
    assert step.peak_bytes < 8 << 30
