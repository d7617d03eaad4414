"""Limits of the client listener: bytes, deadlines, strict framing (docs/http-api.md).

The parser (llhttp) refuses bad lengths, bare LF, obs-fold and both framings at once. This module
refuses what the parser lets through: two Host fields or none, absolute-form, trailers, transfer
codings on HTTP/1.0, endless heads and bodies, and clients that never complete a request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple, Protocol

from dynamo_core.runtime.shares import ALL_USED, SHARE_USED
from dynamo_node.access import Access, endpoint_of
from dynamo_node.audit import Audit
from dynamo_node.budget import NOT_APPLIED, Books
from dynamo_node.problems import Problem

_TARGET = re.compile(rb"/[!-\"$-~]*")
_TIMEOUT = re.compile(rb"[?&]timeout_ms=([0-9]{1,5})(?:&|$)")
ROOM = 64
"""A new connection without a place closes this many idle ones at once: the search costs time."""
_SINGLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"expect", b"trailer", b"origin",
     b"sec-fetch-site")
)  # fmt: skip


class Limits(NamedTuple):
    """Bytes, fields, seconds; every limit holds for each request."""

    value_bytes_max: int
    request_line_bytes_max: int = 8 * 1024
    head_bytes_max: int = 16 * 1024
    fields_max: int = 64
    batch_bytes_max: int = 32 * 1024 * 1024
    head_s_max: float = 10.0
    body_s_max: float = 30.0
    idle_s_max: float = 60.0
    linger_s_max: float = 2.0
    """Time in which bytes after a refusal are discarded, so that the client reads the refusal."""
    connections_max: int = 4096
    """Lowered at the start if there are too few descriptors (T-7)."""
    refusals_max: int = 64
    """Connections above the limit that are being refused; a new one cuts the oldest."""
    admin_connections_max: int = 256
    """Of the admin listener: a new one takes the place of the oldest that waits for no answer."""
    admin_body_bytes_max: int = 1024 * 1024
    admin_bodies_bytes_max: int = 16 * 1024 * 1024
    """Bytes of all requests of the admin listener together."""
    admin_answers_bytes_max: int = 8 * 1024 * 1024
    """Bytes of unread answers of the admin listener together; above it, listings are refused,
    because only their answers are long."""
    bodies_bytes_max: int = 64 * 1024 * 1024
    """Bytes of all requests together; above it, 503 or 429 before any effect (C16)."""
    large_bytes_max: int = 24 * 1024 * 1024
    """Bytes of large bodies that are admitted at once; fewer if they do not end in time (T-5)."""
    large_wait_s_max: float = 10.0
    """A large body that is not admitted in this time is refused; in half of the request's
    `timeout_ms` if that is less. Lower: more refusals. Each refusal costs the node and its client a
    connection and the sent part of the body."""
    large_late_s_max: float = 2.0
    """An admitted large body that is not complete in this time gives its turn to another."""
    answers_bytes_max: int = 64 * 1024 * 1024
    """Bytes of all unread answers together; above it, reads are refused."""
    batch_answer_bytes_max: int = 32 * 1024 * 1024
    """Bytes of the values of one batch; further gets in it are refused one by one."""
    sweep_s: float = 0.5


class Guarded(Protocol):
    """A connection, as the sweep sees it."""

    deadline: float
    principal: str

    @property
    def idle(self) -> bool:
        """Whether it may be closed: the client has asked nothing and no answer is owed."""

    @property
    def silent(self) -> bool:
        """Whether nothing is under way for its client."""

    def expire(self) -> None:
        """The deadline has passed."""

    def cut(self) -> None:
        """Close it at once, without an answer."""


class Edge:
    """The books of one listener: connections, bytes of bodies, deadlines."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.access: Access | None = None
        """Who may do what; None if clients are not asked for a name."""
        self.audit: Audit | None = None
        self.endpoint_of: Callable[[bytes], str] = endpoint_of
        """The target of a request, for an audit line."""
        self.connections: dict[Guarded, None] = {}
        """In the order in which they were opened."""
        self._refused: dict[Guarded, None] = {}
        """Those above the limit; they hold no place."""
        self.books = Books(
            limits.bodies_bytes_max,
            limits.large_bytes_max,
            limits.answers_bytes_max,
            limits.connections_max,
            loop,
        )
        self.now = loop.time()
        """Seconds at the last sweep: a request reads no clock."""
        self._loop = loop
        loop.call_later(limits.sweep_s, self._sweep)

    def _sweep(self) -> None:
        self.now = self._loop.time()
        self.books.swept()
        for connection in [c for c in self.connections if c.deadline < self.now]:
            connection.expire()
        self._loop.call_later(self.limits.sweep_s, self._sweep)

    def enter(self, connection: Guarded) -> Problem | None:
        """Take a new connection, or return a problem if there are too many. An idle connection is
        closed to make room: one of the same client if that client has used up its share, else one
        of the client that holds most (T-5)."""
        places = self.books.places
        status = places.refusal(connection.principal)
        greedy = connection.principal if status == SHARE_USED else places.greediest()
        if status and not self._make_room(greedy):
            return self._one_too_many(connection, status)
        places.take(connection.principal)
        self.connections[connection] = None
        return None

    def _one_too_many(self, connection: Guarded, status: int) -> Problem:
        """Refuse the connection; the oldest refused one has had time to read its answer."""
        self.connections[connection] = None
        self._refused[connection] = None
        if len(self._refused) > self.limits.refusals_max:
            first = next(iter(self._refused))
            self.leave(first)
            first.cut()
        return Problem(status, "overloaded", "too many connections")

    def _make_room(self, client: str) -> bool:
        """Close the oldest idle connections of the client."""
        idle = (c for c in self.connections if c.principal == client and c.idle)
        found = list(islice(idle, ROOM))
        for connection in found:
            self.leave(connection)
            connection.cut()
        return bool(found)

    def leave(self, connection: Guarded) -> None:
        """The connection is gone."""
        if connection in self.connections:
            del self.connections[connection]
            if connection in self._refused:
                del self._refused[connection]
            else:
                self.books.places.give(connection.principal)

    def tell(self, refusal: Problem, method: bytes, url: bytes, source: str) -> None:
        """A request is refused by its head: the audit hears of one that another site's page made.
        `Access` tells the others."""
        if isinstance(refusal, AnotherSite) and self.audit is not None:
            what = f"{method.decode('latin-1')} {self.endpoint_of(url)}"
            self.audit.of_another_site(what, source)

    def body_bytes_max(self, url: bytes) -> int:
        """Maximum length of a body at this URL."""
        if url.startswith(b"/v1/kv/"):
            return self.limits.value_bytes_max
        if url.startswith(b"/v1/batch"):
            return self.limits.batch_bytes_max
        return self.limits.head_bytes_max


class AdminEdge(Edge):
    """The books of the admin listener: probes get in while strangers hold all the rest (T-4)."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        bodies, answers = limits.admin_bodies_bytes_max, limits.admin_answers_bytes_max
        super().__init__(limits._replace(bodies_bytes_max=bodies, answers_bytes_max=answers), loop)

    def enter(self, connection: Guarded) -> Problem | None:
        """If there are too many, the oldest that waits for no answer makes room."""
        if self.books.places.used >= self.limits.admin_connections_max:
            silent = (c for c in self.connections if c.silent and c not in self._refused)
            other = next(silent, None)
            if other is None:
                return self._one_too_many(connection, ALL_USED)
            self.leave(other)
            other.cut()
        self.books.places.take(connection.principal)
        self.connections[connection] = None
        return None

    def body_bytes_max(self, url: bytes) -> int:
        """The same for every path, so it is known before the token is checked."""
        return self.limits.admin_body_bytes_max


def patience_s(url: bytes, limits: Limits) -> float:
    """How long a large body may wait for admission: half of the request's timeout, because the node
    must still read the body and carry out the request; bounded if there is no timeout."""
    said = _TIMEOUT.search(url)
    return min(limits.large_wait_s_max, int(said[1]) / 2000) if said else limits.large_wait_s_max


class AnotherSite(Problem):
    """A page of another site lets a browser send the request."""

    def __init__(self, detail: str) -> None:
        super().__init__(403, "forbidden", detail, NOT_APPLIED)


def bad_framing(detail: str) -> Problem:
    """400. The connection is then closed, because the start of the next request is unknown."""
    return Problem(400, "unsupported-framing", detail)


def check_target(url: bytes, limits: Limits) -> None:
    """Raises Problem: too long, or not `/path?query` in visible ASCII."""
    if len(url) > limits.request_line_bytes_max - len("OPTIONS  HTTP/1.1\r\n"):
        raise Problem(414, "", f"request line: at most {limits.request_line_bytes_max} bytes")
    if not _TARGET.fullmatch(url):
        raise bad_framing("target: needs /path?query in ASCII, with other bytes percent-encoded")


def check_head(
    version: str, headers: list[tuple[bytes, bytes]], limits: Limits
) -> tuple[int, bool]:
    """The announced length of the body, -1 if it comes in chunks, and whether the client waits for
    100 Continue. Raises Problem. Names are lower case."""
    if len(headers) > limits.fields_max:
        raise Problem(431, "", f"headers: at most {limits.fields_max} fields")
    size = 4 * len(headers)
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        size += len(name) + len(value)
        if name in _SINGLE:
            if name in found:
                raise bad_framing(f"{name.decode()}: given twice")
            found[name] = value
    if size > limits.head_bytes_max:
        raise Problem(431, "", f"headers: at most {limits.head_bytes_max} bytes")
    if version == "1.1":
        if not found.get(b"host"):
            raise bad_framing("host: required")
    elif version != "1.0":
        raise bad_framing("version: must be HTTP/1.1 or HTTP/1.0")
    if b"origin" in found or b"sec-fetch-site" in found:
        _check_site(found)
    waits = b"expect" in found and version == "1.1"
    if waits and found[b"expect"].lower() != b"100-continue":
        raise Problem(417, "", "expect: must be 100-continue")
    if b"trailer" in found:
        raise bad_framing("trailer: no fields are allowed behind the body")
    if b"transfer-encoding" in found:
        if version != "1.1" or found[b"transfer-encoding"].lower() != b"chunked":
            raise bad_framing("transfer-encoding: must be chunked, in HTTP/1.1")
        return -1, waits
    length = found.get(b"content-length", b"0")
    if not length.isdigit():
        raise bad_framing("content-length: must be a number")
    size = int(length) if len(length) < 16 else limits.bodies_bytes_max
    return size, waits and size > 0


def _check_site(found: dict[bytes, bytes]) -> None:
    """Refuses a request that a page of another site makes a browser send, even with good
    credentials. Pages of this listener may ask, and a person may type its address. Raises Problem
    (Fetch Metadata; RFC 6454)."""
    if found.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise AnotherSite("sec-fetch-site: a page of another site may not ask")
    origin = found.get(b"origin")
    if (
        origin is not None
        and origin.partition(b"://")[2].lower() != found.get(b"host", b"").lower()
    ):
        raise AnotherSite("origin: a page of another site may not ask")


def too_large(bytes_max: int) -> Problem:
    """413, known before the body has been read to its end."""
    return Problem(
        413, "value-too-large", f"body: at most {bytes_max} bytes", b"Dynamo-Applied: no\r\n"
    )
