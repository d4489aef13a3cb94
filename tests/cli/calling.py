"""How tests of verbs call them."""

from __future__ import annotations

from collections.abc import Callable

from typer import Typer
from typer.testing import CliRunner


def call(command: Callable[..., object], *arguments: object) -> str:
    """Call a verb, on a wide terminal, and return what it printed; its errors are raised."""
    app = Typer(pretty_exceptions_enable=False)
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout
