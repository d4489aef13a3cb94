"""The command line: one verb a file; errors become one line on stderr and the exit status of their kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import typer

from bouton.errors import BoutonError, SpecError

VERBS = (
    "run",
    "plan",
    "status",
    "attach",
    "pause",
    "resume",
    "cancel",
    "diff",
    "du",
    "gc",
    "logs",
    "retry",
    "verify",
    "report",
    "view",
    "cut",
    "sweep",
    "path",
    "stages",
    "evaluate",
    "densities",
    "trace",
    "convert",
    "export",
    "export-run",
    "check-bundle",
    "import-synapses",
    "import-mask",
    "train",
    "quantise",
    "finetune",
    "train-types",
    "phantom",
    "check-model",
    "check-truth",
    "model",
)
INTERRUPTED = 130


def make_app(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """Return the typer application with these verbs."""
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
    for verb in verbs:
        module = import_module(f"bouton.cli.{verb.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command(verb)(module.command)
    return app


def _options(
    traceback: bool = typer.Option(False, "--traceback", help="Show where in the code an error arose."),
) -> None:
    """Hold the options that stand before the verb; :func:`main` reads them."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    traceback = "--traceback" in arguments
    arguments = [word for word in arguments if word != "--traceback"]
    first = next((word for word in arguments if not word.startswith("-")), "")
    # A known verb is imported alone: the others bring torch, a web server and more, and cost seconds.
    app = make_app([first] if first in VERBS and not _completing() else VERBS)
    sys.exit(_guarded(lambda: _invoke(app, arguments), traceback))


def _completing() -> bool:
    return "_BOUTON_COMPLETE" in os.environ


def _invoke(app: typer.Typer, arguments: list[str]) -> Any:
    try:
        status = app(arguments, prog_name="bouton", standalone_mode=False)
    except typer.TyperException as error:
        if not error.format_message():
            # The help stands there already.
            return error.exit_code
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else "bouton"
        found = error.format_message().rstrip(".")
        raise SpecError(found, where=verb.removeprefix("bouton").strip(), fix=f"{verb} --help") from None
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def _guarded(action: Callable[[], Any], traceback: bool) -> int:
    try:
        status = action()
    except BoutonError as error:
        if traceback:
            raise
        sys.stderr.write(f"bouton: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("bouton: interrupted; the same command goes on from here\n")
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    return status if isinstance(status, int) else 0
