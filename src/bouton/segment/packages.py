"""Optional packages: their absence is told with the command that installs them."""

from __future__ import annotations

from importlib.util import find_spec

from bouton.errors import SpecError


def require(module: str, wanted: str, extra: str) -> None:
    """Raise :class:`SpecError` unless ``module`` is installed; ``extra`` of bouton brings it."""
    if find_spec(module) is None:
        fix = f"pip install 'bouton[{extra}]'"
        raise SpecError(f"the package {module} is not installed", expected=f"{wanted} or later", fix=fix)
