"""Runs the web service on loopback."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import webbrowser
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bouton.errors import RunError, SpecError

HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """Ends the open events streams first: uvicorn would cut them off with a traceback."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.ending.set()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def reserve_port(port: int) -> socket.socket:
    """Return a socket that listens on loopback; port 0 takes any free one.

    Raises
    ------
    RunError
        The port is taken.
    SpecError
        The port is none that a user may take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            fix = f"bouton view --port {port + 1} RUN, or stop what uses it (a viewer of another run?)"
            raise RunError(f"port {port} of {HOST} is in use", expected="a free port", fix=fix) from None
        raise SpecError(f"port {port} cannot be used: {error}", expected="a port from 1024 to 65535") from None
    return listener


def serve(app: FastAPI, listener: socket.socket, open_browser: bool, place: str = "") -> None:
    """Show a run until interrupted; ``app`` is what :func:`bouton.server.app.make_app` returned.

    ``place`` is what the browser opens, a path without its first slash.
    """
    url = f"http://{HOST}:{listener.getsockname()[1]}/{place}"
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [url]).start()
    # uvicorn ends in good order on Ctrl-C and then raises it once more.
    with listener, contextlib.suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[listener])
