"""Masks of borders, against the definition pixel by pixel."""

import numpy as np
import pytest

from bouton.evaluate.borders import border_halo, thin_borders, without_borders

SIZE = (40.0, 4.0, 5.0)


def by_definition(truth, border_nm, size):
    masked = truth.copy()
    nz, ny, nx = truth.shape
    for z in range(nz):
        border = []
        for y in range(ny):
            for x in range(nx):
                around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                inside = [(j, i) for j, i in around if 0 <= j < ny and 0 <= i < nx]
                if any(truth[z, j, i] != truth[z, y, x] for j, i in inside):
                    border.append((y, x))
        for y in range(ny):
            for x in range(nx):
                away = [np.hypot((y - j) * size[1], (x - i) * size[2]) for j, i in border]
                if border and min(away) <= border_nm + 1e-6:
                    masked[z, y, x] = 0
    return masked


def labels(seed):
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 5, (3, 3, 3)), np.ones((1, 5, 6), int)).astype(np.uint64)


@pytest.mark.parametrize("border_nm", [1e-3, 4.0, 5.0, 8.0, 10.3])
def test_masked_truth_is_the_definition(border_nm):
    truth = labels(1)
    masked = without_borders(truth, border_nm, SIZE)
    np.testing.assert_array_equal(masked, by_definition(truth, border_nm, SIZE))
    assert 0 < (masked != 0).sum() < (truth != 0).sum()


def test_without_a_width_nothing_is_masked():
    truth = labels(2)
    np.testing.assert_array_equal(without_borders(truth, 0.0, SIZE), truth)
    assert border_halo(0.0, SIZE) == (0, 0, 0)


def test_one_label_has_no_border_and_the_edge_is_none():
    truth = np.ones((2, 6, 7), np.uint64)
    np.testing.assert_array_equal(without_borders(truth, 100.0, SIZE), truth)


def test_the_halo_is_enough():
    truth, border_nm = labels(3), 9.0
    whole = without_borders(truth, border_nm, SIZE)
    _, hy, hx = border_halo(border_nm, SIZE)
    for y0, y1, x0, x1 in [(0, 5, 0, 5), (4, 9, 7, 12), (10, 15, 3, 18)]:
        ya, xa = max(0, y0 - hy), max(0, x0 - hx)
        part = without_borders(truth[:, ya : y1 + hy, xa : x1 + hx], border_nm, SIZE)
        part = part[:, y0 - ya : y1 - ya, x0 - xa : x1 - xa]
        np.testing.assert_array_equal(part, whole[:, y0:y1, x0:x1])


def test_thinned_borders_are_one_pixel_wide_and_keep_the_segments():
    seg = np.zeros((1, 7, 20), np.uint64)
    seg[:, :, :6], seg[:, :, 11:] = 7, 3
    thinned = thin_borders(seg)
    # Columns 6 to 10 were border: 6, 7 join 7 (the greater), which then gives up one pixel; 8 ties to either side.
    assert ((thinned == 0).sum(axis=2) == 1).all()
    assert (thinned[:, :, :6] == 7).all() and (thinned[:, :, 11:] == 3).all()
    np.testing.assert_array_equal(thin_borders(thinned), thinned)


def test_segments_that_touch_stay_and_empty_sections_too():
    seg = np.zeros((2, 4, 6), np.uint64)
    seg[0, :, :3], seg[0, :, 3:] = 1, 2
    np.testing.assert_array_equal(thin_borders(seg), seg)
