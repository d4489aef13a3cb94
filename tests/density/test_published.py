"""The published test: its printed figures, and that it rejects uniform tissue always."""

import numpy as np
import pytest

from bouton.density.dispersion import dispersion
from bouton.density.published import NOTE, histogram_chi_square, published_chi_square
from density.tissue import tissue

PRINTED = [1600, 2210, 2986, 4587, 6232, 7402, 6520, 4444, 2319, 1126]


def test_printed_frequencies_give_the_printed_value():
    value, p = histogram_chi_square(PRINTED)
    assert value == pytest.approx(11285.0703597, abs=1e-6) and p == 0


def test_the_procedure_gives_the_frequencies_back():
    # Densities in the middle of ten bins, and the two ends that make the bins: two standard deviations trim none.
    edges = np.linspace(1.0, 2.0, 11)
    density = np.repeat((edges[1:] + edges[:-1]) / 2, [5, 5, 10, 20, 40, 40, 20, 10, 5, 5])
    inside = np.abs(density - density.mean()) <= 2 * density.std()
    expected = np.histogram(density[inside], 10)[0]
    found = published_chi_square(np.append(density, np.nan))
    assert found.n == inside.sum() < density.size
    assert found.value == pytest.approx(((expected - expected.mean()) ** 2 / expected.mean()).sum())


def rejections(runs, blocks):
    """Return how often uniform tissue is rejected, by the published test and by dispersion."""
    rng, published, valid = np.random.default_rng(1), 0, 0
    for _ in range(runs):
        uniform = tissue(rng, blocks, 1.41606)
        published += published_chi_square(uniform.density_um3).p < 0.05
        valid += dispersion(uniform).p < 0.05
    return published, valid


def test_it_rejects_uniform_tissue_always():
    published, valid = rejections(20, (35, 35, 34))
    assert published == 20 and valid <= 5


@pytest.mark.slow
def test_it_rejects_uniform_tissue_500_times_of_500():
    """Slow: 500 tissues of 41,650 blocks."""
    published, valid = rejections(500, (35, 35, 34))
    assert published == 500 and abs(valid / 500 - 0.05) <= 0.02


def test_it_accepts_densities_that_are_anything_but_uniform_in_space():
    # every density from 0.4 to 2.4 equally often, sorted: as far from uniform tissue as can be
    found = published_chi_square(np.linspace(0.4, 2.4, 40_000))
    assert found.p > 0.05 and found.note == NOTE


@pytest.mark.parametrize("density", [[], [np.nan], [1.2, 1.2, 1.2]])
def test_no_number_where_there_is_none(density):
    found = published_chi_square(np.array(density, dtype=float))
    assert np.isnan([found.value, found.p]).all() and "not available" in found.note
    assert np.isnan(histogram_chi_square([])).all() and np.isnan(histogram_chi_square([4])).all()
    assert np.isnan(histogram_chi_square([0, 0])).all()
