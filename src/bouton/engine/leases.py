"""What the coordinator gives workers, and what comes back: leases, and reports of finished and failed tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from bouton.engine.context import StepContext
from bouton.engine.tasks import OutputFile

OWN_FAULTS = ("exception", "signal", "memory", "exit")
"""Causes that lie in the task: it is quarantined after some tries. Others (a lost worker) say nothing about it."""
FILES = pa.list_(pa.struct([("path", pa.string()), ("bytes", pa.int64()), ("checksum", pa.string())]))
READS = pa.list_(pa.struct([("name", pa.string()), ("place", pa.string())]))
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("voxels", pa.int64()),
        ("seconds", pa.float32()),
        ("cpu_seconds", pa.float32()),
        ("peak_bytes", pa.int64()),
        ("start_bytes", pa.int64()),
        ("reused", pa.bool_()),
        ("files", FILES),
        ("reads", READS),
    ]
)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True)
class Lease:
    """Tasks of one front that one worker executes in order.

    Attributes
    ----------
    number : int
        Counted by the coordinator: no clock says which of two leases is the later one.
    tasks : numpy.ndarray
        int64, numbers in the front's grid (:class:`bouton.engine.tasks.TaskGrid`).
    gpu : bool
        Whether a worker with a GPU should have it.
    seconds : float
        What it will take, as far as is known; 0 where nothing is.
    """

    number: int
    context: StepContext
    part: str
    level: int
    tasks: np.ndarray
    gpu: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Done:
    """One finished task: its files are durable.

    ``cpu_seconds`` are the worker's, of all threads; ``start_bytes`` its resident memory when the task began;
    ``reads`` the inputs and places that it read; ``reused`` says that it was copied from a run over other bounds.
    """

    number: int
    files: tuple[OutputFile, ...] = ()
    voxels: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    start_bytes: int = 0
    reads: tuple[tuple[str, str], ...] = ()
    reused: bool = False


@dataclass(frozen=True)
class Failure:
    """One try of a task that failed.

    Attributes
    ----------
    cause : str
        ``exception``, ``signal``, ``memory``, ``exit`` (the task's own), ``lost`` (the worker's),
        ``conflict`` (another content stands under the names of its files) or ``disk`` (full or read-only).
    log : str
        The end of what the worker printed meanwhile.
    files : tuple of str
        The files in conflict.
    """

    task: int
    cause: str
    error: str
    traceback: str = ""
    log: str = ""
    host: str = ""
    pid: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Finished tasks of one lease, packed where they were executed: the ledger keeps ``columns`` as they are."""

    numbers: np.ndarray
    columns: bytes
    voxels: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    size_bytes: int
    files: int
    reused: int


@dataclass(frozen=True)
class Report:
    """What a worker says of its lease. Tasks of an ended lease that no report names were not executed."""

    lease: int
    batch: Batch | None = None
    failures: tuple[Failure, ...] = field(default=())
    ended: bool = False


def pack(done: Sequence[Done]) -> Batch:
    """Return finished tasks as a batch."""
    files = [file for each in done for file in each.files]
    reads = [read for each in done for read in each.reads]
    columns = [pa.array([getattr(each, name) for each in done], SCHEMA.field(name).type) for name in SCHEMA.names[:7]]
    places = [
        pa.array([file.path for file in files], pa.string()),
        pa.array([file.size_bytes for file in files], pa.int64()),
        pa.array([file.checksum for file in files], pa.string()),
    ]
    columns.append(_lists(places, FILES, [len(each.files) for each in done]))
    names = [pa.array([read[at] for read in reads], pa.string()) for at in (0, 1)]
    columns.append(_lists(names, READS, [len(each.reads) for each in done]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA, options=_OPTIONS) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    return Batch(
        numbers=np.array([each.number for each in done], np.int64),
        columns=sink.getvalue().to_pybytes(),
        voxels=sum(each.voxels for each in done),
        seconds=sum(each.seconds for each in done),
        cpu_seconds=sum(each.cpu_seconds for each in done),
        peak_bytes=max(each.peak_bytes for each in done),
        size_bytes=sum(file.size_bytes for file in files),
        files=len(files),
        reused=sum(each.reused for each in done),
    )


def _lists(columns: list[pa.Array], kind: pa.ListType, lengths: list[int]) -> pa.Array:
    """Return structs, as many a row as ``lengths`` says, as one column."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(kind.value_type)))


def unpack(data: bytes, rows: Sequence[int] | None = None) -> Iterator[Done]:
    """Yield the tasks of packed columns, or those in some rows."""
    found = pa.ipc.open_stream(data).read_all()
    for row in (found if rows is None else found.take(pa.array(rows, pa.int64()))).to_pylist():
        files = tuple(OutputFile(f["path"], f["bytes"], f["checksum"]) for f in row.pop("files"))
        reads = tuple((r["name"], r["place"]) for r in row.pop("reads"))
        yield Done(files=files, reads=reads, **row)


def without(batch: Batch, gone: np.ndarray) -> Batch | None:
    """Return a batch without the tasks ``gone`` (numbers); None where nothing is left."""
    those = set(gone.tolist())
    left = [each for each in unpack(batch.columns) if each.number not in those]
    return pack(left) if left else None


def runs_of(numbers: np.ndarray) -> np.ndarray:
    """Return sorted or unsorted numbers as half-open runs, int64 (n, 2)."""
    if not len(numbers):
        return np.zeros((0, 2), np.int64)
    ordered = np.unique(numbers)
    breaks = np.flatnonzero(np.diff(ordered) > 1)
    starts, stops = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(ordered) - 1]])
    return np.stack([ordered[starts], ordered[stops] + 1], axis=1).astype(np.int64)


def numbers_of(runs: np.ndarray) -> np.ndarray:
    """Return the numbers in half-open runs, int64 (n,)."""
    lengths = runs[:, 1] - runs[:, 0]
    offsets = np.repeat(runs[:, 0] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return (np.arange(int(lengths.sum()), dtype=np.int64) + offsets) if len(runs) else np.zeros(0, np.int64)
