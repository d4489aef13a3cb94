"""Stages contacts and root_contacts: blocks do not show, and merging rows equals merging voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.segment.components import label_components
from bouton.segment.contacts import add_contacts
from bouton.segment.history import small_rows
from bouton.stages import agglomeration, contacts, root_contacts, segmentation
from harness import assert_same, run_stage, sort_rows
from segment.contact_oracle import contact_rows, patch_rows

SIZE = (40.0, 8.0, 8.0)
TABLES = ("contacts", "patches", "patch_links")
SHAPE = (9, 17, 23)
BLOCKS = [(9, 17, 23), (4, 5, 7), (2, 17, 6), (9, 3, 23), (3, 8, 1)]


def fragments(seed, shape=SHAPE, scale=3):
    """Return connected fragments, named by their first voxel, with some background."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, [n // scale + 1 for n in shape])
    colours = np.kron(coarse, np.ones((scale,) * 3, int))[tuple(slice(n) for n in shape)]
    colours[rng.random(shape) < 0.1] = rng.integers(0, 4)
    box, found = Box.of_shape(shape), np.zeros(shape, np.uint64)
    for colour in range(1, 4):
        found += label_components(colours == colour, box, shape)
    return found


def run(labels, block, params=None, **more):
    return run_stage(contacts.STAGE, params or contacts.Params(), {"segmentation": labels}, block, SIZE, **more)


def roots_of(found, merges=None, threshold=0.5):
    inputs = {name: found[name] for name in TABLES}
    if merges is not None:
        inputs["merges"] = merges
    params = root_contacts.Params(threshold=threshold)
    return run_stage(root_contacts.STAGE, params, inputs, SHAPE, SIZE, shape=SHAPE)["root_contacts"]


@pytest.mark.parametrize("block", BLOCKS[1:], ids=str)
def test_blocks_do_not_show(block):
    for seed in range(3):
        labels = fragments(seed)
        one, many = run(labels, SHAPE), run(labels, block, seed=seed, fan_out=2 + seed % 2)
        assert len(one["patches"]["patch"]) > 20
        assert_same({n: sort_rows(one[n]) for n in TABLES}, {n: sort_rows(many[n]) for n in TABLES}, TABLES)
        assert_same({"roots": roots_of(one)}, {"roots": roots_of(many)}, ["roots"])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 8)] * 3),
    block=st.tuples(*[st.integers(1, 8)] * 3),
)
def test_any_labels_in_any_blocks_equal_brute_force(seed, shape, block):
    labels = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint64)
    found = run(labels, block, seed=seed)
    # labels in pieces that lie apart may have several rows, which add up
    table = add_contacts([found["contacts"]])
    rows = zip(table["a"].tolist(), table["b"].tolist(), *[table[n].tolist() for n in list(table)[2:]], strict=True)
    expected = contact_rows(labels)
    assert {(a, b): tuple(rest) for a, b, *rest in rows} == {
        pair: tuple(row[name] for name in list(table)[2:]) for pair, row in expected.items()
    }
    patches, links = patch_rows(labels)
    columns = (found["patches"][name].tolist() for name in ("patch", "a", "b", "faces"))
    assert sorted(zip(*columns, strict=True)) == [(patch, *row) for patch, row in sorted(patches.items())]
    assert sorted(zip(*(found["patch_links"][n].tolist() for n in "pq"), strict=True)) == sorted(links)


def test_bounds_inside_of_the_data_set_count_what_lies_in_them():
    labels, bounds = fragments(4), Box((2, 3, 5), (8, 16, 20))
    cut_out = np.zeros_like(labels)
    cut_out[bounds.slices] = labels[bounds.slices]
    inside, cleared = run(labels, (3, 5, 4), bounds=bounds), run(cut_out, SHAPE)
    assert_same(
        {n: sort_rows(inside[n]) for n in TABLES[1:]}, {n: sort_rows(cleared[n]) for n in TABLES[1:]}, TABLES[1:]
    )
    assert_same({"c": add_contacts([inside["contacts"]])}, {"c": add_contacts([cleared["contacts"]])}, ["c"])


def agglomerated(seed):
    labels = fragments(seed)
    affinities = np.random.default_rng(seed + 1).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    params = agglomeration.Params(floor=0.0, min_size_voxels=4, small_affinity=0.1)
    inputs = {"affinities": affinities, "fragments": labels}
    return labels, run_stage(agglomeration.STAGE, params, inputs, (4, 9, 9), SIZE)["merges"]


@pytest.mark.parametrize("seed", range(3))
def test_roots_from_fragments_equal_contacts_of_the_segmentation_to_the_bit(seed):
    labels, merges = agglomerated(seed)
    of_fragments, counts = run(labels, (4, 5, 7)), set()
    for threshold in (0.35, 0.48, 0.5, 0.52, 0.6, 1.0):
        params = segmentation.Params(threshold=threshold)
        inputs = {"fragments": labels, "merges": merges}
        segments = run_stage(segmentation.STAGE, params, inputs, (4, 9, 9), SIZE)["segmentation"]
        direct = roots_of(run(segments, (5, 6, 11)))
        assert_same({"r": roots_of(of_fragments, merges, threshold)}, {"r": direct}, ["r"])
        counts.add(len(direct["a_id"]))
        expected, _ = patch_rows(segments) if threshold == 0.5 else ({}, None)
        if expected:
            assert direct["patches"].sum() == len(expected)
            assert direct["faces"].sum() == sum(faces for *_, faces in expected.values())
    assert len(counts) >= 3, "thresholds that all lead to the same segments prove little"


def test_patches_become_one_when_what_parts_them_is_merged():
    labels = np.ones((1, 2, 9), np.uint64)
    labels[0, 1] = [2, 2, 2, 3, 2, 2, 0, 2, 2]
    found = run(labels, (1, 1, 2))
    alone = roots_of(found)
    assert list(zip(alone["a_id"].tolist(), alone["b_id"].tolist(), alone["patches"].tolist(), strict=True)) == [
        (1, 2, 3), (1, 3, 1), (2, 3, 1),
    ]  # fmt: skip
    merges = small_rows(np.array([3], np.uint64), np.array([2], np.uint64), 0.2)
    merged = roots_of(found, merges)
    assert (merged["a_id"].tolist(), merged["b_id"].tolist(), merged["patches"].tolist()) == ([1], [2], [2])
    assert merged["faces"].tolist() == [8]
    assert (merged["z_nm"][0], merged["y_nm"][0]) == (20.0, 8.0)
    assert merged["x_nm"][0] == pytest.approx((np.r_[0:6, 7:9] + 0.5).mean() * 8.0)


def test_segments_that_meet_along_an_edge_only_are_no_contact():
    labels = np.zeros((1, 2, 2), np.uint64)
    labels[0, 0, 0], labels[0, 1, 1] = 5, 2**64 - 1
    found = run(labels, (1, 1, 1))
    assert found["contacts"]["b"].tolist() == [2**64 - 1]
    assert len(roots_of(found)["a_id"]) == 0


def test_without_patches_the_sums_are_the_same():
    labels = fragments(7)
    with_them, without = run(labels, BLOCKS[1]), run(labels, BLOCKS[2], contacts.Params(patches=False))
    assert_same({"c": sort_rows(with_them["contacts"])}, {"c": sort_rows(without["contacts"])}, ["c"])
    assert len(without["patches"]["patch"]) == len(without["patch_links"]["p"]) == 0
    assert roots_of(without)["patches"].tolist() == [0] * len(roots_of(without)["a_id"])


def test_no_contacts_at_all():
    found = run(np.full(SHAPE, 3, np.uint64), BLOCKS[1])
    table = roots_of(found)
    assert {name: (len(values), values.dtype.name) for name, values in table.items()}["area_um2"] == (0, "float64")


def test_bad_input_is_told():
    with pytest.raises(SpecError, match="threshold = 2"):
        root_contacts.Params(threshold=2)
    found = run(fragments(1), SHAPE)
    with pytest.raises(DataError, match="which have no contact"):
        roots_of(found | {"contacts": {name: values[:0] for name, values in found["contacts"].items()}})
    inputs = {name: found[name] for name in TABLES}
    with pytest.raises(DataError, match="voxel size"):
        run_stage(root_contacts.STAGE, root_contacts.Params(), inputs, SHAPE, (0.0, 8.0, 8.0), shape=SHAPE)
