"""Stage densities against counting by hand and by brute force, whatever the blocks; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.stages import densities
from bouton.stages.densities import Params
from harness import assert_same, run_stage

SHAPE, SIZE = (20, 45, 50), (40.0, 10.0, 15.0)
SMALL = Params(block_um=(0.2, 0.1, 0.15), pad_um=(0.08, 0.03, 0.03), exclusion_nm=47.0)
BLOCKS = [(7, 13, 19), (20, 9, 64), (3, 45, 11)]
OUTPUTS = ["densities", "tissues"]


def mask(seed=0, share=0.004):
    return (np.random.default_rng(seed).random(SHAPE) < share).astype(np.uint8)


def table(seed=0, n=400):
    rng = np.random.default_rng(seed)
    positions = {f"{axis}_nm": rng.random(n) * SHAPE[i] * SIZE[i] for i, axis in enumerate("zyx")}
    words = {"type": ["unknown", "excitatory", "inhibitory"], "target": ["unknown", "spine", "shaft", "soma"]}
    kinds = {name: rng.choice(np.array(each, object), n) for name, each in words.items()}
    return {"id": np.arange(1, n + 1, dtype=np.uint64), **positions, **kinds}


def tissue(seed=0):
    values = np.random.default_rng(seed).integers(0, 4, (5, 9, 5)).astype(np.uint8)
    return np.kron(values, np.ones((4, 5, 10), np.uint8))


def run(inputs, params=SMALL, block=SHAPE, **more):
    return run_stage(densities.STAGE, params, inputs, block, SIZE, shape=SHAPE, **more)


def exposed_by_hand(masked, params=SMALL, bounds=None):
    """Return which voxels are exposed: outside of the bounds everything is as unusable as under the mask."""
    bounds = bounds or Box.of_shape(SHAPE)
    hidden = np.ones([n + 18 for n in SHAPE], bool)
    inside = tuple(slice(a + 9, b + 9) for a, b in zip(bounds.start, bounds.stop, strict=True))
    hidden[inside] = masked[bounds.slices]
    return (distance_transform_edt(~hidden, sampling=SIZE) > params.exclusion_nm)[9:-9, 9:-9, 9:-9]


def brute_force(inputs, params=SMALL, bounds=None):
    """Count voxel by voxel and synapse by synapse: a row a block."""
    bounds = bounds or Box.of_shape(SHAPE)
    masked = np.zeros(SHAPE, bool)
    if "mask" in inputs:
        masked[bounds.slices] = inputs["mask"][bounds.slices] > 0
    exposed = exposed_by_hand(masked, params, bounds)
    block = [round(um * 1000 / size) for um, size in zip(params.block_um, SIZE, strict=True)]
    at = np.stack([np.floor(inputs["synapses"][f"{a}_nm"] / s) for a, s in zip("zyx", SIZE, strict=True)], 1)
    at = at.astype(int)
    rows = []
    for index in np.ndindex(*[n // b for n, b in zip(bounds.shape, block, strict=True)]):
        start = np.array(bounds.start) + np.array(index) * block
        where = tuple(slice(a, a + b) for a, b in zip(start, block, strict=True))
        inside = ((at >= start) & (at < start + block)).all(axis=1)
        shown = inside & exposed[tuple(at[:, i] for i in range(3))]
        words = {name: inputs["synapses"][name][shown] for name in ("type", "target")}
        kinds = [np.sum(words["type"] == w) for w in ("excitatory", "inhibitory")]
        kinds += [np.sum(words["target"] == w) for w in ("spine", "shaft")]
        rows.append((*index, *start, masked[where].sum(), exposed[where].sum(), shown.sum(), inside.sum(), *kinds))
    return np.array(rows)


COUNTED = ["block_z", "block_y", "block_x", "z_start", "y_start", "x_start", "masked_voxels", "exposed_voxels"]
COUNTED += ["synapses", "all_synapses", "excitatory", "inhibitory", "spine", "shaft"]


@pytest.mark.parametrize("bounds", [None, Box((2, 3, 5), (19, 40, 47))])
@pytest.mark.parametrize("reach", [0.0, 40.0, 47.0])
def test_counts_are_those_of_brute_force(bounds, reach):
    params = Params(block_um=SMALL.block_um, exclusion_nm=reach)
    inputs = {"mask": mask(), "synapses": table(n=3000)}
    found = run(inputs, params, (7, 13, 19), bounds=bounds)["densities"]
    expected = brute_force(inputs, params, bounds)
    np.testing.assert_array_equal(np.stack([found[name] for name in COUNTED], axis=1), expected)
    assert 0 < expected[:, 8].sum() < expected[:, 9].sum()
    volume = found["exposed_voxels"] * 40 * 10 * 15 / 1e9
    np.testing.assert_allclose(found["exposed_um3"], volume)
    np.testing.assert_allclose(found["density_um3"], found["synapses"] / volume)


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_do_not_show(block):
    inputs = {"mask": mask(), "synapses": table(), "tissue": tissue()}
    assert_same(run(inputs), run(inputs, block=block, seed=3), OUTPUTS)


def labels(seed=0, n=300):
    """Small boxes, some cut by others, some ids in several pieces far apart."""
    rng, found = np.random.default_rng(seed), np.zeros(SHAPE, np.uint64)
    for _ in range(n):
        at, size = [rng.integers(0, m) for m in SHAPE], rng.integers(1, 6, 3)
        found[tuple(slice(a, a + s) for a, s in zip(at, size, strict=True))] = rng.integers(1, n) << 40
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_labels_count_at_their_centroids_whatever_the_blocks(block):
    volume = labels()
    ids = np.unique(volume[volume > 0])
    places = np.array([np.mean(np.nonzero(volume == each), axis=1) + 0.5 for each in ids]) * SIZE
    rows = table(n=len(ids)) | {f"{axis}_nm": places[:, i] for i, axis in enumerate("zyx")}
    rows |= {name: np.full(len(ids), "unknown", object) for name in ("type", "target")}
    found = run({"labels": volume, "mask": mask(), "tissue": tissue()}, block=block, seed=1)
    expected = run({"synapses": rows, "mask": mask(), "tissue": tissue()})
    assert found["densities"]["all_synapses"].sum() > 150
    assert_same(found, expected, OUTPUTS)


def test_tissues_by_hand():
    inputs = {"synapses": table(n=2000), "tissue": tissue(), "mask": mask()}
    found = run(inputs, block=(7, 13, 19))
    rows, every = found["tissues"], found["densities"]
    exposed = exposed_by_hand(inputs["mask"] > 0)
    first = tuple(slice(0, n) for n in (5, 10, 10))
    inside = inputs["tissue"][first][exposed[first]]
    mine = (rows["block_z"] == 0) & (rows["block_y"] == 0) & (rows["block_x"] == 0)
    assert dict(zip(rows["tissue"][mine].tolist(), rows["exposed_voxels"][mine].tolist(), strict=True)) == {
        value: int(np.sum(inside == value)) for value in set(inside.tolist()) - {0}
    }
    assert 0 < rows["synapses"].sum() < every["synapses"].sum()
    keys = list(zip(*(rows[name].tolist() for name in ("block_z", "block_y", "block_x", "tissue")), strict=True))
    assert keys == sorted(set(keys))


def test_nothing_exposed_is_not_available():
    found = run({"synapses": table(), "mask": np.ones(SHAPE, np.uint8)})["densities"]
    assert np.isnan(found["density_um3"]).all()
    assert set(found["reason"]) == {"no exposed volume"}
    assert not found["synapses"].any()
    assert found["all_synapses"].any()


@pytest.mark.parametrize("reach", [200.0, 225.0, 229.9, 230.0, 5e4, 1e12])
@pytest.mark.parametrize("block", [SHAPE, (7, 13, 19)])
def test_a_reach_of_half_the_volume_and_beyond(block, reach):
    """The volume is 800 x 450 x 750 nm: from 230 nm on the rim alone hides everything."""
    params = Params(block_um=SMALL.block_um, exclusion_nm=reach)
    masked = np.zeros(SHAPE, np.uint8)
    masked[6, 35, 14] = 1
    inputs = {"mask": masked, "synapses": table(n=3000)}
    found = run(inputs, params, block)["densities"]
    expected = brute_force(inputs, params)
    np.testing.assert_array_equal(np.stack([found[name] for name in COUNTED], axis=1), expected)
    without = brute_force(inputs | {"mask": 0 * masked}, params)[:, 7].sum()
    assert 0 < expected[:, 7].sum() < without if reach < 230 else without == 0
    assert found["masked_voxels"].sum() == 1


def test_without_a_mask_all_is_exposed():
    found = run({"synapses": table()}, Params(block_um=SMALL.block_um, exclusion_nm=0))["densities"]
    assert (found["exposed_voxels"] == 5 * 10 * 10).all()
    assert set(found["reason"]) == {""}
    np.testing.assert_array_equal(found["synapses"], found["all_synapses"])


def test_an_empty_table_has_blocks_of_density_zero():
    found = run({"synapses": {name: values[:0] for name, values in table().items()}})["densities"]
    assert len(found["synapses"]) == 4 * 4 * 5
    assert not found["density_um3"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z_nm": -1.0}, "1 of 400 synapses outside"),
        ({"x_nm": np.nan}, "1 of 400 synapses without a position"),
        ({"y_nm": SHAPE[1] * SIZE[1]}, "expected"),
        ({"id": np.uint64(7)}, "1 rows with an id that another has, such as 7"),
    ],
)
def test_bad_rows_are_told(change, message):
    rows = table()
    for name, value in change.items():
        rows[name][3] = value
    with pytest.raises(DataError, match=message):
        run({"synapses": rows})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "type",
            ["excitatory", "exitatory", "Inhibitory", ""] * 100,
            "type 'Inhibitory', 'exitatory'; expected unknown",
        ),
        ("target", ["spine", "soma", "bouton", None] * 100, "target 'bouton'; expected unknown, spine, shaft, soma"),
        ("type", np.arange(400), "type 0, 1, 10, 100, 101, 102 and 394 more; expected unknown, excitatory"),
    ],
)
def test_unknown_words_are_told(name, values, message):
    rows = table() | {name: np.array(values, object if name == "target" or isinstance(values, list) else None)}
    with pytest.raises(DataError, match=message):
        run({"synapses": rows})


def test_empty_and_unknown_words_count_as_unknown():
    rows = table()
    unknown = {"type": np.array(["", None, "unknown", float("nan")] * 100, object), "target": np.full(400, np.nan)}
    found = run({"synapses": rows | unknown})["densities"]
    assert found["synapses"].sum() and not any(found[name].any() for name in COUNTED[-4:])


@pytest.mark.parametrize("unit", [1000.0, np.array(SIZE)])
def test_um_and_voxels_in_place_of_nm_are_refused(unit):
    rows = table()
    for axis, each in zip("zyx", np.broadcast_to(unit, 3), strict=True):
        rows[f"{axis}_nm"] = rows[f"{axis}_nm"] / each
    with pytest.raises(DataError, match="seem to be voxels or um"):
        run({"synapses": rows})


def test_what_is_given_must_go_together():
    for inputs in ({"mask": mask()}, {"labels": labels(), "synapses": table()}):
        with pytest.raises(SpecError, match="either labels or synapses"):
            run(inputs)
    with pytest.raises(SpecError, match="rule counts their voxels"):
        run({"synapses": table()}, Params(rule="neurodata-2016", block_um=SMALL.block_um))
    with pytest.raises(DataError, match="mask of"):
        run_stage(
            densities.STAGE, SMALL, {"mask": mask()[:12], "synapses": table()}, SHAPE, SIZE, shape=SHAPE,
            bounds=Box((0, 0, 0), (12, 45, 50)),
        )  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        {"rule": "mean"},
        {"block_um": (5.0, 0.0, 5.0)},
        {"block_um": (5.0, float("nan"), 5.0)},
        {"pad_um": (2.0, -1.0, 2.0)},
        {"exclusion_nm": -1.0},
        {"exclusion_nm": float("inf")},
    ],
)
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Params(**bad)


def test_blocks_that_do_not_fit_are_told():
    with pytest.raises(SpecError, match="no whole block"):
        run({"synapses": table()}, Params(block_um=(5.0, 5.0, 5.0)))
    with pytest.raises(SpecError, match="at least a voxel"):
        run({"synapses": table()}, Params(block_um=(0.02, 5.0, 5.0)))


PUBLISHED = Params(rule="neurodata-2016", block_um=SMALL.block_um, pad_um=SMALL.pad_um)


def published_by_hand(volume, masked, bounds):
    """Count label by label, as the study's script does: block (5, 10, 10), surround (2, 3, 2)."""
    block, pad = np.array([5, 10, 10]), np.array([2, 3, 2])
    rows = []
    for index in np.ndindex(*((np.array(bounds.shape) - 2 * pad) // block)):
        start = np.array(bounds.start) + pad + np.array(index) * block
        core = tuple(slice(a, a + b) for a, b in zip(start, block, strict=True))
        around = tuple(slice(a - p, a + b + p) for a, b, p in zip(start, block, pad, strict=True))
        ids = set(np.unique(volume[core]).tolist()) - {0}
        kept = {i for i in ids if np.sum(volume[core] == i) / np.sum(volume[around] == i) > 0.5}
        hit = set(np.unique(volume[core][masked[core] > 0]).tolist())
        rows.append(
            (*index, *start, np.sum(masked[core] > 0), 500 - np.sum(masked[core] > 0), len(kept - hit), len(kept))
        )
    return np.array(rows)


@pytest.mark.parametrize("bounds", [None, Box((1, 3, 5), (19, 42, 50))])
@pytest.mark.parametrize("block", [SHAPE, *BLOCKS])
def test_the_published_rule_is_that_of_its_script(block, bounds):
    inputs = {"labels": labels(2), "mask": mask(1, 0.03)}
    found = run(inputs, PUBLISHED, block, bounds=bounds, seed=4)["densities"]
    expected = published_by_hand(inputs["labels"], inputs["mask"], bounds or Box.of_shape(SHAPE))
    np.testing.assert_array_equal(np.stack([found[name] for name in COUNTED[:10]], axis=1), expected)
    assert 0 < expected[:, 8].sum() < expected[:, 9].sum()


def test_the_published_rule_without_mask_and_surround():
    params = Params(rule="neurodata-2016", block_um=SMALL.block_um, pad_um=(0.0, 0.0, 0.0))
    found = run({"labels": labels(2)}, params, (7, 13, 19))["densities"]
    volume = labels(2)
    per_block = [len(set(np.unique(volume[z : z + 5, :10, :10]).tolist()) - {0}) for z in range(0, 20, 5)]
    first = (found["block_y"] == 0) & (found["block_x"] == 0)
    assert found["synapses"][first].tolist() == per_block
    np.testing.assert_array_equal(found["synapses"], found["all_synapses"])
