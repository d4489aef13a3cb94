"""Execution of one task in a worker: read, compute, check, make durable, report. The block boundary is here."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bouton.engine.context import StepContext, halo_of, load_stage_of, output_path, params_from_json, part_layers
from bouton.engine.inputs import Blocked, Inputs, ReadLog
from bouton.engine.outputs import adopt_folder, check_layers, check_tables, write_layers, write_tables
from bouton.engine.tasks import OutputFile, TaskId, TaskResult, parents_of, task_box
from bouton.errors import BoutonError, RunError
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
from bouton.volume import WritableVolume, open_for_writing, part_file, read_table

NODES = "_nodes"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
DISK_TEXTS = ("no space left", "disk quota exceeded", "read-only file system")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_threads() -> None:
    """Let every library use one thread: sums then come out in one order, whatever the machine."""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    if "torch" in sys.modules and sys.modules["torch"].get_num_threads() != 1:
        sys.modules["torch"].set_num_threads(1)


def table_path(context: StepContext, part: Part, task: TaskId, name: str) -> Path:
    """Return the file of a task's table: the result of a merge or whole part, a block's rows, or a merge node."""
    if isinstance(part, WholePart):
        return context.root / f"{name}.parquet"
    if isinstance(part, MergePart) and name in part.kept:
        box = task_box(context, part, task)
        assert box is not None
        return context.root / name / part_file(f"{part.name}-{task.name}", box)
    if isinstance(part, MergePart):
        return context.root / NODES / part.name / f"{task.name}.{name}.parquet"
    return context.root / name / f"{task.name}.parquet"


class Worker:
    """Executes tasks of one step at a time; keeps the step's stage loaded and its inputs open between tasks."""

    def __init__(self) -> None:
        self._job: _Job | None = None

    def execute(self, context: StepContext, task: TaskId) -> TaskResult:
        """Execute a task. Whatever goes wrong comes back in the result."""
        started, cpu_started = time.perf_counter(), time.process_time()
        _release_memory()
        _reset_peak()
        start_bytes = peak_bytes()
        try:
            if self._job is None or self._job.context != context:
                self._job = _Job(context)
            files, voxels, reads = self._job.execute(task)
            result = TaskResult(task, tuple(files), voxels, reads=reads)
        except (Exception, SystemExit) as error:
            result = TaskResult(task, cause=_cause(error), error=_text(error), traceback=traceback.format_exc())
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return replace(
            result, seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=peak_bytes(), start_bytes=start_bytes
        )


class _Job:
    def __init__(self, context: StepContext) -> None:
        self.context = context
        self.stage = load_stage_of(context)
        limit_threads()
        self.params = params_from_json(self.stage, context.params)
        self.parts = {part.name: part for part in self.stage.parts}
        self.inputs = Inputs(context, self.stage, self.params)
        self._writers: dict[str, WritableVolume] = {}
        self._ids: dict[str, np.ndarray] = {}

    def execute(self, task: TaskId) -> tuple[list[OutputFile], int, str]:
        part = self.parts[task.part]
        self.inputs.log = ReadLog()
        box = task_box(self.context, part, task)
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
            return self._write(part, task, output, folder), voxels, self.inputs.log.to_json()

    def _write(self, part: Part, task: TaskId, output: Output, folder: Path | None) -> list[OutputFile]:
        root = self.context.root
        paths = {name: self._table_path(part, task, name) for name in output.tables}
        files = write_tables(root, paths, output, part_tables(part))
        if output.layers:
            z, y, x = task.index
            core = self.context.grid(part).core((z, y, x))
            writers = {name: self._writer(name) for name in output.layers}
            files += write_layers(root, writers, output, (z, y, x), core)
        if folder is not None and isinstance(part, WholePart):
            files += adopt_folder(root, folder, root / part.files[0])
        return files

    def _table_path(self, part: Part, task: TaskId, name: str) -> Path:
        if isinstance(part, MergePart) and name not in part.kept and self._is_root(part, task):
            return self.context.root / output_path(self.stage, self.params, name)
        return table_path(self.context, part, task, name)

    def _is_root(self, part: MergePart, task: TaskId) -> bool:
        return task_box(self.context, part, task) == self.context.bounds

    def _writer(self, name: str) -> WritableVolume:
        if name not in self._writers:
            self._writers[name] = open_for_writing(self.context.root / name)
        return self._writers[name]

    @contextlib.contextmanager
    def _temporary_folder(self, part: Part) -> Iterator[Path | None]:
        if not isinstance(part, WholePart) or not part.files:
            yield None
            return
        folder = self.context.root / f".tmp-{part.files[0]}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
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
            box = task_box(self.context, part, task)
            for name in part.source:
                self.inputs.check_complete(name, box)
            name = "-".join(str(i) for i in task.index)
            return [{table: read_table(self.context.root / table / f"{name}.parquet") for table in part.source}]
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
    if isinstance(error, Blocked):
        return "blocked"
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
