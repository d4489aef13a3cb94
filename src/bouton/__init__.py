"""bouton turns a volume of brain tissue into its wiring.

``open_volume(path)[...]`` gives an array, ``open_run(folder)`` the results of a run.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

# Names resolve on first use, so that `import bouton` costs nothing and reading one volume does not load the engine.
_HOME = {
    "Box": "bouton.geometry",
    "BoutonError": "bouton.errors",
    "DataError": "bouton.errors",
    "Grid": "bouton.geometry",
    "RunError": "bouton.errors",
    "SpecError": "bouton.errors",
    "create_volume": "bouton.volume",
    "load_workflow": "bouton.spec",
    "open_run": "bouton.volume.run_folder",
    "open_volume": "bouton.volume",
    "read_table": "bouton.volume",
    "run_workflow": "bouton.engine",
}

__all__ = sorted(_HOME)
__version__ = version("bouton")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'bouton' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
