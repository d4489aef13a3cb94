"""The errors bouton raises on purpose.

::

    BoutonError            exit status 1
    |-- SpecError          2   the workflow file or a command-line value is wrong
    |-- DataError          3   a volume, table or model on disk is wrong, missing or damaged
    `-- RunError           4   a block or a step failed while it ran

Every error says what was found, where, what was expected, and the way out, on one line.
"""

from __future__ import annotations


class BoutonError(Exception):
    """Base of all errors of bouton.

    Parameters
    ----------
    found : str
        What was found.
    where : str, optional
        File and line, step, block or voxel box (z, y, x).
    expected : str, optional
        What was expected instead.
    fix : str, optional
        The way out: a command or an edit.
    """

    exit_code = 1

    def __init__(self, found: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        self.found, self.where, self.expected, self.fix = found, where, expected, fix
        super().__init__(found)

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.expected:
            text += f"; expected {self.expected}"
        if self.fix:
            text += f"; way out: {self.fix}"
        return " ".join(text.split())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.found, self.where, self.expected, self.fix)


class SpecError(BoutonError):
    """The workflow file or a value given on the command line is wrong."""

    exit_code = 2


class DataError(BoutonError):
    """A volume, table or model on disk is wrong, missing or damaged."""

    exit_code = 3


class RunError(BoutonError):
    """A block or a step failed while it ran."""

    exit_code = 4


def _rebuild(kind: type[BoutonError], found: str, where: str, expected: str, fix: str) -> BoutonError:
    return kind(found, where=where, expected=expected, fix=fix)
