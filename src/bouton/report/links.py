"""Links from the report to places in the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from bouton.geometry import Box

DEFAULT_PORT = 8765
DEFAULT_ORIGIN = f"http://127.0.0.1:{DEFAULT_PORT}"


def place_url(run_name: str, at_nm: Sequence[float], ids: Sequence[int] = (), layers: Sequence[str] = ()) -> str:
    """Return the address of a place (z, y, x in nm) in the viewer of ``bouton view``, with segments selected.

    Only the named layers are switched on; without names, those that the viewer shows by itself.
    """
    z, y, x = (f"{value:.1f}" for value in at_nm)
    pairs = [("z_nm", z), ("y_nm", y), ("x_nm", x), *(("id", str(int(i))) for i in ids)]
    pairs += [*(("layer", name) for name in layers), ("run", run_name)]
    return f"{DEFAULT_ORIGIN}/at?{urlencode(pairs)}"


def box_url(
    run_name: str, at_nm: Sequence[float], box: Box, layers: Sequence[str] = (), with_lines: bool = False
) -> str:
    """Return the address of a place with a box of voxels drawn; the lines of synapses are shown only if asked for.

    Whoever counts synapses in the box must not see which were found.
    """
    pairs = {"box": str(box)} if with_lines else {"box": str(box), "lines": "0"}
    return f"{place_url(run_name, at_nm, layers=layers)}&{urlencode(pairs)}"
