"""``bouton densities score``: what people counted in the blocks of a blinded check."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.choices import Json
from bouton.cli.densities_sample import ANSWERS
from bouton.cli.density_answers import read_answers, read_check, unanswered
from bouton.cli.density_tables import finite
from bouton.errors import DataError

if TYPE_CHECKING:
    from bouton.density.finding import Finding

WIDE = 150
NAMED = 12
"""This many unanswered tasks are named."""


def command(
    folder: Path = typer.Argument(..., metavar="DIR", help="What bouton densities sample wrote."),
    answers: Path = typer.Option(None, help="The filled-in sheet; default: answers.csv in that folder."),
    as_json: Json = False,
) -> None:
    """Open the key of a blinded check and score the answers, each number with its 95 % interval.

    Examples:

      bouton densities score check

      bouton densities score check --answers filled-in.csv --json
    """
    from bouton.density.blind_score import score

    check = read_check(folder)
    path = answers or folder / ANSWERS
    found = read_answers(path, check)
    missing = unanswered(check, found)
    if len(missing) == len(check.names):
        raise DataError("no task is answered", where=str(path), expected="synapses and usable filled in")
    findings = score(check.tasks, found)
    if as_json:
        content = {
            "run": check.run, "tasks": len(check.names), "unanswered": missing,
            "findings": [_row(finding) for finding in findings],
        }  # fmt: skip
        sys.stdout.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
        return
    console = Console()
    console.print(_table(findings, console.width >= WIDE))
    for text in dict.fromkeys(f.note for f in findings if f.note):
        told = ", ".join(f.test for f in findings if f.note == text)
        console.print(f"[dim]{escape(told)}:[/dim] {escape(text)}", soft_wrap=True, highlight=False)
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        console.print(f"not answered: {len(missing)} of {len(check.names)}: {', '.join(missing[:NAMED])}{more}")


def _row(finding: Finding) -> dict[str, object]:
    values = {name: getattr(finding, name) for name in ("test", "question", "effect", "n", "note")}
    return values | {name: finite(getattr(finding, name)) for name in ("value", "low", "high", "p")}


def _table(findings: list[Finding], wide: bool) -> Table:
    table = Table(title="Blinded check", caption=None if wide else f"units and questions: {WIDE} columns or more")
    for name in ("what", "value", "95 % interval", "p", "blocks", *(("unit", "question") if wide else ())):
        # Words wrap where a window is narrow: a number that is cut is another number.
        words = name in ("what", "question")
        side = "right" if name in ("value", "p", "blocks") else "left"
        table.add_column(name, justify=side, no_wrap=not words, overflow="fold")
    for f in findings:
        interval = f"{f.low:.3g} - {f.high:.3g}" if math.isfinite(f.low) else "-"
        numbers = (_text(f.value), interval, _text(f.p), str(f.n))
        table.add_row(f.test, *numbers, *((f.effect, f.question) if wide else ()))
    return table


def _text(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"
