"""``bouton stages``: the product's vocabulary."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.stage import Files, Layer, Stage, load_stage, stage_names
from bouton.stage import Table as TableOutput


def _names(incomplete: str) -> list[str]:
    return [name for name in stage_names() if name.startswith(incomplete)]


def command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A stage, or a path to a .py file.", autocompletion=_names)
    ] = None,
) -> None:
    """List the stages; with a name, show what it reads and writes, and its parameters.

    \b
    bouton stages
    bouton stages fragments
    bouton stages my_stage.py
    """
    console = Console()
    if name is None:
        table = Table("stage", "what it does", box=None)
        for stage in stage_names():
            table.add_row(stage, first_line(stage))
        console.print(table)
        return
    stage = load_stage(name)
    console.print(f"[bold]{name}[/bold] (version {stage.version}): {escape(first_line(name))}", soft_wrap=True)
    console.print(_in_and_out(stage))
    console.print(_parameters(stage))


def first_line(name: str) -> str:
    """Return the first line of a stage's module docstring."""
    module = sys.modules[load_stage(name).parts[0].run.__module__]
    return (inspect.getdoc(module) or "").split("\n")[0]


def _in_and_out(stage: Stage) -> Table:
    table = Table("", "name", "what", box=None)
    for name, declared in stage.reads.items():
        optional = " (may be left out)" if name in stage.optional else ""
        table.add_row("reads", name, _what(declared) + optional)
    try:
        outputs = stage.outputs(stage.params())
    except TypeError:
        outputs = dict.fromkeys(stage.writes, Files())
    for name in stage.writes:
        what = _what(outputs[name]) if name in outputs else "exists only with some parameters"
        table.add_row("writes", name, what)
    return table


def _what(declared: Any) -> str:
    if isinstance(declared, Layer):
        dtypes = declared.dtype if isinstance(declared.dtype, str) else " or ".join(declared.dtype)
        channels = f", {declared.channels_text}" if declared.channels else ""
        return f"layer, {declared.kind}, {dtypes}{channels}"
    if isinstance(declared, TableOutput):
        return f"table: {', '.join(declared.columns)}" if declared.columns else "table"
    return "folder of files"


def _parameters(stage: Stage) -> Table:
    docs = parameter_docs(stage.params)
    table = Table("parameter", "default", "meaning", box=None)
    for field in dataclasses.fields(stage.params):
        if field.default is not dataclasses.MISSING:
            default = repr(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = repr(field.default_factory())
        else:
            default = "must be given"
        table.add_row(field.name, escape(default), escape(docs.get(field.name, "")))
    return table


def parameter_docs(params: type) -> dict[str, str]:
    """Return what a numpydoc docstring says about each field: name -> one line."""
    found: dict[str, list[str]] = {}
    current = None
    for line in inspect.cleandoc(params.__doc__ or "").split("\n"):
        head = re.match(r"^(\w[\w, ]*?) : ", line) or re.match(r"^(\w+)$", line)
        if head and not line.startswith(" "):
            current = [name.strip() for name in head.group(1).split(",")]
        elif current and line.startswith("    "):
            for name in current:
                found.setdefault(name, []).append(line.strip())
        elif line.strip():
            current = None
    return {name: " ".join(lines) for name, lines in found.items()}
