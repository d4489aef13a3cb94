"""Workflow files: what is accepted, what is refused and with which words, and what names a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bouton.errors import BoutonError, DataError, SpecError
from bouton.geometry import Box
from bouton.spec import Choices, Workflow, load_workflow

HEAD = "data:\n  image: {path: image.npy, voxel_size_nm: [40, 4, 4]}\n"
AFFINITIES = "data:\n  aff: {path: aff.npy, voxel_size_nm: [40, 4, 4]}\n"
STEPS = """\
steps:
  fragments: {stage: fragments, reads: {affinities: aff}, params: {low: 0.1}}
  agglomeration: {stage: agglomeration, reads: {affinities: aff, fragments: fragments}}
  segmentation: {stage: segmentation, reads: {fragments: fragments, merges: agglomeration.merges}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", np.zeros((8, 16, 16), np.uint8))
    np.save(tmp_path / "aff.npy", np.zeros((3, 8, 16, 16), np.uint8))
    return tmp_path


def load(folder: Path, text: str, **choices: object) -> Workflow:
    path = folder / "flow.yaml"
    path.write_text(text)
    return load_workflow(path, Choices(**choices))


def keys(workflow: Workflow) -> dict[str, str]:
    return {step.name: step.key for step in workflow.steps}


def test_steps_come_in_order_with_grid_and_defaults(folder: Path) -> None:
    lines = STEPS.splitlines(keepends=True)
    flow = load(folder, AFFINITIES + lines[0] + "".join(reversed(lines[1:])))
    assert [step.name for step in flow.steps] == ["fragments", "agglomeration", "segmentation"]
    assert flow.shape == (8, 16, 16)
    assert flow.voxel_size_nm == (40, 4, 4)
    assert flow.steps[0].bounds == Box((0, 0, 0), (8, 16, 16))
    assert flow.steps[0].params.low == 0.1
    assert flow.name == "flow"


def test_a_key_holds_all_that_determines_the_result_and_nothing_else(folder: Path) -> None:
    base = keys(load(folder, AFFINITIES + STEPS))
    assert base == keys(load(folder, "# a comment\n" + AFFINITIES + STEPS))
    low = keys(load(folder, AFFINITIES + STEPS, overrides=["steps.fragments.params.low=0.2"]))
    assert all(low[name] != base[name] for name in base)
    last = keys(load(folder, AFFINITIES + STEPS, overrides=["steps.segmentation.params.threshold=0.77"]))
    assert {name for name in base if last[name] != base[name]} == {"segmentation"}
    assert keys(load(folder, AFFINITIES + STEPS, block=(4, 4, 4))) != base
    assert keys(load(folder, AFFINITIES + STEPS, bounds=Box((0, 0, 0), (4, 4, 4)))) != base
    np.save(folder / "aff.npy", np.ones((3, 8, 16, 16), np.uint8))
    assert all(key != base[name] for name, key in keys(load(folder, AFFINITIES + STEPS)).items())


def test_a_renamed_step_keeps_its_result(folder: Path) -> None:
    renamed = STEPS.replace("agglomeration:", "merging:", 1).replace("agglomeration.merges", "merging.merges")
    first, second = keys(load(folder, AFFINITIES + STEPS)), keys(load(folder, AFFINITIES + renamed))
    assert first["segmentation"] == second["segmentation"]


def test_until_keeps_what_is_needed(folder: Path) -> None:
    flow = load(folder, AFFINITIES + STEPS, until="agglomeration")
    assert [step.name for step in flow.steps] == ["fragments", "agglomeration"]
    with pytest.raises(SpecError, match="did you mean 'agglomeration'"):
        load(folder, AFFINITIES + STEPS, until="aglomeration")


def test_bounds_clip_and_skip(folder: Path) -> None:
    text = AFFINITIES + STEPS + '  late: {stage: fragments, reads: {affinities: aff}, bounds_zyx: "6:8,0:16,0:16"}\n'
    assert load(folder, text).steps[-1].bounds.start == (6, 0, 0)
    flow = load(folder, text, bounds=Box((0, 0, 0), (4, 16, 16)))
    assert {step.bounds.stop for step in flow.steps} == {(4, 16, 16)}
    assert "late" in flow.skipped


CASES = [
    (AFFINITIES + STEPS.replace("low:", "lwo:"), "unknown parameter 'lwo'.*did you mean 'low'"),
    (AFFINITIES + STEPS.replace("params:", "parms:"), "flow.yaml:4: unknown key 'parms'.*did you mean 'params'"),
    (AFFINITIES + STEPS + "outputs: 3\n", "unknown key 'outputs'"),
    (AFFINITIES.replace("path:", "pth:") + STEPS, "unknown key 'pth'.*did you mean 'path'"),
    (AFFINITIES + STEPS.replace("low: 0.1", "low: abc"), "flow.yaml:4: low = 'abc'"),
    (AFFINITIES + STEPS.replace("low: 0.1", "low: .nan"), "low"),
    (AFFINITIES + STEPS.replace("stage: fragments", "stage: fragmnts"), "no stage 'fragmnts'"),
    (AFFINITIES + STEPS.replace("affinities: aff}, params", "affinities: af}, params"), "did you mean 'aff'"),
    (AFFINITIES + STEPS.replace("agglomeration.merges", "agglomeration.mergs"), "did you mean 'merges'"),
    (AFFINITIES + STEPS.replace("merges: agglomeration.merges", "merges: fragments"), "is a layer.*expected a table"),
    (AFFINITIES + STEPS.replace(", merges: agglomeration.merges", ""), "input 'merges' is missing"),
    (AFFINITIES + STEPS.replace("{affinities: aff, frag", "{affinities: aff, extra: aff, frag"), "reads no 'extra'"),
    (
        AFFINITIES + "steps:\n  a: {stage: segmentation, reads: {fragments: b, merges: b}}\n"
        "  b: {stage: segmentation, reads: {fragments: a, merges: a}}\n",
        "circle: a -> b -> a|circle: b -> a -> b",
    ),
    (
        HEAD + "steps:\n  f: {stage: fragments, reads: {affinities: image}}\n",
        "3-D array of shape .* as affinities; expected a 4-D array",
    ),
    (HEAD + "  aff: {path: aff.npy, voxel_size_nm: [40, 8, 8]}\n" + STEPS, "voxel size"),
    (HEAD.replace("[40, 4, 4]", "[4, 4, 40]") + STEPS, "looks like x,y,z"),
    (HEAD.replace("[40, 4, 4]", "[40, 4]") + STEPS, "voxel_size_nm"),
    (HEAD.replace(", voxel_size_nm: [40, 4, 4]", "") + STEPS, "no voxel size"),
    ("data:\n  image: {path: none.npy, voxel_size_nm: [1, 1, 1], obtain: ask us}\n" + STEPS, "not found.*ask us"),
    ("steps: {}\n" + AFFINITIES, "no steps"),
    (AFFINITIES, "steps: missing"),
    (STEPS.replace("reads: {affinities: aff}, ", ""), "no data source and no grid"),
    (AFFINITIES + STEPS.replace("fragments: {stage", "../up: {stage", 1), "name '../up'"),
    (AFFINITIES + STEPS.replace("fragments: {stage", "aff: {stage", 1), "names a data source and a step"),
    (AFFINITIES + "block_zyx: [0, 4, 4]\n" + STEPS, "block_zyx"),
]


@pytest.mark.parametrize(("text", "message"), CASES)
def test_refused_in_one_helpful_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(BoutonError, match=message) as caught:
        load(folder, text)
    assert "\n" not in str(caught.value)


def test_bounds_outside_the_data(folder: Path) -> None:
    with pytest.raises(SpecError, match="reaches outside"):
        load(folder, AFFINITIES + STEPS, bounds=Box((0, 0, 0), (99, 4, 4)))
    with pytest.raises(SpecError, match="reach beyond data aff"):
        load(folder, AFFINITIES + STEPS.replace("params: {low: 0.1}", 'bounds_zyx: "0:9,0:4,0:4"'))


def test_environment_in_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = AFFINITIES.replace("aff.npy", "'${BOUTON_TEST_X:-.}/aff.npy'") + STEPS
    load(folder, text)
    monkeypatch.setenv("BOUTON_TEST_X", "/nowhere")
    with pytest.raises(DataError, match=r"/nowhere/aff\.npy"):
        load(folder, text)
    with pytest.raises(SpecError, match="BOUTON_TEST_Y is not set"):
        load(folder, AFFINITIES.replace("aff.npy", "'${BOUTON_TEST_Y}/aff.npy'") + STEPS)
