"""A load generator on uvloop: closed loop, one request in flight on each connection.

For what wrk cannot do (contexts, batches, Redis) and for machines without wrk. It costs about as
much of the shared cores as wrk with a script, 8-10 µs for an operation. Prints one line of JSON
like `wrk/load.lua`: operations, seconds, failed, p50, p99, p999 (ms, of a request).

    python loadgen.py MODE --seconds 3 --connections 48 --keys 20000 --prefix new- host:port...

Modes: get, put (a new key each), update (known keys, each with the context of its last answer),
batch-get, batch-put, fill (key-0 ... once), same (one path again and again), and for Redis
redis-set (with WAIT 1), redis-get, redis-batch-set, redis-batch-get, redis-fill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from random import Random
from urllib.request import urlopen

import msgspec
import uvloop

from dynamo_core.keys import partition_of, store_key
from dynamo_core.ring.json_form import from_document

BATCH = 32
CONNECT_S_MAX = 10.0
REST_S_MAX = 5.0
"""Time for answers that are still under way at the end."""
FAILURES_SHOWN_MAX = 1


Owns = Callable[[str], bool]
"""Whether the node of a connection owns a key; a client that does not know the ring asks any."""


def owner_of(addresses: list[str], aware: bool) -> Callable[[str], Owns]:
    """For each address what its node owns: everything unless the client knows the ring."""
    if not aware:
        return lambda address: lambda key: True
    with urlopen(f"http://{addresses[0]}/v1/ring", timeout=CONNECT_S_MAX) as answer:
        ring = from_document(json.load(answer))
    names = {member.client: member.name for member in ring.members.values()}

    def owns(address: str, key: str) -> bool:
        partition = partition_of(store_key(key.encode()), ring.partition_bits)
        return names[address] in ring.entries[partition].owners

    return lambda address: partial(owns, address)


class HttpRequests:
    """The next requests of one connection over HTTP; `next` returns None if there are no more."""

    def __init__(self, asked: argparse.Namespace, number: int, owns: Owns) -> None:
        self.asked = asked
        self.number = number
        self.owns = owns
        self.random = Random(f"{asked.prefix} {number}")
        self.value = b"v" * asked.bytes
        self.operations = 1
        self.next = getattr(self, asked.mode.replace("-", "_"))
        self._contexts: dict[int, bytes] = {}
        self._count = 0
        self._key = 0

    def _request(self, method: str, path: str, body: bytes | None, extra: bytes = b"") -> bytes:
        head = f"{method} {path}{self.asked.query} HTTP/1.1\r\nHost: bench\r\n".encode() + extra
        if body is None:
            return head + b"\r\n"
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def same(self) -> bytes:
        """One path, repeated."""
        return self._request("GET", self.asked.prefix, None)

    def get(self) -> bytes:
        """Any of the known keys."""
        while not self.owns(key := f"key-{self.random.randrange(self.asked.keys)}"):
            pass
        return self._request("GET", f"/v1/kv/{key}", None)

    def put(self) -> bytes:
        """A key that was never written."""
        self._count += 1
        while not self.owns(key := f"{self.asked.prefix}{self.number}-{self._count}"):
            self._count += 1
        return self._request("PUT", f"/v1/kv/{key}", self.value)

    def update(self) -> bytes:
        """A known key with its last context; a key has one writer, as a session has."""
        share = self.asked.keys // self.asked.connections
        self._key = self.random.randrange(share) * self.asked.connections + self.number
        context = self._contexts.get(self._key)
        path = f"/v1/kv/key-{self._key}"
        if context is None:
            return self._request("GET", path, None)
        return self._request("PUT", path, self.value, b"Dynamo-Context: %b\r\n" % context)

    def _batch(self, operations: list[dict[str, object]]) -> bytes:
        self.operations = len(operations)
        body = msgspec.msgpack.encode({"operations": operations})
        return self._request("POST", "/v1/batch", body, b"Content-Type: application/msgpack\r\n")

    def batch_get(self) -> bytes:
        """32 known keys."""
        some = self.random.choices(range(self.asked.keys), k=BATCH)
        return self._batch([{"op": "get", "key": b"key-%d" % key} for key in some])

    def batch_put(self) -> bytes:
        """32 keys that were never written."""
        self._count += 1
        head = f"{self.asked.prefix}{self.number}-{self._count}-".encode()
        keys = [head + b"%d" % index for index in range(BATCH)]
        return self._batch([{"op": "put", "key": key, "data": self.value} for key in keys])

    def fill(self) -> bytes | None:
        """This connection's share of the known keys, once."""
        first = (self.number + self._count * self.asked.connections) * BATCH
        self._count += 1
        keys = [b"key-%d" % key for key in range(first, min(first + BATCH, self.asked.keys))]
        if not keys:
            return None
        return self._batch([{"op": "put", "key": key, "data": self.value} for key in keys])

    def answer_end(self, data: bytes) -> int:
        """Where the answer ends in the bytes until now; 0 if it is not complete."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = data[:end].lower()
        if self.asked.mode == "update":
            self._keep_context(data[:end], head)
        start = head.find(b"\r\ncontent-length:")
        if start < 0:
            return end + 4
        length = int(head[start + 17 :].split(b"\r\n", 1)[0])
        return end + 4 + length if len(data) >= end + 4 + length else 0

    def _keep_context(self, head: bytes, lower: bytes) -> None:
        start = lower.find(b"\r\ndynamo-context:")
        if start >= 0:
            self._contexts[self._key] = head[start + 17 :].split(b"\r\n", 1)[0].strip()

    def good(self, answer: bytes) -> bool:
        """Whether it succeeded, with every operation of a batch."""
        if answer[9:10] != b"2":
            return False
        if not self.asked.mode.startswith(("batch", "fill")):
            return True
        body = msgspec.msgpack.decode(answer[answer.index(b"\r\n\r\n") + 4 :])
        return all(result["status"] in (200, 204) for result in body["results"])


class RedisRequests:
    """The same over RESP: a set waits for one replica, like W=2."""

    def __init__(self, asked: argparse.Namespace, number: int, owns: Owns) -> None:
        self.asked = asked
        self.random = Random(f"{asked.prefix} {number}")
        self.value = b"v" * asked.bytes
        batch = "batch" in asked.mode or asked.mode == "redis-fill"
        self.operations = BATCH if batch else 1
        self._fill_from = number * BATCH
        self.reads = asked.mode.endswith("get")
        self.next = self.gets if self.reads else self.sets
        read = len(b"$%d\r\n" % asked.bytes) + asked.bytes + 2
        self._expected = self.operations * read if self.reads else self.operations * 5 + 4

    @staticmethod
    def _command(*words: bytes) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)

    def gets(self) -> bytes:
        """One or 32 known keys."""
        some = self.random.choices(range(self.asked.keys), k=self.operations)
        return b"".join(self._command(b"GET", b"key-%d" % key) for key in some)

    def sets(self) -> bytes | None:
        """One or 32 known keys, then WAIT."""
        keys: list[int] | range = self.random.choices(range(self.asked.keys), k=self.operations)
        if self.asked.mode == "redis-fill":
            if self._fill_from >= self.asked.keys:
                return None
            keys = range(self._fill_from, self._fill_from + BATCH)
            self._fill_from += self.asked.connections * BATCH
        sets = b"".join(self._command(b"SET", b"key-%d" % key, self.value) for key in keys)
        return sets + self._command(b"WAIT", b"1", b"0")

    def answer_end(self, data: bytes) -> int:
        """Answers have a known length, except errors."""
        if data.startswith(b"-") or (data.endswith(b"\n") and b"\r\n-" in data[:256]):
            return len(data)
        return len(data) if len(data) >= self._expected else 0

    def good(self, answer: bytes) -> bool:
        """Whether it succeeded and, for a write, a replica has it."""
        return len(answer) == self._expected and (self.reads or not answer.endswith(b":0\r\n"))


class Connection(asyncio.Protocol):
    """One client: sends a request, waits for the answer, repeats until the time is over."""

    def __init__(self, requests: HttpRequests | RedisRequests, until: float) -> None:
        self._requests = requests
        self._until = until
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._asked_at = 0.0
        self.seconds: list[float] = []
        self.operations = 0
        self.failed = 0
        self.bad = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request."""
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        now = time.perf_counter()
        request = self._requests.next() if now < self._until else None
        assert self._transport is not None
        if request is None:
            self._transport.close()
            return
        self._asked_at = now
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Counts a complete answer and goes on."""
        self._buffer = data = self._buffer + data if self._buffer else data
        if not self._requests.answer_end(data):
            return
        self._buffer = b""
        self.seconds.append(time.perf_counter() - self._asked_at)
        if self._requests.good(data):
            self.operations += self._requests.operations
        else:
            self.failed += self._requests.operations
            self.bad = data[:300]
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, or a failed connection."""
        if exc is not None or (time.perf_counter() < self._until and self._buffer):
            self.failed += 1
        if not self.ended.done():
            self.ended.set_result(None)


async def run(asked: argparse.Namespace) -> dict[str, float]:
    """One measurement."""
    loop = asyncio.get_running_loop()
    kind = RedisRequests if asked.mode.startswith("redis") else HttpRequests
    owned = owner_of(asked.addresses, asked.aware)
    began = time.perf_counter()
    until = began + asked.seconds
    connections = []
    for index in range(asked.connections):
        address = asked.addresses[index % len(asked.addresses)]
        host, _, port = address.rpartition(":")
        connection = Connection(kind(asked, index, owned(address)), until)
        await asyncio.wait_for(
            loop.create_connection(lambda c=connection: c, host, int(port)), CONNECT_S_MAX
        )
        connections.append(connection)
    await asyncio.wait([c.ended for c in connections], timeout=asked.seconds + REST_S_MAX)
    seconds = time.perf_counter() - began
    hung = sum(not c.ended.done() for c in connections)
    latencies = sorted(s for c in connections for s in c.seconds) or [0.0]
    for bad in [c.bad for c in connections if c.bad][:FAILURES_SHOWN_MAX]:
        print(bad.decode("latin-1"))
    part = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    return {
        "operations": sum(c.operations for c in connections),
        "seconds": seconds,
        "failed": sum(c.failed for c in connections) + hung,
        **{n: round(1e3 * latencies[int(p * (len(latencies) - 1))], 3) for n, p in part.items()},
    }


def main() -> None:
    """Reads the command line, prints the line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=48)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--prefix", default="new-")
    parser.add_argument("--query", default="")
    parser.add_argument("--aware", action="store_true", help="ask an owner of the key")
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
