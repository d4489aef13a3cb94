"""Does a network fit an image: views against brute force, features of signals made to order, score, calibration."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bouton.errors import DataError
from bouton.geometry import ZYX, Box
from bouton.learn import shift
from bouton.learn.model import load_model
from bouton.learn.shift import LEAST_SPREAD, Reference, ReferenceSource, read_reference, reference_bytes, try_remedies
from bouton.learn.shift_calibration import Calibration, calibrate
from bouton.learn.shift_features import (
    FEATURES,
    IMAGE_FEATURES,
    fitting_box,
    image_features,
    look_at_box,
    noise_level,
    sample_boxes,
    section_likeness,
    spectral_slopes,
)
from bouton.learn.shift_views import View, aligned, look, look_back, views_of
from tiny_model import INFO, write_model

NEAREST: list[ZYX] = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
BOX = (16, 32, 32)


def affinities(labels: np.ndarray, offsets: list[ZYX]) -> np.ndarray:
    """Voxel by voxel: 200 where p and p + offset have one label, 50 where not, 0 where p + offset lies outside."""
    found = np.zeros((len(offsets), *labels.shape), np.uint8)
    for p in np.ndindex(labels.shape):
        for c, offset in enumerate(offsets):
            q = tuple(a + o for a, o in zip(p, offset, strict=True))
            if all(0 <= v < n for v, n in zip(q, labels.shape, strict=True)):
                found[(c, *p)] = 200 if labels[p] == labels[q] else 50
    return found


@pytest.mark.parametrize("turn", [None, (1, 2), (0, 1), (0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("offsets", [NEAREST, [(-3, 0, 0), (0, -2, 0), (0, 0, -2), (0, -2, 2)]])
def test_pairs_meet_themselves(turn: tuple[int, int] | None, flips: tuple[int, ...], offsets: list[ZYX]) -> None:
    labels = np.random.default_rng(0).integers(1, 3, (6, 6, 6), np.uint8)
    view = View("one", turn, flips)
    plain, seen = affinities(labels, offsets), affinities(look(labels, view, np.random.default_rng(0)), offsets)
    compared = 0
    for a, b in aligned(plain, seen, view, offsets):
        both = (a > 0) & (b > 0)
        assert np.array_equal(a[both], b[both])
        compared += int(both.sum())
    if offsets is NEAREST:
        # every edge inside of the box, once
        assert compared == 3 * 5 * 36
    else:
        assert compared > 0


def test_pairs_of_no_shift_do_not_meet() -> None:
    labels = np.random.default_rng(0).integers(1, 3, (6, 6, 6), np.uint8)
    view = View("z", flips=(0,))
    plain, seen = affinities(labels, NEAREST), affinities(look(labels, view, np.random.default_rng(0)), NEAREST)
    wrong = look_back(seen, view)[0]
    assert np.mean(wrong[1:-1] != plain[0, 1:-1]) > 0.2


def test_channels_of_single_voxels_stay_in_place() -> None:
    image = np.random.default_rng(1).integers(0, 255, (4, 6, 6), np.uint8)
    for view in views_of((4, 6, 6), (30.0, 10.0, 10.0)):
        if view.moves:
            seen = look(image, view, np.random.default_rng(0))[None]
            [(a, b)] = aligned(image[None], seen, view, None)
            assert np.array_equal(a, b)


def test_axes_that_differ_do_not_change_places() -> None:
    assert {view.turn for view in views_of((8, 16, 16), (30.0, 10.0, 10.0))} == {None, (1, 2)}
    assert {view.turn for view in views_of((8, 16, 24), (30.0, 10.0, 10.0))} == {None}
    assert {view.turn for view in views_of((8, 16, 16), (30.0, 10.0, 12.0))} == {None}


def test_grey_views_change_what_they_say() -> None:
    image = np.random.default_rng(1).integers(60, 180, (8, 32, 32), np.uint8)
    less, noisy = (v for v in views_of(image.shape, (10.0, 10.0, 10.0)) if not v.moves)
    changed = look(image, less, np.random.default_rng(0)).astype(float)
    assert changed.std() / image.std() == pytest.approx(0.85, abs=0.01)
    assert changed.mean() - image.mean() == pytest.approx(6, abs=0.1)
    added = look(image, noisy, np.random.default_rng(0)).astype(float) - image
    assert added.std() == pytest.approx(6, rel=0.03)


@pytest.mark.parametrize("sigma", [3.0, 12.0, 40.0])
def test_noise_is_measured_under_a_smooth_signal(sigma: float) -> None:
    rng = np.random.default_rng(2)
    smooth = ndimage.gaussian_filter(rng.normal(size=(12, 64, 64)), 4) * 800
    assert noise_level((smooth + rng.normal(size=smooth.shape) * sigma).astype(np.float32)) == pytest.approx(
        sigma, rel=0.05
    )


@pytest.mark.parametrize("exponent", [0.0, -2.0, -4.0])
def test_slopes_of_spectra_made_to_order(exponent: float) -> None:
    rng = np.random.default_rng(3)
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)[None])
    frequency[0, 0] = 1
    shape = np.fft.fft2(rng.normal(size=(24, 96, 96))) * frequency ** (exponent / 2)
    grey = np.fft.ifft2(shape).real
    coarse, fine = spectral_slopes((grey / grey.std() * 2000).astype(np.float32))
    assert coarse == pytest.approx(exponent, abs=0.35)
    assert fine == pytest.approx(exponent, abs=0.35)


def test_likeness_is_the_correlation_of_neighbours() -> None:
    rng = np.random.default_rng(4)
    sections = rng.normal(size=(5, 40, 40)).astype(np.float32)
    sections[1] = 0.6 * sections[0] + 0.8 * sections[1]
    sections[3] = 7.0
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in itertools.pairwise(sections[:3])]
    found = section_likeness(sections)
    assert found[:2] == pytest.approx(expected, abs=1e-4)
    assert found[2:].tolist() == [0, 0]


def test_copies_of_sections_are_counted() -> None:
    image = np.random.default_rng(4).integers(0, 255, (9, 32, 32), np.uint8)
    assert image_features(image)[1]["repeated"] == 0
    assert image_features(np.repeat(image[:3], 3, axis=0))[1]["repeated"] == pytest.approx(6 / 8)


def test_features_of_a_blank_box_are_finite() -> None:
    features, plain = image_features(np.full(BOX, 255, np.uint8))
    assert np.isfinite(list(features.values())).all()
    assert plain["std"] == 0 and plain["saturated"] == 1


def test_boxes_are_spread_seeded_and_inside() -> None:
    bounds = Box((10, 20, 30), (74, 148, 158))
    boxes = sample_boxes(bounds, (16, 32, 32), 32, 5)
    assert boxes == sample_boxes(bounds, (16, 32, 32), 32, 5) != sample_boxes(bounds, (16, 32, 32), 32, 6)
    assert len(set(boxes)) == 32 and all(bounds.contains(b) and b.shape == (16, 32, 32) for b in boxes)
    middles = np.array([[(a + b) / 2 for a, b in zip(b.start, b.stop, strict=True)] for b in boxes])
    octants = {tuple(side) for side in (middles > np.array([42, 84, 94])).tolist()}
    assert len(octants) == 8
    assert len(sample_boxes(Box((0, 0, 0), (16, 32, 32)), (16, 32, 32), 9, 0)) == 1


def test_boxes_fit_network_and_image() -> None:
    assert fitting_box(INFO, (48, 48, 48), (10, 33, 500)) == (10, 32, 48)
    assert fitting_box(INFO, (48, 48, 48), (10, 1, 500)) is None


def test_a_reading_tells_what_the_network_said(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "tiny"))
    image = np.random.default_rng(5).integers(0, 255, BOX, np.uint8)
    reading, outputs = look_at_box(model, image, Box.of_shape(BOX))
    p = outputs["affinities"].astype(np.float64) / 255
    inner = np.clip(p, 1e-300, 1 - 1e-16)
    entropy = float(np.mean(-inner * np.log2(inner) - (1 - inner) * np.log2(1 - inner)))
    assert reading.plain["entropy"] == pytest.approx(entropy, abs=1e-6)
    assert reading.plain["below_half"] == pytest.approx(np.mean(p < 0.5))
    assert reading.histogram.sum() == p.size
    assert reading.features.shape == (len(FEATURES),) and np.isfinite(reading.features).all()
    assert reading.plain["disagreement"] > 0


def _reference(rows: np.ndarray, sha: str = "a" * 64) -> Reference:
    return Reference(sha, BOX, (10.0, 10.0, 10.0), (ReferenceSource("im.h5", "0:1,0:1,0:1", rows),))


def test_score_by_hand() -> None:
    rows = np.random.default_rng(6).normal(size=(30, len(FEATURES))) - 3
    borders = FEATURES.index("below_half")
    low, high = np.quantile(rows[:, borders], (0.05, 0.95))
    freed = rows.copy()
    for name in ("entropy", "disagreement", "sides", "sensitivity"):
        freed[:, FEATURES.index(name)] -= np.clip(rows[:, borders], low, high) / 2
    freed[:, borders] = 2.0 ** rows[:, borders] - 1 / 1024
    spread = np.sqrt(freed.var(axis=0) + np.array([LEAST_SPREAD[n] for n in FEATURES]) ** 2)
    reference = _reference(rows)
    # the place at which every deviation is 0
    middle = freed.mean(axis=0)
    at = middle.copy()
    at[borders] = np.log2(middle[borders] + 1 / 1024)
    for name in ("entropy", "disagreement", "sides", "sensitivity"):
        at[FEATURES.index(name)] += np.clip(at[borders], low, high) / 2
    assert reference.score(at).total == pytest.approx(0, abs=1e-12)
    at[0] += 2 * spread[0]
    at[-1] -= 4 * spread[-1]
    score = reference.score(at)
    images, responses = len(IMAGE_FEATURES), len(FEATURES) - len(IMAGE_FEATURES)
    # the last feature says that the network is surer than usual: a quarter
    assert score.deviations[[0, -1]] == pytest.approx([2, -1])
    assert score.image == pytest.approx(np.sqrt(4 / images))
    assert score.response == pytest.approx(np.sqrt(1 / responses))
    assert score.total == pytest.approx(np.sqrt((4 / images + 3 * 1 / responses) / 4))
    at[-1] += 7 * spread[-1]
    assert reference.score(at).response == pytest.approx(np.sqrt(9 / responses))


def test_more_borders_excuse_more_entropy_where_training_data_had_so_many() -> None:
    rows = np.random.default_rng(6).normal(size=(30, len(FEATURES))) * 0.4 - 3
    reference, at = _reference(rows), rows.mean(axis=0)
    borders, entropy = FEATURES.index("below_half"), FEATURES.index("entropy")
    usual = reference.score(at).deviations[entropy]
    more = at.copy()
    more[entropy] += 0.2
    assert reference.score(more).deviations[entropy] > usual + 0.2
    more[borders] += 0.4
    assert reference.score(more).deviations[entropy] == pytest.approx(usual)
    # beyond the range of the training data nothing is excused
    far = more.copy()
    far[[borders, entropy]] += [4.0, 2.0]
    assert reference.score(far).deviations[entropy] > usual + 2


def test_reference_goes_to_disk_and_back(tmp_path: Path) -> None:
    rows = np.random.default_rng(7).normal(size=(9, len(FEATURES)))
    reference = _reference(rows).with_source("other.h5", Box((0, 0, 0), (5, 5, 5)), rows[:3])
    (tmp_path / shift.REFERENCE).write_bytes(reference_bytes(reference))
    found = read_reference(tmp_path, "a" * 64)
    assert found is not None and found.rows == pytest.approx(np.concatenate([rows, rows[:3]]), abs=6e-5)
    assert [s.image for s in found.sources] == ["im.h5", "other.h5"]
    again = found.with_source("other.h5", Box((0, 0, 0), (5, 5, 5)), rows[:2])
    assert len(again.rows) == 11
    assert read_reference(tmp_path / "elsewhere", "a" * 64) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t[: len(t) // 2], "damaged reference"),
        (lambda t: t.replace("bouton-reference/1", "bouton-reference/9"), "damaged reference"),
        (lambda t: t.replace("entropy", "enthalpy"), "damaged reference"),
        (lambda t: json.dumps({**json.loads(t), "sources": []}), "fewer than two"),
        (lambda t: json.dumps([1]), "damaged reference"),
        (lambda t: t.replace("a" * 64, "b" * 64), "other weights"),
    ],
)
def test_damaged_references_are_refused(tmp_path: Path, damage, message: str) -> None:
    rows = np.random.default_rng(7).normal(size=(9, len(FEATURES)))
    (tmp_path / shift.REFERENCE).write_text(damage(reference_bytes(_reference(rows)).decode()))
    with pytest.raises(DataError, match=message) as caught:
        read_reference(tmp_path, "a" * 64)
    assert caught.value.fix


def test_remedies_find_the_way_back(tmp_path: Path) -> None:
    """A box whose grey values were inverted and squeezed scores as before when they are stretched back."""
    model = load_model(write_model(tmp_path / "tiny"))
    rng = np.random.default_rng(8)
    smooth = ndimage.gaussian_filter(rng.normal(size=(12, *BOX)), (0, 2, 2, 2))
    known = np.clip(128 + smooth / smooth.std() * 40 + smooth**2 / smooth.var() * 8, 0, 255).astype(np.uint8)
    rows = np.array([look_at_box(model, image, Box.of_shape(BOX))[0].features for image in known[:10]])
    reference = _reference(rows)
    changed = [np.rint(200 - image * 0.2).astype(np.uint8) for image in known[10:]]
    boxes = [(look_at_box(model, image, Box.of_shape(BOX))[0], image) for image in changed]
    grey = float(np.mean(changed)), float(np.std(changed))
    matched, inverted = try_remedies(model, reference, boxes, grey)
    assert inverted.scale == pytest.approx(-5, rel=0.15)
    assert inverted.after < matched.after
    assert inverted.after < 0.6 * inverted.before
    assert replace(inverted, before=2.0, after=0.5).helps and not replace(inverted, before=2.0, after=1.9).helps


def test_calibration_by_hand() -> None:
    labels = np.array([[[1, 1, 2, 2, 0]]])
    predicted = np.zeros((3, 1, 1, 5), np.uint8)
    predicted[2, 0, 0] = [9, 255, 51, 204, 255]
    found = calibrate(predicted, labels, (0, 0, 0), (0, 0, 0))
    # known edges: 1-1 said 1.0, 1-2 said 0.2, 2-2 said 0.8; 2-0 is unknown
    assert found.edges.sum() == 3 and found.true.sum() == 2
    assert found.edges[[255, 51, 204]].tolist() == [1, 1, 1]
    assert found.error == pytest.approx((0 + 0.2 + 0.2) / 3)
    assert (found + found).error == pytest.approx(found.error)
    assert calibrate(predicted, labels, (0, 0, 1), (0, 0, 0)).true.sum() == 0
    assert calibrate(predicted, labels, (0, 0, 0), (0, 0, 2)).edges.sum() == 1
    nothing = np.zeros(256, np.int64)
    assert np.isnan(Calibration(nothing, nothing).error)


def test_calibration_error_of_a_network_that_is_too_sure() -> None:
    rng = np.random.default_rng(9)
    edges = rng.integers(500, 1500, 256)
    p = np.arange(256) / 255
    honest = Calibration(edges, rng.binomial(edges, p))
    assert honest.error < 0.01
    tame = 0.5 + (p - 0.5) / 2
    sure = Calibration(edges, rng.binomial(edges, tame))
    assert sure.error == pytest.approx(float(np.average(np.abs(p - tame), weights=edges)), abs=0.01)
