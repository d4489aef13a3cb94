"""A table of synapses as a folder that Neuroglancer opens from any web server: precomputed annotations in shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bouton.view.annotations import RELATIONSHIPS, SynapseLines, spatial_key
from bouton.volume.files import partial_folder, write_bytes
from bouton.volume.sharded import sharding_spec, write_sharded

_HEAD_BYTES = 8


def write_annotations(folder: str | Path, lines: SynapseLines) -> None:
    """Write the collection; the folder is there whole or not at all.

    A handful of files for each index (``by_id``, ``pre``, ``post``, ``spatial0`` ...) whatever the number of synapses;
    the web server must answer to ``Range``, as all for static files do.

    Parameters
    ----------
    folder : path
        Must not exist.
    lines : SynapseLines

    Raises
    ------
    DataError
        The folder exists, or the disk is full or refuses.
    """
    folder = Path(folder)
    size = lines.records.dtype.itemsize + lines.ids.dtype.itemsize
    indices = {"by_id": (len(lines.ids), len(lines.ids) * (size + 24), lines.singles())}
    for side in RELATIONSHIPS:
        count = len(np.unique(lines.partners[side]))
        indices[side] = (count, len(lines.ids) * size + count * _HEAD_BYTES, lines.of_partners(side))
    for number, level in enumerate(lines.levels):
        length = len(level.rows) * size + len(level.codes) * _HEAD_BYTES
        indices[spatial_key(number)] = (len(level.codes), length, lines.of_cells(level))
    specs = {key: sharding_spec(count, length) for key, (count, length, _) in indices.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(folder) as partial:
        for key, (_, _, values) in indices.items():
            write_sharded(partial / key, values, specs[key])
        write_bytes(partial / "info", json.dumps(lines.info(specs), indent=1).encode())
