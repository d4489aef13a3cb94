"""Object stores on loopback, and a proxy before them that fails as networks and stores do."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bouton.volume import objects

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
_S3 = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

_GCS = """
import sys
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=sys.argv[1])
server.start()
print(server._api._httpd.server_port, flush=True)
sys.stdin.read()
"""


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let refused requests be repeated soon, and not often."""
    monkeypatch.setattr(objects, "RETRIES", {"max_retries": 4, "initial_delay": "5ms", "max_delay": "20ms"})


def s3_place(url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Return a place of the test's own in ``s3://bucket`` of the server at ``url``, which it reaches from now on."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    be_impatient(monkeypatch)
    return f"s3://bucket/{request.node.name.replace('[', '-').strip(']')}"


@contextlib.contextmanager
def s3_server(*buckets: str) -> Iterator[str]:
    """Run moto's S3 server in a process of its own; give its URL."""
    with _server(_S3) as url:
        for bucket in buckets:
            urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT")).read()
        yield url


@contextlib.contextmanager
def gcs_server(bucket: str) -> Iterator[str]:
    """Run an emulator of Google Cloud Storage in a process of its own; give its URL. It ignores conditions."""
    with _server(_GCS, bucket) as url:
        yield url


@contextlib.contextmanager
def _server(code: str, *arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


@dataclass
class Fault:
    """What happens to the next ``times`` requests of a method whose path holds a text.

    Attributes
    ----------
    status : int
        The answer; 0 closes the connection without one; -1 lets the store do it and then closes the connection.
    code : str
        S3's name of the error.
    wait_s : float
        Before anything else; with ``status`` 200 the request then goes on.
    """

    method: str
    text: str
    status: int
    code: str = "InternalError"
    times: int = 1
    wait_s: float = 0.0


@dataclass
class Proxy:
    """``url`` is where it listens; ``seen`` has method, path and answer of every request; ``faults`` may be changed."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.text in path:
                    fault.times -= 1
                    return fault
        return None


@contextlib.contextmanager
def faulty(target: str) -> Iterator[Proxy]:
    """Run a proxy before the server at ``target``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault_of(self.command, self.path)
            if fault:
                time.sleep(fault.wait_s)
            if fault and fault.status == 0:
                self._drop(0)
            elif fault and fault.status not in (-1, 200):
                text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>as told</Message></Error>"
                self._answer(fault.status, [("Content-Type", "application/xml")], text.encode())
            else:
                status, headers, data = _forward(target, self.command, self.path, dict(self.headers), body)
                if fault and fault.status == -1:
                    self._drop(-1)
                else:
                    self._answer(status, headers, data)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any

        def _drop(self, status: int) -> None:
            proxy.seen.append((self.command, self.path, status))
            self.close_connection = True

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            proxy.seen.append((self.command, self.path, status))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            length = {k.lower(): v for k, v in headers}.get("content-length", "0")
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


def _forward(
    target: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(target.removeprefix("http://"), timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, answer.getheaders(), data
