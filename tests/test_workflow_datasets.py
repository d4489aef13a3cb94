"""Workflow files with several datasets: what each becomes, which overrides win, and the line that an error names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from bouton.errors import BoutonError, DataError, SpecError
from bouton.geometry import Box
from bouton.spec import Choices, Workflow, load_workflow, workflow_datasets

FILE = """\
name: nine
block_zyx: [4, 8, 8]
data:
  aff: {voxel_size_nm: [40, 4, 4]}
datasets:
  cortex:
    data: {aff: {path: cortex.npy}}
  retina:
    description: the second
    data:
      aff:
        path: retina.npy
        voxel_size_nm: [30, 8, 8]
    block_zyx: [2, 8, 8]
    bounds_zyx: 0:4,0:16,0:8
    set:
      steps.fragments.params.low: 0.2
      steps.segmentation.params: {threshold: 0.7}
  tail:
    data: {aff: {path: cortex.npy}}
    without: [segmentation]
steps:
  fragments: {stage: fragments, reads: {affinities: aff}, params: {low: 0.1}}
  agglomeration: {stage: agglomeration, reads: {affinities: aff, fragments: fragments}}
  segmentation:
    stage: segmentation
    reads: {fragments: fragments, merges: agglomeration.merges}
    params: {threshold: 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "cortex.npy", np.zeros((3, 8, 16, 16), np.uint8))
    np.save(tmp_path / "retina.npy", np.ones((3, 8, 16, 16), np.uint8))
    return tmp_path


def load(folder: Path, dataset: str | None, text: str = FILE, **choices: object) -> Workflow:
    path = folder / "flow.yaml"
    path.write_text(text)
    return load_workflow(path, Choices(dataset=dataset, **choices))


def params(flow: Workflow, step: str) -> object:
    return next(each.params for each in flow.steps if each.name == step)


def test_names_come_in_the_order_of_the_file(folder: Path) -> None:
    (folder / "flow.yaml").write_text(FILE)
    assert workflow_datasets(folder / "flow.yaml") == ("cortex", "retina", "tail")
    (folder / "flow.yaml").write_text("steps: {}\n")
    assert workflow_datasets(folder / "flow.yaml") == ()


def test_an_entry_is_laid_over_the_file(folder: Path) -> None:
    cortex, retina, tail = (load(folder, name) for name in ("cortex", "retina", "tail"))
    assert [flow.name for flow in (cortex, retina, tail)] == ["nine-cortex", "nine-retina", "nine-tail"]
    assert [flow.dataset for flow in (cortex, retina, tail)] == ["cortex", "retina", "tail"]
    # A part of an entry of data: the path is the dataset's, the voxel size the file's.
    assert cortex.sources["aff"].path.name == "cortex.npy"
    assert (cortex.voxel_size_nm, retina.voxel_size_nm) == ((40, 4, 4), (30, 8, 8))
    assert (cortex.steps[0].block, retina.steps[0].block) == ((4, 8, 8), (2, 8, 8))
    assert retina.steps[-1].bounds == Box((0, 0, 0), (4, 16, 8))
    assert [params(flow, "fragments").low for flow in (cortex, retina)] == [0.1, 0.2]
    assert [params(flow, "segmentation").threshold for flow in (cortex, retina)] == [0.5, 0.7]
    assert retina.description == "the second"
    assert [step.name for step in tail.steps] == ["fragments", "agglomeration"]


def test_a_dataset_is_exactly_the_file_written_for_it_alone(folder: Path) -> None:
    """Keys depend on what is computed, not on how many datasets a file has."""
    alone = {
        "block_zyx": [2, 8, 8],
        "bounds_zyx": "0:4,0:16,0:8",
        "data": {"aff": {"path": "retina.npy", "voxel_size_nm": [30, 8, 8]}},
        "steps": yaml.safe_load(FILE)["steps"],
    }
    alone["steps"]["fragments"]["params"] = {"low": 0.2}
    alone["steps"]["segmentation"]["params"] = {"threshold": 0.7}
    expected = load(folder, None, json.dumps(alone))
    assert [step.key for step in load(folder, "retina").steps] == [step.key for step in expected.steps]
    # What the run folder keeps is that file, too.
    kept = load(folder, None, load(folder, "retina").text)
    assert [step.key for step in kept.steps] == [step.key for step in expected.steps]
    assert kept.name == "nine-retina"


def test_the_command_line_wins_over_the_entry_and_the_entry_over_the_file(folder: Path) -> None:
    everywhere = ["steps.fragments.params.low=0.3"]
    assert [params(load(folder, name, overrides=everywhere), "fragments").low for name in ("cortex", "retina")] == [
        0.3,
        0.3,
    ]
    box = Box((0, 0, 0), (2, 8, 8))
    assert load(folder, "retina", bounds=box).steps[0].bounds == box
    assert load(folder, "retina", block=(1, 2, 3)).steps[0].block == (1, 2, 3)
    one = ["datasets.cortex.block_zyx=[1,1,1]", "datasets.retina.bounds_zyx=0:2,0:2,0:2"]
    assert load(folder, "cortex", overrides=one).steps[0].block == (1, 1, 1)
    assert load(folder, "retina", overrides=one).steps[0].block == (2, 8, 8)
    assert load(folder, "retina", overrides=one).steps[0].bounds.stop == (2, 2, 2)


def test_two_datasets_with_the_same_data_have_the_same_keys_and_folders_of_their_own(folder: Path) -> None:
    cortex, tail = load(folder, "cortex"), load(folder, "tail")
    assert [step.key for step in tail.steps] == [step.key for step in cortex.steps[:2]]
    assert cortex.name != tail.name


def test_a_file_without_datasets_may_state_its_bounds(folder: Path) -> None:
    text = (
        FILE.replace("aff: {vox", "aff: {path: cortex.npy, vox").partition("datasets:")[0] + "bounds_zyx: 0:4,0:4,0:4\n"
    )
    text += "steps:" + FILE.partition("steps:\n")[2].join(["\n", ""])
    flow = load(folder, None, text)
    assert {step.bounds.stop for step in flow.steps} == {(4, 4, 4)}
    assert load(folder, None, text, bounds=Box((0, 0, 0), (8, 8, 8))).steps[0].bounds.stop == (8, 8, 8)


CASES = [
    ("retina", ("low: 0.2", "lwo: 0.2"), r"flow.yaml:17, dataset retina: unknown parameter 'lwo'.*did you mean 'low'"),
    ("retina", ("low: 0.2", "low: abc"), r"flow.yaml:17, dataset retina: low = 'abc'"),
    ("retina", ("fragments.params.low", "fragmnts.params.low"), r"flow.yaml:17.*did you mean 'fragments'"),
    ("retina", ("params: {thr", "params: {thresold: 1, thr"), r"flow.yaml:18.*did you mean 'threshold'"),
    (
        "retina",
        ("path: retina", "pth: retina"),
        r"flow.yaml:12, dataset retina: unknown key 'pth'.*did you mean 'path'",
    ),
    ("retina", ("[30, 8, 8]", "[30, 8]"), r"flow.yaml:13, dataset retina: data.aff.voxel_size_nm"),
    ("cortex", ("block_zyx: [2", "blok_zyx: [2"), r"flow.yaml:14: unknown key 'blok_zyx'.*did you mean 'block_zyx'"),
    (None, ("datasets:", "dataset:"), r"flow.yaml:5: unknown key 'dataset'.*did you mean 'datasets'"),
    ("tail", ("without: [seg", "without: [sed"), r"flow.yaml:21: without: no step 'sedmentation'.*'segmentation'"),
    ("tail", ("without: [segmentation", "without: [agglomeration"), r"reads 'agglomeration.merges', which is no"),
    ("retina", ("steps.fragments.params.low", "low"), r"flow.yaml:17: set: 'low'; expected a path in steps or data"),
    ("retina", ("steps.fragments.params.low", "name.a"), r"set: 'name.a'"),
    ("retina", ("steps.fragments.params.low", "steps.fragments.stage.low"), r"flow.yaml:17.*leads through 'fragments'"),
    ("retina", ("0:4,0:16,0:8", "0:4,0:16"), r"flow.yaml:15, dataset retina: '0:4,0:16' is no box"),
    ("retina", ("0:4,0:16,0:8", "0:4,0:16,0:80"), r"flow.yaml:15, dataset retina: bounds_zyx: .*outside"),
    ("cortex", ("  cortex:\n", "  '../up':\n"), r"flow.yaml:6: name '../up'; expected letters"),
    ("cortex", ("  retina:\n", "  Cortex:\n"), r"flow.yaml:8: dataset 'Cortex' beside 'cortex'"),
    ("cortex", ("  retina:\n", "  cortex:\n"), r"flow.yaml:8: key 'cortex' twice"),
    ("cortex", ("  retina:\n", "  2:\n"), r"datasets"),
    ("cortex", ("name: nine", "name: [1]"), r"flow.yaml:1: name"),
    ("cortex", ("name: nine", f"name: {'n' * 99}"), r"run name"),
    ("rentina", ("", ""), r"no dataset 'rentina'.*did you mean 'retina'"),
    (None, ("", ""), r"the file has 3 datasets; expected one of cortex, retina, tail; way out: --dataset cortex"),
]


@pytest.mark.parametrize(("dataset", "change", "told"), CASES)
def test_mistakes_are_told_in_one_line_with_their_place(
    folder: Path, dataset: str | None, change: tuple[str, str], told: str
) -> None:
    text = FILE.replace(*change) if change[0] else FILE
    with pytest.raises(BoutonError, match=told) as caught:
        load(folder, dataset, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("datasets: {}\n", "no dataset; expected datasets: {name"),
        ("datasets: [a]\n", "datasets: .*expected"),
        ("datasets: {a: }\n", "datasets.a: .*expected"),
        ("datasets: {a: {data: {aff: 3}}}\n", "datasets.a.data.aff"),
        ("datasets: {a: {set: [1]}}\n", "datasets.a.set"),
        ("datasets:\n", "datasets"),
    ],
)
def test_malformed_sections(folder: Path, entry: str, told: str) -> None:
    head, _, rest = FILE.partition("datasets:\n")
    with pytest.raises(SpecError, match=told):
        load(folder, "a", head + entry + "steps:" + rest.partition("steps:")[2])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("datasets.cortx.block_zyx=[1,1,1]", "names no dataset.*did you mean 'cortex'"),
        ("datasets.cortex.blok_zyx=[1,1,1]", "--set datasets.cortex.blok_zyx.*did you mean 'block_zyx'"),
        ("datasets.cortex.set.steps.fragments.params.low=1", "set: 'steps'; expected a path"),
        ("datasets.cortex.data.aff.path=gone.npy", "gone.npy"),
        ("steps.fragments.params.low=abc", "--set steps.fragments.params.low=abc, dataset cortex"),
    ],
)
def test_overrides_that_are_wrong(folder: Path, override: str, told: str) -> None:
    with pytest.raises(BoutonError, match=told):
        load(folder, "cortex", overrides=[override])


def test_data_that_are_missing_name_the_line_and_the_dataset(folder: Path) -> None:
    (folder / "retina.npy").unlink()
    with pytest.raises(DataError, match=r"flow.yaml:11, dataset retina.*not found at .*retina.npy"):
        load(folder, "retina")
    load(folder, "cortex")


def test_a_dataset_of_a_file_that_has_none(folder: Path) -> None:
    head, _, rest = FILE.partition("datasets:\n")
    with pytest.raises(SpecError, match=r"--dataset cortex.*leave it out"):
        load(folder, "cortex", head + "steps:" + rest.partition("steps:")[2])
