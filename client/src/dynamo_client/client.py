"""The blocking client, and the common part of both clients: they carry out steps."""

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
from dynamo_client.operations import DEADLINE_S, Operations, sendable
from dynamo_client.pool import BlockingPool
from dynamo_client.request_options import DeleteOptions, Key, PutOptions, ReadOptions, UpdateOptions
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps, T
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.token_file import TokenFile
from dynamo_core.ring.document import Ring

if TYPE_CHECKING:  # asyncio takes long to load, and a blocking command does not need it
    from dynamo_client.async_pool import AsyncPool

P = TypeVar("P", "BlockingPool", "AsyncPool")


class Client(Generic[P]):
    """The common part of both clients; `_kind` is the class of the connections."""

    _kind: type[P]

    def __init__(
        self,
        *endpoints: str,
        timeout_s: float = 2.0,
        attempts_max: int = 5,
        routing: bool = True,
        deadline_s: float = DEADLINE_S,
        traceparent: str = "",
        tls: Tls = SYSTEM,
        token_file: str | Path | TokenFile | None = None,
    ) -> None:
        """`token_file`: the token for nodes that ask for one, read again when it changes. Raises
        BadParameter."""
        for name, seconds in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if not (isinstance(seconds, int | float) and 0 < seconds < inf):
                raise BadParameter(f"{name}: needs seconds above 0, not {seconds!r}")
        if not (isinstance(attempts_max, int) and attempts_max >= 1):
            raise BadParameter(f"attempts_max: must be at least 1, not {attempts_max!r}")
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
        """The given base URLs; with routing, the client asks the members of the ring too."""
        return self._operations.attempts.routes.endpoints


class DynamoClient(Client[BlockingPool]):
    """The blocking client. Threads may share it. After a fork both processes may use it; each has
    separate connections.

    `endpoints` are base URLs of any client listeners, `http://host:port`, in order of preference.
    `timeout_s` is the maximum time of one attempt, `attempts_max` the maximum number of attempts of
    an operation, `deadline_s` the maximum time of the operation with all attempts and pauses; each
    method has its own `deadline_s` too. `tls` says which authorities the client trusts for
    `https://`; members of the ring have the scheme of the first endpoint. With `routing`, the
    client fetches the ring and asks owners of a key first [P 6.4]; without it, it asks only the
    endpoints. `traceparent` goes with every operation that has none itself (W3C Trace Context).
    Raises BadParameter for a value out of range; every method raises ClientError.
    """

    _kind = BlockingPool

    def get(self, key: Key, **how: Unpack[ReadOptions]) -> Found:
        """Reads all versions of a key; a key without a value is no error."""
        return self._run(self._operations.get(key, **how))

    def put(self, key: Key, data: bytes | str, **how: Unpack[PutOptions]) -> Stored:
        """Writes one value; it replaces the versions that `context` has seen."""
        return self._run(self._operations.put(key, data, **how))

    def delete(self, key: Key, **how: Unpack[DeleteOptions]) -> Stored:
        """Deletes the versions that `context` has seen; without a context, the present ones."""
        return self._run(self._operations.delete(key, **how))

    def batch(self, operations: Sequence[Op], **how: Unpack[BatchOptions]) -> list[BatchResult]:
        """Many gets, puts and deletes in few requests; each result has its own error."""
        return self._run(batch(self._operations, operations, **how))

    def update(self, key: Key, merge: Merge, **how: Unpack[UpdateOptions]) -> Stored:
        """Reads, merges siblings and a change (see `merges`), writes; loses no concurrent write."""
        return self._run(self._operations.update(key, merge, **how))

    def ring(self, deadline_s: float | None = None) -> Ring:
        """The ring document, fetched now."""
        return self._run(self._operations.ring(deadline_s))

    def close(self) -> None:
        """Closes the connections. Later calls raise WrongUse."""
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
