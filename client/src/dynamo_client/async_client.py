"""The client under asyncio: it carries out steps and makes no decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self, Unpack

from dynamo_client.answers import BatchResult, Found, Stored
from dynamo_client.async_pool import AsyncPool
from dynamo_client.batch import BatchOptions, Op, batch
from dynamo_client.client import Client
from dynamo_client.merges import Merge
from dynamo_client.request_options import DeleteOptions, Key, PutOptions, ReadOptions, UpdateOptions
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps, T
from dynamo_core.ring.document import Ring


class AsyncDynamoClient(Client[AsyncPool]):
    """DynamoClient for asyncio: the same methods, options and errors. Tasks of one event loop may
    share it; using it in a second loop while the first one runs raises WrongUse. A cancelled write
    may have been stored."""

    _kind = AsyncPool

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

    async def ring(self, deadline_s: float | None = None) -> Ring:
        """As DynamoClient.ring."""
        return await self._run(self._operations.ring(deadline_s))

    async def aclose(self) -> None:
        """As DynamoClient.close."""
        await self._pool.aclose()

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
        return await self._pool.ask(step)
