"""The naive design that dynamo-ring is compared with: a first version, written honestly.

FastAPI handlers on every node. A put increments this node's entry in a vector clock and sends the
new version to the two peers by HTTP, one Task for each, over kept-alive connections; it is done
when two of three copies exist (N=3, W=2). A get asks all three and answers after two answers (R=2);
concurrent versions are a list. Records are in RocksDB: the clock as JSON, a newline, the value. It
calls peers with aiohttp if installed; otherwise with httpx, which is about ten times slower.

It has no hints, no repair, no membership, no limits: it does less than dynamo-ring, not more.

    python app.py --name a --port 9001 --peers http://127.0.0.1:9002,http://127.0.0.1:9003 --dir d
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from rocksdict import Options, Rdict, WriteOptions

try:
    import aiohttp
except ImportError:
    aiohttp = None  # type: ignore[assignment]
    import httpx

R, W = 2, 2
CONNECTIONS_MAX = 64
Clock = dict[str, int]
CLOCK = "x-vector-clock"


def descends(a: Clock, b: Clock) -> bool:
    """Whether a has seen everything that b has seen."""
    return all(a.get(node, 0) >= count for node, count in b.items())


class Replica:
    """This node's copies."""

    def __init__(self, directory: str, sync: bool) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._db = Rdict(directory, options)
        self._write = WriteOptions()
        self._write.sync = sync

    def read(self, key: str) -> tuple[Clock, bytes] | None:
        row = self._db.get(key.encode())
        if row is None:
            return None
        clock, _, value = row.partition(b"\n")
        return json.loads(clock), value

    def write(self, key: str, clock: Clock, value: bytes) -> None:
        """Keeps the newer version; a real store would keep siblings here."""
        held = self.read(key)
        if held is None or not descends(held[0], clock):
            self._db.put(key.encode(), json.dumps(clock).encode() + b"\n" + value, self._write)

    def fill(self, keys: int) -> None:
        """The known keys of the benchmark, as if node n0 had written each once."""
        for key in range(keys):
            self._db.put(b"key-%d" % key, b'{"n0": 1}\n' + b"v" * 1024)


async def first(wanted: int, calls: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The first results of calls that run as Tasks; the others go on."""
    waiting = {asyncio.create_task(call) for call in calls}
    results: list[Any] = []
    while waiting and len(results) < wanted:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        results += [task.result() for task in done if task.exception() is None]
    return results


class AiohttpPeer:
    """One peer, called with aiohttp."""

    def __init__(self, url: str) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        self._session = aiohttp.ClientSession(url, connector=connector)
        self.close = self._session.close

    async def store(self, key: str, clock: Clock, value: bytes) -> None:
        headers = {CLOCK: json.dumps(clock)}
        async with self._session.put(f"/replica/{key}", data=value, headers=headers) as answer:
            answer.raise_for_status()

    async def fetch(self, key: str) -> tuple[Clock, bytes] | None:
        async with self._session.get(f"/replica/{key}") as answer:
            found = answer.status == 200
            return (json.loads(answer.headers[CLOCK]), await answer.read()) if found else None


class HttpxPeer:
    """One peer, called with httpx."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(
            max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX
        )
        self._client = httpx.AsyncClient(base_url=url, limits=limits)
        self.close = self._client.aclose

    async def store(self, key: str, clock: Clock, value: bytes) -> None:
        headers = {CLOCK: json.dumps(clock)}
        answer = await self._client.put(f"/replica/{key}", content=value, headers=headers)
        answer.raise_for_status()

    async def fetch(self, key: str) -> tuple[Clock, bytes] | None:
        answer = await self._client.get(f"/replica/{key}")
        return (json.loads(answer.headers[CLOCK]), answer.content) if answer.is_success else None


def naive_app(name: str, replica: Replica, urls: list[str]) -> FastAPI:
    peers: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        peers.extend(map(HttpxPeer if aiohttp is None else AiohttpPeer, urls))
        yield
        for peer in peers:
            await peer.close()

    app = FastAPI(lifespan=lifespan)

    @app.put("/v1/kv/{key}", status_code=204)
    async def put(key: str, request: Request) -> Response:
        value = await request.body()
        held = replica.read(key)
        clock = dict(held[0]) if held else {}
        clock.update(json.loads(request.headers.get(CLOCK, "{}")))
        clock[name] = clock.get(name, 0) + 1
        replica.write(key, clock, value)
        acks = await first(W - 1, [peer.store(key, clock, value) for peer in peers])
        status = 204 if len(acks) >= W - 1 else 503
        return Response(status_code=status, headers={CLOCK: json.dumps(clock)})

    @app.get("/v1/kv/{key}")
    async def get(key: str) -> Response:
        others = await first(R - 1, [peer.fetch(key) for peer in peers])
        if len(others) < R - 1:
            return Response(status_code=503)
        versions = [version for version in (replica.read(key), *others) if version is not None]
        newest = [
            v for v in versions if not any(o[0] != v[0] and descends(o[0], v[0]) for o in versions)
        ]
        distinct = {json.dumps(clock, sort_keys=True): value for clock, value in newest}
        if not distinct:
            return Response(status_code=404)
        if len(distinct) > 1:
            return Response(json.dumps([v.decode("latin-1") for v in distinct.values()]), 300)
        (clock, value), *_ = distinct.items()
        return Response(value, headers={CLOCK: clock})

    @app.put("/replica/{key}", status_code=204)
    async def store(key: str, request: Request) -> Response:
        replica.write(key, json.loads(request.headers[CLOCK]), await request.body())
        return Response(status_code=204)

    @app.get("/replica/{key}")
    async def fetch(key: str) -> Response:
        held = replica.read(key)
        if held is None:
            return Response(status_code=404)
        return Response(held[1], headers={CLOCK: json.dumps(held[0])})

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--peers", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--sync", action="store_true")
    parser.add_argument("--fill", type=int, default=0)
    asked = parser.parse_args()
    replica = Replica(asked.dir, asked.sync)
    replica.fill(asked.fill)
    app = naive_app(asked.name, replica, asked.peers.split(","))
    uvicorn.run(app, port=asked.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
