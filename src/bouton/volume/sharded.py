"""Many small values in few files: Neuroglancer's ``neuroglancer_uint64_sharded_v1``, written through TensorStore.

Format: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorstore as ts

from bouton.errors import DataError
from bouton.volume.files import disk_errors

SHARD_BYTES = 128 * 2**20
_KEYS_PER_MINISHARD = 512
_MOST_MINISHARD_BITS = 14


def sharding_spec(keys: int, size_bytes: int) -> dict[str, Any]:
    """Return a sharding specification for about so many keys with so many bytes in all.

    A reader fetches the index of a minishard (24 bytes a key, compressed) to find one value; a shard is a file.
    """
    shard_bits = max(0, (size_bytes - 1) // SHARD_BYTES).bit_length()
    minishards = max(1, -(-keys // (_KEYS_PER_MINISHARD << shard_bits)))
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "hash": "murmurhash3_x86_128",
        "preshift_bits": 0,
        "minishard_bits": min(_MOST_MINISHARD_BITS, (minishards - 1).bit_length()),
        "shard_bits": shard_bits,
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }


def write_sharded(folder: str | Path, values: Iterable[tuple[int, bytes]], spec: dict[str, Any]) -> None:
    """Write values under uint64 keys into the shards of a new folder; all are held in memory meanwhile.

    Raises
    ------
    DataError
        The disk is full or refuses.
    """
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True)
    base = {"driver": "file", "path": f"{folder}/"}
    transaction = ts.Transaction()
    store = ts.KvStore.open({"driver": "neuroglancer_uint64_sharded", "metadata": spec, "base": base}).result()
    store = store.with_transaction(transaction)
    for key, value in values:
        store[struct.pack(">Q", key)] = value
    try:
        transaction.commit_sync()
    except (ValueError, OSError) as error:
        raise DataError(
            f"shards not written ({str(error).splitlines()[0]})", where=str(folder), expected="room on the disk"
        ) from error
