"""Stage multicut: the blocks do not matter; limits and an absent package are told."""

from importlib.util import find_spec

import numpy as np
import pytest

from bouton import open_run
from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.segment import multicut
from bouton.segment.basins import Thresholds, fragments_of
from bouton.segment.components import relabel
from bouton.segment.region_graph import region_graph
from bouton.stages.multicut import STAGE, Params
from faults.command_line import AFFINITIES, CHAIN, RUN, SPEC, execute, flow
from faults.command_line import run as words
from harness import assert_same, run_stage

needs_package = pytest.mark.skipif(
    find_spec("bioimage_cpp") is None, reason="bioimage-cpp is not installed: pip install 'bouton[multicut]'"
)
PARAMS = Params(boundary=0.6)


def inputs():
    fragments = fragments_of(AFFINITIES, Thresholds(0.1, 0.99)).astype(np.uint64)
    return {"fragments": fragments, "region_graph": region_graph(fragments, AFFINITIES, Box.of_shape(fragments.shape))}


def run(params=PARAMS, block=(8, 12, 12), **more):
    return run_stage(STAGE, params, inputs(), block, **more)


@needs_package
def test_the_blocks_do_not_matter():
    whole = run()
    assert 1 < len(np.unique(whole["segmentation"])) < len(np.unique(inputs()["fragments"]))
    for block in [(3, 4, 5), (1, 12, 7), (8, 2, 1)]:
        assert_same(whole, run(block=block, seed=1), ["segmentation", "roots"])


@needs_package
def test_segments_are_the_fragments_by_their_roots():
    found, given = run(), inputs()
    ids, roots = multicut.multicut(given["region_graph"], 0.6, 10)
    np.testing.assert_array_equal(found["segmentation"], relabel(given["fragments"], ids, roots))
    for segment in np.unique(found["segmentation"])[1:]:
        first = np.flatnonzero(found["segmentation"].ravel() == segment)[0]
        assert segment == first + 1, "named by its first voxel"


@needs_package
def test_a_graph_that_is_too_large_is_told_how_much_memory_it_takes():
    with pytest.raises(SpecError, match=r"edges is more than max_edges = 3.*about 1 GiB.*the stage segmentation"):
        run(Params(max_edges=3))


@pytest.mark.parametrize("bad", [{"boundary": 0.0}, {"boundary": 1.0}, {"rounds": -1}, {"max_edges": 0}])
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Params(**bad)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("aff.npy", AFFINITIES)
    return tmp_path


def workflow(**params):
    reads = {"fragments": "fragments", "region_graph": "agglomeration.region_graph"}
    last = {"stage": "multicut", "reads": reads, "params": params}
    flow(steps={name: CHAIN[name] for name in ("fragments", "agglomeration")} | {"segments": last})


@needs_package
def test_in_a_workflow(folder):
    workflow(boundary=0.6)
    assert execute(*words("--runs", "runs")) == 0
    np.testing.assert_array_equal(open_run("runs/t").volume("segments")[...], run()["segmentation"])


@needs_package
def test_a_graph_that_is_too_large_ends_in_one_line(folder, capsys):
    workflow(max_edges=1)
    assert execute(*words("--runs", "runs")) == RUN
    error = capsys.readouterr().err
    assert "is more than max_edges = 1" in error
    assert "Traceback" not in error


def test_an_absent_package_is_told_before_anything_runs(folder, capsys, monkeypatch):
    monkeypatch.setattr(multicut, "PACKAGE", "no_such_package")
    workflow()
    assert execute(*words("--runs", "runs")) == SPEC
    error = capsys.readouterr().err
    assert "pip install 'bouton[multicut]'" in error
    assert error.count("\n") == 1
    assert not (folder / "runs").exists()
