"""Small tissues for tests: blocks with Poisson or over-dispersed counts."""

import numpy as np

from bouton.density.blocks import DensityBlocks


def tissue(rng, shape, density, *, alpha=0.0, masked=0.0, trend=None):
    """Return blocks of 125 um3; ``trend`` maps centres, (n, 3), um, to factors of density; alpha: extra variance."""
    index = np.argwhere(np.ones(shape, bool)).reshape(-1, 3)
    centre, n = (index + 0.5) * 5.0, len(index)
    if not n:
        return DensityBlocks(np.zeros(0, np.int64), np.zeros(0), index, centre, (5.0, 5.0, 5.0))
    volume = 125.0 * (1 - masked * rng.random(n))
    rate = density * (rng.gamma(1 / alpha, alpha, n) if alpha else 1.0)
    if trend is not None:
        rate = rate * trend(centre)
    return DensityBlocks(rng.poisson(rate * volume), volume, index, centre, (5.0, 5.0, 5.0))
