"""Which tasks of a step are done, and the size and checksum of every file that they wrote.

One SQLite file a step, written by the coordinator alone, one transaction for a range of tasks. A task is done when its
files are durable and it stands here.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bouton.engine.tasks import OutputFile, TaskResult
from bouton.errors import DataError, RunError

SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (part TEXT, task TEXT, state TEXT, attempts INTEGER, seconds REAL, voxels INTEGER,
    peak_bytes INTEGER, cause TEXT, error TEXT, traceback TEXT, box TEXT, reads TEXT, reused INTEGER,
    PRIMARY KEY (part, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outputs (path TEXT PRIMARY KEY, part TEXT, task TEXT, bytes INTEGER, checksum TEXT)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outputs_of_task ON outputs (part, task);
CREATE TABLE IF NOT EXISTS costs (part TEXT, task TEXT, cpu_seconds REAL, start_bytes INTEGER,
    PRIMARY KEY (part, task)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL) WITHOUT ROWID;
"""


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
    """

    part: str
    task: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    start_bytes: int
    size_bytes: int
    files: int


@dataclass(frozen=True)
class Failure:
    """One task that is quarantined (``failed``) or ``blocked``."""

    part: str
    task: str
    state: str
    box_zyx: str
    attempts: int
    error: str
    cause: str
    traceback: str


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
        fresh = not readonly and not path.exists()
        try:
            if readonly:
                self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
                self._db.execute("SELECT count(*) FROM facts").fetchone()
            else:
                self._db = sqlite3.connect(path, timeout=30)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                # all tables or none: a ledger with a part of them could not be read
                self._db.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        except sqlite3.DatabaseError as error:
            if fresh:
                self._discard()
            raise database_error(error, path) from error

    def _discard(self) -> None:
        """Remove a ledger that a full disk kept from being made."""
        self._db.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def commit(self, results: Iterable[TaskResult], boxes: dict[str, str] | None = None) -> None:
        """Record results in one transaction. A task that is done already stays as it is.

        Raises
        ------
        RunError
            The disk is full.
        """
        tasks, outputs, costs = [], [], []
        boxes = boxes or {}
        done = {(r.task.part, r.task.name) for r in results if self._is_done(r.task.part, r.task.name)}
        for r in results:
            identity = (r.task.part, r.task.name)
            if identity in done:
                continue
            state = {"": "done", "blocked": "blocked"}.get(r.cause, "failed")
            tail = (r.cause, r.error, r.traceback, boxes.get(r.task.name, ""), r.reads, int(r.reused))
            tasks.append((*identity, state, r.attempts, r.seconds, r.voxels, r.peak_bytes, *tail))
            outputs += [(f.path, *identity, f.size_bytes, f.checksum) for f in r.files]
            costs.append((*identity, r.cpu_seconds, r.start_bytes))
        self._write("INSERT OR REPLACE INTO costs VALUES (?,?,?,?)", costs, [])
        self._write("INSERT OR REPLACE INTO tasks VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", tasks, outputs)

    def _is_done(self, part: str, task: str) -> bool:
        row = self._db.execute("SELECT state FROM tasks WHERE part=? AND task=?", (part, task)).fetchone()
        return row is not None and row[0] == "done"

    def _write(self, statement: str, rows: list[tuple], outputs: list[tuple]) -> None:
        try:
            with self._db:
                self._db.executemany(statement, rows)
                self._db.executemany("INSERT OR REPLACE INTO outputs VALUES (?,?,?,?,?)", outputs)
        except sqlite3.DatabaseError as error:
            raise database_error(error, self.path) from error

    def forget(self, tasks: Iterable[tuple[str, str]]) -> None:
        """Take tasks (part, task) off the ledger: they will be computed again."""
        tasks = list(tasks)
        with self._db:
            self._db.executemany("DELETE FROM tasks WHERE part=? AND task=?", tasks)
            self._db.executemany("DELETE FROM outputs WHERE part=? AND task=?", tasks)
            if tasks:
                self._db.execute("DELETE FROM facts WHERE name='complete'")

    def forget_unfinished(self) -> None:
        """Take failed and blocked tasks off the ledger."""
        self.forget(self._db.execute("SELECT part, task FROM tasks WHERE state IN ('failed', 'blocked')").fetchall())

    def fold(self, part: str, root: str, folder: str) -> None:
        """Forget what the nodes of a merge whose root is done left in ``folder`` for their parents."""
        with self._db:
            self._db.execute("UPDATE tasks SET state='folded' WHERE part=? AND task<>?", (part, root))
            self._db.execute("DELETE FROM outputs WHERE part=? AND path GLOB ?", (part, f"{folder}/*"))

    def unfold(self, part: str) -> None:
        """Forget all nodes of a merge if any was folded: what it left for its parent is gone."""
        folded = "SELECT 1 FROM tasks WHERE part=? AND state='folded' LIMIT 1"
        if self._db.execute(folded, (part,)).fetchone():
            self.forget(self._db.execute("SELECT part, task FROM tasks WHERE part=?", (part,)).fetchall())

    def done(self, part: str) -> set[str]:
        """Return the names of the tasks of a part that are done (folded ones too)."""
        query = "SELECT task FROM tasks WHERE part=? AND state IN ('done', 'folded')"
        return {row[0] for row in self._db.execute(query, (part,))}

    def outputs(self) -> Iterator[OutputRow]:
        """Yield every file, by path."""
        try:
            for path, part, task, size, checksum in self._db.execute("SELECT * FROM outputs ORDER BY path"):
                yield OutputRow(part, task, OutputFile(path, size, checksum))
        except sqlite3.DatabaseError as error:
            raise database_error(error, self.path) from error

    def outputs_of(self, part: str, task: str) -> tuple[OutputFile, ...]:
        """Return the files of one task."""
        query = "SELECT path, bytes, checksum FROM outputs WHERE part=? AND task=? ORDER BY path"
        return tuple(OutputFile(*row) for row in self._db.execute(query, (part, task)))

    def reads_of(self, part: str, task: str) -> str | None:
        """Return what a finished task read (JSON), or None if it is not done."""
        query = "SELECT reads FROM tasks WHERE part=? AND task=? AND state='done'"
        row = self._db.execute(query, (part, task)).fetchone()
        return row[0] if row else None

    def box_of(self, part: str, task: str) -> str:
        """Return the box (z, y, x) of a task, as text; empty where it has none."""
        row = self._db.execute("SELECT box FROM tasks WHERE part=? AND task=?", (part, task)).fetchone()
        return row[0] if row else ""

    def failures(self) -> list[Failure]:
        """Return the quarantined and blocked tasks."""
        query = (
            "SELECT part, task, state, box, attempts, error, cause, traceback FROM tasks "
            "WHERE state IN ('failed', 'blocked') ORDER BY part, task"
        )
        return [Failure(*row) for row in self._db.execute(query)]

    def counts(self) -> dict[str, int]:
        """Return the number of tasks by state: done, failed, blocked, and those copied under ``reused``."""
        found = {"done": 0, "failed": 0, "blocked": 0}
        for state, count in self._db.execute("SELECT state, count(*) FROM tasks WHERE part<>'' GROUP BY state"):
            found["done" if state == "folded" else state] += count
        found["reused"] = self._db.execute("SELECT coalesce(sum(reused), 0) FROM tasks").fetchone()[0]
        return found

    def voxels(self, part: str) -> int:
        """Return the voxels of the finished tasks of a part."""
        query = "SELECT coalesce(sum(voxels), 0) FROM tasks WHERE part=? AND state IN ('done', 'folded')"
        return self._db.execute(query, (part,)).fetchone()[0]

    def peak_bytes(self) -> int:
        """Return the largest peak memory of a task."""
        return self._db.execute("SELECT coalesce(max(peak_bytes), 0) FROM tasks").fetchone()[0]

    def size_bytes(self) -> int:
        """Return the size of all files."""
        return self._db.execute("SELECT coalesce(sum(bytes), 0) FROM outputs").fetchone()[0]

    def task_seconds(self) -> float:
        """Return the time that all tasks took together."""
        return self._db.execute("SELECT coalesce(sum(seconds), 0) FROM tasks").fetchone()[0]

    def measured(self) -> Iterator[Measured]:
        """Yield what the tasks took that were computed here, and the metadata of the layers (part and task "")."""
        files = "SELECT part, task, sum(bytes) AS size, count(*) AS files FROM outputs GROUP BY part, task"
        query = (
            "SELECT t.part, t.task, t.seconds, c.cpu_seconds, t.peak_bytes, c.start_bytes, coalesce(o.size, 0), "
            "coalesce(o.files, 0) FROM tasks t JOIN costs c ON c.part = t.part AND c.task = t.task "
            f"LEFT JOIN ({files}) o ON o.part = t.part AND o.task = t.task "
            "WHERE t.state IN ('done', 'folded') AND t.reused = 0 ORDER BY t.part, t.task"
        )
        try:
            for row in self._db.execute(query):
                yield Measured(*row)
        except sqlite3.DatabaseError as error:
            raise database_error(error, self.path) from error

    def fact(self, name: str, default: float = 0.0) -> float:
        """Return a number kept under ``name``."""
        row = self._db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        return row[0] if row else default

    def set_fact(self, name: str, value: float) -> None:
        """Keep a number under ``name``."""
        self._write("INSERT OR REPLACE INTO facts VALUES (?,?)", [(name, value)], [])


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
    free = shutil.disk_usage(root).free
    return RunError(
        f"the disk is full or read-only: {text}",
        where=str(root),
        expected=f"more than the {free} bytes that are free",
        fix="free space, then run the same command again: finished blocks are kept",
    )
