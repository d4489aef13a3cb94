"""Options of the suite: what takes minutes runs with ``--slow``, real batch systems with ``--clusters``."""

from __future__ import annotations

import signal

import pytest

ASKED_FOR = {
    "slow": ("--slow", "takes minutes; run pytest --slow"),
    "cluster": ("--clusters", "starts a real batch system on loopback, as root; run pytest --clusters"),
}


def pytest_configure(config: pytest.Config) -> None:
    """Let processes of tests hear Ctrl-C: a shell that starts the suite in the background has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")
    parser.addoption("--clusters", action="store_true", help="run the tests over real SLURM and Grid Engine, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for mark, (option, reason) in ASKED_FOR.items():
        if config.getoption(option):
            continue
        for item in items:
            if mark in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
