"""The test that NeuroData's case study on synapses in space printed, as it was, and what it does test.

Densities of blocks within two standard deviations of their mean, a histogram of ten equal bins, and a chi-square test
of the ten frequencies against equal ones (repository neurodata/ndpaper, notebook spatialsyn_figs.ipynb).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from bouton.density.finding import NAN, Finding

BINS = 10
NOTE = (
    "Tests whether the ten bins of the histogram of density hold equally many blocks: the shape of the marginal "
    "histogram, not where synapses lie. It rejects perfectly uniform tissue always; repeated for comparison only, "
    "and no part of the family of tests."
)


def histogram_chi_square(frequencies: np.ndarray) -> tuple[float, float]:
    """Return chi-square and p of frequencies, int (n,), against equal ones; nan, nan without blocks or with one bin."""
    frequencies = np.asarray(frequencies, dtype=np.float64)
    if frequencies.size < 2 or frequencies.sum() == 0:
        return NAN, NAN
    found = stats.chisquare(frequencies)
    return float(found.statistic), float(found.pvalue)


def published_chi_square(density_um3: np.ndarray) -> Finding:
    """Return the published test on densities of blocks, float64 (n,); those that are not finite are left out."""
    question = "Do densities spread evenly between the smallest and the largest? (Not: do synapses in space?)"
    density = np.asarray(density_um3, dtype=np.float64)
    density = density[np.isfinite(density)]
    reach = 2 * density.std() if density.size else 0.0
    if reach == 0:
        why = "not available: no block left" if not density.size else "not available: all blocks are equally dense"
        return Finding("published histogram chi-square", question, "chi-square", n=density.size, note=f"{why}. {NOTE}")
    kept = density[np.abs(density - density.mean()) <= reach]
    value, p = histogram_chi_square(np.histogram(kept, BINS)[0])
    return Finding("published histogram chi-square", question, "chi-square", value, NAN, NAN, p, kept.size, NOTE)
