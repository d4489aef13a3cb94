"""Tissues of which the truth is known: counts in blocks and places of synapses, with and without masks.

They show how often a test errs where nothing is to be found (`bouton.density.power`), and how strong a pattern must be
to be found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from bouton.density.blocks import DensityBlocks
from bouton.density.window import Window, hard_core_points
from bouton.errors import SpecError

KINDS = ("uniform", "overdispersed", "gradient", "layers", "clusters")
MASKS = ("none", "random", "vessels")
POINT_KINDS = ("uniform", "hard core", "clusters")
FINE = 4
"""Voxels along an edge of a block, of masks."""
MAX_MASKED = 0.75
BANDS = 3
CLUSTER_BLOCKS = 1.5
VESSEL_SHARE = 0.15
VESSEL_BLOCKS = (0.5, 1.5)
CHILDREN = 5


@dataclass(frozen=True)
class Tissue:
    """A simulated tissue.

    Attributes
    ----------
    shape : (z, y, x)
        Blocks along each axis.
    size_um : (z, y, x)
        Size of a block.
    density_um3 : float
        Mean density, synapses per um3.
    strength : float
        How strong its pattern is; 0: none. ``overdispersed``, ``clusters``: coefficient of variation of the density;
        ``gradient``, ``layers``: the density runs from 1 - strength to 1 + strength times the mean.
    axis : int
        Along which gradient and layers run: 0 z, 1 y, 2 x.
    """

    shape: tuple[int, int, int] = (8, 10, 12)
    size_um: tuple[float, float, float] = (5.0, 5.0, 5.0)
    density_um3: float = 1.0
    strength: float = 0.3
    axis: int = 1


def tissue(kind: str, mask: str, seed: int, settings: Tissue = Tissue()) -> DensityBlocks:
    """Return the blocks of a simulated tissue of which at most 75 % is masked.

    Parameters
    ----------
    kind : str
        ``uniform``: the same density everywhere; ``overdispersed``: each block has its own, gamma distributed (counts
        are negative binomial); ``gradient``: linear along an axis; ``layers``: three pairs of bands along an axis;
        ``clusters``: a smooth random field that reaches over about three blocks.
    mask : str
        ``none``; ``random``: 0 to 75 % of each block; ``vessels``: tubes that take whole blocks and parts of others,
        about 15 % of the volume.
    seed : int
        Of all chance.
    settings : Tissue, optional
        Size, density and strength.

    Raises
    ------
    SpecError
        No such kind or mask.
    """
    _known("kind", kind, KINDS)
    rng = np.random.default_rng((seed, KINDS.index(kind), _known("mask", mask, MASKS)))
    share = exposed_share(mask, rng, settings)
    relative = _relative_density(kind, rng, settings)
    kept = share.ravel() >= 1 - MAX_MASKED
    index = np.argwhere(np.ones(settings.shape, bool))[kept]
    size = np.array(settings.size_um)
    exposure = share.ravel()[kept] * np.prod(size)
    counts = rng.poisson(settings.density_um3 * relative.ravel()[kept] * exposure).astype(np.int64)
    return DensityBlocks(counts, exposure, index.astype(np.int64), (index + 0.5) * size, settings.size_um)


def exposed_share(mask: str, rng: np.random.Generator, settings: Tissue) -> np.ndarray:
    """Return the share of each block that a mask leaves, float64 (z, y, x), 0 to 1."""
    if mask == "none":
        return np.ones(settings.shape)
    if mask == "random":
        return rng.uniform(1 - MAX_MASKED, 1.0, settings.shape)
    z, y, x = settings.shape
    return np.asarray(_open(rng, settings).reshape(z, FINE, y, FINE, x, FINE).mean(axis=(1, 3, 5)), dtype=np.float64)


def _known(name: str, value: str, words: tuple[str, ...]) -> int:
    """Return the place of a word among those that may be; SpecError if it is none of them."""
    if value not in words:
        raise SpecError(f"no {name} of tissue {value!r}", expected=", ".join(words))
    return words.index(value)


def _open(rng: np.random.Generator, settings: Tissue) -> np.ndarray:
    """Return which voxels, `FINE` along an edge of a block, lie in no vessel, bool (z, y, x)."""
    shape = np.array(settings.shape) * FINE
    places = np.stack(np.meshgrid(*(np.arange(size) + 0.5 for size in shape), indexing="ij"), axis=-1)
    found = np.ones(tuple(shape), bool)
    while found.mean() > 1 - VESSEL_SHARE:
        start, way = rng.random(3) * shape, rng.normal(size=3)
        away = places - start
        along = away @ (way / np.linalg.norm(way))
        radius = FINE * rng.uniform(*VESSEL_BLOCKS)
        found &= (away**2).sum(axis=-1) - along**2 > radius**2
    return found


def _relative_density(kind: str, rng: np.random.Generator, settings: Tissue) -> np.ndarray:
    """Return the density of each block over the mean, float64 (z, y, x)."""
    strength, flat = settings.strength, np.ones(settings.shape)
    if kind == "uniform" or strength == 0:
        return flat
    if kind == "overdispersed":
        return np.asarray(rng.gamma(strength**-2, strength**2, settings.shape), dtype=np.float64)
    if kind == "clusters":
        field = gaussian_filter(rng.normal(size=settings.shape), CLUSTER_BLOCKS, mode="wrap")
        field = (field - field.mean()) / field.std()
        log_variance = np.log1p(strength**2)
        return np.asarray(np.exp(field * np.sqrt(log_variance) - log_variance / 2), dtype=np.float64)
    blocks = settings.shape[settings.axis]
    place = (np.arange(blocks) + 0.5) / blocks
    profile = 2 * place - 1 if kind == "gradient" else np.sign(np.sin(2 * np.pi * BANDS * place))
    along = [1, 1, 1]
    along[settings.axis] = blocks
    return np.asarray(flat * (1 + strength * profile).reshape(along), dtype=np.float64)


def point_tissue(kind: str, mask: str, seed: int, settings: Tissue = Tissue()) -> tuple[np.ndarray, Window]:
    """Return the places of synapses of a simulated tissue in um, float64 (n, 3), z, y, x, and its window.

    Parameters
    ----------
    kind : str
        ``uniform``; ``hard core``: random places at least ``strength`` um apart; ``clusters``: groups of five, with
        a standard deviation of ``strength`` um around their middle.
    mask : str
        ``none``; ``random``: 0 to 75 % of the voxels of each block; ``vessels``.
    seed : int
        Of all chance.
    settings : Tissue, optional
        Size and density.

    Raises
    ------
    SpecError
        No such kind or mask.
    """
    number = _known("kind", kind, POINT_KINDS)
    rng = np.random.default_rng((seed, number, _known("mask", mask, MASKS)))
    z, y, x = (size / FINE for size in settings.size_um)
    window = Window(_open_voxels(mask, rng, settings), (z, y, x))
    count = rng.poisson(settings.density_um3 * window.volume_um3)
    if kind != "clusters":
        return hard_core_points(window, count, settings.strength if kind == "hard core" else 0.0, rng), window
    middles = hard_core_points(window, count, 0.0, rng)[: -(-count // CHILDREN)]
    points = np.repeat(middles, CHILDREN, axis=0)
    points = points + rng.normal(scale=settings.strength, size=points.shape)
    return points[window.holds(points)], window


def _open_voxels(mask: str, rng: np.random.Generator, settings: Tissue) -> np.ndarray:
    """Return which voxels, `FINE` along an edge of a block, a mask leaves, bool (z, y, x)."""
    if mask == "vessels":
        return _open(rng, settings)
    share = exposed_share(mask, rng, settings)
    for axis in range(3):
        share = np.repeat(share, FINE, axis=axis)
    return np.asarray(rng.random(share.shape) < share)
