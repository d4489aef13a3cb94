"""How the kernels of contraction are compiled: without counting references to arrays.

These kernels are many small functions that pass the same arrays on. Numba counts references at every call, atomically,
which took half of the time. They keep no array and make none, so nothing needs counting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.options import DefaultOptions

# the option has no public name; without it the kernels are the same, only slower
UNCOUNTED: dict[str, Any] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that neither makes nor returns an array."""
    compiled: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy", **UNCOUNTED)(function)
    return compiled
