"""The HTTP connections of one client: bounded waits, and a new pool where the old one is in doubt.

Below is httpx. A call that is cancelled or interrupted inside it may leave one of its connections
in a state that nobody repairs, and a limit of connections would count it for ever. So the limit is
ours (`slots`), in front of a pool without a limit; and a pool in which calls were interrupted is
thrown away and made anew. A pool belongs to one process and, under asyncio, to one event loop:
after a fork, or in a new loop when the old one is closed, there is a new one.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import httpx

from dynamo_client.errors import WrongUse
from dynamo_client.steps import Ask, Failure, Reply

CONNECT_S_MAX = 1.0
CONNECTIONS_MAX = 32
"""Of one client; further calls wait for one, as long as their deadline lets them."""
INTERRUPTED_MAX = 16
"""Calls that were cancelled on their way; after so many the pool is made anew."""
CLOSE_S_MAX = 5.0
MARGIN_S = 0.05
"""httpx's own timeouts come so much before ours, as they leave the pool whole."""
NEVER_SENT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)  # fmt: skip
_NO_SLOT = Failure(False, f"none of {CONNECTIONS_MAX} connections became free in time")


def _options(urls: Sequence[str], headers: dict[str, str]) -> dict[str, Any]:
    """For an httpx client: no proxies of the environment, they are not meant for databases; no
    files of authorities are read where nothing is encrypted."""
    secure = any(url.startswith("https:") for url in urls)
    return {
        "headers": headers,
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS_MAX),
        "trust_env": False,
        "verify": httpx.create_ssl_context(trust_env=False) if secure else False,
    }


def _sent(ask: Ask, left_s: float) -> dict[str, Any]:
    """A request in httpx's words; `left_s` bounds each of its waits."""
    timeout = httpx.Timeout(left_s, connect=min(left_s, CONNECT_S_MAX), pool=left_s)
    headers, content = dict(ask.headers), ask.content
    return {
        "method": ask.method, "url": ask.url, "headers": headers, "content": content,
        "timeout": timeout,
    }  # fmt: skip


def _failure_of(error: Exception) -> Failure:
    """What the steps know of a failure: whether the request may have arrived."""
    reason = str(error) or "no answer in time"
    return Failure(not isinstance(error, NEVER_SENT), f"{type(error).__name__}: {reason}")


class _BlockingPool:
    """One httpx client of one process."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.http = httpx.Client(**options)
        self.slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self.process = os.getpid()
        self.ended = 0


class BlockingPool:
    """The connections of a client that blocks. Threads may share it."""

    def __init__(self, urls: Sequence[str], headers: dict[str, str] | None = None) -> None:
        self._options = _options(urls, headers or {})
        self._pool: _BlockingPool | None = None
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, ask: Ask) -> Reply | Failure:
        """The answer, or why there is none, within `ask.timeout_s`. Raises WrongUse when closed."""
        ends_at = time.monotonic() + ask.timeout_s
        pool = self._current()
        ended = pool.ended
        if not pool.slots.acquire(timeout=max(0.0, ask.timeout_s)):
            if pool.ended == ended:
                self.renew(pool)  # nothing ends there any more
            return _NO_SLOT
        try:
            return self._send(pool, ask, ends_at)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _failure_of(error)
        except BaseException:
            # An exception out of a signal handler, say, in the middle of a request.
            self.renew(pool)
            raise
        finally:
            pool.ended += 1
            pool.slots.release()

    @staticmethod
    def _send(pool: _BlockingPool, ask: Ask, ends_at: float) -> Reply | Failure:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return _NO_SLOT
        body = bytearray()
        with pool.http.stream(**_sent(ask, left_s)) as response:
            for part in response.iter_bytes():
                body += part
                if time.monotonic() > ends_at:
                    return Failure(True, "ReadTimeout: the answer did not end in time")
        return Reply(response.status_code, response.headers, bytes(body))

    def _current(self) -> _BlockingPool:
        if self._closed:
            raise WrongUse("the client is closed")
        pool = self._pool
        if pool is not None and pool.process == os.getpid():
            return pool
        if pool is not None and pool.process != os.getpid():
            self._lock = threading.Lock()  # another thread may have held it at the fork
        with self._lock:
            if self._pool is pool:
                # The old one is not closed: its connections are the parent's.
                self._pool = _BlockingPool(self._options)
            assert self._pool is not None
            return self._pool

    def renew(self, old: object = None) -> None:
        """The next call finds new connections; calls under way end on the old ones."""
        with self._lock:
            if old is None or self._pool is old:
                self._pool = None

    def close(self) -> None:
        """Closes the connections."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None and pool.process == os.getpid():
            pool.http.close()


class _LoopPool:
    """One httpx client of one event loop in one process."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.http = httpx.AsyncClient(**options)
        self.slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self.loop = asyncio.get_running_loop()
        self.process = os.getpid()
        self.ended = self.under_way = self.interrupted = 0
        self.retired = False


class AsyncPool:
    """The connections of a client under asyncio. Tasks of one event loop may share it."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._options = _options(urls, {})
        self._pool: _LoopPool | None = None
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, ask: Ask) -> Reply | Failure:
        """The answer, or why there is none, within `ask.timeout_s`. Raises WrongUse when closed,
        or in a second event loop while the first one lives."""
        pool = self._current()
        ended = pool.ended
        ends_at = pool.loop.time() + ask.timeout_s
        try:
            async with asyncio.timeout_at(ends_at):
                await pool.slots.acquire()
        except TimeoutError:
            if pool.ended == ended:
                self.renew(pool)  # nothing ends there any more
            return _NO_SLOT
        pool.under_way += 1
        try:
            return await self._send(pool, ask, ends_at)
        finally:
            pool.under_way -= 1
            pool.ended += 1
            pool.slots.release()
            if pool.retired and not pool.under_way:
                self._spawn(_closed(pool.http))

    async def _send(self, pool: _LoopPool, ask: Ask, ends_at: float) -> Reply | Failure:
        left_s = ends_at - pool.loop.time()
        if left_s <= 0:
            return _NO_SLOT
        try:
            async with asyncio.timeout_at(ends_at + MARGIN_S):
                response = await pool.http.request(**_sent(ask, left_s))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _failure_of(error)
        except TimeoutError:
            self._interrupted(pool)
            return Failure(True, "ReadTimeout: the answer did not end in time")
        except BaseException:
            self._interrupted(pool)
            raise
        return Reply(response.status_code, response.headers, response.content)

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
                raise WrongUse("this client belongs to another event loop; make one in each")
        self._pool = pool = _LoopPool(self._options)
        return pool

    def renew(self, old: object = None) -> None:
        """The next call finds new connections; calls under way end on the old ones."""
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


async def _closed(http: httpx.AsyncClient) -> None:
    """Closes what is left; a connection that cannot be closed in time is left to the collector."""
    with suppress(TimeoutError, httpx.HTTPError, OSError, RuntimeError):
        async with asyncio.timeout(CLOSE_S_MAX):
            await http.aclose()
