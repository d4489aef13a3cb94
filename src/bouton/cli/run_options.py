"""The options that a run was started with, kept in its folder so that ``resume`` and ``retry`` repeat them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument

from bouton.engine.events import Event
from bouton.errors import DataError
from bouton.volume import write_bytes

NAME = "options.json"
NOT_KEPT = ("as_json", "detach")
"""How a run is watched is no part of what it does."""


@dataclass(frozen=True)
class RunOptions:
    """What a run was started with.

    Attributes
    ----------
    values : mapping of name -> value
        Every option that was given or has a default, as JSON types; paths are absolute.
    arguments : tuple of str
        The same as words after ``bouton run``.
    """

    values: Mapping[str, Any]
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, context: typer.Context) -> RunOptions:
        """Return the options of the present command."""
        parameters = [each for each in context.command.params if each.name in context.params]
        given = [(each, _plain(context.params[str(each.name)])) for each in parameters if each.name not in NOT_KEPT]
        values = {str(each.name): value for each, value in given if value not in (None, [])}
        words = [word for each, value in given for word in _words(each, value)]
        return cls(values, tuple(words))

    def write(self, folder: Path) -> None:
        """Write them into a run folder."""
        content = {"options": dict(self.values), "arguments": list(self.arguments)}
        write_bytes(folder / NAME, json.dumps(content, indent=1).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    return list(value) if isinstance(value, tuple | list) else value


def _words(parameter: Any, value: Any) -> Iterator[str]:
    if value is None or value is False:
        return
    if isinstance(parameter, TyperArgument):
        yield str(value)
    elif value is True:
        yield max(parameter.opts, key=len)
    else:
        for each in value if isinstance(value, list) else [value]:
            # one word, for a value may begin with a dash
            yield f"{max(parameter.opts, key=len)}={each}"


def keep_options(options: RunOptions, folder: Path) -> Callable[[Event], None]:
    """Return a subscriber that writes the options into the run folder at the first event."""
    kept = False

    def subscriber(event: Event) -> None:
        nonlocal kept
        # only now: a start that is refused, because another process works on the run, must not change them
        if not kept:
            options.write(folder)
        kept = True

    return subscriber


def read_options(folder: Path) -> RunOptions:
    """Return the options that a run was started with.

    Raises
    ------
    DataError
        They are missing or damaged.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_bytes())
        return RunOptions(dict(content["options"]), tuple(str(word) for word in content["arguments"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "nothing tells how this run was started", where=str(path), expected="what bouton run writes at its start",
            fix="give the command again: bouton run WORKFLOW ...",
        ) from error  # fmt: skip
