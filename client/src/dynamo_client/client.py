"""The two clients: they carry out steps and decide nothing. One HTTP library below both: httpx."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar, Unpack

import httpx

from dynamo_client.answers import BatchResult, Found, Stored
from dynamo_client.attempts import Attempts
from dynamo_client.batch import BatchOptions, Op, batch
from dynamo_client.merges import Merge
from dynamo_client.operations import (
    DeleteOptions,
    Key,
    Operations,
    PutOptions,
    ReadOptions,
    UpdateOptions,
)
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps, T
from dynamo_core.ring import Ring

CONNECT_S_MAX = 1.0
CONNECTIONS_MAX = 32
"""Of one client; more wait for one. The pool of httpx slows down with the square of it."""
NEVER_SENT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)  # fmt: skip
H = TypeVar("H", httpx.Client, httpx.AsyncClient)


def http_options(timeout_s: float) -> dict[str, Any]:
    """For an httpx client: no proxies of the environment, they are not meant for databases."""
    connect_s = min(timeout_s, CONNECT_S_MAX)
    return {
        "timeout": httpx.Timeout(timeout_s, connect=connect_s, pool=None),
        "limits": httpx.Limits(max_connections=CONNECTIONS_MAX),
        "trust_env": False,
    }


def sent(ask: Ask) -> dict[str, Any]:
    """A request in httpx's words."""
    return {
        "method": ask.method, "url": ask.url, "headers": ask.headers, "content": ask.content
    }  # fmt: skip


def reply_of(response: httpx.Response) -> Reply:
    """What the steps know of an answer."""
    return Reply(response.status_code, response.headers, response.content)


def failure_of(error: Exception) -> Failure:
    """What the steps know of a failure: whether the request may have arrived."""
    return Failure(not isinstance(error, NEVER_SENT), f"{type(error).__name__}: {error}")


class _Client(Generic[H]):
    """What both have in common."""

    _kind: type[H]

    def __init__(
        self, *endpoints: str, timeout_s: float = 2.0, attempts_max: int = 5, routing: bool = True
    ) -> None:
        if not timeout_s > 0:
            raise ValueError("timeout_s: more than 0")
        if attempts_max < 1:
            raise ValueError("attempts_max: 1 at least")
        routes = Routes(endpoints, routing, time.monotonic)
        self._operations = Operations(Attempts(routes, attempts_max, random.random), timeout_s)
        self._http: H = self._kind(**http_options(timeout_s))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs that the client was given; with routing it asks the members of the ring too."""
        return self._operations.attempts.routes.endpoints


class DynamoClient(_Client[httpx.Client]):
    """A client that blocks; threads may share it, processes that fork may not.

    `endpoints` are base URLs of client listeners, any of them, in order of preference.
    `timeout_s` is how long one attempt waits in silence, for the answer or for more of it;
    `attempts_max` is how many an operation has at most. Where all are silent, and so is who is
    asked for the ring, a get or put ends after attempts_max * 2 * timeout_s and the pauses between:
    back-off of 2 s each at most, or what a node asks for by Retry-After, of 10 s at most.
    `routing` fetches the ring and asks owners of a key first [P 6.4]; without it only the
    endpoints are asked. ValueError for options out of range; every method raises ClientError.
    """

    _kind = httpx.Client

    def get(self, key: Key, **how: Unpack[ReadOptions]) -> Found:
        """Reads all versions of a key; none is no error."""
        return self._run(self._operations.get(key, **how))

    def put(self, key: Key, data: bytes | str, **how: Unpack[PutOptions]) -> Stored:
        """Writes one value; it takes the place of what `context` has seen."""
        return self._run(self._operations.put(key, data, **how))

    def delete(self, key: Key, **how: Unpack[DeleteOptions]) -> Stored:
        """Deletes what `context` has seen, or without one what is there."""
        return self._run(self._operations.delete(key, **how))

    def batch(self, operations: Sequence[Op], **how: Unpack[BatchOptions]) -> list[BatchResult]:
        """Many gets, puts and deletes in few requests; each result has its own error."""
        return self._run(batch(self._operations, operations, **how))

    def update(self, key: Key, merge: Merge, **how: Unpack[UpdateOptions]) -> Stored:
        """Reads, merges siblings and a change (see `merges`), writes; nothing is lost meanwhile."""
        return self._run(self._operations.update(key, merge, **how))

    def ring(self) -> Ring:
        """The ring document, fetched now."""
        return self._run(self._operations.ring())

    def close(self) -> None:
        """Closes the connections. Whatever is asked afterwards is a RuntimeError."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        heard: Reply | Failure | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                result: T = end.value
                return result
            heard = self._do(step)

    def _do(self, step: Ask | Pause) -> Reply | Failure | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return reply_of(self._http.request(**sent(step)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return failure_of(error)


class AsyncDynamoClient(_Client[httpx.AsyncClient]):
    """The same for asyncio: methods, options and errors as those of DynamoClient. Tasks of one
    event loop may share it. A write that is cancelled may have been stored."""

    _kind = httpx.AsyncClient

    async def get(self, key: Key, **how: Unpack[ReadOptions]) -> Found:
        """As DynamoClient.get."""
        return await self._run(self._operations.get(key, **how))

    async def put(self, key: Key, data: bytes | str, **how: Unpack[PutOptions]) -> Stored:
        """As DynamoClient.put."""
        return await self._run(self._operations.put(key, data, **how))

    async def delete(self, key: Key, **how: Unpack[DeleteOptions]) -> Stored:
        """As DynamoClient.delete."""
        return await self._run(self._operations.delete(key, **how))

    async def batch(
        self, operations: Sequence[Op], **how: Unpack[BatchOptions]
    ) -> list[BatchResult]:
        """As DynamoClient.batch."""
        return await self._run(batch(self._operations, operations, **how))

    async def update(self, key: Key, merge: Merge, **how: Unpack[UpdateOptions]) -> Stored:
        """As DynamoClient.update."""
        return await self._run(self._operations.update(key, merge, **how))

    async def ring(self) -> Ring:
        """As DynamoClient.ring."""
        return await self._run(self._operations.ring())

    async def aclose(self) -> None:
        """As DynamoClient.close."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        heard: Reply | Failure | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                result: T = end.value
                return result
            heard = await self._do(step)

    async def _do(self, step: Ask | Pause) -> Reply | Failure | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return reply_of(await self._http.request(**sent(step)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return failure_of(error)
