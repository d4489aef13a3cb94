"""Small tissues for tests: blocks with Poisson or over-dispersed counts."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

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


def patchy(rng, shape, density, sd=0.25, reach=0.7):
    """Return blocks whose log density is a smooth random field of this standard deviation; ``reach`` in blocks."""
    blocks = tissue(rng, shape, density, masked=0.5)
    wide = rng.normal(size=[side + 24 for side in shape])
    field = ndimage.gaussian_filter(wide, reach)[12:-12, 12:-12, 12:-12].ravel()
    field *= sd * (2 * np.pi**0.5 * reach) ** 1.5
    return replace(blocks, counts=rng.poisson(density * np.exp(field - sd**2 / 2) * blocks.exposure_um3))
