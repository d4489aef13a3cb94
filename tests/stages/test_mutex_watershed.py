"""Stage mutex_watershed: the blocks that write it do not matter; limits and absent packages are told."""

from importlib.util import find_spec

import numpy as np
import pytest

from bouton import open_run
from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.segment import mutex
from bouton.stages import agglomeration
from bouton.stages.mutex_watershed import STAGE, Params
from faults.command_line import AFFINITIES, RUN, SIZE, SPEC, execute, flow
from faults.command_line import run as words
from harness import assert_same, run_stage

needs_package = pytest.mark.skipif(
    find_spec("mwatershed") is None, reason="mwatershed is not installed: pip install 'bouton[mutex]'"
)


def run(params, block, **more):
    return run_stage(STAGE, params, {"affinities": AFFINITIES}, block, tuple(SIZE), **more)


@needs_package
@pytest.mark.parametrize("bounds", [None, Box((1, 2, 3), (7, 12, 11))])
def test_the_blocks_do_not_matter(bounds):
    params = Params(reach_nm=30, dust_voxels=3)
    whole = run(params, (8, 12, 12), bounds=bounds)
    assert len(whole["segment_sizes"]["id"]) > 5
    for block in [(3, 4, 5), (1, 12, 7), (8, 2, 1)]:
        assert_same(whole, run(params, block, bounds=bounds, seed=1), ["segmentation", "segment_sizes"])


@needs_package
def test_equals_the_kernel_and_counts_its_voxels():
    found = run(Params(reach_nm=30), (8, 12, 12))
    shape = AFFINITIES.shape[1:]
    labels = mutex.mutex_watershed(AFFINITIES, mutex.MutexRule(0.5, (1, 3, 3), 0.1), Box.of_shape(shape), shape)
    np.testing.assert_array_equal(found["segmentation"], labels)
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    np.testing.assert_array_equal(found["segment_sizes"]["id"], ids)
    np.testing.assert_array_equal(found["segment_sizes"]["voxels"], counts)
    large = run(Params(reach_nm=30, dust_voxels=5), (8, 12, 12))
    np.testing.assert_array_equal(large["segmentation"], np.where(np.isin(labels, ids[counts >= 5]), labels, 0))
    np.testing.assert_array_equal(large["segment_sizes"]["id"], ids[counts >= 5])


@needs_package
def test_its_segments_can_be_agglomerated():
    fragments = run(Params(bias=0.8), (8, 12, 12))["segmentation"]
    inputs = {"affinities": AFFINITIES, "fragments": fragments}
    merges = run_stage(agglomeration.STAGE, agglomeration.Params(), inputs, (3, 5, 7))["merges"]
    assert len(merges["a"])


@needs_package
def test_a_box_that_is_too_large_is_told_how_much_memory_it_takes():
    with pytest.raises(SpecError, match=r"1152 voxels are more than max_voxels = 1000.*about 1 GiB.*fragments"):
        run(Params(max_voxels=1000), (8, 12, 12))


@pytest.mark.parametrize(
    "bad", [{"bias": 1.1}, {"low": -0.1}, {"reach_nm": -1}, {"dust_voxels": -1}, {"max_voxels": 0}]
)
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Params(**bad)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("aff.npy", AFFINITIES)
    return tmp_path


def workflow(**params):
    flow(steps={"segments": {"stage": "mutex_watershed", "reads": {"affinities": "aff"}, "params": params}})


@needs_package
def test_in_a_workflow(folder):
    workflow(reach_nm=30)
    assert execute(*words("--runs", "runs")) == 0
    found = open_run("runs/t").volume("segments")[...]
    np.testing.assert_array_equal(found, run(Params(reach_nm=30), (8, 12, 12))["segmentation"])


@needs_package
def test_a_box_that_is_too_large_ends_in_one_line(folder, capsys):
    workflow(max_voxels=10)
    assert execute(*words("--runs", "runs")) == RUN
    error = capsys.readouterr().err
    assert "1152 voxels are more than max_voxels = 10" in error
    assert "Traceback" not in error


def test_an_absent_package_is_told_before_anything_runs(folder, capsys, monkeypatch):
    monkeypatch.setattr(mutex, "PACKAGE", "no_such_package")
    workflow()
    assert execute(*words("--runs", "runs")) == SPEC
    error = capsys.readouterr().err
    assert "pip install 'bouton[mutex]'" in error
    assert error.count("\n") == 1
    assert not (folder / "runs").exists()
