"""The client listener of a node without a store behind it: the cost of HTTP alone.

    python benchmarks/edge.py PORT VALUE_BYTES

The node's own classes parse, check and answer requests; the operation itself is answered at once
with one value.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from types import SimpleNamespace
from typing import Any, cast

import uvloop

from dynamo_core.causality.context import Context
from dynamo_core.causality.records import History, Sibling
from dynamo_core.protocol.operations import Done, Operation, Outcome
from dynamo_node.app import Server, client_config
from dynamo_node.driver import Driver, freeze_memory
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring


class Nothing:
    """Replaces the driver; a ring of three, and one value for every key."""

    access = audit = None
    """All may do all, and nothing is told."""

    def __init__(self, value_bytes: int) -> None:
        identity = SimpleNamespace(n=3)
        self.node = SimpleNamespace(ring_or_none=SimpleNamespace(identity=identity), draining=False)
        sibling = Sibling(7, 1, b"v" * value_bytes)
        self._context = Context(History({7: 1}).encode(), "a")
        self._values = [sibling]

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """Answers in the same call."""
        done(Outcome(status=200, values=self._values, context=self._context, node="a"))


async def serve(port: int, value_bytes: int) -> None:
    """Runs until the process is ended."""
    driver = cast(Driver, Nothing(value_bytes))
    server = Server(client_config(driver, "protocol", Keyring((b"secret",)), Limits(1 << 20)))
    listener: Any = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    freeze_memory()
    await server.serve([listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
