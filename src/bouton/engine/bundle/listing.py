"""The files of a step with their checksums, as lines of JSON; and what a repetition has of them.

Both sides of a comparison go through a temporary SQLite file, so that a step of millions of files needs no memory.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bouton.engine.ledger import Ledger
from bouton.errors import DataError

LONGEST_LINE = 10_000
Row = tuple[str, str, str, int, str]
"""path inside the step's folder, part, task, bytes, checksum"""


@dataclass(frozen=True)
class Difference:
    """A file that the repetition has otherwise; ``found`` is ``differs``, ``missing`` or ``not in the bundle``."""

    step: str
    part: str
    task: str
    box_zyx: str
    path: str
    found: str

    def __str__(self) -> str:
        block = f", {self.part} {self.task}".rstrip() if self.part else ""
        box = f", box {self.box_zyx} (z,y,x)" if self.box_zyx else ""
        text = f"step {self.step}{block}{box}: {self.path} {self.found}"
        # a stranger's listing must not steer the terminal
        return text if text.isprintable() else ascii(text)


@dataclass(frozen=True)
class StepComparison:
    """How many files of a step are equal, differ, are missing, or are there beyond those of the bundle.

    Attributes
    ----------
    first : Difference or None
        The first in order of parts as they ran, then of tasks and paths.
    """

    step: str
    equal: int
    differs: int
    missing: int
    extra: int
    first: Difference | None

    @property
    def is_same(self) -> bool:
        """Whether every file of the bundle is there with its bytes, and no other."""
        return not (self.differs or self.missing or self.extra)


def write_listing(ledger: Path, target: Path) -> int:
    """Write the files of a step, sorted by path, one JSON list a line; return how many."""
    with _sorter() as database, Ledger(ledger, readonly=True) as opened:
        _fill(database, "here", _rows(opened))
        count = 0
        with target.open("w", encoding="utf-8") as file:
            for row in database.execute("SELECT path, part, task, bytes, checksum FROM here ORDER BY path"):
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
                count += 1
    return count


def read_listing(pieces: Iterable[bytes], where: str) -> Iterator[Row]:
    """Yield the rows of a listing.

    Raises
    ------
    DataError
        A line is no row.
    """
    for number, line in enumerate(_lines(pieces, where), 1):
        try:
            path, part, task, size, digest = json.loads(line)
        except (ValueError, TypeError, RecursionError) as error:
            raise _no_row(where, number, "no list of five values") from error
        texts = (path, part, task, digest)
        if not all(isinstance(text, str) for text in texts) or type(size) is not int or not 0 <= size < 1 << 63:
            raise _no_row(where, number, "values of other types")
        yield path, part, task, size, digest


def compare(step: str, listed: Iterable[Row], ledger: Path, parts: Iterable[str], whole: bool = True) -> StepComparison:
    """Compare a listing with the ledger of a repetition.

    Parameters
    ----------
    ledger : Path
        May be missing: then every file is.
    parts : iterable of str
        Names of the step's parts in the order in which they run: what differs in an earlier one is the cause.
    whole : bool
        Whether the step was finished. Else only files that both have are compared: a merge half done leaves files
        that it removes at its end, and the repetition may have come further or less far.
    """
    with _sorter() as database, contextlib.ExitStack() as stack:
        _fill(database, "there", listed)
        opened = stack.enter_context(Ledger(ledger, readonly=True)) if ledger.is_file() else None
        _fill(database, "here", _rows(opened) if opened else ())
        database.executemany("INSERT OR IGNORE INTO parts VALUES (?, ?)", enumerate(parts))
        kept = f"({_COMPARED})" if whole else f"({_COMPARED}) WHERE found IN ('equal', 'differs')"
        counts = dict(database.execute(f"SELECT found, count(*) FROM {kept} GROUP BY found"))
        wrong = f"SELECT * FROM (SELECT * FROM {kept}) WHERE found<>'equal' ORDER BY {_FIRST} LIMIT 1"
        row = database.execute(wrong).fetchone()
        first = _difference(step, row, opened) if row else None
    equal, differs, missing = (counts.get(name, 0) for name in ("equal", "differs", "missing"))
    return StepComparison(step, equal, differs, missing, counts.get("not in the bundle", 0), first)


def _difference(step: str, row: tuple[str, str, str, str], ledger: Ledger | None) -> Difference:
    path, part, task, found = row
    box = ledger.box_of(part, task) if ledger else ""
    return Difference(step, part, task, box, path, found)


_COMPARED = """
SELECT there.path, there.part, there.task, CASE WHEN here.path IS NULL THEN 'missing'
    WHEN here.checksum = there.checksum AND here.bytes = there.bytes THEN 'equal' ELSE 'differs' END AS found
    FROM there LEFT JOIN here ON here.path = there.path
UNION ALL
SELECT here.path, here.part, here.task, 'not in the bundle' FROM here LEFT JOIN there ON there.path = here.path
    WHERE there.path IS NULL
"""
# metadata (part "") is as the first block's; a missing or other block tells more than a file that should not be
_FIRST = "found='not in the bundle', coalesce((SELECT place FROM parts WHERE name = part), 1000), part, task, path"


@contextlib.contextmanager
def _sorter() -> Iterator[sqlite3.Connection]:
    """Open a database that lives in a temporary file of SQLite's own and is gone at the end."""
    database = sqlite3.connect("")
    try:
        for name in ("here", "there"):
            columns = "path TEXT PRIMARY KEY, part TEXT, task TEXT, bytes INTEGER, checksum TEXT"
            database.execute(f"CREATE TABLE {name} ({columns}) WITHOUT ROWID")
        database.execute("CREATE TABLE parts (place INTEGER, name TEXT PRIMARY KEY)")
        yield database
    finally:
        database.close()


def _fill(database: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    database.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)", rows)


def _rows(ledger: Ledger) -> Iterator[Row]:
    for row in ledger.outputs():
        yield row.file.path, row.part, row.task, row.file.size_bytes, row.file.checksum


def _lines(pieces: Iterable[bytes], where: str) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > LONGEST_LINE:
            raise _no_row(where, 0, f"a line of more than {LONGEST_LINE} bytes")
    if rest:
        yield rest


def _no_row(where: str, line: int, found: str) -> DataError:
    place = f"{where}:{line}" if line else where
    return DataError(
        found, where=place, expected="[path, part, task, bytes, checksum] on every line", fix="export the run again"
    )
