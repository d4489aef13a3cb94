"""Contact sums and patches against brute force, and hand-counted cases."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.segment.contacts import COUNTS, add_contacts, contacts
from segment.contact_oracle import contact_rows, patch_rows

GREATEST = np.uint64(2**64 - 1)


def whole(labels, patches=True):
    box = Box.of_shape(labels.shape)
    return contacts(labels, box, box, labels.shape, patches)


def as_rows(table):
    columns = list(table)[2:]
    return {
        (int(a), int(b)): {name: int(table[name][i]) for name in columns}
        for i, (a, b) in enumerate(zip(table["a"], table["b"], strict=True))
    }


def tissue(seed, dtype=np.uint64):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 12, 3))
    if seed % 2:
        return rng.integers(0, 4, shape).astype(dtype)
    coarse = rng.integers(0, 5, [n // 2 + 1 for n in shape])
    return np.kron(coarse, np.ones((2, 2, 2), int))[tuple(slice(n) for n in shape)].astype(dtype)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_sums_patches_and_links_equal_brute_force(seed, dtype):
    labels = tissue(seed, dtype)
    table, found = whole(labels)
    assert as_rows(table) == contact_rows(labels)
    patches, links = patch_rows(labels)
    columns = (found.patches[name].tolist() for name in ("patch", "a", "b", "faces"))
    assert list(zip(*columns, strict=True)) == [(patch, *row) for patch, row in sorted(patches.items())]
    assert list(zip(found.links["p"].tolist(), found.links["q"].tolist(), strict=True)) == sorted(links)


def test_a_wall_by_hand():
    labels = np.ones((3, 4, 5), np.uint64)
    labels[:, :, 3:] = GREATEST
    table, found = whole(labels)
    assert (table["a"].tolist(), table["b"].tolist()) == ([1], [int(GREATEST)])
    row = {name: int(table[name][0]) for name in COUNTS}
    assert row["n_001"] == 12
    assert (row["n_011"], row["n_01m1"], row["n_101"], row["n_10m1"]) == (9, 9, 8, 8)
    assert {row[name] for name in ("n_111", "n_1m11", "n_11m1", "n_1m1m1")} == {6}
    assert {row[name] for name in ("n_100", "n_010", "n_110", "n_1m10")} == {0}
    # the faces' plane is x = 3.0; their mean centre lies at z = 1.5 and y = 2.0
    assert [table[f"{a}_sum"][0] / 24 for a in "zyx"] == [1.5, 2.0, 3.0]
    assert {name: values.tolist() for name, values in found.patches.items()} == {
        "patch": [3 * 3 + 2 + 1], "a": [1], "b": [int(GREATEST)], "faces": [12],
    }  # fmt: skip


def test_two_touches_of_one_pair_are_two_patches_and_a_gap_of_one_voxel_parts_them():
    labels = np.ones((1, 2, 9), np.uint64)
    labels[0, 1] = [2, 2, 2, 3, 2, 2, 0, 2, 2]
    _, found = whole(labels)
    pairs = list(zip(found.patches["a"].tolist(), found.patches["b"].tolist(), strict=True))
    assert sorted(pairs) == [(1, 2), (1, 2), (1, 2), (1, 3), (2, 3)]
    # 1-2 left and right of 3 are linked by way of 1-3 and 2-3; the last 1-2 stands alone
    lonely = found.patches["patch"][(found.patches["a"] == 1) & (found.patches["b"] == 2)][-1]
    assert lonely not in found.links["p"]
    assert lonely not in found.links["q"]


def test_many_pairs_make_the_tables_grow():
    labels = np.random.default_rng(0).integers(1, 2**63, (9, 30, 40)).astype(np.uint64)
    table, found = whole(labels)
    for i, name in enumerate(COUNTS):
        step = [s for s in np.ndindex(3, 3, 3) if tuple(np.subtract(s, 1)) > (0, 0, 0)][i]
        expected = np.prod([n - abs(d - 1) for n, d in zip(labels.shape, step, strict=True)])
        assert table[name].sum() == expected, name
    assert len(found.patches["patch"]) == sum(table[name].sum() for name in ("n_100", "n_010", "n_001"))


def test_nothing_touches():
    for labels in (np.zeros((3, 4, 5), np.uint64), np.full((3, 4, 5), 7, np.uint64), np.ones((1, 1, 1), np.uint32)):
        table, found = whole(labels)
        assert len(table["a"]) == len(found.patches["patch"]) == len(found.links["p"]) == 0
        assert {name: values.dtype.name for name, values in table.items()}["n_001"] == "int64"
    assert len(add_contacts([])["a"]) == 0


def test_wrong_labels_are_told():
    box = Box.of_shape((3, 4, 5))
    with pytest.raises(DataError, match="labels int64"):
        contacts(np.zeros((3, 4, 5), np.int64), box, box, (3, 4, 5), True)
    with pytest.raises(DataError, match=r"expected uint32 or uint64 \(3, 4, 5\)"):
        contacts(np.zeros((3, 4, 4), np.uint64), box, box, (3, 4, 5), True)
