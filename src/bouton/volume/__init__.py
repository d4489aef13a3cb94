"""Arrays and tables on disk: OME-Zarr, precomputed, N5, HDF5, image stacks; Parquet."""

from bouton.volume.base import KINDS, Volume, WritableVolume, check_volume
from bouton.volume.files import (
    bytes_checksum,
    checksum,
    fingerprint,
    publish,
    publish_folder,
    write_bytes,
    write_folder,
)
from bouton.volume.ome_zarr import create_volume, open_for_writing, shard_file
from bouton.volume.open import open_volume
from bouton.volume.shards import ShardEncoder
from bouton.volume.tables import TableData, part_file, read_table, table_bytes, write_csv, write_table

__all__ = [
    "KINDS",
    "ShardEncoder",
    "TableData",
    "Volume",
    "WritableVolume",
    "bytes_checksum",
    "check_volume",
    "checksum",
    "create_volume",
    "fingerprint",
    "open_for_writing",
    "open_volume",
    "part_file",
    "publish",
    "publish_folder",
    "read_table",
    "shard_file",
    "table_bytes",
    "write_bytes",
    "write_csv",
    "write_folder",
    "write_table",
]
