"""Augmentation: image and truth move alike, what must not change does not, each change does what its name says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from bouton import SpecError
from bouton.learn.augment import PROBABILITIES, UNCHANGED, Augmentation, augment, cover_boxes
from bouton.learn.augment_sections import Stack, choose_sections, lose_image
from bouton.learn.augment_shape import elastic_field, mirrored, plane_matrix, turn, warp

SHAPE = (12, 20, 20)
STRONG = Augmentation(noise=0.2, contrast=0.5, brightness=0.3, **dict.fromkeys(PROBABILITIES, 1.0) | {"slip": 0.5})


def places(shape=SHAPE) -> np.ndarray:
    """Return every voxel's flat index, int64: a truth that tells where each voxel came from."""
    return np.arange(np.prod(shape)).reshape(shape)


def picture(shape=SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def run(settings: Augmentation, seed: int, shape=SHAPE) -> tuple[np.ndarray, np.ndarray]:
    image, (truth,) = augment(picture(shape), [places(shape)], settings, np.random.default_rng(seed))
    return image, truth


@pytest.mark.parametrize("symmetry", ["yx", "zyx"])
def test_turns_move_image_and_truth_alike(symmetry: str) -> None:
    image = np.random.default_rng(0).random((8, 8, 8))
    orders = set()
    for seed in range(200):
        a, b = turn([image, image * 2], symmetry, np.random.default_rng(seed))
        np.testing.assert_array_equal(a * 2, b)
        orders.add(a.tobytes())
        if symmetry == "yx":
            assert sorted(s.sum() for s in a) == pytest.approx(sorted(s.sum() for s in image))
    assert len(orders) == {"yx": 16, "zyx": 48}[symmetry]


def test_with_every_probability_at_0_nothing_changes() -> None:
    for seed in range(20):
        image, truth = run(UNCHANGED, seed)
        np.testing.assert_array_equal(image, picture())
        np.testing.assert_array_equal(truth, places())


@pytest.mark.parametrize("name", [*(name for name in PROBABILITIES if name != "slip"), "noise", "symmetry"])
def test_each_change_changes_something(name: str) -> None:
    only = replace(UNCHANGED, **{name: {"noise": 0.1, "symmetry": "zyx"}.get(name, 1.0)})
    changed = [not np.array_equal(run(only, seed)[0], picture()) for seed in range(10)]
    assert sum(changed) >= 8


@pytest.mark.parametrize("name", ["blur", "grey", "box", "missing", "noise"])
def test_changes_of_the_image_leave_the_truth_alone(name: str) -> None:
    only = replace(UNCHANGED, **{name: 1.0})
    for seed in range(10):
        np.testing.assert_array_equal(run(only, seed)[1], places())


@pytest.mark.parametrize("settings", [replace(UNCHANGED, symmetry="zyx"), replace(UNCHANGED, lost=1.0, jitter=1.0)])
def test_rigid_changes_take_every_voxel_of_image_and_truth_from_one_place(settings: Augmentation) -> None:
    for seed in range(10):
        image, truth = run(settings, seed)
        np.testing.assert_array_equal(image, picture().reshape(-1)[truth])


@pytest.mark.parametrize("shape", [(12, 20, 20), (1, 9, 7), (2, 5, 8), (3, 33, 17), (5, 1, 6)])
def test_everything_at_once_repeats_and_keeps_shape_and_range(shape) -> None:
    image, known = picture(shape), np.ones(shape, bool)
    for seed in range(25):
        pairs = [augment(image, [places(shape), known], STRONG, np.random.default_rng(seed)) for _ in range(2)]
        (one, truths), (two, again) = pairs
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(truths[0], again[0])
        assert one.shape == truths[0].shape == shape
        assert (one.dtype, truths[0].dtype, truths[1].dtype) == (np.float32, np.int64, bool)
        assert all(array.flags.c_contiguous for array in (one, *truths))
        assert np.isfinite(one).all()
        assert truths[1].all()
        assert truths[0].min() >= 0
        assert truths[0].max() < one.size
    np.testing.assert_array_equal(image, picture(shape))


def test_a_warp_interpolates_the_image_where_the_truth_takes_the_nearest() -> None:
    """A ramp tells where a voxel came from: to a fraction in the image, to the nearest voxel in the truth."""
    rng = np.random.default_rng(2)
    shape = (9, 30, 33)
    matrix = plane_matrix(45, 0.1, 0.05, rng)
    field = elastic_field(shape, 2.0, 12.0, rng)
    for axis in range(3):
        ramp = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
        image, truth = warp([ramp.astype(np.float32), ramp], matrix, field)
        assert np.abs(image - truth).max() <= 0.5 + 1e-4
        assert np.mean(truth != ramp) > 0.1


def test_a_warp_takes_the_documented_place() -> None:
    """Brute force in the middle of the patch, where nothing is mirrored."""
    shape = (7, 41, 41)
    rng = np.random.default_rng(4)
    matrix, field = plane_matrix(20, 0.1, 0.05, rng), elastic_field(shape, 1.0, 15.0, rng)
    _, truth = warp([picture(shape), places(shape)], matrix, field)
    centre = np.array([20.0, 20.0])
    for place in [(3, 20, 20), (2, 11, 28), (4, 27, 13)]:
        y, x = centre + matrix @ (np.array(place[1:]) - centre)
        wanted = np.array([place[0], y, x]) + field[(slice(None), *place)]
        found = np.unravel_index(truth[place], shape)
        assert np.abs(np.array(found) - wanted).max() <= 0.5


def test_a_turn_by_90_degrees_is_a_warp() -> None:
    shape = (3, 9, 9)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    image, truth = warp([picture(shape), places(shape)], quarter, np.zeros((3, *shape)))
    np.testing.assert_array_equal(truth, np.rot90(places(shape), -1, (1, 2)))
    np.testing.assert_allclose(image, np.rot90(picture(shape), -1, (1, 2)), atol=1e-6)


def test_an_elastic_field_is_smooth_bounded_and_zero_where_asked() -> None:
    rng = np.random.default_rng(0)
    fields_ = np.stack([elastic_field((16, 64, 64), 2.0, 16.0, rng) for _ in range(20)])
    assert fields_[:, 1:].std() == pytest.approx(1.7, rel=0.25)
    assert fields_[:, 0].std() < 1.1
    assert np.abs(np.diff(fields_[:, 2], axis=-1)).max() < 1.5
    assert not elastic_field((4, 8, 8), 0.0, 16.0, rng).any()


def test_plane_matrices_stay_within_their_limits() -> None:
    rng = np.random.default_rng(1)
    matrices = [plane_matrix(30, 0.1, 0.0, rng) for _ in range(300)]
    angles = np.rad2deg([np.arctan2(m[1, 0], m[0, 0]) for m in matrices])
    lengths = np.array([np.linalg.norm(m, axis=0) for m in matrices])
    assert 25 < np.abs(angles).max() <= 30
    assert lengths.min() >= 1 / 1.1 - 1e-9
    assert lengths.max() <= 1.1 + 1e-9
    np.testing.assert_array_equal(plane_matrix(0, 0, 0, rng), np.eye(2))


def test_indices_beyond_a_patch_are_mirrored() -> None:
    for size in (1, 2, 3, 7):
        index = np.arange(-2 * size, 3 * size)
        wanted = np.pad(np.arange(size), 2 * size, mode="reflect") if size > 1 else np.zeros(5)
        np.testing.assert_array_equal(mirrored(index, size), wanted)


def test_a_lost_section_is_lost_from_image_and_truth() -> None:
    only, seen = replace(UNCHANGED, lost=1.0), set()
    for seed in range(120):
        image, truth = run(only, seed)
        sections = truth[:, 0, 0] // (SHAPE[1] * SHAPE[2])
        (lost,) = set(range(12)) - set(sections.tolist()) or {11}
        seen.add(lost)
        rest = [z for z in range(12) if z != lost]
        assert sections[:11].tolist() == rest or lost == 11
        np.testing.assert_array_equal(image, picture()[sections])
    # Beyond the last section the patch is mirrored, which brings section 10 back.
    assert seen == {*range(1, 10), 11}


def test_a_slip_moves_the_image_of_one_section_only() -> None:
    only = replace(UNCHANGED, misalign=1.0, slip=1.0, shift_voxels=3)
    struck = 0
    for seed in range(30):
        image, truth = run(only, seed)
        np.testing.assert_array_equal(truth, places())
        changed = np.flatnonzero((image != picture()).any(axis=(1, 2)))
        assert len(changed) <= 1
        for z in changed:
            assert _shift_of(image[z], picture()[z], 3) is not None
            struck += 1
    assert struck > 15


def test_a_step_moves_all_sections_from_one_on_in_image_and_truth() -> None:
    only = replace(UNCHANGED, misalign=1.0, slip=0.0, shift_voxels=3)
    steps, missing = set(), 0
    for seed in range(60):
        image, truth = run(only, seed)
        moved = np.flatnonzero((truth != places()).any(axis=(1, 2)))
        if len(moved) == 0:
            continue
        assert moved.tolist() == list(range(moved[0], 12))
        assert moved[0] >= 1
        shifts = {_shift_of(truth[z], places()[z], 3) for z in moved}
        assert len(shifts) == 1
        assert None not in shifts
        steps |= shifts
        wrong = np.flatnonzero((image != picture().reshape(-1)[truth]).any(axis=(1, 2)))
        # The section at the step may be missing as well.
        assert set(wrong.tolist()) <= {moved[0]}
        missing += len(wrong)
    assert len(steps) > 10
    assert 3 <= missing <= 25


def _shift_of(section: np.ndarray, before: np.ndarray, most: int) -> tuple[int, int] | None:
    """Return by how much ``section`` was moved, judged where nothing is mirrored; None: by no shift up to ``most``."""
    middle = section[most:-most, most:-most]
    for y in range(-most, most + 1):
        for x in range(-most, most + 1):
            if np.array_equal(middle, before[most + y : 20 - most + y, most + x : 20 - most + x]):
                return y, x
    return None


def test_jitter_moves_sections_independently() -> None:
    image, truth = run(replace(UNCHANGED, jitter=1.0, jitter_voxels=1.5), 0)
    shifts = [_shift_of(truth[z], places()[z], 6) for z in range(12)]
    assert None not in shifts
    assert len(set(shifts)) > 5
    np.testing.assert_array_equal(image, picture().reshape(-1)[truth])


def test_a_shift_is_never_more_than_a_sixth_of_the_patch() -> None:
    only = replace(UNCHANGED, misalign=1.0, slip=1.0, shift_voxels=1000)
    for seed in range(30):
        image, _ = run(only, seed)
        for z in np.flatnonzero((image != picture()).any(axis=(1, 2))):
            assert _shift_of(image[z], picture()[z], 3) is not None


def test_missing_sections_are_black_grey_partly_gone_or_their_neighbour() -> None:
    kinds = set()
    for seed in range(80):
        image = picture()
        lose_image(image, [5], np.random.default_rng(seed))
        assert np.array_equal(np.delete(image, 5, 0), np.delete(picture(), 5, 0))
        gone = image[5] != picture()[5]
        part = "partly" if not gone.all() else "whole"
        values = np.unique(image[5][gone])
        fill = "neighbour" if len(values) > 1 else ("black" if values.tolist() in ([0.0], []) else "grey")
        if fill == "neighbour":
            np.testing.assert_array_equal(image[5][gone], picture()[4][gone])
        kinds.add((part, fill))
    assert kinds == {(part, fill) for part in ("partly", "whole") for fill in ("neighbour", "black", "grey")}


def test_sections_are_chosen_in_bounds_and_in_number() -> None:
    rng = np.random.default_rng(0)
    assert choose_sections(1, 7, rng) == []
    counts = {len(choose_sections(40, 7, rng)) for _ in range(200)}
    assert counts == set(range(1, 8))
    for sections in (2, 3, 4, 12):
        chosen = [choose_sections(sections, 7, rng) for _ in range(100)]
        assert max(len(c) for c in chosen) == max(1, sections // 4)
        assert {z for c in chosen for z in c} == set(range(sections))
        assert all(len(set(c)) == len(c) for c in chosen)


def test_a_patch_of_one_section_keeps_it() -> None:
    only = replace(UNCHANGED, missing=1.0, lost=1.0, misalign=1.0, jitter=1.0)
    for seed in range(10):
        image, truth = run(only, seed, (1, 9, 9))
        np.testing.assert_array_equal(image, picture((1, 9, 9)))
        np.testing.assert_array_equal(truth, places((1, 9, 9)))


def test_out_of_focus_sections_are_blurred_and_others_not() -> None:
    struck = []
    for seed in range(40):
        image, _ = run(replace(UNCHANGED, blur=1.0, most_sections=3), seed)
        changed = (image != picture()).any(axis=(1, 2))
        struck.append(changed.sum())
        assert (image[changed].std(axis=(1, 2)) < picture()[changed].std(axis=(1, 2))).all()
        assert image.mean() == pytest.approx(picture().mean(), abs=0.01)
    assert {1, 2, 3, 12} == set(struck)


def test_sections_do_not_blur_into_one_another_unless_voxels_are_cubes() -> None:
    black = np.zeros(SHAPE, np.float32)
    black[6] = 1
    leaks = {}
    for symmetry in ("yx", "zyx"):
        only = replace(UNCHANGED, symmetry=symmetry, blur=1.0, blur_voxels=2.0)
        made = [augment(black, [], only, np.random.default_rng(seed))[0] for seed in range(20)]
        leaks[symmetry] = max(np.unique(image).size for image in made)
    assert leaks["yx"] <= 3
    assert leaks["zyx"] > 3


def test_grey_changes_are_one_curve_for_the_patch_or_each_section() -> None:
    step = np.broadcast_to(np.linspace(0.2, 0.8, 20, dtype=np.float32), SHAPE)
    for section, alike in ((0.0, True), (1.0, False)):
        only = replace(UNCHANGED, grey=1.0, section=section)
        image, _ = augment(step, [], only, np.random.default_rng(3))
        assert np.array_equal(image, np.broadcast_to(image[:1, :1], SHAPE)) == alike
        assert (np.diff(image, axis=2) >= 0).all()
        assert image.min() >= 0
        assert image.max() <= 1


def test_grey_changes_strike_as_often_as_asked() -> None:
    struck = sum(not np.array_equal(run(replace(UNCHANGED, grey=0.7), seed)[0], picture()) for seed in range(200))
    assert 115 <= struck <= 165


def test_boxes_cover_no_more_than_asked_with_noise_or_grey() -> None:
    settings = Augmentation(box_density=0.2, box_voxels=(3, 6))
    greys, noises, shares = 0, 0, []
    for seed in range(60):
        image = np.full((10, 40, 40), 2.0, np.float32)
        cover_boxes(image, settings, np.random.default_rng(seed))
        covered = image != 2
        shares.append(covered.mean())
        assert covered.any()
        # Sides of 3 to 6 voxels are 1 or 2 sections here: boxes keep the patch's proportions.
        values = np.unique(image[covered]).size
        greys, noises = greys + (values < covered.sum() / 4), noises + (values > 0.9 * covered.sum())
        assert image[covered].min() >= 0
        assert image[covered].max() <= 1
    assert max(shares) <= 0.2
    assert np.mean(shares) > 0.05
    assert greys + noises == 60
    assert min(greys, noises) >= 15


def test_a_stack_is_straight_until_something_is_put_into_it() -> None:
    stack = Stack.straight(5)
    assert stack.is_straight()
    stack.slip[2] = 1
    assert not stack.is_straight()


@pytest.mark.parametrize(
    "wrong",
    [
        {"symmetry": "xyz"},
        {"missing": 1.5},
        {"warp": -0.1},
        {"contrast": float("nan")},
        {"noise": float("inf")},
        {"box_voxels": (9, 3)},
        {"most_sections": 0},
        {"spacing_voxels": 0.0},
    ],
)
def test_wrong_settings_are_named(wrong) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_every_setting_is_documented() -> None:
    for field in fields(Augmentation):
        assert field.name in Augmentation.__doc__
