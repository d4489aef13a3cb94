"""Voxel sizes: units, and the check of what a user declares against what the file says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bouton.errors import DataError
from bouton.geometry import NM, to_zyx

_NM_PER_UNIT = {
    "": 1.0,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "nanometers": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "m": 1e9,
    "meter": 1e9,
    "angstrom": 0.1,
}
FINEST_NM = 0.5


def nm_per_unit(unit: str | None, where: str) -> float:
    """Return how many nm one ``unit`` is; no unit means nm.

    Raises
    ------
    DataError
        The unit is none of length.
    """
    name = (unit or "").strip().lower()
    if name not in _NM_PER_UNIT:
        raise DataError(f"unit {unit!r}", where=where, expected=f"one of {', '.join(u for u in _NM_PER_UNIT if u)}")
    return _NM_PER_UNIT[name]


def as_nm(values: Sequence[float], where: str) -> NM:
    """Return three voxel sizes as a tuple of floats.

    Raises
    ------
    DataError
        There are not three, or one is not a positive number.
    """
    try:
        z, y, x = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(f"voxel size {values!r}", where=where, expected="three numbers z,y,x in nm") from None
    if not all(math.isfinite(value) and value > 0 for value in (z, y, x)):
        raise DataError(
            f"voxel size {show_nm((z, y, x))}", where=where, expected="three positive numbers z,y,x in nm",
            fix="voxel_size_nm: [40, 4, 4]",
        )  # fmt: skip
    return z, y, x


def settle_voxel_size(found: NM | None, declared: Sequence[float] | None, where: str) -> NM | None:
    """Return the voxel size (z, y, x) in nm from the file's metadata and the user's declaration, which must agree.

    Parameters
    ----------
    found : (z, y, x), optional
        What the file says.
    declared : (z, y, x), optional
        What the user says.
    where : str
        The file.

    Raises
    ------
    DataError
        They conflict; or, where the file says nothing, the declared one looks like x, y, z given for z, y, x.
    """
    if declared is None:
        return found
    size = as_nm(declared, where)
    if max(size) < FINEST_NM:
        raise DataError(
            f"voxel size {show_nm(size)}: micrometres given for nanometres?", where=where,
            expected=f"a voxel of {FINEST_NM} nm or more along some axis", fix="voxel_size_nm: [40, 4, 4]",
        )  # fmt: skip
    if found is None:
        _check_order(size, where)
    elif not _close(size, found):
        raise _conflict(found, size, where)
    return size


def _check_order(size: NM, where: str) -> None:
    z, y, x = size
    if _close((z,), (y,)) and not _close((y,), (x,)):
        raise DataError(
            f"voxel size {show_nm(size)} looks like x,y,z given for z,y,x: pixels that are not square",
            where=where,
            expected="z,y,x in nm",
            fix=f"voxel size {show_nm(to_zyx(size))}",
        )


def _conflict(found: NM, size: NM, where: str) -> DataError:
    swapped = _close(size, to_zyx(found))
    return DataError(
        f"declared voxel size {show_nm(size)}, but the file says {show_nm(found)}"
        + (": the declared one looks like x,y,z given for z,y,x" if swapped else ""),
        where=where,
        expected="both equal, z,y,x in nm",
        fix=f"declare {show_nm(found)} or nothing, or correct the file's metadata",
    )


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(math.isclose(p, q, rel_tol=1e-3) for p, q in zip(a, b, strict=True))


def show_nm(size: Sequence[float]) -> str:
    """Return a voxel size as in workflow files: ``[40, 4, 4]``."""
    return "[" + ", ".join(f"{value:g}" for value in size) + "]"
