"""What each counting rule makes of a tissue whose density is known: vessels, lost sections, a layer and a gradient."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import harness
from bouton.stages.densities import STAGE, Params

ROOT = Path(__file__).parents[2]
BLOCK_ZYX = (267, 188, 188)
REACH_NM = 300.0


@pytest.fixture(scope="module")
def known():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("density_tissue")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def tissues(known):
    """Three pieces of tissue whose synapses go on outside of them; the bias of one scatters by 0.3 %."""
    return [known.tissue(seed, beyond_nm=1000.0) for seed in (1, 2, 3)]


def densities(known, inputs, **params):
    return harness.run_stage(STAGE, Params(**params), inputs, BLOCK_ZYX, known.VOXEL_NM, shape=known.SHAPE)


def block_sums(values, table):
    """Return the sum of a volume over each block of a table."""
    edges = [np.unique(np.concatenate([table[f"{axis}_start"], table[f"{axis}_stop"]])) for axis in "zyx"]
    inside = values[tuple(slice(edge[0], edge[-1]) for edge in edges)].astype(np.float64)
    for axis, edge in enumerate(edges):
        inside = np.add.reduceat(inside, edge[:-1] - edge[0], axis=axis)
    return inside.ravel()


def bias(tables, expected, chosen=None):
    """Return how far counts lie above what is expected; over the blocks ``chosen(table)``."""
    rows = [slice(None) if chosen is None else chosen(table) for table in tables]
    counted = sum(table["synapses"][row].sum() for table, row in zip(tables, rows, strict=True))
    return counted / sum(each[row].sum() for each, row in zip(expected, rows, strict=True)) - 1


def near(table):
    return table["masked_share"] > 0


@pytest.fixture(scope="module")
def far_from_mask(known):
    """Voxels farther than the reach from every masked voxel and from what lies outside of the volume."""
    hidden = np.pad(known.vessels_and_gaps() > 0, 1, constant_values=True)
    return ndimage.distance_transform_edt(~hidden, sampling=known.VOXEL_NM)[1:-1, 1:-1, 1:-1] > REACH_NM


@pytest.fixture(scope="module")
def by_centroid(known, tissues):
    inputs = [{"labels": each.labels, "mask": each.mask, "tissue": each.layers} for each in tissues]
    return [densities(known, each, exclusion_nm=REACH_NM) for each in inputs]


def test_default_rule_has_no_bias_at_masks_and_borders(tissues, by_centroid, far_from_mask):
    tables = [found["densities"] for found in by_centroid]
    expected = [block_sums(each.expected(far_from_mask), tables[0]) for each in tissues]
    np.testing.assert_array_equal(tables[0]["exposed_voxels"], block_sums(far_from_mask, tables[0]))
    assert sum(table["synapses"].sum() for table in tables) > 35_000
    assert near(tables[0]).sum() > 40
    assert abs(bias(tables, expected)) < 0.006
    assert abs(bias(tables, expected, near)) < 0.008


def test_published_rule_is_low_at_masks(known, tissues):
    inputs = [{"labels": each.labels, "mask": each.mask} for each in tissues]
    tables = [densities(known, each, rule="neurodata-2016")["densities"] for each in inputs]
    expected = [block_sums(each.expected(each.mask == 0), tables[0]) for each in tissues]
    assert -0.06 < bias(tables, expected, near) < -0.03
    assert -0.12 < bias(tables, expected, lambda table: table["masked_share"] > 0.25) < -0.06
    assert abs(bias(tables, expected, lambda table: table["masked_share"] == 0)) < 0.02


def test_without_exclusion_the_centroid_rule_is_low_too(known, tissues):
    tables = [densities(known, {"labels": tissues[0].labels, "mask": tissues[0].mask}, exclusion_nm=0.0)["densities"]]
    expected = [block_sums(tissues[0].expected(tissues[0].mask == 0), tables[0])]
    assert bias(tables, expected, near) < -0.03


def test_a_table_of_all_synapses_gives_the_same_density(known, tissues, by_centroid):
    places = tissues[0].places_nm
    inside = ((places >= 0) & (places < np.multiply(known.SHAPE, known.VOXEL_NM))).all(axis=1)
    columns = dict(zip(("z_nm", "y_nm", "x_nm"), places[inside].transpose(), strict=True))
    table = densities(known, {"synapses": columns, "mask": tissues[0].mask}, exclusion_nm=REACH_NM)["densities"]
    labels = by_centroid[0]["densities"]
    np.testing.assert_array_equal(table["exposed_voxels"], labels["exposed_voxels"])
    assert table["synapses"].sum() / labels["synapses"].sum() == pytest.approx(1, abs=0.005)


def test_layer_and_gradient_come_out(known, tissues, by_centroid, far_from_mask):
    tables, classes = [found["densities"] for found in by_centroid], [found["tissues"] for found in by_centroid]
    density = {}
    for layer in (1, 2):
        rows = [table["tissue"] == layer for table in classes]
        counted, voxels = (
            sum(t[n][r].sum() for t, r in zip(classes, rows, strict=True)) for n in ("synapses", "exposed_voxels")
        )
        density[layer] = counted / voxels
    assert density[2] / density[1] == pytest.approx(known.LAYER[2], rel=0.02)
    expected = [block_sums(each.expected(far_from_mask), tables[0]) for each in tissues]
    for z in range(4):
        assert abs(bias(tables, expected, lambda table, z=z: table["block_z"] == z)) < 0.02
    rates = [
        tables[0]["synapses"][tables[0]["block_z"] == z].sum()
        / tables[0]["exposed_um3"][tables[0]["block_z"] == z].sum()
        for z in (0, 3)
    ]
    assert rates[1] > 1.2 * rates[0]
