"""Stage mask_affinities: each input by its definition, whatever the blocks; objects pass missing sections."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton import open_run
from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.segment.masks import NOWHERE, Bridge
from bouton.stages import agglomeration, fragments, segmentation
from bouton.stages.mask_affinities import STAGE, Params
from faults.command_line import AFFINITIES, RUN, SIZE, SPEC, execute, flow
from faults.command_line import run as words
from harness import run_stage

SHAPE = (9, 6, 7)


def volumes(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return {
        "affinities": rng.integers(1, 256, (3, *shape)).astype(np.uint8),
        "mask": (rng.random(shape) < 0.8).astype(np.uint8),
        "exclude": rng.random(shape) < 0.1,
    }


def run(inputs, params=None, block=SHAPE, **more):
    return run_stage(STAGE, params or Params(), inputs, block, **more)["masked_affinities"]


def expected(inputs, params, bounds):
    """The definition, edge by edge."""
    bridge = Bridge(frozenset(params.missing_sections), bounds.start[0], bounds.stop[0])
    boxes = [Box.parse(text) for text in params.exclude_zyx]
    affinities, result = inputs["affinities"], np.zeros_like(inputs["affinities"])

    def inside(voxel):
        if any(voxel[a] < bounds.start[a] for a in range(3)):
            return True
        z = bridge.section(voxel[0])
        place = (z, *voxel[1:])
        if z == NOWHERE or any(box.contains(Box(voxel, tuple(v + 1 for v in voxel))) for box in boxes):
            return False
        masked = "mask" in inputs and not inputs["mask"][place]
        return not masked and not ("exclude" in inputs and inputs["exclude"][place])

    for offset in np.ndindex(*bounds.shape):
        voxel = tuple(int(a + b) for a, b in zip(bounds.start, offset, strict=True))
        for c in range(3):
            lower = tuple(v - (axis == c) for axis, v in enumerate(voxel))
            z = bridge.edge(voxel[0]) if c == 0 else bridge.section(voxel[0])
            if z != NOWHERE and inside(voxel) and inside(lower):
                result[(c, *voxel)] = affinities[(c, z, *voxel[1:])]
    return result


ALL = Params(exclude_zyx=("1:3,2:9,0:2", "0:1,0:1,0:1"), missing_sections=(0, 3, 5, 6))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    missing=st.lists(st.integers(0, 8), max_size=6),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    names=st.sets(st.sampled_from(["mask", "exclude"])),
    start=st.tuples(*[st.integers(0, 3)] * 3),
)
def test_equals_the_definition_for_every_block_shape(seed, missing, block, names, start):
    inputs = {name: v for name, v in volumes(seed).items() if name in {"affinities", *names}}
    params = Params(exclude_zyx=("1:3,2:6,0:2",), missing_sections=tuple(missing))
    bounds = Box(start, SHAPE)
    found = run(inputs, params, block, seed=seed, bounds=bounds)
    np.testing.assert_array_equal(found, expected(inputs, params, bounds))


@pytest.mark.parametrize("names", [(), ("mask",), ("exclude",), ("mask", "exclude")])
def test_each_mask_alone(names):
    inputs = {name: v for name, v in volumes(3).items() if name in {"affinities", *names}}
    params = Params()
    found = run(inputs, block=(4, 3, 2))
    np.testing.assert_array_equal(found, expected(inputs, params, Box.of_shape(SHAPE)))
    assert np.array_equal(found, inputs["affinities"]) == (not names)


def test_masked_voxels_become_background():
    inputs = volumes(4)
    inputs["mask"][:, :, 3] = 0
    labels = run_stage(fragments.STAGE, fragments.Params(low=0.0), {"affinities": run(inputs)}, SHAPE)["fragments"]
    assert not labels[inputs["mask"] == 0].any()
    assert not labels[inputs["exclude"]].any()
    assert labels.any()


def tubes(gap, shape=(14, 12, 24)):
    """Two oblique tubes side by side along z; sections in ``gap`` were not imaged: their edges are 0."""
    labels = np.zeros(shape, np.int64)
    for z in range(shape[0]):
        labels[z, 2:10, 2 + z // 3 : 9 + z // 3] = 1
        labels[z, 2:10, 11 + z // 3 : 18 + z // 3] = 2
    affinities = np.zeros((3, *shape), np.uint8)
    for axis in range(3):
        upper, lower = (
            tuple(slice(*part) if a == axis else slice(None) for a in range(3)) for part in ((1, None), (0, -1))
        )
        affinities[axis][upper] = np.where((labels[upper] == labels[lower]) & (labels[upper] > 0), 240, 0)
    for z in gap:
        affinities[:, z] = 0
        if z + 1 < shape[0]:
            affinities[0, z + 1] = 0
    return affinities, labels


def segment(affinities, block):
    inputs = {"affinities": affinities}
    inputs["fragments"] = run_stage(fragments.STAGE, fragments.Params(), inputs, block)["fragments"]
    merges = run_stage(agglomeration.STAGE, agglomeration.Params(), inputs, block)["merges"]
    last = {"fragments": inputs["fragments"], "merges": merges}
    return run_stage(segmentation.STAGE, segmentation.Params(threshold=0.5), last, block)["segmentation"]


@pytest.mark.parametrize("gap", [(6,), (5, 6), (4, 5, 6)])
def test_objects_pass_missing_sections(gap):
    affinities, labels = tubes(gap)
    seen = [z for z in range(len(labels)) if z not in gap]
    without = segment(affinities, (5, 6, 7))
    for tube in (1, 2):
        ids = set(np.unique(without[seen][labels[seen] == tube]).tolist()) - {0}
        assert len(ids) == 2, "cut in two at the gap"
    bridged = run({"affinities": affinities}, Params(missing_sections=gap), (5, 6, 7))
    joined = segment(bridged, (5, 6, 7))
    found = [set(np.unique(joined[seen][labels[seen] == tube]).tolist()) - {0} for tube in (1, 2)]
    assert [len(ids) for ids in found] == [1, 1]
    assert found[0] != found[1], "neighbours stay apart"
    assert all(joined[z].any() for z in gap)


def test_missing_sections_at_the_ends_are_background():
    affinities, labels = tubes((0, 13))
    bridged = run({"affinities": affinities}, Params(missing_sections=(0, 13)), (5, 6, 7))
    joined = segment(bridged, (5, 6, 7))
    assert not joined[[0, 13]].any()
    assert set(np.unique(joined).tolist()) == {0, *(int(joined[1][labels[1] == i].max()) for i in (1, 2))}


@pytest.mark.parametrize(
    "bad",
    [{"exclude_zyx": ("1:2,3",)}, {"exclude_zyx": ("3:3,0:1,0:1",)}, {"missing_sections": (2, -1)}],
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(SpecError, match=r"box|missing_sections"):
        Params(**bad)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Params(missing_sections=(9,)), "missing_sections holds 9, the data set has 9 sections"),
        (Params(exclude_zyx=("0:1,0:1,0:8",)), "0:1,0:1,0:8, which reaches outside of the data set"),
    ],
)
def test_places_outside_of_the_data_set_are_refused(bad, words):
    with pytest.raises(SpecError, match=words):
        run(volumes(0), bad)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("aff.npy", AFFINITIES)
    np.save("mask.npy", volumes(1, AFFINITIES.shape[1:])["mask"])
    return tmp_path


def workflow(block=8, **params):
    data = {name: {"path": f"{name}.npy", "voxel_size_nm": list(SIZE)} for name in ("aff", "mask")}
    step = {"stage": "mask_affinities", "reads": {"affinities": "aff", "mask": "mask"}, "params": params}
    fragments_step = {"stage": "fragments", "reads": {"affinities": "masked"}}
    flow(data=data, steps={"masked": step, "fragments": fragments_step}, block_zyx=[block, block, block])


@pytest.mark.parametrize("block", [8, 5])
def test_in_a_workflow(folder, block):
    workflow(block, missing_sections=[2, 3], exclude_zyx=["0:4,0:4,0:12"])
    assert execute(*words("--runs", "runs")) == 0
    inputs = {"affinities": AFFINITIES, "mask": np.load("mask.npy")}
    params = Params(missing_sections=(2, 3), exclude_zyx=("0:4,0:4,0:12",))
    found = open_run("runs/t").volume("masked")[...]
    np.testing.assert_array_equal(found, expected(inputs, params, Box.of_shape(AFFINITIES.shape[1:])))


@pytest.mark.parametrize(
    ("status", "piece", "params"),
    [
        (SPEC, "missing_sections holds -1; expected z of at least 0; way out", {"missing_sections": [-1]}),
        (SPEC, "missing_sections.0 = 'x'", {"missing_sections": ["x"]}),
        (SPEC, "'1:2' is no box; expected z0:z1,y0:y1,x0:x1 in voxels", {"exclude_zyx": ["1:2"]}),
        (SPEC, "exclude_zyx = '0:1,0:1,0:1'; expected a list", {"exclude_zyx": "0:1,0:1,0:1"}),
        (
            RUN,
            "missing_sections holds 8, the data set has 8 sections; expected z from 0 to 7",
            {"missing_sections": [8]},
        ),
    ],
)
def test_bad_input_ends_in_one_line(folder, capsys, status, piece, params):
    workflow(**params)
    assert execute(*words("--runs", "runs")) == status
    error = capsys.readouterr().err
    assert piece in error
    assert "Traceback" not in error


def test_a_smaller_mask_bounds_the_step(folder):
    np.save("mask.npy", np.ones((4, 12, 12), np.uint8))
    workflow()
    assert execute(*words("--runs", "runs", "--bounds-zyx", "0:8,0:12,0:12")) == 0
    assert open_run("runs/t").steps["masked"].bounds_zyx == "0:4,0:12,0:12"
