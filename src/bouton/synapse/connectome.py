"""From synapses to connections."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bouton.synapse.tables import sum_rows


def connections(synapses: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Count the synapses of each ordered pair of neurons.

    Parameters
    ----------
    synapses : mapping
        ``pre_id``, ``post_id`` uint64 and ``size_voxels`` int64. Synapses that lack a partner (id 0) do not count.

    Returns
    -------
    dict
        ``pre_id``, ``post_id`` uint64, ``n``, ``size_voxels`` (sum) int64, sorted by pre, then post.
    """
    known = (synapses["pre_id"] != 0) & (synapses["post_id"] != 0)
    rows = {name: synapses[name][known] for name in ("pre_id", "post_id")}
    rows["n"] = np.ones(int(known.sum()), dtype=np.int64)
    rows["size_voxels"] = synapses["size_voxels"][known]
    return sum_rows(rows, ["pre_id", "post_id"])
