"""What client HTTP costs for one request, in one process: bytes in, answer out, nothing between.

The protocol class of the node reads requests from a transport that takes every answer at once; the
operation is answered when it is there, in a later call. So this is parsing, limits, words of HTTP
and sealing; the driver, the core, sockets and the kernel are not in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time_ns
from typing import Any, cast

from benchmarks.edge import Nothing
from uvicorn.server import ServerState

import dynamo_core
import dynamo_node
from dynamo_core.protocol.operations import Operation
from dynamo_core.request.admission_control import Done
from dynamo_node.app import client_config
from dynamo_node.driver import Driver
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring

CODE = tuple(str(Path(str(package.__file__)).parent) for package in (dynamo_core, dynamo_node))
VALUE = b"v" * 1024
HOST = b"Host: 127.0.0.1:7101\r\n"
REQUESTS = {
    "edge get": b"GET /v1/kv/key-12345 HTTP/1.1\r\n%b\r\n" % HOST,
    "edge put": b"PUT /v1/kv/key-12345 HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b"
    % (HOST, len(VALUE), VALUE),
}
ROUNDS, REQUESTS_A_ROUND = 9, 2000


class Sink(asyncio.Transport):
    """Takes what is written, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: Any) -> None:
        """One answer."""
        self.answers += data.startswith(b"HTTP/1.1 200")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def is_closing(self) -> bool:
        """It stays open."""
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """There is one."""


class Later(Nothing):
    """Answers the operation when it is told to, as nodes do."""

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """Keeps it."""
        self._answer = partial(super().submit, operation, done, principal)

    def answer(self) -> None:
        """Of the last operation."""
        self._answer()


async def _on(kind: str, run: Callable[[Callable[[], None]], float]) -> float:
    """`run` with a call that makes one request of a connection that has made some before."""
    driver = Later(len(VALUE))
    config = client_config(cast(Driver, driver), "protocol", Keyring((b"secret",)), Limits(1 << 20))
    config.load()
    made = cast(Any, config.http_protocol_class)(
        config=config, server_state=ServerState(), app_state={}
    )
    sink = Sink()
    made.connection_made(sink)
    request = REQUESTS[kind]

    def ask() -> None:
        made.data_received(request)
        driver.answer()

    for _ in range(3):
        ask()
    if sink.answers != 3:
        raise RuntimeError(f"{kind}: {sink.answers} of 3 requests were answered")
    return run(ask)


def on(kind: str, run: Callable[[Callable[[], None]], float]) -> float:
    """The same outside of a loop."""
    return asyncio.run(_on(kind, run))


def cost_us(kind: str) -> float:
    """Median µs of processor a request."""

    def run(request: Callable[[], None]) -> float:
        rounds = []
        for _ in range(ROUNDS):
            began = thread_time_ns()
            for _ in range(REQUESTS_A_ROUND):
                request()
            rounds.append((thread_time_ns() - began) / REQUESTS_A_ROUND / 1000)
        return median(rounds)

    return on(kind, run)
