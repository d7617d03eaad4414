"""The HTTP connections of a blocking client: bounded waits, and a new pool if the old one may be
broken. `async_pool` has those of a client under asyncio.

The library is httpcore. If a call is interrupted inside it, one of its connections may stay in a
broken state, and a limit of connections would count it for ever. So the limit is ours (`slots`), in
front of a pool without a limit; and a pool with interrupted calls is replaced by a new one. A pool
belongs to one process: after a fork there is a new pool. Each wait on a socket ends at the deadline
of its request, even if the answer arrives byte by byte.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpcore

from dynamo_client.errors import WrongUse
from dynamo_client.steps import Ask, Failure, Reply
from dynamo_client.tls import SYSTEM, CaWatch, Tls
from dynamo_client.token_file import TokenFile

CONNECT_S_MAX = 1.0
CONNECTIONS_MAX = 32
"""Connections of one client; further calls wait for a free one until their deadline. That wait is
no part of an attempt. Else the calls that have waited longest have the least time left, and are cut
off on the connection for which they have waited."""
PROGRESS_S = 2.0
"""If no call has ended for this time, or for that of an attempt if it is longer, while others wait,
the client makes a new pool. A call that has waited this long while others ended looks again after
twice the time, because each look costs its place in the queue."""
KEPT_S = 5.0
"""How long an idle connection stays open."""
WRITE_BYTES = 65_536
"""Bytes given to a socket at once; the deadline is checked before each part."""
NEVER_SENT = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.UnsupportedProtocol,
)
HTTP_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)
NO_SLOT = Failure(False, f"none of {CONNECTIONS_MAX} connections became free in time", asked=False)


def pool_options(urls: Sequence[str], tls: Tls = SYSTEM) -> dict[str, Any]:
    """Options of a pool of httpcore. It ignores proxies of the environment, which are not meant for
    databases. It reads files of authorities only if something is encrypted. Raises BadParameter."""
    made: dict[str, Any] = {
        "max_connections": None,
        "max_keepalive_connections": CONNECTIONS_MAX,
        "keepalive_expiry": KEPT_S,
    }
    if any(url.startswith("https:") for url in urls):
        made["ssl_context"] = tls.context()
    return made


def request_of(ask: Ask, more: dict[str, str], left_s: float) -> dict[str, Any]:
    """A request in the form of httpcore; `left_s` bounds each of its waits."""
    parts = urlsplit(ask.url)
    host = (parts.hostname or "").encode("ascii" if ask.url.isascii() else "idna")
    near = b"[%b]" % host if b":" in host else host
    target = (parts.path or "/") + f"?{parts.query}" * bool(parts.query)
    headers = {"Accept": "*/*", **more, **ask.headers}
    timeout = {"connect": min(left_s, CONNECT_S_MAX), "read": left_s, "write": left_s}
    return {
        "method": ask.method,
        "url": httpcore.URL(scheme=parts.scheme, host=host, port=parts.port, target=target),
        "headers": [
            (b"Host", near if parts.port is None else b"%b:%d" % (near, parts.port)),
            *((name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()),
        ],
        "content": ask.content if ask.content or ask.method in ("PUT", "POST") else None,
        "extensions": {"timeout": {**timeout, "pool": left_s}},
    }


def reply_of(response: httpcore.Response, body: bytes) -> Reply:
    """The answer, with its headers by name."""
    headers: dict[str, str] = {}
    for raw, value in response.headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Reply(response.status, headers, body)


def failure_of(error: Exception) -> Failure:
    """A failure for the steps: it says whether the request may have arrived."""
    reason = str(error) or "no answer in time"
    return Failure(not isinstance(error, NEVER_SENT), f"{type(error).__name__}: {reason}")


class _Deadline(threading.local):
    """When the request of this thread ends. Every read and write of a request is in one thread."""

    ends_at = 0.0

    def left_s(self, timeout: float | None) -> float:
        """The maximum time of a wait; 0 after the end."""
        left = max(0.001, self.ends_at - time.monotonic())
        return left if timeout is None else min(timeout, left)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.ends_at


class _Stream(httpcore.NetworkStream):
    """A socket whose waits end at the deadline of the waiting request."""

    def __init__(self, below: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._below, self._deadline = below, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As httpcore has it."""
        if self._deadline.over:
            raise httpcore.ReadTimeout("the answer was not complete in time")
        return self._below.read(max_bytes, self._deadline.left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As httpcore has it."""
        for at in range(0, len(buffer), WRITE_BYTES):
            if self._deadline.over:
                raise httpcore.WriteTimeout("the node did not read the request in time")
            part = buffer[at : at + WRITE_BYTES]
            self._below.write(part, self._deadline.left_s(timeout))

    def close(self) -> None:
        """As httpcore has it."""
        self._below.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """As httpcore has it."""
        left = self._deadline.left_s(timeout)
        return _Stream(self._below.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """As httpcore has it."""
        return self._below.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    """Connections whose waits end at the deadline of the request."""

    def __init__(self, deadline: _Deadline) -> None:
        self._below, self._deadline = httpcore.SyncBackend(), deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore has it."""
        left = self._deadline.left_s(timeout)
        made = self._below.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(made, self._deadline)


class _BlockingPool:
    """One pool of httpcore, for one process."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.deadline = _Deadline()
        network = _Network(self.deadline)
        self.http = httpcore.ConnectionPool(**options, network_backend=network)
        self.slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self.process = os.getpid()
        self.ended = 0


class Pool:
    """What both kinds of pools know: whom they may dial, and how each request shows who asks."""

    def __init__(
        self,
        urls: Sequence[str],
        headers: dict[str, str] | None = None,
        tls: Tls = SYSTEM,
        token_file: TokenFile | None = None,
    ) -> None:
        self._options, self._fixed = pool_options(urls, tls), headers or {}
        self._authorities = CaWatch(tls, self._options.get("ssl_context"))
        self._token_file = token_file
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Nothing is dialled yet."""
        raise AssertionError("each kind of pool has its own connections")

    @property
    def _headers(self) -> dict[str, str]:
        return self._fixed if self._token_file is None else self._token_file.headers()


class BlockingPool(Pool):
    """The connections of a blocking client. Threads may share it."""

    def _begin(self) -> None:
        self._pool: _BlockingPool | None = None
        self._lock = threading.Lock()

    def ask(self, ask: Ask) -> Reply | Failure:
        """The answer, or the reason why there is none, within `ask.whole_s`. Raises WrongUse if
        closed."""
        ends_at, patience_s = time.monotonic() + ask.whole_s, max(ask.timeout_s, PROGRESS_S)
        while True:
            pool = self._current()
            ended, left_s = pool.ended, ends_at - time.monotonic()
            if left_s <= 0:
                return NO_SLOT
            if pool.slots.acquire(timeout=min(left_s, patience_s)):
                break
            if pool.ended == ended:
                self.renew(pool)  # no call of this pool ends any more
            patience_s *= 2
        try:
            return self._send(pool, ask, min(ends_at, time.monotonic() + ask.timeout_s))
        except (*HTTP_ERRORS, UnicodeError) as error:
            return failure_of(error)
        except BaseException:
            # For example an exception of a signal handler during a request.
            self.renew(pool)
            raise
        finally:
            pool.ended += 1
            pool.slots.release()

    def _send(self, pool: _BlockingPool, ask: Ask, ends_at: float) -> Reply | Failure:
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            return NO_SLOT
        pool.deadline.ends_at = ends_at
        self._authorities.look()
        with pool.http.stream(**request_of(ask, self._headers, left_s)) as response:
            return reply_of(response, response.read())

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
                # The old pool is not closed: its connections belong to the parent.
                self._pool = _BlockingPool(self._options)
            assert self._pool is not None
            return self._pool

    def renew(self, old: object = None) -> None:
        """The next call uses new connections; calls under way end on the old ones."""
        with self._lock:
            if old is None or self._pool is old:
                self._pool = None

    def close(self) -> None:
        """Closes the connections."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None and pool.process == os.getpid():
            pool.http.close()
