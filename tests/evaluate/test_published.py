"""Figures that others published or measured, to the digits they gave; each needs the labels it was measured on."""

import h5py
import numpy as np
import pytest

from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import adapted_rand, adapted_rand_one_background, variation_of_information

# gala's tests/example-data/vi-results.npy: merge and split in bits, voxels whose truth is not 0.
GALA = {"watershed": (0.18453, 1.64774), "gala_seg1": (0.36488, 0.30454), "gala_seg4": (0.39505, 0.23418)}


def labels_of(path, names):
    if not path.is_file():
        pytest.skip(f"no {path}")
    with h5py.File(path) as file:
        missing = [name for name in names if f"volumes/labels/{name}" not in file]
        if missing:
            pytest.skip(f"{path} holds no labels {', '.join(missing)}: the figure cannot be checked")
        return [file[f"volumes/labels/{name}"][...] for name in names]


@pytest.mark.real
@pytest.mark.parametrize("name", GALA)
def test_gala_published_variation_of_information(data_folder, name):
    truth, found = labels_of(data_folder / "fib25_gala" / "test.h5", ["neuron_ids", name])
    voi = variation_of_information(count_pairs(truth, found))
    assert (voi.merge, voi.split) == pytest.approx(GALA[name], abs=5e-6)


def fib25(data_folder, name):
    truth, found = labels_of(data_folder / "fib25_ts2" / "volume.h5", ["neuron_ids", name])
    if len(truth) != 250:
        pytest.skip(f"labels of {len(truth)} sections, the figures are over all 250")
    return count_pairs(truth, found)


@pytest.mark.real
def test_fib25_baseline_of_the_authors_over_segmentation(data_folder):
    table = fib25(data_folder, "neuroproof_oversegmentation")
    voi = variation_of_information(table)
    assert (voi.split, voi.merge, adapted_rand(table).error) == pytest.approx((2.4075, 0.3297, 0.2712), abs=5e-5)


@pytest.mark.real
def test_fib25_baseline_of_the_published_ffn(data_folder):
    table = fib25(data_folder, "ffn_segmentation")
    voi, rand = variation_of_information(table), adapted_rand_one_background(table)
    assert (voi.split, voi.merge, rand.error) == pytest.approx((0.8986, 0.9186, 0.1574), abs=5e-5)
    segmented = table.segmented()
    voi, rand = variation_of_information(segmented), adapted_rand(segmented)
    assert (voi.split, voi.merge, rand.error) == pytest.approx((0.6126, 0.2632, 0.0557), abs=5e-5)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("neuroproof_oversegmentation", (2.41282, 0.32150, 0.33919)),
        ("ffn_segmentation", (0.82410, 0.78802, 0.18559)),
    ],
)
def test_fib25_sections_at_hand_stay_where_they_were(data_folder, name, expected):
    """Sections 0 to 159, measured with this program; the dense formulae are checked beside it."""
    truth, found = labels_of(data_folder / "fib25_ts2" / "volume.h5", ["neuron_ids", name])
    truth, found = truth[:160], found[:160]
    table = count_pairs(truth, found)
    voi, rand = variation_of_information(table), adapted_rand_one_background(table)
    assert (voi.split, voi.merge, rand.error) == pytest.approx(expected, abs=5e-6)
    keep = truth != 0
    dense = np.histogram2d(
        np.unique(truth[keep], return_inverse=True)[1], np.unique(found[keep], return_inverse=True)[1],
        [np.arange(len(np.unique(truth[keep])) + 1), np.arange(len(np.unique(found[keep])) + 1)],
    )[0]  # fmt: skip
    p = dense / dense.sum()
    entropy = lambda q: -(q[q > 0] * np.log2(q[q > 0])).sum()  # noqa: E731
    assert voi.split == pytest.approx(entropy(p) - entropy(p.sum(1)), abs=1e-9)
    assert voi.merge == pytest.approx(entropy(p) - entropy(p.sum(0)), abs=1e-9)
    both, truths, founds = (dense**2).sum(), (dense.sum(1) ** 2).sum(), (dense.sum(0) ** 2).sum()
    assert rand.error == pytest.approx(1 - 2 * both / (truths + founds), abs=1e-12)
