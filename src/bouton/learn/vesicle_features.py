"""The ten features of VESICLE-RF around candidates, and where the candidates lie.

Gray Roncal et al. 2015 (doi:10.48550/arXiv.1403.3724): mean grey over two windows, a local binary pattern, gradient and
structure tensor over two windows each, and three measures of the vesicles nearby. Windows are those of
:mod:`bouton.learn.forest_info`. What differs from the publication: its structure-tensor measure is not named, coherence
is taken; its pattern had 24 neighbours, here it is the rotation-invariant one of 8; its vesicles were found with a
template cut from the data, here they are maxima of how much brighter a small square is than its rim, and single ones
stay; its candidates were membranes of probability above 0.75 grown by a disc of 5 voxels, without groups of less than
1,000 voxels in a section. Membranes so grown are half of a dense tissue: here candidates are dark places, grown as
much. And a group can be as long as the volume, so what is a speck is decided within a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.geometry import NM, ZYX
from bouton.learn.forest_info import NAMES, ForestArchitecture, Windows, windows_of
from bouton.learn.vesicle_sums import coherence, gradients, magnitude, patterns, square_distance, window_sum


@dataclass(frozen=True)
class Surroundings:
    """What the features of a forest are taken of: its windows in voxels.

    Attributes
    ----------
    architecture : ForestArchitecture
    voxel_size_nm : (z, y, x)
    """

    architecture: ForestArchitecture
    voxel_size_nm: NM

    @property
    def windows(self) -> Windows:
        """The windows in voxels."""
        return windows_of(self.architecture, self.voxel_size_nm)


def dark_sums(image: np.ndarray, windows: Windows) -> np.ndarray:
    """Return the sum of the grey values over the window ``dark``, int32 (z, y, x)."""
    return window_sum(image, windows.dark)


def candidates(image: np.ndarray, given: Surroundings) -> np.ndarray:
    """Return where a synapse may lie, uint8 (z, y, x), 0 or 1; not to be believed within the halo of the border.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (z, y, x).
    given : Surroundings
    """
    windows = given.windows
    dark = dark_sums(image, windows) <= int(given.architecture.darkest * voxels_of(windows.dark))
    grown = (window_sum(dark.view(np.uint8), windows.grow) > 0).view(np.uint8)
    return grown & (window_sum(grown, windows.speck) >= windows.speck_least).view(np.uint8)


def vesicles(image: np.ndarray, given: Surroundings) -> np.ndarray:
    """Return the middles of vesicles, uint8 (z, y, x), 0 or 1; 0 at the border.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (z, y, x).
    given : Surroundings
    """
    windows = given.windows
    whole, middle = window_sum(image, windows.rim), window_sum(image, windows.centre)
    voxels = voxels_of(windows.centre)
    response = _difference(middle, whole - middle, voxels, max(1, voxels_of(windows.rim) - voxels))
    return _maxima(response, np.float32(given.architecture.vesicle_contrast))


@njit(cache=True, nogil=True)
def _difference(outer, inner, outer_voxels, inner_voxels):  # type: ignore[no-untyped-def]
    out = np.empty(outer.shape, np.float32)
    flat, a, b = out.reshape(-1), outer.reshape(-1), inner.reshape(-1)
    more, less = np.float32(outer_voxels), np.float32(inner_voxels)
    for i in range(flat.size):
        flat[i] = np.float32(a[i]) / more - np.float32(b[i]) / less
    return out


@njit(cache=True, nogil=True)
def _maxima(values, least):  # type: ignore[no-untyped-def]
    """Return what is at least ``least`` and no less than its 8 neighbours in the section; of equal ones all."""
    out = np.zeros(values.shape, np.uint8)
    for z in range(values.shape[0]):
        for y in range(1, values.shape[1] - 1):
            for x in range(1, values.shape[2] - 1):
                here = values[z, y, x]
                if here < least:
                    continue
                top = True
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        top = top and here >= values[z, y + dy, x + dx]
                out[z, y, x] = top
    return out


def features_at(image: np.ndarray, places: np.ndarray, given: Surroundings) -> np.ndarray:
    """Return the ten features at places, float32 (n, 10), in the order of :data:`bouton.learn.forest_info.NAMES`.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (z, y, x).
    places : numpy.ndarray
        int64 (n, 3), no nearer to the border than the halo of the windows.
    given : Surroundings

    Raises
    ------
    DataError
        The image is of another type, or too small.
    """
    if image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(f"image of {image.dtype}, {image.ndim} axes", expected="uint8 (z, y, x)")
    windows = given.windows
    out = np.empty((len(places), len(NAMES)), np.float32)
    flat = places @ np.array([image.shape[1] * image.shape[2], image.shape[2], 1], np.int64)

    def mean(column: int, values: np.ndarray, half: ZYX) -> None:
        out[:, column] = window_sum(values, half).reshape(-1)[flat] / np.float32(voxels_of(half))

    mean(0, image, windows.narrow)
    mean(1, image, windows.middle)
    out[:, 2] = patterns(image, places, *windows.narrow[1:])
    down, across = gradients(image, *windows.step[1:])
    length = magnitude(down, across)
    mean(3, length, windows.middle)
    mean(4, length, windows.wide)
    del length
    direction = coherence(down, across, *windows.step[1:])
    del down, across
    mean(8, direction, windows.middle)
    mean(9, direction, windows.wide)
    del direction
    found = vesicles(image, given)
    reach_nm = given.architecture.reach_nm
    square = square_distance(found, windows.reach, given.voxel_size_nm, int(reach_nm * reach_nm))
    out[:, 5] = np.sqrt(square.reshape(-1)[flat])
    mean(6, found, windows.wide)
    mean(7, found, windows.box)
    return out


def voxels_of(half: ZYX) -> int:
    """Return the number of voxels of a window."""
    return (2 * half[0] + 1) * (2 * half[1] + 1) * (2 * half[2] + 1)
