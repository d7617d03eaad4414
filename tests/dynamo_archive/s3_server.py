"""A real S3 server, moto's, as a process, and a proxy before it that fails, throttles and cuts.

moto wants other versions of some libraries than `uv.lock` has, so it gets a virtual environment for
itself, made once beside the one of the tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

MOTO = "moto[server]==5.2.5"
VENV = Path(sys.prefix) / "s3-server-5.2.5"
INSTALL_S, READY_S = 400, 60
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate."
    b"</Message></Error>"
)
NOT_IMPLEMENTED = (
    b"<?xml version='1.0'?><Error><Code>NotImplemented</Code><Message>A header you provided implies"
    b" functionality that is not implemented.</Message></Error>"
)
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
Port = int


def installed() -> Path:
    """The server's program. Test processes run beside each other, and one of them makes it."""
    program, done = VENV / "bin" / "moto_server", VENV / "done"
    with VENV.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not (done.exists() and program.exists()):
            uv = Path(sys.prefix) / "bin" / "uv"
            for command in (["venv", "--clear", VENV], ["pip", "install", "--python", VENV, MOTO]):
                subprocess.run([uv, "--quiet", *command], check=True, timeout=INSTALL_S)
            done.touch()
    return program


@contextmanager
def s3_server() -> Iterator[Port]:
    """The server, on a port of this machine, with the bucket "shop"."""
    program = installed()
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr
    drain = Thread(target=lambda: list(said))
    try:
        port = next(int(line.rsplit(":", 1)[1]) for line in said if "Running on http://" in line)
        drain.start()
        connection = HTTPConnection("127.0.0.1", port, timeout=READY_S)
        connection.request("PUT", "/shop")
        assert connection.getresponse().status == 200
        connection.close()
        yield port
    finally:
        process.kill()
        process.wait(READY_S)
        if drain.ident is not None:
            drain.join(READY_S)
        said.close()


class Proxy(ThreadingHTTPServer):
    """Between the clients and the server. `trouble` is told method, path and how often that was
    asked before, and says "fail", "throttle", "cut", "shorten", "unconditional" or "" for nothing.
    What is cut ends in the midst of its bytes; what is shortened has as many as it says, and too
    few; the unconditional server knows no If-None-Match."""

    daemon_threads = True

    def __init__(self, server: Port, trouble: Callable[[str, str, int], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.server_behind = server
        self.trouble = trouble
        self.asked: dict[tuple[str, str], int] = {}
        self.troubles: list[str] = []

    @property
    def port(self) -> Port:
        """Where clients dial it."""
        return self.server_address[1]

    def next_trouble(self, method: str, path: str) -> str:
        """What befalls this request."""
        before = self.asked.get((method, path), 0)
        self.asked[method, path] = before + 1
        what = self.trouble(method, path, before)
        if what:
            self.troubles.append(what)
        return what

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is none of ours."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _pass(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        what = self.server.next_trouble(self.command, self.path)
        if what in ("fail", "throttle"):
            self._answer(503 if what == "throttle" else 500, {}, SLOW_DOWN)
            return
        if what == "unconditional" and "If-None-Match" in self.headers:
            self._answer(501, {}, NOT_IMPLEMENTED)
            return
        behind = HTTPConnection("127.0.0.1", self.server.server_behind, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        data = answer.read()
        drop = ("content-length", "transfer-encoding", "connection")
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in drop}
        behind.close()
        if self.command == "HEAD":
            kept["Content-Length"] = answer.headers.get("Content-Length", "0")
            self._answer(answer.status, kept, None)
        elif what == "shorten":
            self._answer(answer.status, kept, data[: len(data) // 2])
        else:
            self._answer(answer.status, kept, data, cut=what == "cut")

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes | None, cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if data is not None:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write((data or b"")[: len(data or b"") // 2] if cut else data or b"")
        self.close_connection = self.close_connection or cut

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def proxy(server: Port, trouble: Callable[[str, str, int], str]) -> Iterator[Proxy]:
    """A proxy that is open until the end of the block."""
    opened = Proxy(server, trouble)
    thread = Thread(target=opened.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield opened
    finally:
        opened.shutdown()
        opened.server_close()
        thread.join(READY_S)
