"""The HTTP connections of a client under asyncio; interface and limits are those of `pool`.

If a call is cancelled inside httpcore, one of its connections may stay in a broken state for ever.
So a pool with many cancelled calls is replaced by a new one. A pool belongs to one process and one
event loop: after a fork, or in a new loop after the old one was closed, there is a new pool.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import httpcore

from dynamo_client.errors import WrongUse
from dynamo_client.pool import (
    CONNECTIONS_MAX,
    HTTP_ERRORS,
    NO_SLOT,
    PROGRESS_S,
    Pool,
    failure_of,
    reply_of,
    request_of,
)
from dynamo_client.steps import Ask, Failure, Reply

INTERRUPTED_MAX = 16
"""After this many cancelled calls the pool is replaced."""
CLOSE_S_MAX = 5.0
MARGIN_S = 0.05
"""httpcore's timeouts end this much before the client's, because they keep the pool intact."""


class _LoopPool:
    """One pool of httpcore, for one event loop in one process."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.http = httpcore.AsyncConnectionPool(**options)
        self.slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self.ended = self.under_way = self.interrupted = 0
        self.retired = False


class AsyncPool(Pool):
    """The connections of a client under asyncio. Tasks of one event loop may share it."""

    def _begin(self) -> None:
        self._pool: _LoopPool | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, ask: Ask) -> Reply | Failure:
        """The answer, or the reason why there is none, within `ask.whole_s`. Raises WrongUse if
        it is closed, or in a second event loop while the first one runs."""
        ends_at = asyncio.get_running_loop().time() + ask.whole_s
        pool = await self._slot(ends_at, max(ask.timeout_s, PROGRESS_S))
        if pool is None:
            return NO_SLOT
        pool.under_way += 1
        try:
            return await self._send(pool, ask, min(ends_at, pool.loop.time() + ask.timeout_s))
        finally:
            pool.under_way -= 1
            pool.ended += 1
            pool.slots.release()
            if pool.retired and not pool.under_way:
                self._spawn(_closed(pool.http))

    async def _slot(self, ends_at: float, patience_s: float) -> _LoopPool | None:
        """A pool in which the caller has a place now; None if no place became free in time."""
        while True:
            pool = self._current()
            ended, now = pool.ended, pool.loop.time()
            if now >= ends_at:
                return None
            try:
                async with asyncio.timeout_at(min(ends_at, now + patience_s)):
                    await pool.slots.acquire()
                return pool
            except TimeoutError:
                if pool.ended == ended:
                    self.renew(pool)  # no call of this pool ends any more
                patience_s *= 2

    async def _send(self, pool: _LoopPool, ask: Ask, ends_at: float) -> Reply | Failure:
        left_s = ends_at - pool.loop.time()
        if left_s <= 0:
            return NO_SLOT
        self._authorities.look()
        try:
            async with asyncio.timeout_at(ends_at + MARGIN_S):
                response = await pool.http.request(**request_of(ask, self._headers, left_s))
        except (*HTTP_ERRORS, UnicodeError) as error:
            return failure_of(error)
        except TimeoutError:
            self._interrupted(pool)
            return Failure(True, "ReadTimeout: the answer was not complete in time")
        except BaseException:
            self._interrupted(pool)
            raise
        return reply_of(response, response.content)

    def _interrupted(self, pool: _LoopPool) -> None:
        pool.interrupted += 1
        if pool.interrupted >= INTERRUPTED_MAX:
            self.renew(pool)

    def _current(self) -> _LoopPool:
        if self._closed:
            raise WrongUse("the client is closed")
        pool = self._pool
        if pool is not None and pool.process == os.getpid():
            if pool.loop is asyncio.get_running_loop():
                return pool
            if not pool.loop.is_closed():
                raise WrongUse("this client belongs to another event loop; make one in each loop")
        self._pool = pool = _LoopPool(self._options)
        return pool

    def renew(self, old: object = None) -> None:
        """The next call uses new connections; calls under way end on the old ones."""
        pool = self._pool
        if pool is None or old not in (None, pool):
            return
        self._pool, pool.retired = None, True
        if not pool.under_way:
            self._spawn(_closed(pool.http))

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes the connections."""
        self._closed = True
        pool, self._pool = self._pool, None
        here = pool is not None and pool.process == os.getpid()
        if pool is not None and here and pool.loop is asyncio.get_running_loop():
            await _closed(pool.http)
        if self._closing:
            await asyncio.wait(self._closing)


async def _closed(http: httpcore.AsyncConnectionPool) -> None:
    """Closes the rest; a connection that cannot be closed in time is left to the collector."""
    with suppress(TimeoutError, *HTTP_ERRORS, OSError, RuntimeError):
        async with asyncio.timeout(CLOSE_S_MAX):
            await http.aclose()
