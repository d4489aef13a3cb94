"""Blocks encoded in memory, as the bytes of the one file (shard) that holds each of them."""

from __future__ import annotations

import json

import numpy as np
import tensorstore as ts

from bouton.errors import RunError
from bouton.geometry import Box, Grid
from bouton.volume.ome_zarr import read_json, shard_key
from bouton.volume.places import Place
from bouton.volume.store import open_store


class ShardEncoder:
    """Encodes blocks of a volume that :func:`bouton.volume.create_volume` made; writes nothing.

    Parameters
    ----------
    path : Path or ObjectPath
        The volume.

    Raises
    ------
    DataError
        There is none, or its metadata are damaged.
    """

    def __init__(self, path: Place) -> None:
        self.path, array = path, path / "0"
        metadata = read_json(array / "zarr.json")
        known = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "dimension_names", "fill_value", "codecs")
        spec = {"driver": "zarr3", "kvstore": {"driver": "memory", "path": ""}}
        spec["metadata"] = {name: metadata[name] for name in known}
        self._store = open_store(spec, str(array), create=True, context=ts.Context())
        block = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        self._grid = Grid(Box.of_shape(metadata["shape"][-3:]), tuple(block[-3:]))

    def file(self, core: Box) -> Place:
        """Return the file of the block that holds ``core``."""
        return self.path / "0" / self._key(core)

    def _key(self, core: Box) -> str:
        z, y, x = (a // b for a, b in zip(core.start, self._grid.block, strict=True))
        return shard_key(self._store.rank, (z, y, x))

    def encode(self, core: Box, array: np.ndarray) -> bytes:
        """Return the bytes of the block whose voxels ``core`` (inside of one block) are ``array``, the others unset."""
        key = self._key(core)
        try:
            self._store[(..., *core.slices)].write(array).result()
            found = self._store.kvstore.read(key).result()
        except (ValueError, OSError) as error:
            raise RunError(f"box {core} cannot be encoded: {error}", where=str(self.path)) from error
        finally:
            self._store.kvstore.write(key, None).result()
        if found.state != "value":
            raise RunError(f"box {core} lies in no block of its own", where=str(self.path), expected=json.dumps(key))
        return found.value
