"""Each defect does what its name says, on the sections it strikes and on no other."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate

BOX = Box((0, 0, 0), (24, 140, 140))
# Coarse voxels, so that a section is wide enough to hold folds and cracks.
PLAIN = PhantomParams(seed=8, voxel_size_nm=(40.0, 40.0, 40.0))


@pytest.fixture(scope="module")
def plain():
    return generate(BOX, PLAIN)


def _with(defect: str, rate: float = 0.4):
    return generate(BOX, PhantomParams(seed=8, voxel_size_nm=(40.0, 40.0, 40.0), defects=(defect,), defect_rate=rate))


def test_missing_sections_are_black_and_masked(plain) -> None:
    made = _with("missing")
    gone = (made.mask == 2).all(axis=(1, 2))
    assert 0 < gone.sum() < 24
    assert not made.image[gone].any()
    assert np.array_equal(made.image[~gone], plain.image[~gone])
    assert np.array_equal(made.neuron_ids, plain.neuron_ids)
    assert not (made.mask[~gone] == 2).any()


@pytest.mark.parametrize("defect", ["fold", "crack"])
def test_folds_and_cracks_are_bands(plain, defect) -> None:
    made = _with(defect)
    changed = made.image != plain.image
    struck = changed.any(axis=(1, 2))
    assert 0 < struck.sum() < 24
    share = changed[struck].mean()
    assert 0.001 < share < 0.2
    tone = made.image[changed].mean()
    assert tone < 90 if defect == "fold" else tone > 240


def test_charging_brightens_patches(plain) -> None:
    made = _with("charging")
    rise = made.image.astype(int) - plain.image
    struck = (rise != 0).any(axis=(1, 2))
    assert 0 < struck.sum() < 24
    assert rise.max() > 50


def test_jitter_moves_truth_with_the_image(plain) -> None:
    fine = {"seed": 8, "voxel_size_nm": (30.0, 10.0, 10.0)}
    box = Box((0, 0, 0), (4, 120, 120))
    straight, moved = generate(box, PhantomParams(**fine)), generate(box, PhantomParams(**fine, defects=("jitter",)))
    for z in range(4):
        same = [
            np.mean(moved.neuron_ids[z, 10:-10, 10:-10] == straight.neuron_ids[z, 10 + a : 110 + a, 10 + b : 110 + b])
            for a in range(-6, 7)
            for b in range(-6, 7)
        ]
        assert max(same) > 0.95
    assert not np.array_equal(moved.neuron_ids, straight.neuron_ids)
