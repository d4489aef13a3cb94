"""Myelin, glia, somata and membranes of the truth; looks that leave the truth alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bouton.geometry import Box
from bouton.phantom import UNSEEN_LOOKS, PhantomParams, generate
from bouton.phantom.layers import GLIA, MYELIN, SOMA, membranes

BOX = Box.of_shape((30, 120, 120))
PLAIN = PhantomParams(seed=6, voxel_size_nm=(40.0, 20.0, 20.0))
SMALL = Box.of_shape((6, 80, 80))
COARSE = PhantomParams(seed=8, voxel_size_nm=(40.0, 40.0, 40.0), somata_per_mm3=400000)


@pytest.fixture(scope="module")
def plain():
    return generate(BOX, PLAIN)


@pytest.fixture(scope="module")
def myelinated():
    return generate(BOX, replace(PLAIN, myelin=0.8))


@pytest.fixture(scope="module")
def somata():
    return generate(Box((10, 40, 20), (22, 100, 80)), COARSE)


def test_without_myelin_there_is_none(plain) -> None:
    assert not (plain.tissue & MYELIN).any()


def test_a_sheath_is_a_dark_rind_of_its_axon(myelinated) -> None:
    sheath = (myelinated.tissue & MYELIN) > 0
    assert 0.01 < sheath.mean() < 0.2
    inside = 0
    for axon in np.unique(myelinated.neuron_ids[sheath]):
        body = myelinated.neuron_ids == axon
        # The thickest sheath and a voxel's diagonal; the phantom's own distances are exact next to the membrane only.
        around = np.pad(body, 1, mode="edge")
        depth = ndimage.distance_transform_edt(around, sampling=PLAIN.voxel_size_nm)[1:-1, 1:-1, 1:-1]
        assert np.quantile(depth[body & sheath], 0.99) < 132 + 49
        # Seen from outside, an axon is sheathed all round.
        rind = body & (depth <= 20)
        assert sheath[rind].mean() > 0.98
        inside += np.count_nonzero(body & ~sheath)
    assert inside > 1000
    assert myelinated.image[sheath].mean() < 70
    axoplasm = np.isin(myelinated.neuron_ids, np.unique(myelinated.neuron_ids[sheath])) & ~sheath
    assert np.median(myelinated.image[axoplasm & (myelinated.mitochondria == 0)]) > 130


def test_myelinated_axons_bear_neither_spines_nor_synapses(myelinated) -> None:
    axons = np.unique(myelinated.neuron_ids[(myelinated.tissue & MYELIN) > 0])
    rows = myelinated.synapses
    assert len(rows["id"]) >= 1
    assert not np.isin(rows["pre_id"], axons).any()
    assert not np.isin(rows["post_id"], axons).any()


def test_a_myelinated_axon_keeps_the_id_of_the_dendrite_it_replaces(plain, myelinated) -> None:
    axons = np.unique(myelinated.neuron_ids[(myelinated.tissue & MYELIN) > 0])
    assert np.isin(axons, plain.neuron_ids).all()


def test_glia_are_whole_and_pale(plain) -> None:
    """Of any one id, all or no voxels are glia."""
    glia = np.unique(plain.neuron_ids[(plain.tissue & GLIA) > 0])
    assert len(glia) >= 3
    assert ((plain.tissue & GLIA) > 0)[np.isin(plain.neuron_ids, glia)].all()
    deep = ndimage.binary_erosion(plain.boundaries == 0, iterations=2) & (plain.mitochondria == 0)
    pale = deep & ((plain.tissue & GLIA) > 0)
    assert np.median(plain.image[pale]) > np.median(plain.image[deep & ~pale]) + 5


def test_a_soma_is_a_ball_of_one_cell(somata) -> None:
    soma = (somata.tissue & SOMA) > 0
    assert 0.1 < soma.mean() < 0.9
    assert len(np.unique(somata.neuron_ids[soma])) == 1
    # Inside it there is no other tissue, and no membrane but its own surface.
    deep = ndimage.binary_erosion(soma, iterations=3, border_value=1)
    assert not somata.boundaries[deep].any()
    assert not (somata.tissue[soma] & (GLIA | MYELIN)).any()


def test_boundaries_lie_between_neurites(plain) -> None:
    ids, walls = plain.neuron_ids, plain.boundaries > 0
    for axis in range(3):
        lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        meet = ids[lower] != ids[upper]
        assert (walls[lower] | walls[upper])[meet].mean() > 0.97
    meets = ndimage.generic_gradient_magnitude(ids.astype(float), lambda a, axis, *_: ndimage.prewitt(a, axis)) > 0
    far = ndimage.distance_transform_edt(~meets, sampling=PLAIN.voxel_size_nm)
    assert np.quantile(far[walls], 0.995) < 60
    assert plain.image[walls].mean() < plain.image[~walls].mean() - 50


def test_a_membrane_is_as_wide_as_it_is_or_as_a_voxel() -> None:
    distance = np.array([[[0.0, 10.9, 11.1, 14.9, 15.1, 40.0]]], np.float32)
    flat, upright = np.ones_like(distance), np.zeros_like(distance)
    size = np.array([30.0, 10.0, 10.0])
    assert membranes(distance, upright, size).ravel().tolist() == [1, 1, 0, 0, 0, 0]
    assert membranes(distance, flat, size).ravel().tolist() == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", UNSEEN_LOOKS)
def test_a_look_changes_the_image_alone(plain, name) -> None:
    made = generate(BOX, replace(PLAIN, **UNSEEN_LOOKS[name]))
    for layer in ("neuron_ids", "clefts", "mitochondria", "vesicles", "tissue", "boundaries", "mask"):
        assert np.array_equal(getattr(made, layer), getattr(plain, layer)), layer
    assert np.abs(made.image.astype(int) - plain.image).mean() > 10
    # The picture still shows the tissue: membranes are darker than cytoplasm, and few voxels are lost to clipping.
    walls = plain.boundaries > 0
    assert np.median(made.image[~walls]) > np.median(made.image[walls]) + 15
    assert np.isin(made.image, (0, 255)).mean() < 0.05


def test_the_stage_page_lists_the_unseen_looks() -> None:
    page = (Path(__file__).parents[2] / "docs" / "stages" / "phantom.md").read_text()
    for name, look in UNSEEN_LOOKS.items():
        assert f"| {name} | `{{{', '.join(f'{key}: {value:g}' for key, value in look.items())}}}` |" in page


def test_the_tone_curve_is_the_documented_one() -> None:
    quiet = replace(PLAIN, noise=0.0, contrast_drift=0.0)
    before = generate(SMALL, quiet).image.astype(float)
    after = generate(SMALL, replace(quiet, gamma=1.5, contrast=0.8, brightness=10.0)).image.astype(float)
    wanted = ((before / 255) ** 1.5 * 255 - 128) * 0.8 + 138
    # Both are rounded; the curve is at most 1.2 times as steep as the identity.
    assert np.abs(after - np.clip(wanted, 0, 255)).max() < 1.2
    brighter = generate(SMALL, replace(quiet, brightness=40.0)).image.astype(float)
    assert np.array_equal(brighter[before < 215], before[before < 215] + 40)


def test_greys_are_those_asked_for() -> None:
    quiet = replace(PLAIN, noise=0.0, contrast_drift=0.0, blur_nm=0.0)
    dark = generate(SMALL, quiet).image.astype(int)
    pale = generate(SMALL, replace(quiet, membrane_grey=100.0)).image.astype(int)
    assert abs(np.percentile(pale - dark, 99) - 68) <= 2
    shifted = generate(SMALL, replace(quiet, cytoplasm_grey=164.0)).image.astype(int)
    assert np.median(shifted - dark) == -30
