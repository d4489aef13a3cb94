"""Execution of leases in a worker: read, compute, check, make durable, report. The block boundary is here."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bouton.engine.context import StepContext, halo_of, load_stage_of, output_path, params_from_json, part_layers
from bouton.engine.inputs import Inputs
from bouton.engine.leases import Done, Failure, Lease, Report, pack
from bouton.engine.outputs import Conflict, adopt_folder, check_layers, check_tables, write_layers, write_tables
from bouton.engine.reuse import Siblings
from bouton.engine.tasks import OutputFile, TaskGrid, TaskId, parents_of, task_box, task_grids
from bouton.errors import BoutonError, RunError
from bouton.geometry import Box
from bouton.stage import (
    BlockTask,
    ChainPart,
    ChainTask,
    MergePart,
    MergeTask,
    ObjectPart,
    ObjectTask,
    Output,
    Part,
    TableData,
    WholePart,
    WholeTask,
    part_tables,
)
from bouton.volume import ShardEncoder, part_file, read_table
from bouton.volume.places import Place

NODES = "_nodes"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
DISK_TEXTS = ("no space left", "disk quota exceeded", "read-only file system")
REPORT_SECONDS = 0.1
LARGEST_BATCH = 1 << 14
GAUGE_SECONDS = 0.02
KEPT_STEPS = 4
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_threads() -> None:
    """Let every library use one thread: sums then come out in one order, whatever the machine."""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    if "torch" in sys.modules and sys.modules["torch"].get_num_threads() != 1:
        sys.modules["torch"].set_num_threads(1)


def table_path(context: StepContext, part: Part, task: TaskId, name: str) -> Place:
    """Return the file of a task's table: the result of a merge or whole part, a block's rows, or a merge node."""
    if isinstance(part, WholePart):
        return context.data / f"{name}.parquet"
    if isinstance(part, MergePart) and name in part.kept:
        box = task_box(context, part, task)
        assert box is not None
        return context.data / name / part_file(f"{part.name}-{task.name}", box)
    if isinstance(part, MergePart):
        return context.data / NODES / part.name / f"{task.name}.{name}.parquet"
    return context.data / name / f"{task.name}.parquet"


class Worker:
    """Executes leases; keeps the stages of the latest steps loaded and their inputs open."""

    def __init__(self) -> None:
        self._jobs: list[_Job] = []
        self._gauge = _Gauge()

    def work(
        self,
        lease: Lease,
        report: Callable[[Report], None],
        stop: Callable[[], bool] = lambda: False,
        at: Callable[[int], None] = lambda number: None,
    ) -> None:
        """Execute a lease. Whatever goes wrong in a task comes back in a report.

        Parameters
        ----------
        report : callable
            Takes a report whenever some work is done, the last one with ``ended``.
        stop : callable
            Asked before each task; True ends the lease early.
        at : callable
            Told the number of each task before it begins: who watches a dying worker knows which one it was.
        """
        done: list[Done] = []
        reported = time.perf_counter()
        for number in lease.tasks.tolist():
            if stop():
                break
            at(number)
            found = self._execute(lease, number)
            if isinstance(found, Done):
                done.append(found)
            late = time.perf_counter() - reported >= REPORT_SECONDS
            if late or isinstance(found, Failure) or len(done) >= LARGEST_BATCH:
                failures = (found,) if isinstance(found, Failure) else ()
                report(Report(lease.number, pack(done) if done else None, failures))
                done, reported = [], time.perf_counter()
        report(Report(lease.number, pack(done) if done else None, ended=True))

    def _execute(self, lease: Lease, number: int) -> Done | Failure:
        started, cpu_started = time.perf_counter(), time.process_time()
        start_bytes = self._gauge.start()
        try:
            done = self._job(lease.context).execute(lease, number)
        except (Exception, SystemExit) as error:
            files = (error.path,) if isinstance(error, Conflict) else ()
            return Failure(
                number, _cause(error), _text(error), traceback.format_exc(),
                host=platform.node(), pid=os.getpid(), files=files,
            )  # fmt: skip
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return replace(
            done, seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=self._gauge.peak(), start_bytes=start_bytes
        )

    def _job(self, context: StepContext) -> _Job:
        for place, job in enumerate(self._jobs):
            if job.context is context or job.context == context:
                self._jobs.append(self._jobs.pop(place))
                return job
        job = _Job(context)
        self._jobs = [*self._jobs[1 - KEPT_STEPS :], job]
        return job


class _Gauge:
    """Peak memory of tasks. Asking costs more than a tiny task: those of one moment share one measure."""

    def __init__(self) -> None:
        self._asked, self._start, self._peak = -math.inf, 0, 0

    def start(self) -> int:
        """Return what the process holds as a task begins."""
        now = time.perf_counter()
        if now - self._asked > GAUGE_SECONDS:
            _release_memory()
            _reset_peak()
            self._asked, self._start, self._peak = now, peak_bytes(), 0
        return self._start

    def peak(self) -> int:
        """Return the most that it held since."""
        if not self._peak or time.perf_counter() - self._asked > GAUGE_SECONDS:
            self._peak = peak_bytes()
        return self._peak


class _Job:
    def __init__(self, context: StepContext) -> None:
        self.context = context
        self.stage = load_stage_of(context)
        limit_threads()
        self.params = params_from_json(self.stage, context.params)
        self.parts = {part.name: part for part in self.stage.parts}
        self.inputs = Inputs(context, self.stage, self.params)
        self.siblings = Siblings(context, self.stage, self.params) if context.siblings else None
        self._grids: dict[tuple[str, int], TaskGrid] = {}
        self._encoders: dict[str, ShardEncoder] = {}
        self._ids: dict[str, np.ndarray] = {}

    def execute(self, lease: Lease, number: int) -> Done:
        part = self.parts[lease.part]
        task = self._grid(part, lease.level).task(number)
        copied = self.siblings.take(part, task, number) if self.siblings else None
        return copied or self._computed(part, task, number)

    def _grid(self, part: Part, level: int) -> TaskGrid:
        if (part.name, level) not in self._grids:
            objects = len(self.ids(part)) if isinstance(part, ObjectPart) else 0
            self._grids |= {(part.name, grid.level): grid for grid in task_grids(self.context, part, objects)}
        return self._grids[part.name, level]

    def _computed(self, part: Part, task: TaskId, number: int) -> Done:
        box = task_box(self.context, part, task)
        self.inputs.reads, self.inputs.reach = [], self._reach(part, box)
        where = f"step {self.context.step}, {part.shape} {task.name}" + (f", box {box} (z,y,x)" if box else "")
        with self._temporary_folder(part) as folder:
            output = part.run(self._task(part, task, folder))
            if not isinstance(output, Output):
                raise RunError(f"part {part.name} returned {type(output).__name__}", where=where, expected="Output")
            layers = part_layers(part, self.params)
            check_layers(output.layers, layers, box, where)
            check_tables(output.tables, part_tables(part), where)
            # The inner nodes of a merge see the voxels of its leaves again.
            voxels = box.voxels if box and not task.level else 0
            files = tuple(self._write(part, task, output, folder, box))
            return Done(number, files, voxels, reads=tuple(dict.fromkeys(self.inputs.reads)))

    def _reach(self, part: Part, box: Box | None) -> Box | None:
        """Return the voxels that the engine waited for; None where it waited for all."""
        if box is None or isinstance(part, WholePart):
            return None
        return box.grow(halo_of(part, self.params, self.context.voxel_size_nm)) & self.context.bounds

    def _write(
        self, part: Part, task: TaskId, output: Output, folder: Path | None, box: Box | None
    ) -> list[OutputFile]:
        root = self.context.data
        paths = {name: self._table_path(part, task, name) for name in output.tables}
        files = write_tables(root, paths, output, part_tables(part))
        if output.layers:
            assert box is not None
            encoders = {name: self._encoder(name) for name in output.layers}
            files += write_layers(root, encoders, output, box)
        if folder is not None and isinstance(part, WholePart):
            files += adopt_folder(root, folder, root / part.files[0])
        return files

    def _table_path(self, part: Part, task: TaskId, name: str) -> Place:
        if isinstance(part, MergePart) and name not in part.kept and self._is_root(part, task):
            return self.context.data / output_path(self.stage, self.params, name)
        return table_path(self.context, part, task, name)

    def _is_root(self, part: MergePart, task: TaskId) -> bool:
        return task_box(self.context, part, task) == self.context.bounds

    def _encoder(self, name: str) -> ShardEncoder:
        if name not in self._encoders:
            self._encoders[name] = ShardEncoder(self.context.data / name)
        return self._encoders[name]

    @contextlib.contextmanager
    def _temporary_folder(self, part: Part) -> Iterator[Path | None]:
        if not isinstance(part, WholePart) or not part.files:
            yield None
            return
        # Of its own: a worker that was thought lost may still write another.
        # Beside its final name where that is on a disk: then one rename moves it there.
        beside = self.context.data if isinstance(self.context.data, Path) else None
        if beside is not None:
            beside.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".tmp-{part.files[0]}-", dir=beside))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _task(self, part: Part, task: TaskId, folder: Path | None) -> Any:
        context = self.context
        common = {
            "params": self.params,
            "bounds": context.bounds,
            "shape": context.shape_zyx,
            "voxel_size_nm": context.voxel_size_nm,
            "volumes": self.inputs,
            "table": self.inputs.table,
            "given": frozenset(self.inputs.context.inputs),
        }
        if isinstance(part, WholePart):
            return WholeTask(**common, folder=folder)
        if isinstance(part, ObjectPart):
            number, count = task.index[0], part.ids_per_task
            return ObjectTask(**common, ids=self.ids(part)[number * count : (number + 1) * count])
        box = task_box(context, part, task)
        assert box is not None
        if isinstance(part, MergePart):
            leaf, root = task.level == 0, self._is_root(part, task)
            return MergeTask(**common, box=box, children=self._children(part, task), is_leaf=leaf, is_root=root)
        halo = halo_of(part, self.params, context.voxel_size_nm)
        if isinstance(part, ChainPart):
            return ChainTask(**common, core=box, halo=halo, previous=self._previous(part, task))
        return BlockTask(**common, core=box, halo=halo)

    def ids(self, part: ObjectPart) -> np.ndarray:
        """Return the sorted unique ids of an object part, uint64."""
        if part.name not in self._ids:
            table, column = part.ids
            self._ids[part.name] = np.unique(self.inputs.table(table)[column].astype(np.uint64))
        return self._ids[part.name]

    def _children(self, part: MergePart, task: TaskId) -> list[Mapping[str, TableData]]:
        if task.level == 0:
            name = "-".join(str(i) for i in task.index)
            return [{table: read_table(self.context.data / table / f"{name}.parquet") for table in part.source}]
        names = parents_of(self.context, part, task)
        return [self._tables_of(part, TaskId(part.name, name)) for name in names]

    def _previous(self, part: ChainPart, task: TaskId) -> Mapping[str, TableData] | None:
        before = parents_of(self.context, part, task)
        return self._tables_of(part, TaskId(part.name, before[0])) if before else None

    def _tables_of(self, part: Part, task: TaskId) -> Mapping[str, TableData]:
        return {name: read_table(table_path(self.context, part, task, name)) for name in part.tables}


def count_ids(context: StepContext, part: ObjectPart) -> int:
    """Return the number of ids of an object part."""
    return len(_Job(context).ids(part))


def _cause(error: BaseException) -> str:
    if isinstance(error, Conflict):
        return "conflict"
    if isinstance(error, SystemExit):
        return "exit"
    if isinstance(error, MemoryError):
        return "memory"
    return "disk" if is_disk_error(error) else "exception"


def is_disk_error(error: BaseException | None) -> bool:
    """Return whether an error comes from a full or read-only disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return True
        if any(text in str(error).lower() for text in DISK_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _text(error: BaseException) -> str:
    if isinstance(error, BoutonError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"the task left the process with status {error.code}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _release_memory() -> None:
    """Give back to the system what the threads of earlier reads and writes freed, but their allocator kept."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the process' largest resident memory, on Linux since the task began."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
