"""The phantom's truth: consistent with itself, the same whatever box asks, and true at any voxel size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bouton import SpecError
from bouton.geometry import Box
from bouton.phantom import DEFECTS, SYNAPSE_COLUMNS, PhantomParams, generate
from bouton.phantom.field import make_field
from bouton.phantom.synapses import _in_soma

BOX = Box((-5, 20, -30), (30, 190, 170))
PARAMS = PhantomParams(seed=3)
SPOILT = PhantomParams(seed=3, defects=DEFECTS, defect_rate=0.3)
DRESSED = PhantomParams(seed=3, myelin=0.8, defects=("jitter",), gamma=1.4, contrast=0.7, membrane_grey=60.0)
LAYERS = ("image", "neuron_ids", "clefts", "mitochondria", "vesicles", "tissue", "boundaries", "mask")
GOLDEN = {
    "plain": (Box((-5, 20, -30), (9, 120, 90)), PARAMS, ["875b8edc", "374615c4"]),
    "spoilt": (Box((2, 300, -200), (14, 380, -100)), SPOILT, ["56e0845e", "08bc9f6b"]),
    "vessel": (
        Box((827, 382, -71), (829, 562, 109)),
        PhantomParams(seed=1, voxel_size_nm=(30.0, 40.0, 40.0)),
        ["c5779d81", "958b7598"],
    ),
    "somata": (
        Box((10, 60, 0), (14, 110, 50)),
        PhantomParams(seed=8, voxel_size_nm=(40.0, 40.0, 40.0), somata_per_mm3=400000),
        ["3976f944", "1f1b3c4e"],
    ),
}


@pytest.fixture(scope="module")
def block():
    return generate(BOX, PARAMS)


@pytest.fixture(scope="module")
def spoilt():
    return generate(BOX, SPOILT)


@pytest.fixture(scope="module")
def dressed():
    return generate(BOX, DRESSED)


def _part(low: int, high: int):
    return st.tuples(st.integers(low, high - 1), st.integers(1, 60)).map(lambda t: (t[0], min(high, t[0] + t[1])))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(axes=st.tuples(*(_part(a, b) for a, b in zip(BOX.start, BOX.stop, strict=True))), which=st.integers(0, 2))
def test_any_box_gives_the_same_bits(block, spoilt, dressed, axes, which) -> None:
    box = Box(tuple(a for a, _ in axes), tuple(b for _, b in axes))
    whole, part = (block, spoilt, dressed)[which], generate(box, (PARAMS, SPOILT, DRESSED)[which])
    for name in LAYERS:
        assert np.array_equal(getattr(part, name), getattr(whole, name)[box.within(BOX).slices]), name
    rows = whole.synapses
    voxel = np.floor(np.stack([rows[f"{a}_nm"] for a in "zyx"], 1) / PARAMS.voxel_size_nm)
    inside = np.all((voxel >= box.start) & (voxel < box.stop), axis=1)
    for name, values in part.synapses.items():
        assert np.array_equal(values, rows[name][inside]), name


def test_halves_hold_every_synapse_once(block) -> None:
    middle = (BOX.start[2] + BOX.stop[2]) // 2
    left = generate(Box(BOX.start, (*BOX.stop[:2], middle)), PARAMS)
    right = generate(Box((*BOX.start[:2], middle), BOX.stop), PARAMS)
    both = np.concatenate([left.synapses["id"], right.synapses["id"]])
    assert sorted(both.tolist()) == block.synapses["id"].tolist()
    assert len(both) >= 2


@pytest.mark.parametrize("which", ["block", "spoilt"])
def test_partners_stand_where_the_table_says(which, request) -> None:
    made = request.getfixturevalue(which)
    rows, checked = made.synapses, 0
    for side in ("pre", "post"):
        places = np.stack([rows[f"{side}_{a}_nm"] for a in "zyx"], 1) / PARAMS.voxel_size_nm
        for voxel, wanted in zip(np.floor(places).astype(int), rows[f"{side}_id"], strict=True):
            if np.all(voxel >= BOX.start) and np.all(voxel < BOX.stop):
                assert made.neuron_ids[tuple(voxel - BOX.start)] == wanted
                checked += 1
    assert checked >= 4
    assert np.all(rows["pre_id"] != rows["post_id"])


def test_clefts_are_those_of_the_table(block) -> None:
    rows, size = block.synapses, np.array(PARAMS.voxel_size_nm)
    whole = 0
    for n, name in enumerate(rows["id"]):
        here = block.clefts == name
        edge = here[[0, -1]].any() or here[:, [0, -1]].any() or here[:, :, [0, -1]].any()
        if edge:
            assert np.count_nonzero(here) <= rows["size_voxels"][n]
            continue
        whole += 1
        assert np.count_nonzero(here) == rows["size_voxels"][n]
        owners = set(np.unique(block.neuron_ids[here]).tolist())
        assert owners == {int(rows["pre_id"][n]), int(rows["post_id"][n])}
        labels, _ = ndimage.label(here, np.ones((3, 3, 3)))
        assert np.bincount(labels.ravel())[1:].max() >= 0.95 * np.count_nonzero(here)
        centre = (np.argwhere(here).mean(axis=0) + 0.5 + BOX.start) * size
        assert np.linalg.norm(centre - [rows[f"{a}_nm"][n] for a in "zyx"]) < 120
    assert whole >= 2


def test_columns_ids_and_masks(block) -> None:
    assert list(block.synapses) == list(SYNAPSE_COLUMNS)
    assert np.all(block.neuron_ids > 0)
    assert np.all(block.neuron_ids < 2**53)
    assert not block.mask.any()
    assert 0.01 < block.mitochondria.mean() < 0.15
    assert 0.0005 < block.vesicles.mean() < 0.05
    assert 0.08 < block.boundaries.mean() < 0.25
    assert set(np.unique(block.tissue)) == {0, 2}
    assert set(block.synapses["type"]) <= {"excitatory", "inhibitory"}


def test_targets_are_what_the_post_point_lies_in() -> None:
    size = (40.0, 40.0, 40.0)
    box = Box.of_shape((60, 100, 100))
    made = generate(box, PhantomParams(seed=8, voxel_size_nm=size, somata_per_mm3=400000))
    rows = made.synapses
    assert set(rows["target"]) >= {"spine", "shaft"}
    assert np.mean(rows["target"] == "spine") > 0.4
    places = np.floor(np.stack([rows[f"post_{a}_nm"] for a in "zyx"], 1) / size).astype(int)
    inside = np.all((places >= 0) & (places < box.shape), axis=1)
    soma = made.tissue[tuple(places[inside].T)] == 4
    assert np.array_equal(soma, rows["target"][inside] == "soma")
    excitatory = rows["type"] == "excitatory"
    assert np.mean(rows["target"][excitatory] == "spine") > np.mean(rows["target"][~excitatory] == "spine")


def test_a_synapse_on_a_soma_is_told() -> None:
    params = PhantomParams(seed=8, voxel_size_nm=(40.0, 40.0, 40.0), somata_per_mm3=400000)
    made = generate(Box.of_shape((4, 60, 60)).shift((20, 30, 30)), params)
    field = make_field(params, np.array([0.0, 0.0, 0.0]), np.array([2400.0, 4000.0, 4000.0]))
    frame = (np.array(params.voxel_size_nm), 0.0)
    for voxel in np.argwhere(made.tissue >= 0)[::997]:
        assert _in_soma(field, voxel + np.array([20, 30, 30]), frame) == (made.tissue[tuple(voxel)] == 4)
    assert 0 < np.mean(made.tissue == 4) < 1


def test_membranes_are_dark_and_densities_darker(block) -> None:
    ids = block.neuron_ids
    border = np.zeros(ids.shape, dtype=bool)
    border[:, :, 1:] = ids[:, :, 1:] != ids[:, :, :-1]
    assert np.median(block.image[border]) < np.median(block.image) - 60
    assert np.median(block.image[block.clefts > 0]) < np.median(block.image[border])


def test_synapses_are_as_dense_as_asked() -> None:
    coarse = PhantomParams(seed=4, voxel_size_nm=(50.0, 50.0, 50.0), somata_per_mm3=0, vessels=False)
    rows = generate(Box.of_shape((100, 100, 100)), coarse).synapses
    assert 0.75 <= len(rows["id"]) / 125 <= 1.25
    assert 0.05 <= np.mean(rows["type"] == "inhibitory") <= 0.4
    none = PhantomParams(seed=4, voxel_size_nm=(50.0, 50.0, 50.0), synapses_per_um3=0)
    assert len(generate(Box.of_shape((40, 40, 40)), none).synapses["id"]) == 0


def test_neurites_are_whole(block) -> None:
    """An id's voxels are one piece, apart from pieces that leave the box."""
    ids, index = np.unique(block.neuron_ids, return_inverse=True)
    index = index.reshape(block.neuron_ids.shape) + 1
    lost = 0
    for number, place in enumerate(ndimage.find_objects(index), start=1):
        labels, count = ndimage.label(index[place] == number, np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        for label, piece in enumerate(ndimage.find_objects(labels)):
            spans = [(s.start + p.start, s.start + p.stop) for s, p in zip(place, piece, strict=True)]
            free = all(a > 0 and b < n for (a, b), n in zip(spans, index.shape, strict=True))
            lost += sizes[label] if count > 1 and free and sizes[label] < sizes.max() else 0
    assert len(ids) > 50
    assert lost < 1e-4 * index.size


def test_the_tissue_does_not_depend_on_the_voxel_size(block) -> None:
    fine = generate(Box((0, 200, 200), (15, 400, 400)), PhantomParams(seed=3, voxel_size_nm=(10.0, 5.0, 5.0)))
    # The middle voxel of three fine sections has the centre of a coarse one; laterally the centres are 2.5 nm off.
    coarse = generate(Box((0, 100, 100), (5, 200, 200)), PARAMS)
    assert np.mean(fine.neuron_ids[1::3, ::2, ::2] == coarse.neuron_ids) > 0.97


def test_seeds_differ_and_repeat() -> None:
    box = Box.of_shape((3, 40, 40))
    one, again, other = (generate(box, PhantomParams(seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.image, again.image)
    assert not np.array_equal(one.neuron_ids, other.neuron_ids)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_default_tissue_stays_the_same(name) -> None:
    """Models and figures rest on these phantoms: new parameters must not change a bit of them by default."""
    box, params, expected = GOLDEN[name]
    made = generate(box, params)
    found = [hashlib.sha256(getattr(made, layer).tobytes()).hexdigest()[:8] for layer in ("image", "neuron_ids")]
    assert found == expected


def test_a_vessel_is_blank_and_masked() -> None:
    # Seed 1 has a vessel whose axis passes here.
    centre = np.array([24818.0, 18872.0, 748.0]) // np.array([30, 40, 40])
    z, y, x = (int(v) for v in centre)
    made = generate(
        Box((z, y - 90, x - 90), (z + 1, y + 90, x + 90)), PhantomParams(seed=1, voxel_size_nm=(30.0, 40.0, 40.0))
    )
    assert set(np.unique(made.mask)) == {0, 1}
    assert np.array_equal(made.mask == 1, made.neuron_ids == 0)
    assert made.image[made.mask == 1].mean() > 215
    assert made.image[made.mask == 0].mean() < 190


@pytest.mark.parametrize(
    "wrong",
    [
        {"defects": ("hole",)},
        {"seed": -1},
        {"voxel_size_nm": (0.0, 10.0, 10.0)},
        {"synapses_per_um3": 5.0},
        {"defect_rate": 2.0},
        {"noise": float("nan")},
        {"somata_per_mm3": -1.0},
        {"myelin": 1.5},
        {"membrane_grey": -3.0},
        {"gamma": 0.0},
        {"contrast": float("inf")},
        {"brightness": 200.0},
    ],
)
def test_wrong_parameters_are_named(wrong) -> None:
    with pytest.raises(SpecError) as error:
        PhantomParams(**wrong)
    name = next(iter(wrong))
    assert name.rstrip("s").split("_")[0] in str(error.value)
