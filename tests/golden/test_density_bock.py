"""Published figures about synapse density in mouse V1 (Bock et al. 2011) and S1 (Kasthuri et al. 2015)."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from bouton.density.blocks import DensityBlocks, density_blocks
from bouton.density.dispersion import dispersion
from bouton.density.grid import AnalysisGrid
from bouton.density.moran import morans_i
from bouton.density.published import histogram_chi_square
from bouton.errors import DataError
from bouton.geometry import Box
from bouton.volume.density_columns import DENSITY_COLUMNS

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BOUTON_DATA") or ROOT.parent / "shared" / "data")
GRID = (11, 52, 108)
VARIANCE_OVER_MEAN = {0.5: 13.58, 0.1: 8.92}
HEADER = "cx,cy,cz,unmasked,synapses\n"


@pytest.fixture(scope="module")
def read_counts():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("density_tables").read_counts
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def table(read_counts):
    path = DATA / "bock11_density" / "synapse_blocks.csv"
    if not path.is_file():
        pytest.skip(f"no {path}; set BOUTON_DATA")
    return read_counts(path)


@pytest.mark.real
def test_bock_is_a_whole_grid(table):
    assert list(table) == list(DENSITY_COLUMNS)
    index = np.stack([table[f"block_{axis}"] for axis in "zyx"], axis=1)
    np.testing.assert_array_equal(index, np.stack(np.indices(GRID), -1).reshape(-1, 3))
    assert table["synapses"].sum() == 7_704_178 and len(index) == 61_776


@pytest.mark.real
def test_bock_blocks_more_than_half_unmasked(table):
    blocks = density_blocks(table, max_masked_share=0.5)
    density = blocks.density_um3
    assert len(blocks) == 42_236
    assert density.mean() == pytest.approx(1.6754, abs=5e-5) and np.median(density) == pytest.approx(1.6954, abs=5e-5)
    assert density.std(ddof=1) == pytest.approx(0.4880, abs=5e-5) and density.max() == pytest.approx(4.9974, abs=5e-5)
    assert blocks.size_um == pytest.approx((4.995, 4.992, 4.992))


@pytest.mark.real
def test_bock_blocks_with_anything_unmasked(table):
    blocks = density_blocks(table, max_masked_share=1.0)
    assert len(blocks) == 55_181 and blocks.density_um3.mean() == pytest.approx(1.4099, abs=5e-5)
    empty = table["exposed_um3"] == 0
    assert empty.sum() == 61_776 - 55_181 and np.isnan(table["density_um3"][empty]).all()
    assert set(table["reason"][empty]) == {"no exposed volume"} and set(table["reason"][~empty]) == {""}


def test_kasthuri_has_one_synapse_per_um3():
    voxel_um3 = 0.024 * 0.024 * 0.030
    volume = 90_152_653 * voxel_um3
    blocks = DensityBlocks(
        np.array([1700]), np.array([volume]), np.zeros((1, 3), np.int64), np.zeros((1, 3)), (1, 1, 1)
    )
    assert volume == pytest.approx(1557.84, abs=0.005) and blocks.rate == pytest.approx(1.0913, abs=5e-5)


def test_places_and_units_of_a_row(read_counts, tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text(HEADER + "58,1369,166,100,3\n19,1369,55,0,0\n19,1369,166,84415,7\n58,1369,55,168831,0\n")
    table = read_counts(path)
    assert table["block_x"].tolist() == [0, 1, 0, 1] and table["block_z"].tolist() == [0, 0, 1, 1]
    assert (table["z_start"][0], table["z_stop"][0], table["x_start"][1], table["x_stop"][1]) == (0, 111, 39, 78)
    assert table["z_nm"][0] == 111 / 2 * 45 and table["x_nm"][1] == (39 + 39 / 2) * 128
    assert table["exposed_um3"][1] == pytest.approx(4.992 * 4.992 * 4.995) and table["synapses"].tolist() == [
        0,
        0,
        7,
        3,
    ]
    assert len(density_blocks(table, 0.5)) == 1 and len(density_blocks(table, 1.0)) == 3


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x,y,z\n1,2,3\n", "columns x,y,z"),
        (HEADER + "19,1369,55,5,-1\n", "counts"),
        (HEADER + "19,1,55,168832,1\n", "168831"),
    ],
)
def test_other_files_are_refused(text, word, read_counts, tmp_path):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(DataError, match=word):
        read_counts(tmp_path / "counts.csv")


def test_grid_of_the_study():
    voxel_nm, pad = (45.0, 128.0, 128.0), (2.0, 2.0, 2.0)
    bounds = Box.of_shape((4156 - 2917, 3744, 4232))
    grid = AnalysisGrid.over(bounds, voxel_nm, (5.0, 5.0, 5.0), pad)
    assert (grid.block, grid.pad) == ((111, 39, 39), (45, 16, 16))
    assert grid.counts == (10, 95, 107) and len(grid) == 101_650
    assert len(AnalysisGrid.over(bounds, voxel_nm, (5.0, 5.0, 5.0))) == 114_048


def test_chi_square_that_the_study_printed():
    chi_square, p = histogram_chi_square(np.array([1600, 2210, 2986, 4587, 6232, 7402, 6520, 4444, 2319, 1126]))
    assert chi_square == pytest.approx(11285.0703597, abs=5e-8) and p == 0


@pytest.mark.real
@pytest.mark.parametrize(("max_masked_share", "ratio"), VARIANCE_OVER_MEAN.items())
def test_bock_is_not_uniform(max_masked_share, ratio, table):
    """Its counts vary far more than those of uniform synapses: the verdict of docs/densities.md."""
    found = dispersion(density_blocks(table, max_masked_share))
    assert found.value == pytest.approx(ratio, abs=0.01) and found.low > 8 and found.p < 1e-6


@pytest.mark.real
def test_bock_is_patterned_and_low_beside_masks(table):
    found = morans_i(density_blocks(table, max_masked_share=0.1), permutations=99)
    assert found.value == pytest.approx(0.58, abs=0.01) and found.p == 0.01
    kept = (table["exposed_um3"] > 0) & (table["masked_share"] > 0.4)
    half = table["synapses"][kept].sum() / table["exposed_um3"][kept].sum()
    assert half < 0.7 * density_blocks(table, max_masked_share=0.1).rate
