"""What goes wrong in cutting and imaging, section by section."""

from __future__ import annotations

import numpy as np

from bouton.geometry import Box
from bouton.phantom.params import PhantomParams

JITTER_NM = 60.0


def jitter_nm(params: PhantomParams) -> float:
    """Return by how many nm, at most, a section is displaced."""
    return JITTER_NM if "jitter" in params.defects else 0.0


def spoil(image: np.ndarray, box: Box, params: PhantomParams) -> tuple[np.ndarray, np.ndarray]:
    """Return the image with its defects, and where (bool, of the image's shape) nothing was imaged."""
    return image, np.zeros(image.shape, dtype=bool)
