"""Requests at a steady rate, independent of the answers: gets of known keys, updates of others.

An update is a put with the context of the key's last put, so that the size of the store does not
change.

Latency counts from the time at which a request was due, so a stalled store also pays for the
requests that waited (no coordinated omission). A failed request is repeated at the next address, as
a client would do, and its latency goes on. Ends after --seconds or at SIGTERM, and writes to --out
one line of JSON: [[due, ms, kind, ok], ...], due in seconds of the machine's monotonic clock, kind
0 for a get and 1 for an update.

    python pace.py --rate 500 --seconds 10 --keys 20000 --out FILE host:port...
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import uvloop

ATTEMPTS_MAX = 5
ROUND_S = 2.0
"""Every updated key is updated once in this time: after it, all exist."""
ANSWER_S_MAX = 2.0
PAUSE_S = 0.01
"""Pause before a request that failed at all nodes is repeated."""
IN_FLIGHT_MAX = 256
"""Further requests wait for one to end, and this wait counts."""
LATE_S_MAX = 3.0
"""Time for requests under way at the end."""


class Connection(asyncio.Protocol):
    """One connection with at most one request on it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[tuple[bool, bytes]] | None = None
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """The connection is open."""
        self.transport = transport

    async def ask(self, request: bytes) -> tuple[bool, bytes]:
        """Whether the answer is a success, and its context. Raises OSError without an answer."""
        self._buffer = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await asyncio.wait_for(self._answer, ANSWER_S_MAX)

    def data_received(self, data: bytes) -> None:
        """Collects bytes until the answer is complete."""
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        whole = blank and len(body) >= int(header(head, b"content-length") or 0)
        if whole and self._answer is not None and not self._answer.done():
            self._answer.set_result((head[9:10] == b"2", header(head, b"dynamo-context")))

    def connection_lost(self, exc: Exception | None) -> None:
        """The request on it has failed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header, b"" if it is missing."""
    at = head.lower().find(b"\r\n" + name + b":")
    return head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip() if at >= 0 else b""


class Pace:
    """The requests and their results."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.random = Random(asked.seed)
        self.idle: dict[str, list[Connection]] = {address: [] for address in asked.addresses}
        self.rows: list[tuple[float, float, int, bool]] = []
        self.contexts: dict[int, bytes] = {}
        self.updates = 0
        self.updated_max = max(1, int(asked.rate * (1 - asked.reads) * ROUND_S))
        self.ended = asyncio.Event()
        self.room = asyncio.Semaphore(IN_FLIGHT_MAX)

    def request(self) -> tuple[int, bytes]:
        """The key to update, -1 for a get of a known key, and the request."""
        if self.random.random() < self.asked.reads:
            key = f"key-{self.random.randrange(self.asked.keys)}"
            return -1, f"GET /v1/kv/{key} HTTP/1.1\r\nHost: pace\r\n\r\n".encode()
        size, key = self.asked.bytes, self.updates % self.updated_max
        self.updates += 1
        head = f"PUT /v1/kv/updated-{key} HTTP/1.1\r\nHost: pace\r\nContent-Length: {size}\r\n"
        context = b"Dynamo-Context: %b\r\n" % known if (known := self.contexts.get(key)) else b""
        return key, head.encode() + context + b"\r\n" + b"v" * size

    async def one(self, number: int, due: float) -> None:
        """One request, and its time since it was due."""
        async with self.room:
            kind, ok = await self._try(number)
        self.rows.append((due, round(1000 * (time.monotonic() - due), 3), kind, ok))

    async def _try(self, number: int) -> tuple[int, bool]:
        """Tries as many nodes as needed."""
        key, request = self.request()
        addresses = self.asked.addresses
        ok = False
        for attempt in range(ATTEMPTS_MAX):
            address = addresses[(number + attempt) % len(addresses)]
            try:
                ok, context = await self._at(address, request)
                if ok and key >= 0:
                    self.contexts[key] = context
            except (OSError, TimeoutError):
                ok = False
            if ok:
                break
            if attempt + 1 >= len(addresses):
                await asyncio.sleep(PAUSE_S)
        return int(key >= 0), ok

    async def _at(self, address: str, request: bytes) -> tuple[bool, bytes]:
        idle = self.idle[address]
        if idle:
            connection = idle.pop()
        else:
            host, _, port = address.rpartition(":")
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, host, int(port))
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.transport.abort()
            raise
        idle.append(connection)
        return answer

    async def run(self) -> None:
        """Runs until the time is over or a signal comes."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.ended.set)
        began = time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        while not self.ended.is_set() and time.monotonic() - began < self.asked.seconds:
            due = began + number / self.asked.rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self.one(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
        if under_way:
            await asyncio.wait(under_way, timeout=LATE_S_MAX)
        Path(self.asked.out).write_text(json.dumps(self.rows) + "\n")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--reads", type=float, default=0.5)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--out", required=True)

    async def begin() -> None:
        await Pace(parser.parse_args()).run()

    uvloop.run(begin())


if __name__ == "__main__":
    main()
