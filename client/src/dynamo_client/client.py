"""The client that blocks, and what both have in common: they carry out steps, decide nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar, Unpack

from dynamo_client.answers import BatchResult, Found, Stored
from dynamo_client.attempts import Attempts
from dynamo_client.batch import BatchOptions, Op, batch
from dynamo_client.errors import BadParameter
from dynamo_client.merges import Merge
from dynamo_client.operations import (
    DEADLINE_S,
    DeleteOptions,
    Key,
    Operations,
    PutOptions,
    ReadOptions,
    UpdateOptions,
    sendable,
)
from dynamo_client.pool import BlockingPool
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps, T
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.token_file import TokenFile
from dynamo_core.ring.document import Ring

if TYPE_CHECKING:  # asyncio takes a moment, which a command line that blocks need not spend
    from dynamo_client.async_pool import AsyncPool

P = TypeVar("P", "BlockingPool", "AsyncPool")


class Client(Generic[P]):
    """What both have in common; `_kind` is whose connections it uses."""

    _kind: type[P]

    def __init__(
        self, *endpoints: str, timeout_s: float = 2.0, attempts_max: int = 5, routing: bool = True,
        deadline_s: float = DEADLINE_S, traceparent: str = "", tls: Tls = SYSTEM,
        token_file: str | Path | TokenFile | None = None,
    ) -> None:  # fmt: skip
        """`token_file`: what nodes that ask for one are shown, read again when it changes. Raises
        BadParameter."""
        for name, seconds in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if not (isinstance(seconds, int | float) and 0 < seconds < inf):
                raise BadParameter(f"{name}: wants seconds above 0, not {seconds!r}")
        if not (isinstance(attempts_max, int) and attempts_max >= 1):
            raise BadParameter(f"attempts_max: 1 at least, not {attempts_max!r}")
        routes = Routes(endpoints, routing, time.monotonic)
        attempts = Attempts(
            routes, attempts_max, random.random, timeout_s, traceparent=sendable(traceparent)
        )
        self._operations = Operations(attempts, deadline_s)
        if token_file is not None and not isinstance(token_file, TokenFile):
            token_file = TokenFile(token_file)
        self._pool: P = self._kind(routes.endpoints, tls=tls, token_file=token_file)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs that the client was given; with routing it asks the members of the ring too."""
        return self._operations.attempts.routes.endpoints


class DynamoClient(Client[BlockingPool]):
    """A client that blocks. Threads may share it. After a fork both processes may use it; each has
    separate connections.

    `endpoints` are base URLs of client listeners, `http://host:port`, any of them, in order of
    preference. `timeout_s` is how long one attempt may take, `attempts_max` how many an operation
    has at most, `deadline_s` how long all of it may take, pauses included; each method takes its
    own `deadline_s` too. `tls` says whom `https://` believes; members of the ring are asked by the
    scheme of the first endpoint. `routing` fetches the ring and asks owners of a key first [P 6.4];
    without it only the endpoints are asked. `traceparent` goes with every operation that brings
    none itself (W3C Trace Context). BadParameter for what is out of range; every method raises
    ClientError.
    """

    _kind = BlockingPool

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

    def ring(self, deadline_s: float | None = None) -> Ring:
        """The ring document, fetched now."""
        return self._run(self._operations.ring(deadline_s))

    def close(self) -> None:
        """Closes the connections. What is asked afterwards is WrongUse."""
        self._pool.close()

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
        return self._pool.ask(step)
