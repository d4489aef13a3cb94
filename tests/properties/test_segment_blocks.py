"""The blocks do not matter: fragments, agglomeration and segmentation are the same bits for every block shape."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.stages import agglomeration, fragments, segmentation
from harness import assert_same, run_stage, sort_rows
from segment import oracle

FRAGMENTS = fragments.Params(low=0.3, high=0.9, flat=0.5)
AGGLOMERATE = agglomeration.Params(floor=0.2, min_size_voxels=6, small_affinity=0.35)
CUT = segmentation.Params(threshold=0.5, dust_voxels=4)
PUBLIC = ["fragments", "merges", "region_graph", "fragment_sizes", "segmentation", "segment_sizes"]
BLOCKS = [(3, 4, 5), (1, 7, 7), (2, 3, 1), (7, 1, 3), (5, 5, 2), (1, 1, 1)]


def tissue(seed, shape, smooth=1.0):
    """Smooth random affinities with many ties, plateaus of 0 and of 255."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0.0, smooth, smooth, smooth))
    scaled = 128 + 90 * noise / max(noise.std(), 1e-9)
    return (np.clip(np.round(scaled / 8) * 8, 0, 255)).astype(np.uint8)


cases = {
    "seed": st.integers(0, 10**6),
    "shape": st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9)),
    "block": st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    "smooth": st.sampled_from([0.0, 0.7, 1.5]),
    "fan_out": st.integers(2, 4),
}


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_fragments(seed, shape, block, smooth, fan_out):
    affinities = tissue(seed, shape, smooth)
    run = {"seed": seed, "fan_out": fan_out}
    blocked = run_stage(fragments.STAGE, FRAGMENTS, {"affinities": affinities}, block, **run)["fragments"]
    np.testing.assert_array_equal(blocked, oracle.fragments(affinities, 0.3, 0.9, 0.5))


@pytest.mark.parametrize("block", BLOCKS)
def test_fragments_of_a_box_inside_the_data(block):
    affinities = tissue(4, (8, 9, 10))
    bounds = Box((1, 2, 3), (8, 8, 10))
    run = {"bounds": bounds, "seed": 1}
    whole = run_stage(fragments.STAGE, fragments.Params(), {"affinities": affinities}, (16, 16, 16), **run)
    blocked = run_stage(fragments.STAGE, fragments.Params(), {"affinities": affinities}, block, **run)
    assert whole["fragments"].any()
    assert_same(whole, blocked, ["fragments"])


def pipeline(affinities, block, seed=None, bounds=None, agglomerate=AGGLOMERATE, cut=CUT, somata=None, **run):
    """Run the three stages; the rows of tables, whose order is not defined, are sorted."""
    run |= {"seed": seed, "bounds": bounds}
    inputs = {"affinities": affinities}
    found = run_stage(fragments.STAGE, FRAGMENTS, inputs, block, **run)
    inputs["fragments"] = found["fragments"]
    more = {} if somata is None else {"somata": somata}
    found |= run_stage(agglomeration.STAGE, agglomerate, inputs | more, block, **run)
    last = {"fragments": found["fragments"], "merges": found["merges"]}
    found |= run_stage(segmentation.STAGE, cut, last, block, **run)
    return {name: sort_rows(value) if isinstance(value, dict) else value for name, value in found.items()}


def expected_pipeline(affinities):
    """The definition, voxel by voxel and edge by edge."""
    labels = oracle.fragments(affinities, FRAGMENTS.low, FRAGMENTS.high, FRAGMENTS.flat)
    graph = oracle.region_graph(affinities, labels)
    ids, voxels = np.unique(labels[labels != 0], return_counts=True)
    sizes = dict(zip(ids.tolist(), voxels.tolist(), strict=True))
    root = oracle.small_joins(graph, sizes, AGGLOMERATE.small_affinity, AGGLOMERATE.min_size_voxels)
    first = [(a, b, 0, 0, 0) for b, a in root.items() if a != b]
    graph, sizes = oracle.contracted(graph, root), oracle.added(sizes, root)
    floor = Fraction(str(AGGLOMERATE.floor))
    second, _, _ = oracle.greedy(graph, sizes, oracle.mean, lambda s, a, b: s >= floor)
    applied = first + [merge for merge in second if oracle.mean(merge[2:]) >= Fraction(str(CUT.threshold))]
    count = labels.size + 1
    root = np.array(oracle.roots(count, [merge[:2] for merge in applied]), np.uint64)
    segments = root[labels]
    names, sizes_of = np.unique(segments, return_counts=True)
    segments[np.isin(segments, names[sizes_of < CUT.dust_voxels])] = 0
    rows = [(*merge, 1) for merge in first] + [(*merge, 0) for merge in second]
    return labels, sorted(rows, key=lambda row: row[1]), segments


@settings(max_examples=60, deadline=None)
@given(**cases)
def test_segmentation_equals_the_definition(seed, shape, block, smooth, fan_out):
    affinities = tissue(seed, shape, smooth)
    found = pipeline(affinities, block, seed, fan_out=fan_out)
    labels, merges, segments = expected_pipeline(affinities)
    np.testing.assert_array_equal(found["fragments"], labels)
    columns = ("a", "b", "affinity_sum", "affinity_count", "affinity_max", "small")
    rows = [*zip(*(found["merges"][name].tolist() for name in columns), strict=True)]
    assert sorted(rows, key=lambda row: row[1]) == merges
    np.testing.assert_array_equal(found["segmentation"], segments)


@pytest.mark.parametrize("smooth", [0.0, 0.8, 1.5])
def test_many_block_shapes_give_the_same_bits(smooth):
    affinities = tissue(11, (11, 13, 12), smooth)
    whole = pipeline(affinities, (16, 16, 16))
    assert len(whole["merges"]["a"]) > 20
    assert 0 < whole["merges"]["small"].sum() < len(whole["merges"]["a"])
    # single voxels as blocks are tried on smaller volumes below
    for block in BLOCKS[:-1]:
        assert_same(pipeline(affinities, block, seed=3), whole, PUBLIC)


RULES = {
    "median": {"score": "quantile", "quantile": 0.5},
    "quartile": {"score": "quantile", "quantile": 0.75},
    "large": {"large_affinity": 0.55, "large_voxels": 12, "together_voxels": 40},
    "twig": {"twig_affinity": 0.6, "twig_voxels": 25, "twig_faces": 9},
    "all": {"score": "quantile", "quantile": 0.6, "large_affinity": 0.55, "large_voxels": 20, "twig_affinity": 0.5},
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("with_somata", [False, True])
def test_scores_and_rules_over_blocks(name, with_somata):
    affinities = tissue(31, (9, 11, 10), 0.9)
    somata = None
    if with_somata:
        somata = np.zeros(affinities.shape[1:], np.uint16)
        somata[1:4, 2:5, 2:5], somata[5:8, 6:9, 5:8] = 7, 9
    options = {"agglomerate": replace(AGGLOMERATE, **RULES[name]), "somata": somata}
    whole = pipeline(affinities, (16, 16, 16), **options)
    plain = pipeline(affinities, (16, 16, 16))
    assert not np.array_equal(whole["segmentation"], plain["segmentation"]), "a rule that changes nothing tests nothing"
    for number, block in enumerate(BLOCKS[:-1]):
        found = pipeline(affinities, block, seed=number, fan_out=2 + number % 2, **options)
        assert_same(found, whole, PUBLIC)


def test_two_somata_never_meet():
    affinities = np.full((3, 6, 7, 12), 255, np.uint8)
    affinities[2, :, :, 6] = 180
    somata = np.zeros((6, 7, 12), np.uint8)
    apart, labels = pipeline(affinities, (16, 16, 16))["segmentation"], np.unique(somata)
    assert len(labels) == 1
    assert len(np.unique(apart)) == 1
    somata[2:4, 2:4, 2:4], somata[2:4, 2:4, 8:10] = 1, 2
    kept = pipeline(affinities, (3, 4, 5), somata=somata)["segmentation"]
    assert len(np.unique(kept)) == 2
    assert len(np.unique(kept[..., :6])) == 1


@pytest.mark.parametrize("block", BLOCKS)
def test_bounds_inside_the_data(block):
    affinities = tissue(12, (9, 10, 11), 0.8)
    bounds = Box((2, 1, 3), (9, 9, 11))
    whole = pipeline(affinities, (16, 16, 16), bounds=bounds)
    assert len(whole["merges"]["a"]) > 5
    assert_same(pipeline(affinities, block, 3, bounds), whole, PUBLIC)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_affinities(value):
    affinities = np.full((3, 5, 6, 7), value, np.uint8)
    whole = pipeline(affinities, (16, 16, 16))
    assert_same(pipeline(affinities, (2, 3, 3)), whole, PUBLIC)
    if value == 0:
        assert not whole["segmentation"].any()
    else:
        assert (whole["segmentation"] == 1).all()


def test_a_threshold_below_the_floor_is_an_error():
    with pytest.raises(SpecError, match="merge history ends"):
        pipeline(tissue(1, (5, 6, 7)), (16, 16, 16), cut=segmentation.Params(threshold=0.1))


def checkerboard(shape):
    parity = np.indices((3, *shape)).sum(axis=0) % 2
    return np.where(parity == 0, 255, 0).astype(np.uint8)


NASTY = {
    "plateau": np.full((3, 6, 7, 8), 100, np.uint8),
    "two plateaus": np.repeat(np.array([90, 150], np.uint8), 3)[None, :, None, None] * np.ones((3, 1, 7, 5), np.uint8),
    "checkerboard": checkerboard((7, 6, 5)),
    "stripes": np.tile(np.array([0, 255, 128], np.uint8), (3, 5, 6, 3)),
    "all zero": np.zeros((3, 5, 6, 7), np.uint8),
    "all one cell": np.full((3, 5, 6, 7), 255, np.uint8),
    "one voxel": np.full((3, 1, 1, 1), 255, np.uint8),
    "one section": tissue(21, (1, 11, 13), 0.8),
    "one column": tissue(22, (17, 1, 1), 0.5),
    "one row": tissue(23, (1, 1, 29), 0.5),
    "extremes": np.random.default_rng(5).choice(np.array([0, 255], np.uint8), (3, 6, 7, 8)),
}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_volumes(name):
    affinities = NASTY[name]
    labels, merges, segments = expected_pipeline(affinities)
    for number, block in enumerate([(16, 16, 16), *BLOCKS]):
        found = pipeline(affinities, block, seed=number, fan_out=2 + number % 3)
        np.testing.assert_array_equal(found["fragments"], labels)
        np.testing.assert_array_equal(found["segmentation"], segments)
        assert len(found["merges"]["b"]) == len(merges)


@pytest.mark.parametrize("block", BLOCKS)
def test_ids_near_the_end_of_int64(block):
    affinities = tissue(24, (6, 7, 8), 0.8)
    near = pipeline(affinities, (16, 16, 16))
    shape = (2**21 - 1, 2**21, 2**21)
    origin = tuple(n - m for n, m in zip(shape, affinities.shape[1:], strict=True))
    far = pipeline(affinities, block, seed=1, shape=shape, origin=origin)
    assert far["fragments"].max() > 2**63 - 2**43
    # the voxels are in the same order there, so the partition, and every number that is no id, must be the same
    for name in ("fragments", "segmentation"):
        first = {int(label): int(np.flatnonzero(far[name] == label)[0]) + 1 for label in np.unique(far[name]) if label}
        renamed = np.array([first.get(int(label), 0) for label in far[name].ravel()], np.uint64)
        np.testing.assert_array_equal(renamed.reshape(far[name].shape), near[name])
    for column in ("affinity_sum", "affinity_count", "affinity_max", "small", "score"):
        np.testing.assert_array_equal(far["merges"][column], near["merges"][column])
