"""A web application on a real port of loopback, with a log of what was asked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from bouton.server.serve import reserve_port


class Log:
    """Notes what was asked for and how it was answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.answers: list[tuple[str, int]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: dict) -> None:
            if message["type"] == "http.response.start":
                self.answers.append((scope["path"], message["status"]))
            await send(message)

        await self.app(scope, receive, noted)

    def wait_for(self, *parts: str, seconds: float = 60) -> None:
        """Wait until something was handed out whose path holds each of ``parts``."""
        end = time.monotonic() + seconds
        while missing := [
            part for part in parts if not any(part in path for path, code in self.answers if code in (200, 206))
        ]:
            assert time.monotonic() < end, f"never asked for: {missing}"
            time.sleep(0.3)

    def wait_for_many(self, path: str, count: int, seconds: float = 60) -> None:
        """Wait until ``path`` was handed out ``count`` times."""
        end = time.monotonic() + seconds
        while self.answers.count((path, 200)) < count:
            assert time.monotonic() < end, f"asked for {self.answers}"
            time.sleep(0.1)


@contextlib.contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve ``app`` and yield its address."""
    listener = reserve_port(0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
