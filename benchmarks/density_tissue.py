"""A piece of tissue with known synapse density, two vessels and lost sections, and what a detector sees of it.

The density is ``d * f(z) * g(y)``: a gradient along z, a layer along y. Synapses lie one in each cell of a lattice,
anywhere in it, and the lattice is stretched along z and y such that exactly this density comes out. Counts so vary far
less than Poisson counts do, and a bias of 0.3 % shows in a small volume; the expected counts are the same.

A synapse is a disc, 300 to 500 nm across and 140 nm thick, at any angle. A detector that gets masked images finds no
synapse that touches the mask: the labels hold the others. Discs at the border of the volume are cut; where synapses lie
outside of it, too, parts of those are seen inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

VOXEL_NM = (45.0, 128.0, 128.0)
SHAPE = (534, 188, 188)
DIAMETERS_NM = (300.0, 500.0)
HALF_THICK_NM = 70.0
GRADIENT = (0.8, 1.2)
LAYER = (0.35, 0.7, 1.4)
"""A layer from 35 to 70 % of the volume along y has 1.4 times the density."""


@dataclass(frozen=True)
class Tissue:
    """What is known and what is seen.

    Attributes
    ----------
    mask : uint8 (z, y, x)
        1: vessels and lost sections.
    layers : uint8 (z, y, x)
        2 in the layer, 1 elsewhere.
    places_nm : float64 (n, 3)
        Centres of all synapses, those under the mask too.
    labels : uint32 (z, y, x)
        Number of the synapse of each voxel, from 1; 0 where the detector found none.
    density_um3 : float
        Synapses per um3 where the gradient is 1, outside of the layer.
    """

    mask: np.ndarray
    layers: np.ndarray
    places_nm: np.ndarray
    labels: np.ndarray
    density_um3: float

    def expected(self, where: np.ndarray) -> np.ndarray:
        """Return the expected number of synapses in each voxel of a mask, float32 (z, y, x); 0 elsewhere."""
        f, g = (_profile(axis, self.mask.shape) for axis in range(2))
        number = self.density_um3 * np.prod(VOXEL_NM) / 1e9
        return where * (number * f[:, None, None] * g[None, :, None]).astype(np.float32)


def tissue(seed: int, density_um3: float = 2.0, beyond_nm: float = 0.0, shape: tuple[int, int, int] = SHAPE) -> Tissue:
    """Return a piece of tissue; another seed moves every synapse. They lie up to ``beyond_nm`` outside of it."""
    rng = np.random.default_rng(seed)
    mask = vessels_and_gaps(shape)
    places = _places(rng, density_um3, beyond_nm, shape)
    axes = rng.normal(size=places.shape)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    radii = rng.uniform(*DIAMETERS_NM, len(places)) / 2
    labels = np.zeros(shape, np.uint32)
    _draw(labels, mask, places, axes, radii, np.array(VOXEL_NM))
    inside = (_profile(1, shape) > 1).astype(np.uint8)
    layers = np.broadcast_to((1 + inside)[None, :, None], shape).copy()
    return Tissue(mask, layers, places, labels, density_um3)


def vessels_and_gaps(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return the mask, uint8 (z, y, x): vessels of 8, 4, 4 um along z, y, x, the first oblique; 7 lost sections."""
    spans = [n * size / 1000 for n, size in zip(shape, VOXEL_NM, strict=True)]
    places = [(np.arange(n) + 0.5) * size / 1000 for n, size in zip(shape, VOXEL_NM, strict=True)]
    z, y, x = np.ix_(*places)
    mask = (y - 0.4 * spans[1]) ** 2 + (x - 0.3 * spans[2] - 0.15 * z) ** 2 <= 4.0**2
    mask |= (z - 0.2 * spans[0]) ** 2 + (x - 0.8 * spans[2]) ** 2 <= 2.0**2
    mask |= (z - 0.3 * spans[0]) ** 2 + (y - 0.8 * spans[1]) ** 2 <= 2.0**2
    gap = 0.7 * spans[0]
    mask[(places[0] > gap) & (places[0] < gap + 7 * VOXEL_NM[0] / 1000)] = True
    return mask.astype(np.uint8)


def _profile(axis: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return how many times the basic density each voxel along z (axis 0) or y (axis 1) has, float64."""
    at = (np.arange(shape[axis]) + 0.5) / shape[axis]
    return _density_at(axis, at)


def _density_at(axis: int, at: np.ndarray) -> np.ndarray:
    if axis == 0:
        return np.interp(at, (0, 1), GRADIENT, GRADIENT[0], GRADIENT[1])
    return np.where((at >= LAYER[0]) & (at < LAYER[1]), LAYER[2], 1.0)


def _places(rng: np.random.Generator, density_um3: float, beyond_nm: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Return one place in each cell of the stretched lattice, float64 (n, 3)."""
    spans = [n * size for n, size in zip(shape, VOXEL_NM, strict=True)]
    cell = (1 / density_um3) ** (1 / 3) * 1000
    axes, steps = [], []
    for axis, span in enumerate(spans):
        at = np.linspace(-beyond_nm, span + beyond_nm, 20001)
        height = _density_at(axis, (at[1:] + at[:-1]) / 2 / span) if axis < 2 else np.ones(20000)
        length = np.concatenate([[0.0], np.cumsum(height * np.diff(at))])
        axes.append((length, at))
        steps.append(int(np.ceil(length[-1] / cell)) + 1)
    cells = np.stack(np.indices(steps), -1).reshape(-1, 3)
    unit = (cells + rng.random(cells.shape) - rng.random(3)) * cell
    kept = np.all([(unit[:, axis] >= 0) & (unit[:, axis] <= axes[axis][0][-1]) for axis in range(3)], axis=0)
    return np.stack([np.interp(unit[kept, axis], *axes[axis]) for axis in range(3)], axis=1)


@numba.njit(cache=True)
def _draw(labels, mask, places, axes, radii, size):  # type: ignore[no-untyped-def]
    """Draw discs that touch no masked voxel; who comes first keeps a voxel."""
    shape = np.array(labels.shape)
    for n in range(len(places)):
        low = np.maximum(np.ceil((places[n] - radii[n]) / size - 0.5), 0).astype(np.int64)
        high = np.minimum(np.floor((places[n] + radii[n]) / size - 0.5) + 1, shape).astype(np.int64)
        for drawing in range(2):
            seen = True
            for z in range(low[0], high[0]):
                for y in range(low[1], high[1]):
                    for x in range(low[2], high[2]):
                        a = (z + 0.5) * size[0] - places[n, 0]
                        b = (y + 0.5) * size[1] - places[n, 1]
                        c = (x + 0.5) * size[2] - places[n, 2]
                        far = a * a + b * b + c * c > radii[n] ** 2
                        if far or abs(a * axes[n, 0] + b * axes[n, 1] + c * axes[n, 2]) > HALF_THICK_NM:
                            continue
                        if drawing == 1 and labels[z, y, x] == 0:
                            labels[z, y, x] = n + 1
                        elif mask[z, y, x]:
                            seen = False
            if not seen:
                break
