"""Tissue without synapses, found in the image by local rules: blank and saturated areas, vessels, somata.

Blank and saturated areas are squares of one grey value in a section. Vessels and somata are wide and have little
texture: the image is averaged over patches of a grain, which leaves membranes and takes noise away; a cell is a cube of
patches, its texture the standard deviation of the patches of one section, as root mean square over its sections (so
that brightness that changes from section to section does not count). Images differ in contrast, so textures are told
as shares of neuropil's: that of the upper quartile of all cells, or a given one. Cells below a share are smoothed by
the majority of their neighbours and then opened by rank (a cube of the least width counts where a share of its cells
does), so that one mitochondrion does not break a soma and thin dendrites do not remain.

Patches, cells and squares lie on grids anchored at voxel (0, 0, 0); what a voxel is depends on its surround and the
neuropil's texture alone. Beyond the bounds cells are taken to go on as they end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX, Box

CLASSES = ("blank", "saturated", "vessel", "soma")
"""Classes 1 to 4 of the mask."""
BLANK, SATURATED, VESSEL, SOMA = 1, 2, 3, 4
UNKNOWN = 0
"""Texture of a cell that is blank or saturated for the most part; the others are stored from 1 on."""
STEP, MOST = 0.25, 255
"""Textures are stored in steps of a quarter of a grey value of an 8-bit image, up to uint8's largest."""
QUANTILE = 0.75
"""The texture that three quarters of the cells of a volume do not exceed stands for neuropil."""
MAJORITY, FLAT_IN_SOMA = 0.5, 0.5


@dataclass(frozen=True)
class Rules:
    """What is blank, saturated, vessel and soma.

    Attributes
    ----------
    black, white : int
        Grey values from which on downwards, or upwards, all are one.
    area_nm : float
        Side of the squares of one grey value that are blank or saturated.
    grain_nm, scale_nm : float
        Sides of patches and of cells.
    vessel_texture, soma_texture : float
        Largest texture of cells of vessels and somata, as shares of neuropil's.
    vessel_nm, soma_nm : float
        Least widths.
    share : float
        Share of the cells of a cube of that width that must have so little texture, above 0 up to 1.
    """

    black: int = 0
    white: int = 255
    area_nm: float = 200.0
    grain_nm: float = 40.0
    scale_nm: float = 160.0
    vessel_texture: float = 0.25
    soma_texture: float = 0.6
    vessel_nm: float = 2000.0
    soma_nm: float = 3000.0
    share: float = 0.8


@dataclass(frozen=True)
class Lattice:
    """Patches, cells, squares and widths in voxels and cells, z, y, x.

    Attributes
    ----------
    patch, cell : (z, y, x)
        Voxels.
    square : (y, x)
        Voxels of the squares of one grey value.
    vessel, soma : (z, y, x)
        Least widths in cells.
    """

    patch: ZYX
    cell: ZYX
    square: tuple[int, int]
    vessel: ZYX
    soma: ZYX

    @property
    def reach(self) -> ZYX:
        """How many cells around a cell decide what it is."""
        z, y, x = (max(a, b) for a, b in zip(self.vessel, self.soma, strict=True))
        return z, y, x

    def covering(self, box: Box) -> Box:
        """Return the cells, as a box in cells, that share a voxel with a box of voxels."""
        z0, y0, x0 = (a // c for a, c in zip(box.start, self.cell, strict=True))
        z1, y1, x1 = (-(-b // c) for b, c in zip(box.stop, self.cell, strict=True))
        return Box((z0, y0, x0), (z1, y1, x1))

    def voxels(self, cells: Box) -> Box:
        """Return the voxels of a box of cells."""
        z0, y0, x0 = (a * c for a, c in zip(cells.start, self.cell, strict=True))
        z1, y1, x1 = (b * c for b, c in zip(cells.stop, self.cell, strict=True))
        return Box((z0, y0, x0), (z1, y1, x1))


def lattice(rules: Rules, voxel_size_nm: NM) -> Lattice:
    """Return the lattice of some rules at a voxel size.

    Raises
    ------
    SpecError
        A cell has fewer than two patches along y or x: it would have no texture.
    """
    patch = [max(1, round(rules.grain_nm / size)) for size in voxel_size_nm]
    lengths = [n * size for n, size in zip(patch, voxel_size_nm, strict=True)]
    count = [max(1, round(rules.scale_nm / length)) for length in lengths]
    if min(count[1:]) < 2:
        least = 2 * max(lengths[1:])
        raise SpecError(
            f"scale_nm = {rules.scale_nm:g} with patches of {max(lengths[1:]):g} nm (voxels of {voxel_size_nm} nm)",
            expected=f"at least {least:g}, two patches", fix=f"scale_nm: {2 * least:g}",
        )  # fmt: skip
    cell = [n * k for n, k in zip(patch, count, strict=True)]
    y, x = (max(2, round(rules.area_nm / size)) for size in voxel_size_nm[1:])
    (a, b, c), (d, e, f) = patch, cell
    vessel, soma = (_cells_across(width, cell, voxel_size_nm) for width in (rules.vessel_nm, rules.soma_nm))
    return Lattice((a, b, c), (d, e, f), (y, x), vessel, soma)


def _cells_across(width_nm: float, cell: list[int], voxel_size_nm: NM) -> ZYX:
    z, y, x = (max(1, round(width_nm / (n * size))) for n, size in zip(cell, voxel_size_nm, strict=True))
    return z, y, x


def areas_of(image: np.ndarray, box: Box, wanted: Box, rules: Rules, place: Lattice) -> np.ndarray:
    """Return BLANK and SATURATED areas, 0 elsewhere, uint8 of ``wanted``.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 or uint16 (z, y, x), of ``box``.
    box : Box
        ``wanted`` with a square's side less one more in y and x, clipped to the bounds.
    wanted : Box
    rules : Rules
    place : Lattice
    """
    y, x = (min(n, side) for n, side in zip(place.square, box.shape[1:], strict=True))
    return _areas(image, rules.black, rules.white, y, x)[wanted.within(box).slices]


def textures_of(image: np.ndarray, areas: np.ndarray, box: Box, rules: Rules, place: Lattice) -> np.ndarray:
    """Return the texture of every cell, uint8 (z, y, x) cells: UNKNOWN, else 1 and more in units of :data:`STEP`.

    Parameters
    ----------
    image, areas : numpy.ndarray
        uint8 or uint16, and uint8 of :func:`areas_of`, (z, y, x) of ``box``.
    box : Box
        Whole cells, clipped to the bounds.
    rules : Rules
    place : Lattice
    """
    shape = place.covering(box).shape
    grid = (np.array(box.start), np.array(place.patch), np.array(place.cell))
    return _textures(np.ascontiguousarray(image), np.ascontiguousarray(areas), shape, grid, 255.0 / rules.white / STEP)


def spread(cells: np.ndarray, box: Box, place: Lattice) -> np.ndarray:
    """Return the value of every voxel's cell, (z, y, x) of ``box``, from those of the cells that cover it."""
    first = place.covering(box).start
    z, y, x = (np.arange(a, b) // c - f for a, b, c, f in zip(box.start, box.stop, place.cell, first, strict=True))
    return cells[z[:, None, None], y[:, None], x]


def neuropil(textures: np.ndarray, counts: np.ndarray) -> float:
    """Return the texture of neuropil, in units of :data:`STEP`; nan without cells.

    Parameters
    ----------
    textures : int64 (n,)
        Textures as stored, sorted, without UNKNOWN.
    counts : int64 (n,)
        Cells of each.
    """
    if len(counts) == 0:
        return float("nan")
    total = np.cumsum(counts)
    return float(textures[np.searchsorted(total, QUANTILE * total[-1])])


@njit(cache=True, nogil=True)
def _areas(image: np.ndarray, black: int, white: int, side_y: int, side_x: int) -> np.ndarray:
    """Return 1 in squares of one grey value, 2 where it is white, uint8; values beyond black and white are these."""
    depth, height, width = image.shape
    found = np.zeros(image.shape, np.uint8)
    right = np.zeros(width, np.int32)
    down = np.zeros(width, np.int32)
    corner = np.zeros((height, width), np.bool_)
    for z in range(depth):
        down[:] = 0
        some = False
        for y in range(height):
            right[0] = 1
            for x in range(1, width):
                same = _clamped(image[z, y, x], black, white) == _clamped(image[z, y, x - 1], black, white)
                right[x] = right[x - 1] + 1 if same else 1
            for x in range(width):
                below = y > 0 and _clamped(image[z, y, x], black, white) == _clamped(image[z, y - 1, x], black, white)
                down[x] = (down[x] + 1 if below else 1) if right[x] >= side_x else 0
                corner[y, x] = down[x] >= side_y
                some |= corner[y, x]
        if some:
            _fill_squares(image[z], corner, found[z], white, side_y, side_x)
    return found


@njit(cache=True, nogil=True)
def _clamped(value: int, black: int, white: int) -> int:
    return min(max(int(value), black), white)


@njit(cache=True, nogil=True)
def _fill_squares(
    image: np.ndarray, corner: np.ndarray, found: np.ndarray, white: int, side_y: int, side_x: int
) -> None:
    """Mark every square by its lower right corner."""
    height, width = corner.shape
    rows = np.zeros(width, np.int64)
    rows[:] = height + side_y
    for y in range(height - 1, -1, -1):
        column = width + side_x
        for x in range(width - 1, -1, -1):
            if corner[y, x]:
                column = x
            # the nearest row, from here down, that has a corner in reach to the right
            if column - x < side_x:
                rows[x] = y
            if rows[x] - y < side_y:
                found[y, x] = SATURATED if image[y, x] >= white else BLANK


@njit(cache=True, nogil=True)
def _textures(
    image: np.ndarray, areas: np.ndarray, shape: ZYX, grid: tuple[np.ndarray, np.ndarray, np.ndarray], steps: float
) -> np.ndarray:
    """Return the texture of every cell; ``grid`` is the image's first voxel, a patch and a cell."""
    start, patch, cell = grid
    found = np.empty(shape, np.uint8)
    for k in range(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                low = (start // cell + np.array([k, j, i])) * cell - start
                at = np.maximum(low, 0)
                stop = low + cell
                part = image[at[0] : stop[0], at[1] : stop[1], at[2] : stop[2]]
                spoilt = areas[at[0] : stop[0], at[1] : stop[1], at[2] : stop[2]]
                variance = _variance(part, spoilt, start + at, patch, cell)
                found[k, j, i] = min(MOST, 1 + int(np.sqrt(variance) * steps)) if variance >= 0 else UNKNOWN
    return found


@njit(cache=True, nogil=True)
def _variance(part: np.ndarray, areas: np.ndarray, at: np.ndarray, patch: np.ndarray, cell: np.ndarray) -> float:
    """Return the mean over layers of the variance of the means of whole patches; -1 where too few are known."""
    volume = patch[0] * patch[1] * patch[2]
    least = max(2, (cell[1] // patch[1]) * (cell[2] // patch[2]) // 2)
    total, layers = 0.0, 0
    z = -at[0] % patch[0]
    while z + patch[0] <= part.shape[0]:
        one, two, known = 0.0, 0.0, 0
        y = -at[1] % patch[1]
        while y + patch[1] <= part.shape[1]:
            x = -at[2] % patch[2]
            while x + patch[2] <= part.shape[2]:
                sum_of = _patch_sum(part, areas, z, y, x, patch)
                if sum_of >= 0:
                    mean = sum_of / volume
                    one += mean
                    two += mean * mean
                    known += 1
                x += patch[2]
            y += patch[1]
        if known >= least:
            total += max(0.0, two / known - (one / known) ** 2)
            layers += 1
        z += patch[0]
    return total / layers if layers else -1.0


@njit(cache=True, nogil=True)
def _patch_sum(part: np.ndarray, areas: np.ndarray, z: int, y: int, x: int, patch: np.ndarray) -> int:
    """Return the sum of a patch; -1 if a voxel of it is blank or saturated."""
    total, spoilt = 0, 0
    for k in range(z, z + patch[0]):
        for j in range(y, y + patch[1]):
            for i in range(x, x + patch[2]):
                total += part[k, j, i]
                spoilt += areas[k, j, i]
    return total if spoilt == 0 else -1


def wide(textures: np.ndarray, of_neuropil: float, rules: Rules, place: Lattice) -> np.ndarray:
    """Return the cells of vessels and somata.

    Parameters
    ----------
    textures : numpy.ndarray
        uint8 (z, y, x) cells of :func:`textures_of`, :attr:`Lattice.reach` more than wanted on every side.
    of_neuropil : float
        Texture of neuropil in the same units; nan: nothing is known, and nothing found.
    rules : Rules
    place : Lattice

    Returns
    -------
    numpy.ndarray
        uint8 (z, y, x), without those cells: 0, VESSEL or SOMA.
    """
    known = textures != UNKNOWN
    reach = place.reach
    flat = _majority(known & (textures <= rules.vessel_texture * of_neuropil), known)
    vessel = _opened(flat, _sums(flat, place.vessel), place.vessel, rules.share)
    low = _majority(known & (textures <= rules.soma_texture * of_neuropil), known)
    # A cube that a vessel fills for the most part makes no soma of the vessel's wall.
    in_soma = np.where(_sums(flat, place.soma) <= FLAT_IN_SOMA * np.prod(place.soma), _sums(low, place.soma), 0)
    soma = _opened(low, in_soma, place.soma, rules.share)
    inner = tuple(slice(r, n - r) for r, n in zip(reach, textures.shape, strict=True))
    return np.where(vessel[inner], VESSEL, np.where(soma[inner], SOMA, 0)).astype(np.uint8)


def _majority(low: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the cells that, by majority of the known ones of themselves and their neighbours, are low."""
    around = _sums(known, (3, 3, 3), (1, 1, 1))
    # An unknown cell, in a missing section, is what its neighbours are.
    return (_sums(low, (3, 3, 3), (1, 1, 1)) > MAJORITY * around) & (around > 0)


def _opened(low: np.ndarray, in_cube: np.ndarray, width: ZYX, share: float) -> np.ndarray:
    """Return the cells that are low and lie in a cube with enough of them; ``in_cube`` counts from its first cell."""
    cubes = in_cube >= share * width[0] * width[1] * width[2]
    z, y, x = (n - 1 for n in width)
    return low & (_sums(cubes, width, (z, y, x)) > 0)


def _sums(values: np.ndarray, width: ZYX, before: ZYX = (0, 0, 0)) -> np.ndarray:
    """Return sums over cubes that begin ``before`` each cell, int64; cells beyond the array are 0."""
    found = values.astype(np.int64)
    for axis, (n, back) in enumerate(zip(width, before, strict=True)):
        pads = [(0, 0)] * 3
        pads[axis] = (back + 1, n - 1 - back)
        total = np.cumsum(np.pad(found, pads), axis=axis)
        places = np.arange(values.shape[axis])
        found = np.take(total, places + n, axis=axis) - np.take(total, places, axis=axis)
    return found
