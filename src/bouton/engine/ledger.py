"""Which tasks of a step are done, and the size and checksum of every file that they wrote.

One SQLite file a step, written by the coordinator alone. A task is done when its files are durable and it stands here.
Finished tasks come in batches, one row each, whose columns the worker has packed (:mod:`bouton.engine.leases`): a
million small blocks are some thousand rows, and the coordinator opens none of them.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bouton.engine.leases import Batch, Done, Failure, numbers_of, runs_of, unpack, without
from bouton.engine.tasks import OutputFile, TaskGrid
from bouton.errors import DataError, RunError
from bouton.geometry import Box
from bouton.volume import write_bytes

SCHEMA = """
CREATE TABLE IF NOT EXISTS grids (part TEXT, level INTEGER, shape TEXT, fz INTEGER, fy INTEGER, fx INTEGER,
    nz INTEGER, ny INTEGER, nx INTEGER, bounds TEXT, bz INTEGER, by INTEGER, bx INTEGER,
    PRIMARY KEY (part, level)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocked (id INTEGER PRIMARY KEY, part TEXT, level INTEGER, tasks INTEGER, runs BLOB);
CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY AUTOINCREMENT, part TEXT, level INTEGER, first INTEGER,
    last INTEGER, tasks INTEGER, voxels INTEGER, seconds REAL, cpu_seconds REAL, peak_bytes INTEGER, size_bytes INTEGER,
    files INTEGER, reused INTEGER, runs BLOB, columns BLOB);
CREATE INDEX IF NOT EXISTS batches_of_part ON batches (part, level, first);
CREATE TABLE IF NOT EXISTS layers (name TEXT, path TEXT PRIMARY KEY, bytes INTEGER, checksum TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (part TEXT, task TEXT, box TEXT, attempts INTEGER, cause TEXT, error TEXT,
    traceback TEXT, PRIMARY KEY (part, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (id INTEGER PRIMARY KEY, part TEXT, task TEXT, box TEXT, lease INTEGER, cause TEXT,
    error TEXT, traceback TEXT, log TEXT, host TEXT, pid INTEGER);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL) WITHOUT ROWID;
"""
LEDGER = "ledger.sqlite"
"""Its name in the folder of a step."""
FOLDED = "folded "
MEASURED = 4096


@dataclass(frozen=True)
class OutputRow:
    """One file in the ledger."""

    part: str
    task: str
    file: OutputFile


@dataclass(frozen=True)
class Measured:
    """What one finished task took: time, memory, and the files of it that are left.

    Attributes
    ----------
    cpu_seconds : float
        Of its worker, all threads.
    peak_bytes, start_bytes : int
        Largest resident memory of its worker; what it held before the task: libraries, models, open files.
    weight : int
        How many tasks it stands for.
    """

    part: str
    task: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    start_bytes: int
    size_bytes: int
    files: int
    weight: int = 1


@dataclass(frozen=True)
class Quarantined:
    """One task that failed on every try."""

    part: str
    task: str
    box_zyx: str
    attempts: int
    cause: str
    error: str
    traceback: str


@dataclass(frozen=True)
class Attempt:
    """One try that failed, as :class:`bouton.engine.leases.Failure` tells it."""

    part: str
    task: str
    box_zyx: str
    lease: int
    cause: str
    error: str
    traceback: str
    log: str
    host: str
    pid: int


class Ledger:
    """The ledger of one step.

    Parameters
    ----------
    path : Path
        ``ledger.sqlite`` of the step's folder.
    readonly : bool
        Open for looking only; the file must exist.

    Raises
    ------
    DataError
        The file is damaged, or missing where it must exist.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._opened: tuple[int, dict[int, Done]] = (-1, {})
        if not readonly and not path.exists():
            write_bytes(path, _empty())
        try:
            if readonly:
                self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
                self._db.execute("SELECT count(*) FROM facts").fetchone()
            else:
                self._db = sqlite3.connect(path, timeout=30)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
            self._grids = {(grid.part, grid.level): grid for grid in self._read_grids()}
        except sqlite3.DatabaseError as error:
            raise database_error(error, path) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all that the block commits at once.

        Raises
        ------
        RunError
            The disk is full.
        """
        try:
            with self._db:
                yield
        except sqlite3.DatabaseError as error:
            raise database_error(error, self.path) from error

    def set_grids(self, grids: Iterable[TaskGrid]) -> None:
        """Note the grids whose numbers the tasks of a part have."""
        found = [grid for grid in grids if self._grids.get((grid.part, grid.level)) != grid]
        if not found:
            return
        self._grids |= {(grid.part, grid.level): grid for grid in found}
        rows = [
            (grid.part, grid.level, grid.shape, *grid.first, *grid.counts, str(grid.bounds or ""))
            + (grid.block or (None, None, None))
            for grid in found
        ]
        with self.transaction():
            self._db.executemany("INSERT OR REPLACE INTO grids VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def _read_grids(self) -> Iterator[TaskGrid]:
        for part, level, shape, *places in self._db.execute("SELECT * FROM grids"):
            fz, fy, fx, nz, ny, nx, bounds, bz, by, bx = places
            box = Box.parse(bounds) if bounds else None
            block = (bz, by, bx) if bz is not None else None
            yield TaskGrid(part, shape, level, (fz, fy, fx), (nz, ny, nx), box, block)

    def grids(self) -> list[TaskGrid]:
        """Return the grids of tasks that were begun, a merge's leaves first."""
        return [self._grids[key] for key in sorted(self._grids)]

    def commit(self, part: str, level: int, batch: Batch) -> None:
        """Record finished tasks, inside of a :meth:`transaction`. None of them may stand here already."""
        runs = runs_of(batch.numbers)
        numbers = (batch.voxels, batch.seconds, batch.cpu_seconds, batch.peak_bytes, batch.size_bytes, batch.files)
        row = (part, level, int(runs[0, 0]), int(runs[-1, 1]) - 1, len(batch.numbers), *numbers, batch.reused)
        self._db.execute(
            "INSERT INTO batches VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", (*row, runs.tobytes(), batch.columns)
        )

    def commit_layer(self, name: str, files: Iterable[OutputFile]) -> None:
        """Record the metadata of an empty layer."""
        rows = [(name, file.path, file.size_bytes, file.checksum) for file in files]
        with self.transaction():
            self._db.executemany("INSERT OR REPLACE INTO layers VALUES (?,?,?,?)", rows)

    def layers(self) -> set[str]:
        """Return the names of the layers whose metadata are written."""
        return {row[0] for row in self._db.execute("SELECT name FROM layers")}

    def commit_attempt(self, part: str, task: str, box: str, lease: int, failure: Failure) -> None:
        """Record a try that failed, inside of a :meth:`transaction`."""
        told = (failure.cause, failure.error, failure.traceback, failure.log, failure.host, failure.pid)
        self._db.execute("INSERT INTO attempts VALUES (NULL,?,?,?,?,?,?,?,?,?,?)", (part, task, box, lease, *told))

    def quarantine(self, part: str, task: str, box: str, attempts: int, failure: Failure) -> None:
        """Record a task that failed on every try, inside of a :meth:`transaction`."""
        told = (failure.cause, failure.error, failure.traceback)
        self._db.execute("INSERT OR REPLACE INTO failures VALUES (?,?,?,?,?,?,?)", (part, task, box, attempts, *told))

    def forget(self, tasks: Iterable[tuple[str, str]]) -> None:
        """Take tasks (part, name) off the ledger: they will be computed again. Part "" stands for layers' metadata.

        With a node of a folded merge go all of its nodes: what they left for their parents is gone.
        """
        tasks = list(tasks)
        if not tasks:
            return
        with self.transaction():
            self._db.execute("DELETE FROM facts WHERE name='complete'")
            self._db.executemany("DELETE FROM layers WHERE name=?", [(name,) for part, name in tasks if not part])
            self._db.executemany("DELETE FROM failures WHERE part=? AND task=?", tasks)
            for part in self._folded() & {part for part, _ in tasks}:
                self._db.execute("DELETE FROM batches WHERE part=?", (part,))
                self._db.execute("DELETE FROM facts WHERE name=?", (FOLDED + part,))
            for (part, level), grid in list(self._grids.items()):
                numbers = [grid.number(name) for of, name in tasks if of == part]
                gone = np.array([number for number in numbers if number is not None], np.int64)
                if len(gone):
                    self._rewrite(part, level, gone)

    def _rewrite(self, part: str, level: int, gone: np.ndarray) -> None:
        """Replace the batches that hold any of the tasks ``gone`` by ones without them."""
        query = (
            "SELECT id, voxels, seconds, cpu_seconds, peak_bytes, size_bytes, files, reused, runs, columns "
            "FROM batches WHERE part=? AND level=? AND last>=? AND first<=?"
        )
        for number, *sums, runs, columns in self._db.execute(
            query, (part, level, int(gone.min()), int(gone.max()))
        ).fetchall():
            held = numbers_of(_runs(runs))
            if not np.isin(held, gone).any():
                continue
            left = without(Batch(held, columns, *sums), gone)
            self._db.execute("DELETE FROM batches WHERE id=?", (number,))
            if left is not None:
                self.commit(part, level, left)

    def forget_unfinished(self, kept: Collection[tuple[str, str]] = ()) -> None:
        """Take blocked and quarantined tasks off the ledger, but those that are ``kept``; the tries stay."""
        gone = [(each.part, each.task) for each in self.failures() if (each.part, each.task) not in kept]
        with self.transaction():
            self._db.executemany("DELETE FROM failures WHERE part=? AND task=?", gone)
            self._db.execute("DELETE FROM blocked")

    def fold(self, part: str) -> None:
        """Note that what the nodes of a merge left for their parents is gone: its root is done."""
        self.set_fact(FOLDED + part, 1)

    def done_runs(self, part: str, level: int = 0) -> np.ndarray:
        """Return the finished tasks of a part's grid as sorted half-open runs of their numbers, int64 (n, 2)."""
        return self._all_runs("SELECT runs FROM batches WHERE part=? AND level=?", part, level)

    def reused_runs(self, part: str, level: int = 0) -> np.ndarray:
        """Return those of :meth:`done_runs` that were copied, not computed."""
        query = "SELECT reused=tasks, runs, columns FROM batches WHERE part=? AND level=? AND reused>0"
        found = [
            _runs(runs) if all_of_them else runs_of(np.array([done.number for done in unpack(columns) if done.reused]))
            for all_of_them, runs, columns in self._db.execute(query, (part, level))
        ]
        return _in_order(found)

    def _all_runs(self, query: str, part: str, level: int) -> np.ndarray:
        return _in_order([_runs(row[0]) for row in self._db.execute(query, (part, level))])

    def box_of(self, part: str, task: str) -> str:
        """Return the box (z, y, x) of a task, as text; empty where it has none."""
        for (of, _), grid in self._grids.items():
            number = grid.number(task) if of == part else None
            if number is not None:
                return str(grid.box(number) or "")
        return ""

    def outputs(self) -> Iterator[OutputRow]:
        """Yield every file that must be there."""
        try:
            for name, *rest in self._db.execute("SELECT * FROM layers ORDER BY path"):
                yield OutputRow("", name, OutputFile(*rest))
            query = "SELECT part, level, columns FROM batches WHERE files>0 ORDER BY part, level, first"
            folded = self._folded()
            for part, level, columns in self._db.execute(query):
                grid = self._grids[part, level]
                for done in unpack(columns):
                    name = grid.name(done.number)
                    yield from (OutputRow(part, name, file) for file in _left(done, part, folded))
        except sqlite3.DatabaseError as error:
            raise database_error(error, self.path) from error

    def _folded(self) -> set[str]:
        query = "SELECT name FROM facts WHERE name GLOB ?"
        return {row[0].removeprefix(FOLDED) for row in self._db.execute(query, (f"{FOLDED}*",))}

    def find(self, part: str, task: str) -> Done | None:
        """Return what a finished task left, or None where it is not done."""
        for (of, level), grid in self._grids.items():
            number = grid.number(task) if of == part else None
            if number is None:
                continue
            query = "SELECT id FROM batches WHERE part=? AND level=? AND first<=? AND last>=?"
            for (batch,) in self._db.execute(query, (part, level, number, number)):
                if number in self._open(batch):
                    return self._open(batch)[number]
        return None

    def _open(self, batch: int) -> dict[int, Done]:
        """Return the tasks of one batch. The latest one is kept: who asks for a task asks for its neighbours next."""
        if self._opened[0] != batch:
            columns = self._db.execute("SELECT columns FROM batches WHERE id=?", (batch,)).fetchone()[0]
            self._opened = (batch, {done.number: done for done in unpack(columns)})
        return self._opened[1]

    def outputs_of(self, part: str, task: str) -> tuple[OutputFile, ...]:
        """Return the files of one task; of part "" the metadata of a layer."""
        if not part:
            query = "SELECT path, bytes, checksum FROM layers WHERE name=? ORDER BY path"
            return tuple(OutputFile(*row) for row in self._db.execute(query, (task,)))
        done = self.find(part, task)
        return tuple(_left(done, part, self._folded())) if done else ()

    def failures(self) -> list[Quarantined]:
        """Return the quarantined tasks."""
        return [Quarantined(*row) for row in self._db.execute("SELECT * FROM failures ORDER BY part, task")]

    def attempts(self, part: str = "", task: str = "") -> list[Attempt]:
        """Return the tries that failed, the first one first; of one part or task, if it is given."""
        query = (
            "SELECT part, task, box, lease, cause, error, traceback, log, host, pid FROM attempts "
            "WHERE (?='' OR part=?) AND (?='' OR task=?) ORDER BY id"
        )
        return [Attempt(*row) for row in self._db.execute(query, (part, part, task, task))]

    def block(self, part: str, level: int, tasks: np.ndarray) -> None:
        """Note tasks that cannot run because something that they read is not done."""
        row = (part, level, len(tasks), runs_of(tasks).tobytes())
        with self.transaction():
            self._db.execute("INSERT INTO blocked VALUES (NULL,?,?,?,?)", row)

    def blocked_runs(self, part: str, level: int = 0) -> np.ndarray:
        """Return the blocked tasks of a part's grid as :meth:`done_runs` does."""
        return self._all_runs("SELECT runs FROM blocked WHERE part=? AND level=?", part, level)

    def counts(self) -> dict[str, int]:
        """Return the number of tasks by state: done, failed, blocked, and those copied under ``reused``."""
        done, reused = self._db.execute(
            "SELECT coalesce(sum(tasks), 0), coalesce(sum(reused), 0) FROM batches"
        ).fetchone()
        failed = self._db.execute("SELECT count(*) FROM failures").fetchone()[0]
        blocked = self._db.execute("SELECT coalesce(sum(tasks), 0) FROM blocked").fetchone()[0]
        return {"done": done, "failed": failed, "blocked": blocked, "reused": reused}

    def voxels(self, part: str) -> int:
        """Return the voxels of the finished tasks of a part."""
        return self._sum("voxels", "WHERE part=?", (part,))

    def peak_bytes(self) -> int:
        """Return the largest peak memory of a task."""
        return self._db.execute("SELECT coalesce(max(peak_bytes), 0) FROM batches").fetchone()[0]

    def size_bytes(self) -> int:
        """Return the size of all files that are left, those of folded merges included."""
        return self._sum("size_bytes") + self._db.execute("SELECT coalesce(sum(bytes), 0) FROM layers").fetchone()[0]

    def _sum(self, column: str, where: str = "", values: Sequence[object] = ()) -> int:
        return self._db.execute(f"SELECT coalesce(sum({column}), 0) FROM batches {where}", values).fetchone()[0]

    def measured(self, most: int = MEASURED) -> Iterator[Measured]:
        """Yield what the tasks took that were computed here, and the metadata of the layers (part and task "").

        Of a grid with more than ``most`` tasks, every so many-th one, with the weight of those that it stands for.
        """
        try:
            layers = self._db.execute("SELECT coalesce(sum(bytes), 0), count(*) FROM layers").fetchone()
            if layers[1]:
                yield Measured("", "", 0.0, 0.0, 0, 0, *layers)
            folded = self._folded()
            for (part, level), grid in sorted(self._grids.items()):
                for stride, done in self._regular(part, level, most):
                    files = _left(done, part, folded)
                    numbers = (done.seconds, done.cpu_seconds, done.peak_bytes, done.start_bytes)
                    size = sum(file.size_bytes for file in files)
                    yield Measured(part, grid.name(done.number), *numbers, size, len(files), stride)
        except sqlite3.DatabaseError as error:
            raise database_error(error, self.path) from error

    def _regular(self, part: str, level: int, most: int) -> Iterator[tuple[int, Done]]:
        """Yield every so many-th task that was computed here, with how many it stands for."""
        where = "WHERE part=? AND level=?"
        stride = max(1, -(-self._sum("tasks", where, (part, level)) // most))
        before = 0
        query = f"SELECT tasks, reused, columns FROM batches {where} ORDER BY first"
        for tasks, reused, columns in self._db.execute(query, (part, level)):
            chosen = range(-before % stride, tasks, stride)
            before += tasks
            if chosen and reused < tasks:
                yield from ((stride, done) for done in unpack(columns, chosen) if not done.reused)

    def fact(self, name: str, default: float = 0.0) -> float:
        """Return a number kept under ``name``."""
        row = self._db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        return row[0] if row else default

    def set_fact(self, name: str, value: float) -> None:
        """Keep a number under ``name``."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?,?)", (name, value))


def _empty() -> bytes:
    """Return a ledger without tasks: made in memory, so that one with a part of its tables never lies on a disk."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return db.serialize()


def _left(done: Done, part: str, folded: set[str]) -> list[OutputFile]:
    """Return a task's files but those that its parent in a folded merge has taken."""
    return [file for file in done.files if part not in folded or not file.path.startswith(f"_nodes/{part}/")]


def _runs(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.int64).reshape(-1, 2)


def _in_order(found: Sequence[np.ndarray]) -> np.ndarray:
    """Return runs of several batches as sorted ones that do not touch."""
    if not found:
        return np.zeros((0, 2), np.int64)
    runs = np.concatenate(found)
    return _joined(runs[np.argsort(runs[:, 0], kind="stable")])


def _joined(runs: np.ndarray) -> np.ndarray:
    """Return sorted runs with those that touch made one."""
    starts = np.concatenate([[True], runs[1:, 0] != runs[:-1, 1]])
    firsts = np.flatnonzero(starts)
    lasts = np.concatenate([firsts[1:], [len(runs)]]) - 1
    return np.stack([runs[firsts, 0], runs[lasts, 1]], axis=1)


def database_error(error: sqlite3.DatabaseError, path: Path) -> DataError | RunError:
    """Return what to tell of an error of SQLite in the ledger ``path``."""
    text = str(error)
    if "full" in text or "disk I/O" in text or "readonly" in text:
        return disk_full(path.parent, f"cannot write the ledger: {text}")
    return DataError(
        f"the ledger cannot be read: {text}",
        where=str(path),
        fix="delete the step's folder with this ledger and run the same command again: the step is computed anew",
    )


def disk_full(root: Path, text: str) -> RunError:
    """Return the error of a run that pauses because nothing more can be written."""
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return RunError(
        f"the disk is full or read-only: {text}",
        where=str(root),
        expected=f"more than the {free} bytes that are free",
        fix="free space, then run the same command again: finished blocks are kept",
    )
