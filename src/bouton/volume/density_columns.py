"""The columns of the tables about synapse densities: blocks, tissues, findings, curves and outliers."""

from __future__ import annotations

BLOCK_COLUMNS = ("block_z", "block_y", "block_x")
START_COLUMNS = ("z_start", "y_start", "x_start")
STOP_COLUMNS = ("z_stop", "y_stop", "x_stop")
CENTRE_COLUMNS = ("z_nm", "y_nm", "x_nm")
PARTS = ("excitatory", "inhibitory", "spine", "shaft")
"""Counts of those synapses whose type or target is known to be this."""

DENSITY_COLUMNS = {
    **dict.fromkeys((*BLOCK_COLUMNS, *START_COLUMNS, *STOP_COLUMNS), "int64"),
    **dict.fromkeys(CENTRE_COLUMNS, "float64"),
    **dict.fromkeys(("voxels", "masked_voxels", "exposed_voxels"), "int64"),
    "masked_share": "float64",
    "exposed_um3": "float64",
    **dict.fromkeys(("synapses", "all_synapses", *PARTS), "int64"),
    "density_um3": "float64",
    "reason": "str",
}
"""One row a block, in C order of the blocks.

``*_start`` and ``*_stop`` are voxels of the workflow's grid (half-open), ``*_nm`` the centre. ``masked_voxels`` lie in
the mask; ``exposed_voxels`` are those in which a synapse would have been counted, ``exposed_um3`` their volume.
``synapses`` were counted by the rule, ``all_synapses`` whatever the mask says. ``density_um3`` is synapses over exposed
volume; nan where nothing is exposed, and then ``reason`` says why.
"""

TISSUE_COLUMNS = {
    **dict.fromkeys(BLOCK_COLUMNS, "int64"),
    "tissue": "uint64",
    "exposed_voxels": "int64",
    "synapses": "int64",
}
"""One row for each tissue (a value above 0 of the tissue layer) that has exposed voxels in a block."""

FINDING_COLUMNS = {
    **dict.fromkeys(("test", "question", "effect"), "str"),
    **dict.fromkeys(("value", "low", "high", "p", "q"), "float64"),
    "n": "int64",
    "note": "str",
}
"""One row a test: what it asks, its effect size with a 95 % interval, p, q (p after Benjamini-Hochberg), and limits.

nan: not available; ``note`` says why.
"""

CURVE_COLUMNS = {
    "curve": "str",
    **dict.fromkeys(("x", "y", "low", "high", "expected", "weight"), "float64"),
}
"""Points of curves in order of x: ``y`` with its 95 % interval, what is expected if synapses are uniform, and how much
(volume in um3, or number of pairs) stands behind the point. nan: not available."""

OUTLIER_COLUMNS = {
    **dict.fromkeys((*BLOCK_COLUMNS, *START_COLUMNS, *STOP_COLUMNS), "int64"),
    **dict.fromkeys(CENTRE_COLUMNS, "float64"),
    "synapses": "int64",
    **dict.fromkeys(("exposed_um3", "masked_share", "density_um3", "expected", "p", "q"), "float64"),
    "side": "str",
}
"""Blocks, most surprising first: ``expected`` synapses, p and q of so few or so many; ``side`` is low or high, empty
where there are exactly as many as expected."""
