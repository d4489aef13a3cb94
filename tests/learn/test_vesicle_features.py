"""The features of VESICLE-RF, against slow definitions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.learn.forest import Forest
from bouton.learn.forest_info import ForestArchitecture, windows_of
from bouton.learn.info import ModelInfo
from bouton.learn.predict import predict
from bouton.learn.runners_forest import ForestRunner, candidate_places
from bouton.learn.tiles import tiling_of
from bouton.learn.vesicle_features import Surroundings, candidates, features_at, vesicles
from bouton.learn.vesicle_sums import coherence, gradients, magnitude, patterns, square_distance, window_sum

SIZE = (40.0, 12.0, 10.0)
GIVEN = Surroundings(ForestArchitecture(3, darkest=110.0, speck_nm=70.0), SIZE)


def tissue(shape, seed=0):
    """Return noise with structures of several voxels, uint8."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (0.3, 1.2, 1.2))
    return np.clip(smooth / smooth.std() * 55 + 120, 0, 255).astype(np.uint8)


def test_windows_are_the_odd_numbers_nearest_to_the_published_ones():
    windows = windows_of(ForestArchitecture(1), (30, 6, 6))
    sides = [[2 * half + 1 for half in getattr(windows, name)] for name in ("narrow", "middle", "wide")]
    assert sides == [[1, 5, 5], [3, 15, 15], [5, 25, 25]]
    assert windows_of(ForestArchitecture(1), (50, 4.6, 4.6)).wide == (1, 16, 16)
    assert windows_of(ForestArchitecture(1), (500, 500, 500)).wide == (0, 0, 0)


@pytest.mark.parametrize("half", [(0, 0, 0), (1, 2, 3), (4, 0, 1), (0, 30, 40)])
def test_window_sums(half):
    values = np.random.default_rng(1).integers(0, 60000, (4, 11, 13)).astype(np.uint16)
    padded = np.pad(values.astype(np.int64), [(h, h) for h in half])
    views = np.lib.stride_tricks.sliding_window_view(padded, [2 * h + 1 for h in half])
    assert np.array_equal(window_sum(values, half), views.sum((3, 4, 5)))


@pytest.mark.parametrize("step", [(1, 1), (2, 3)])
def test_gradients_are_sobels(step):
    image = tissue((2, 15, 17))
    down, across = gradients(image, *step)
    wide = np.zeros((2 * step[0] + 1, 2 * step[1] + 1))
    wide[:: step[0], :: step[1]] = np.outer([-1, 0, 1], [1, 2, 1])
    inner = np.s_[:, step[0] : -step[0], step[1] : -step[1]]
    expected = np.stack([ndimage.correlate(section.astype(float), wide) for section in image])
    assert np.array_equal(down[inner], expected[inner])
    turned = gradients(np.ascontiguousarray(np.swapaxes(image, 1, 2)), step[1], step[0])[0]
    assert np.array_equal(np.swapaxes(turned, 1, 2), across)
    length = magnitude(down, across)
    assert np.array_equal(length, np.floor(np.hypot(down.astype(float), across)))


def test_coherence_of_stripes_is_whole_and_of_a_flat_image_none():
    stripes = np.tile(np.array([50, 50, 200, 200], np.uint8), (1, 20, 6))
    assert (coherence(*gradients(stripes, 1, 1), 1, 1)[0, 3:-3, 3:-3] == 255).all()
    assert not coherence(*gradients(np.full((1, 20, 20), 7, np.uint8), 1, 1), 1, 1).any()


def test_coherence_against_eigenvalues():
    down, across = gradients(tissue((1, 21, 23)), 1, 1)
    found = coherence(down, across, 1, 1)[0]
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    products = [a.astype(float) * b for a, b in ((down, down), (down, across), (across, across))]
    yy, yx, xx = (ndimage.correlate(each[0], kernel) for each in products)
    for y in range(3, 18):
        for x in range(3, 20):
            a, b = np.linalg.eigvalsh([[yy[y, x], yx[y, x]], [yx[y, x], xx[y, x]]])
            assert abs(found[y, x] - 255 * ((a - b) / max(a + b, 1)) ** 2) <= 1


def test_patterns_by_hand():
    flat, spot, edge, checks = np.zeros((4, 5, 5), np.uint8)
    spot[2, 2] = 9
    edge[:, 2:] = 9
    checks[::2, ::2], checks[2, 2] = 9, 5
    image = np.stack([flat, spot, edge, checks])
    places = np.array([[z, 2, 2] for z in range(4)])
    # all as bright; none; a half circle with both ends; every other one
    assert patterns(image, places, 2, 2).tolist() == [8, 0, 5, 8]
    assert patterns(image[3:], places[:1], 1, 1).tolist() == [0]
    crossed = np.zeros((1, 3, 3), np.uint8)
    crossed[0, 0, 0] = crossed[0, 2, 2] = crossed[0, 1, 1] = 3
    assert patterns(crossed, np.array([[0, 1, 1]]), 1, 1).tolist() == [9]


@pytest.mark.parametrize("density", [0.0, 0.002, 0.05])
def test_distances_against_all_pairs(density):
    mask = (np.random.default_rng(2).random((5, 30, 31)) < density).astype(np.uint8)
    reach = tuple(int(60 / size) for size in SIZE)
    found = square_distance(mask, reach, SIZE, 3600)
    points, places = np.argwhere(mask) * SIZE, np.argwhere(np.ones(mask.shape)) * SIZE
    expected = np.full(len(places), 3600.0)
    for point in points:
        expected = np.minimum(expected, ((places - point) ** 2).sum(1))
    assert np.array_equal(found.reshape(-1), expected)


def test_a_ring_is_a_vesicle():
    given = Surroundings(ForestArchitecture(1), (40.0, 5.0, 5.0))
    y, x = np.mgrid[-20:21, -20:21]
    image = np.where(np.abs(np.hypot(y, x) - 4) < 1.2, 60, 150).astype(np.uint8)[None]
    assert np.argwhere(vesicles(image, given)[0, 16:25, 16:25]).tolist() == [[4, 4]]
    assert not vesicles(255 - image, given)[0, 20, 20]


def test_candidates_are_dark_places_grown_without_specks():
    given = Surroundings(ForestArchitecture(1, darkest=100.0), (40.0, 10.0, 10.0))
    image = np.full((1, 120, 120), 200, np.uint8)
    image[0, 20:100, 58:63] = 0
    image[0, 20, 20] = image[0, 21, 20] = 0
    found = candidates(image, given)[0]
    assert found[30:90, 57:64].all()
    assert not found[:, :45].any()
    # 15 voxels of 25 or fewer of the line leave a mean of 100 or less for 2 voxels beside it; these grow by 3
    assert found[60].sum() == 5 + 2 * 3 - 2 * (np.flatnonzero(found[60])[0] - 55)


def test_features_against_definitions():
    image = tissue((9, 70, 75))
    windows, given = GIVEN.windows, GIVEN
    places = candidate_places(image, given)
    assert 50 < len(places) < 9 * 70 * 75 / 2
    found = features_at(image, places, given)
    cut = tuple(places.T)

    def mean(values, half):
        size = [2 * h + 1 for h in half]
        return ndimage.uniform_filter(values.astype(np.float64), size, mode="constant")[cut]

    down, across = gradients(image, *windows.step[1:])
    length, direction, spots = (
        magnitude(down, across),
        coherence(down, across, *windows.step[1:]),
        vesicles(image, given),
    )
    assert spots.any()
    distance = ndimage.distance_transform_edt(spots == 0, sampling=SIZE)
    expected = [
        mean(image, windows.narrow), mean(image, windows.middle), patterns(image, places, *windows.narrow[1:]),
        mean(length, windows.middle), mean(length, windows.wide), np.minimum(distance, 150)[cut],
        mean(spots, windows.wide), mean(spots, windows.box), mean(direction, windows.middle),
        mean(direction, windows.wide),
    ]  # fmt: skip
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-5, atol=1e-5)


def test_nothing_beyond_the_halo_matters():
    """Everything outside of the halo of one voxel is replaced: its features and its being a candidate stay."""
    image = tissue((25, 120, 130), seed=3)
    halo = GIVEN.windows.halo
    places = candidate_places(image, GIVEN)
    random = np.random.default_rng(4)
    for place in places[random.choice(len(places), 5, replace=False)]:
        box = Box(tuple(place), tuple(place + 1)).grow(halo)
        other = random.integers(0, 256, image.shape).astype(np.uint8)
        other[box.slices] = image[box.slices]
        assert candidates(other, GIVEN)[tuple(place)]
        assert np.array_equal(features_at(other, place[None], GIVEN), features_at(image, place[None], GIVEN))


def runner(tile=(24, 110, 120)):
    """Return a forest that looks at every feature."""
    n = 10
    inner = np.arange(n) * 2
    feature, left = np.full(2 * n + 1, -1, np.int16), np.full(2 * n + 1, -1, np.int32)
    threshold, value = np.zeros(2 * n + 1, np.float32), np.zeros((2 * n + 1, 2), np.float32)
    feature[inner], left[inner] = np.arange(n), inner + 1
    threshold[inner] = [140, 135, 5, 60, 60, 40, 0.01, 0.01, 90, 95]
    right = np.where(left >= 0, left + 1, -1).astype(np.int32)
    value[:, 1] = np.linspace(0.1, 0.9, 2 * n + 1)
    arrays = [np.concatenate([each] * 3) for each in (feature, threshold, value)]
    shift = np.repeat(np.arange(3) * (2 * n + 1), 2 * n + 1)
    sides = [np.where(np.tile(side, 3) >= 0, np.tile(side, 3) + shift, -1).astype(np.int32) for side in (left, right)]
    forest = Forest(arrays[0], arrays[1], *sides, arrays[2], (np.arange(3) * (2 * n + 1)).astype(np.int32))
    overlap = tuple(2 * h for h in GIVEN.windows.halo)
    return ForestRunner(ModelInfo(GIVEN.architecture, {"clefts": 1}, SIZE, tile, overlap, 0.0, 1.0), forest)


def test_tiles_do_not_matter():
    image = tissue((26, 100, 90))
    box = Box.of_shape(image.shape)
    one = runner()
    whole = predict(one, image, box, box, box)["clefts"]
    assert len(np.unique(whole)) > 5
    z, y, x = (2 * n for n in one.info.overlap_zyx)
    for tile in ((z, y, x), (z + 3, y + 20, x + 1)):
        tiling = tiling_of(one.info, tile)
        assert np.array_equal(predict(one, image, box, box, box, tiling)["clefts"], whole)
    core = Box((3, 20, 11), (9, 64, 70))
    part = predict(one, image, box, core, box)["clefts"]
    assert np.array_equal(part, whole[:, *core.slices])


def test_an_overlap_below_what_the_windows_need_is_refused():
    info = runner().info
    with pytest.raises(SpecError, match="overlap_zyx") as caught:
        tiling_of(info, overlap=tuple(o - 1 for o in info.overlap_zyx))
    assert "windows need" in caught.value.expected


@pytest.mark.parametrize("image", [np.zeros((3, 4, 5)), np.zeros((4, 5), np.uint8)])
def test_an_image_of_another_kind(image):
    with pytest.raises(DataError):
        features_at(image, np.zeros((0, 3), np.int64), GIVEN)


@pytest.mark.parametrize("values", [{"trees": 0}, {"darkest": 256.0}, {"wide_nm": 0.0}, {"box_nm": 5000.0}])
def test_an_architecture_out_of_range(values):
    with pytest.raises(SpecError):
        replace(GIVEN.architecture, **values)


def test_an_image_smaller_than_the_halo_has_no_candidates():
    assert candidate_places(np.zeros((3, 9, 9), np.uint8), GIVEN).shape == (0, 3)
