"""Stage clefts: every rule against its definition over the whole volume, for any blocks in any order."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.stages.clefts import STAGE, Params
from bouton.synapse.clefts import find_clefts
from harness import assert_same, run_stage

SIZE = (30.0, 10.0, 12.0)
NAMES = ["clefts", "cleft_sizes", "candidates"]


def noise(seed, shape=(8, 13, 14), blur=(0.4, 0.8, 0.8)):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), blur)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    smooth[rng.integers(0, shape[0], 2)] = 0  # lost sections
    return (smooth * 255).astype(np.uint8)


def neighbours(connectivity, gap_sections):
    steps = {6: 1, 18: 2, 26: 3}[connectivity]
    found = [d for d in itertools.product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, d)) <= steps]
    return found + [(k, 0, 0) for k in range(2, gap_sections + 2)]


def flood(mask, steps):
    """Components of a voxel graph by brute force: every voxel takes the smallest number of all that it reaches."""
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        before = numbers.copy()
        for step in steps:
            for sign in (1, -1):
                to, of = [], []
                for d, n in zip((sign * v for v in step), mask.shape, strict=True):
                    to.append(slice(max(d, 0), n + min(d, 0)))
                    of.append(slice(max(-d, 0), n + min(-d, 0)))
                both = mask[tuple(to)] & mask[tuple(of)]
                here = numbers[tuple(to)]
                here[both] = np.minimum(here[both], numbers[tuple(of)][both])
        if np.array_equal(before, numbers):
            return numbers


def definition(evidence, params):
    """Labels, and removed_by of each candidate by id, as the page of the stage says."""
    rules = params.rules
    mask, why, sizes = evidence >= np.ceil(rules.low * 255 - 1e-9), {}, {}
    flat = ndimage.generate_binary_structure(2, 1 if rules.connectivity == 6 else 2)
    for z in range(len(mask)):
        parts, n = ndimage.label(mask[z], flat)
        for i in range(1, n + 1):
            area = (parts == i).sum() * SIZE[1] * SIZE[2]
            if not rules.min_section_area_nm2 <= area <= rules.max_section_area_nm2:
                first = z * mask[0].size + np.flatnonzero(parts == i)[0] + 1
                why[first], sizes[first] = "section_area", (parts == i).sum()
                mask[z][parts == i] = False
    grown = mask
    if rules.gap_nm > 0 and mask.any():
        grown = ndimage.distance_transform_edt(~mask, sampling=SIZE) <= rules.gap_nm / 2 + 1e-6
    numbers = flood(grown, neighbours(rules.connectivity, rules.gap_sections))
    clefts = np.zeros(mask.shape, np.uint64)
    for number in np.unique(numbers[mask]):
        inside = (numbers == number) & mask
        z = np.nonzero(inside)[0]
        first = np.flatnonzero(inside)[0] + 1
        sizes[first] = inside.sum()
        if evidence[inside].max() < np.ceil(rules.high * 255 - 1e-9):
            why[first] = "peak"
        elif inside.sum() * np.prod(SIZE) < rules.min_volume_nm3:
            why[first] = "volume"
        elif z.max() - z.min() + 1 < rules.min_sections:
            why[first] = "sections"
        else:
            why[first], clefts[inside] = "", first
    return clefts, why, sizes


def check(found, evidence, params):
    clefts, why, sizes = definition(evidence.copy(), params)
    np.testing.assert_array_equal(found["clefts"], clefts)
    rows = found["candidates"]
    assert rows["id"].tolist() == sorted(why)
    assert rows["removed_by"].tolist() == [why[i] for i in sorted(why)]
    assert rows["size_voxels"].tolist() == [sizes[i] for i in sorted(sizes)]
    assert found["cleft_sizes"]["id"].tolist() == [i for i in sorted(why) if not why[i]]


RULES = st.fixed_dictionaries(
    {
        "low": st.sampled_from([0.5, 0.6, 0.7]),
        "high": st.sampled_from([0.7, 0.8]),
        "min_volume_nm3": st.sampled_from([0.0, 15_000.0]),
        "gap_nm": st.sampled_from([0.0, 0.0, 36.0, 70.0]),
        "gap_sections": st.sampled_from([0, 0, 1, 3]),
        "min_sections": st.sampled_from([0, 2, 3]),
        "min_section_area_nm2": st.sampled_from([0.0, 0.0, 240.0]),
        "max_section_area_nm2": st.sampled_from([None, 1200.0, 3600.0]),
        "connectivity": st.sampled_from([6, 18, 26]),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rules=RULES,
    case=st.integers(0, 50),
    block=st.tuples(st.integers(1, 9), st.integers(2, 14), st.integers(2, 15)),
    fan_out=st.sampled_from([2, 3]),
)
def test_equals_the_definition_for_any_rules_blocks_and_order(rules, case, block, fan_out):
    params, evidence = Params(**rules), noise(case)
    found = run_stage(STAGE, params, {"synapse_evidence": evidence}, block, SIZE, seed=case, fan_out=fan_out)
    check(found, evidence, params)
    clefts, rows = find_clefts(evidence, params.rules, SIZE)
    assert_same(found, {"clefts": clefts, "candidates": rows}, ["clefts", "candidates"])


def test_the_cases_remove_by_every_rule():
    given = {"low": 0.55, "high": 0.65, "min_volume_nm3": 15_000.0, "min_sections": 2, "max_section_area_nm2": 2000.0}
    reasons = set()
    for case in range(5):
        reasons |= set(find_clefts(noise(case), Params(**given).rules, SIZE)[1]["removed_by"])
    assert reasons == {"", "peak", "volume", "sections", "section_area"}


@pytest.mark.parametrize("block", [(9, 14, 15), (2, 4, 5), (1, 3, 15)])
def test_one_channel_four_channels_and_none_are_the_same(block):
    params, evidence = Params(low=0.65, high=0.7, min_volume_nm3=0.0, gap_nm=24.0), noise(1)
    others = np.stack([evidence, 255 - evidence, evidence // 2, evidence // 3])
    alone = run_stage(STAGE, params, {"synapse_evidence": evidence}, block, SIZE)
    assert len(alone["cleft_sizes"]["id"]) > 2
    for array in (evidence[None], others):
        assert_same(alone, run_stage(STAGE, params, {"synapse_evidence": array}, block, SIZE), NAMES)


def test_candidates_tell_where_how_large_and_why_not():
    evidence = np.zeros((5, 6, 40), np.uint8)
    evidence[1:3, 2, 2:5] = 200  # a cleft of 6 voxels
    evidence[2, 2, 3] = 255
    evidence[0, 0, 10:16] = 150  # its peak is too low
    evidence[4, 5, 20] = 240  # too small
    evidence[3, 0:2, 30:33] = 250  # one section
    params = Params(low=0.5, high=0.9, min_volume_nm3=2 * 3600.0, min_sections=2)
    found = run_stage(STAGE, params, {"synapse_evidence": evidence}, (2, 3, 7), SIZE)
    rows = found["candidates"]
    assert rows["id"].tolist() == [11, 240 + 80 + 3, 720 + 31, 960 + 200 + 21]
    assert rows["removed_by"].tolist() == ["peak", "", "sections", "volume"]
    assert rows["size_voxels"].tolist() == [6, 6, 6, 1]
    assert rows["sections"].tolist() == [1, 2, 1, 1]
    np.testing.assert_allclose(rows["peak"], [150 / 255, 1.0, 250 / 255, 240 / 255])
    assert (rows["z_nm"][1], rows["y_nm"][1], rows["x_nm"][1]) == (60.0, 25.0, 42.0)


def test_lost_sections_do_not_cut_a_cleft_and_stay_empty():
    evidence = np.zeros((7, 4, 4), np.uint8)
    evidence[[0, 1, 4, 6], 1, 1] = 255
    evidence[6, 2, 2] = 255  # beside, not above
    for gap, count in ((0, 4), (1, 3), (2, 2)):
        params = Params(min_volume_nm3=0.0, gap_sections=gap)
        found = run_stage(STAGE, params, {"synapse_evidence": evidence}, (1, 2, 2), SIZE)
        assert len(found["cleft_sizes"]["id"]) == count
        assert (found["clefts"] > 0).sum() == 5
    assert found["candidates"]["sections"].tolist() == [7, 1]


def test_a_large_flat_patch_is_cut_out_of_what_touches_it():
    """A fold of the section is no cleft: the cleft above it stays."""
    evidence = np.zeros((3, 20, 20), np.uint8)
    evidence[0] = 255
    evidence[1:, 5:8, 5:8] = 255
    params = Params(min_volume_nm3=0.0, max_section_area_nm2=10_000.0)
    found = run_stage(STAGE, params, {"synapse_evidence": evidence}, (3, 6, 7), SIZE)
    assert found["cleft_sizes"]["size_voxels"].tolist() == [18]
    assert found["candidates"]["removed_by"].tolist() == ["section_area", ""]
    assert not found["clefts"][0].any()


def test_the_vesicle_preset_is_the_published_one_at_its_voxel_size():
    rules = Params(preset="vesicle").rules
    assert (rules.low, rules.high, rules.connectivity) == (0.9, 0.9, 18)
    size = (30.0, 6.0, 6.0)
    evidence = np.zeros((5, 80, 80), np.uint8)
    evidence[:, :20, :20] = 230
    assert find_clefts(evidence, rules, size)[1]["removed_by"].tolist() == [""]
    evidence[4, 19, 19] = 229  # 1,999 voxels of at least 0.9
    assert find_clefts(evidence, rules, size)[1]["removed_by"].tolist() == ["volume"]
    flat = np.zeros((1, 80, 80), np.uint8)
    flat.ravel()[:5000] = 240
    assert find_clefts(flat, rules, size)[1]["removed_by"].tolist() == [""]
    flat.ravel()[5000] = 240
    assert find_clefts(flat, rules, size)[1]["removed_by"].tolist() == ["section_area"]
    assert Params(preset="vesicle", connectivity=6, low=0.5).rules.connectivity == 6


def test_parameters_show_the_values_that_hold():
    assert Params() == Params(low=0.5, gap_nm=0.0)
    assert Params(preset="vesicle").high == 0.9
    assert Params().max_section_area_nm2 is None
    assert Params(**dataclasses.asdict(Params(preset="vesicle", low=0.4))) == Params(preset="vesicle", low=0.4)


def test_ids_beyond_the_integers_of_float64():
    shape, origin = (2**21, 2**20, 2**20), (2**20, 2**20 - 9, 7)
    evidence = np.zeros((4, 9, 11), np.uint8)
    evidence[1:3, :, 4:6] = 255
    params = Params(min_volume_nm3=0.0, connectivity=26, gap_sections=1)
    inputs = {"synapse_evidence": evidence}
    found = run_stage(STAGE, params, inputs, (2, 4, 3), SIZE, shape=shape, origin=origin, bounds=None)
    first = ((origin[0] + 1) * shape[1] + origin[1]) * shape[2] + origin[2] + 4 + 1
    assert found["cleft_sizes"]["id"].tolist() == [first]
    assert found["cleft_sizes"]["size_voxels"].tolist() == [36]


def test_bounds_end_what_lies_beyond_them():
    bounds = Box((1, 2, 3), (7, 12, 13))
    params, evidence = Params(low=0.5, high=0.6, min_volume_nm3=0.0, gap_sections=1, connectivity=26), noise(4)
    inside = np.zeros_like(evidence)
    inside[bounds.slices] = evidence[bounds.slices]
    found = run_stage(STAGE, params, {"synapse_evidence": evidence}, (3, 4, 5), SIZE, bounds=bounds)
    check(found, inside, params)


@pytest.mark.parametrize(
    "bad",
    [
        {"preset": "vesicles"},
        {"connectivity": 8},
        {"min_sections": -1},
        {"gap_sections": -1},
        {"gap_sections": 21},
        {"min_volume_nm3": -1.0},
        {"max_section_area_nm2": 0.0},
        {"min_section_area_nm2": 9.0, "max_section_area_nm2": 8.0},
        {"low": 0.8},
    ],
)
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))) as error:
        Params(**bad)
    assert "\n" not in str(error.value)
