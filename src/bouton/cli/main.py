"""The command line: one verb a file; errors become one line on stderr and the exit status of their kind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from bouton.errors import BoutonError

VERBS = (
    "run",
    "plan",
    "status",
    "verify",
    "report",
    "view",
    "path",
    "stages",
    "evaluate",
    "convert",
    "train",
    "phantom",
)


def make_app() -> typer.Typer:
    """Return the typer application with every verb."""
    app = typer.Typer(
        name="bouton",
        help=(
            "From a volume of brain tissue to its wiring.\n\n"
            "Start with [bold]bouton run workflows/demo.yaml[/bold], then [bold]bouton view runs/demo[/bold]."
        ),
        rich_markup_mode="rich",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for verb in VERBS:
        app.command(verb)(import_module(f"bouton.cli.{verb}").command)
    return app


def _options(
    traceback: bool = typer.Option(False, "--traceback", help="Show where in the code an error arose."),
) -> None:
    """Hold the options that stand before the verb; :func:`main` reads them."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_guarded(lambda: make_app()(arguments, standalone_mode=True), "--traceback" in arguments))


def _guarded(action: Callable[[], Any], traceback: bool) -> int:
    try:
        action()
    except BoutonError as error:
        if traceback:
            raise
        sys.stderr.write(f"bouton: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("bouton: interrupted; the same command goes on from here\n")
        return 130
    except BrokenPipeError:
        return 1
    return 0
