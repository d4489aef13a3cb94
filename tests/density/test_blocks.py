"""Blocks of a table of densities: which take part, where they lie and how large they are."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.blocks import block_size_um, density_blocks, kept_rows
from bouton.density.window import block_window
from bouton.errors import DataError

BLOCK, VOXEL_NM = (100, 400, 500), (50.0, 12.0, 10.0)


def table(shape, start=(0, 0, 0), exposed=1.0):
    index = np.argwhere(np.ones(shape, bool))
    n = len(index)
    found = {"synapses": np.arange(n), "exposed_um3": np.full(n, 5.0 * 4.8 * 5.0 * exposed)}
    found["masked_share"] = np.full(n, 1.0 - exposed)
    for axis, name in enumerate("zyx"):
        low = start[axis] + index[:, axis] * BLOCK[axis]
        found |= {f"block_{name}": index[:, axis], f"{name}_start": low, f"{name}_stop": low + BLOCK[axis]}
        found[f"{name}_nm"] = (low + BLOCK[axis] / 2) * VOXEL_NM[axis]
    return found


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4), (1, 1, 1)])
@pytest.mark.parametrize("start", [(0, 0, 0), (7, 1001, 33)])
def test_the_size_of_blocks_is_known_however_few_there_are(shape, start):
    blocks = density_blocks(table(shape, start))
    assert blocks.size_um == pytest.approx((5.0, 4.8, 5.0))
    assert blocks.centre_um[0] == pytest.approx((np.array(start) + np.array(BLOCK) / 2) * VOXEL_NM / 1000)


def test_a_layer_of_which_no_block_is_wholly_exposed_is_no_window_of_thinner_blocks():
    assert block_window(density_blocks(table((1, 6, 6)))).volume_um3 == pytest.approx(36 * 120)
    with pytest.raises(DataError, match="no block is wholly exposed"):
        block_window(density_blocks(table((1, 6, 6), exposed=0.6)))


def test_blocks_take_part_if_exposed_and_not_too_much_masked():
    rows = table((1, 1, 4))
    rows["exposed_um3"] = np.array([0.0, 1.0, 2.0, 3.0])
    rows["masked_share"] = np.array([0.1, 0.75, 0.76, np.nan])
    assert kept_rows(rows, 0.75).tolist() == [False, True, False, False]
    kept = density_blocks(rows, 0.75)
    assert (kept.counts.tolist(), kept.exposure_um3.tolist(), kept.index.tolist()) == ([1], [1.0], [[0, 0, 1]])
    assert kept.rate == 1.0


def test_no_rows_and_negative_counts():
    empty = {name: values[:0] for name, values in table((1, 1, 1)).items()}
    assert len(density_blocks(empty)) == 0 and np.isnan([*block_size_um(empty), density_blocks(empty).rate]).all()
    rows = table((1, 1, 2)) | {"synapses": np.array([3, -1]), "exposed_um3": np.array([1.0, 0.0])}
    with pytest.raises(DataError, match="-1 synapses"):
        density_blocks(rows)
