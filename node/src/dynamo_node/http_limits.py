"""What the client listener lets in: limits, deadlines, strict framing (docs/http-api.md).

The parser (llhttp) refuses bad lengths, bare LF, obs-fold and both framings at once; what it would
let through is refused here: two Hosts or none, absolute-form, trailers, transfer codings on
HTTP/1.0, heads and bodies without end, and clients that never finish what they begin.
"""

from __future__ import annotations

import asyncio
import re
from itertools import islice
from typing import NamedTuple, Protocol

from dynamo_core.runtime.shares import ALL_USED, SHARE_USED
from dynamo_node.access import Access, forbidden
from dynamo_node.budget import Books
from dynamo_node.problems import Problem

_TARGET = re.compile(rb"/[!-\"$-~]*")
_TIMEOUT = re.compile(rb"[?&]timeout_ms=([0-9]{1,5})(?:&|$)")
ROOM = 64
"""So many idle connections are closed at once where one has no place: looking takes its time."""
_SINGLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"expect", b"trailer", b"origin",
     b"sec-fetch-site")
)  # fmt: skip


class Limits(NamedTuple):
    """Bytes, fields, seconds; each request is held to all of them."""

    value_bytes_max: int
    request_line_bytes_max: int = 8 * 1024
    head_bytes_max: int = 16 * 1024
    fields_max: int = 64
    batch_bytes_max: int = 32 * 1024 * 1024
    head_s_max: float = 10.0
    body_s_max: float = 30.0
    idle_s_max: float = 60.0
    linger_s_max: float = 2.0
    """How long bytes after a refusal are thrown away, so that the refusal is read."""
    connections_max: int = 4096
    """Lowered at the start where the limit of descriptors wants it (T-7)."""
    refusals_max: int = 64
    """Connections beyond the others that are being told so; the oldest is cut for a new one."""
    admin_connections_max: int = 256
    """Of the admin listener: a new one takes the place of the oldest that waits for nothing."""
    admin_body_bytes_max: int = 1024 * 1024
    admin_bodies_bytes_max: int = 16 * 1024 * 1024
    """Of all requests of the admin listener together."""
    admin_answers_bytes_max: int = 8 * 1024 * 1024
    """Of all answers of the admin listener that are not read yet; beyond it listings are refused,
    whose answers alone are long."""
    bodies_bytes_max: int = 64 * 1024 * 1024
    """Of all requests together; more is 503 or 429 before any effect (C16)."""
    large_bytes_max: int = 24 * 1024 * 1024
    """Of large bodies that are let in at once; fewer where they do not end in time (T-5)."""
    large_wait_s_max: float = 10.0
    """A large body that was not let in by then is refused; after half of the request's own
    `timeout_ms` where that is less. Lower: more refusals, each of which costs the node and its
    client a connection and what was sent of the body."""
    large_late_s_max: float = 2.0
    """A large body that was let in and is not there by then gives its turn to another."""
    answers_bytes_max: int = 64 * 1024 * 1024
    """Of all answers that are made and not read yet; beyond it reads are refused."""
    batch_answer_bytes_max: int = 32 * 1024 * 1024
    """Of the values of one batch; its further gets are refused, each for itself."""
    sweep_s: float = 0.5


class Guarded(Protocol):
    """A connection, as the sweep sees it."""

    deadline: float
    principal: str

    @property
    def idle(self) -> bool:
        """Whether the client may be sent away: it has asked nothing and is owed nothing."""

    @property
    def silent(self) -> bool:
        """Whether nothing is carried out for it."""

    def expire(self) -> None:
        """The deadline has passed."""

    def cut(self) -> None:
        """It ends at once, with no answer."""


class Edge:
    """The books of one listener: connections, bytes of bodies held, deadlines."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.access: Access | None = None
        """Who may do what; None where clients are not asked for a name."""
        self.connections: dict[Guarded, None] = {}
        """The oldest first."""
        self._refused: dict[Guarded, None] = {}
        """Of them those that are too many; they hold no place."""
        self.books = Books(
            limits.bodies_bytes_max, limits.large_bytes_max, limits.answers_bytes_max,
            limits.connections_max, loop,
        )  # fmt: skip
        self.now = loop.time()
        """Seconds, as of the last sweep: no clock is read for a request."""
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
        """It is told so; the one that was told first has had its time to read that."""
        self.connections[connection] = None
        self._refused[connection] = None
        if len(self._refused) > self.limits.refusals_max:
            first = next(iter(self._refused))
            self.leave(first)
            first.cut()
        return Problem(status, "overloaded", "too many connections")

    def _make_room(self, client: str) -> bool:
        """The idle connections of the client that were opened first are closed."""
        idle = (c for c in self.connections if c.principal == client and c.idle)
        found = list(islice(idle, ROOM))
        for connection in found:
            self.leave(connection)
            connection.cut()
        return bool(found)

    def leave(self, connection: Guarded) -> None:
        """It is gone."""
        if connection in self.connections:
            del self.connections[connection]
            if connection in self._refused:
                del self._refused[connection]
            else:
                self.books.places.give(connection.principal)

    def body_bytes_max(self, url: bytes) -> int:
        """How long a body may be there."""
        if url.startswith(b"/v1/kv/"):
            return self.limits.value_bytes_max
        if url.startswith(b"/v1/batch"):
            return self.limits.batch_bytes_max
        return self.limits.head_bytes_max


class AdminEdge(Edge):
    """The books of the admin listener: probes get in, whatever strangers do there (T-4)."""

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        bodies, answers = limits.admin_bodies_bytes_max, limits.admin_answers_bytes_max
        super().__init__(limits._replace(bodies_bytes_max=bodies, answers_bytes_max=answers), loop)

    def enter(self, connection: Guarded) -> Problem | None:
        """When there are too many, the oldest that waits for no answer makes room."""
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
        """The same for every path, and known before the token is."""
        return self.limits.admin_body_bytes_max


def patience_s(url: bytes, limits: Limits) -> float:
    """How long a large body may wait before it is read: half of the request's timeout, because the
    body must still be read and the request done; bounded for a request without a timeout."""
    said = _TIMEOUT.search(url)
    return min(limits.large_wait_s_max, int(said[1]) / 2000) if said else limits.large_wait_s_max


def bad_framing(detail: str) -> Problem:
    """400. The connection is then closed, because the start of the next request is unknown."""
    return Problem(400, "unsupported-framing", detail)


def check_target(url: bytes, limits: Limits) -> None:
    """Raises Problem: too long, or not `/path?query` in visible ASCII."""
    if len(url) > limits.request_line_bytes_max - len("OPTIONS  HTTP/1.1\r\n"):
        raise Problem(414, "", f"request line: at most {limits.request_line_bytes_max} bytes")
    if not _TARGET.fullmatch(url):
        raise bad_framing("target: wants /path?query in ASCII, other bytes percent-encoded")


def check_head(
    version: str, headers: list[tuple[bytes, bytes]], limits: Limits
) -> tuple[int, bool]:
    """The length of the body that is announced, -1 when it comes in chunks, and whether the client
    waits to be told to send it. Raises Problem. Names are lower case."""
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
            raise bad_framing("host: one is needed")
    elif version != "1.0":
        raise bad_framing("version: only HTTP/1.1 and HTTP/1.0")
    if b"origin" in found or b"sec-fetch-site" in found:
        _check_site(found)
    waits = b"expect" in found and version == "1.1"
    if waits and found[b"expect"].lower() != b"100-continue":
        raise Problem(417, "", "expect: only 100-continue")
    if b"trailer" in found:
        raise bad_framing("trailer: no fields behind the body")
    if b"transfer-encoding" in found:
        if version != "1.1" or found[b"transfer-encoding"].lower() != b"chunked":
            raise bad_framing("transfer-encoding: only chunked, and only in HTTP/1.1")
        return -1, waits
    length = found.get(b"content-length", b"0")
    if not length.isdigit():
        raise bad_framing("content-length: a number")
    size = int(length) if len(length) < 16 else limits.bodies_bytes_max
    return size, waits and size > 0


def _check_site(found: dict[bytes, bytes]) -> None:
    """A request that a page of another site makes a browser send is refused, also with good
    credentials. Pages of this listener may ask, and so may a person who types its address. Raises
    Problem (Fetch Metadata; RFC 6454)."""
    if found.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise forbidden("sec-fetch-site: a page of another site may not ask")
    origin = found.get(b"origin")
    if (
        origin is not None
        and origin.partition(b"://")[2].lower() != found.get(b"host", b"").lower()
    ):
        raise forbidden("origin: a page of another site may not ask")


def too_large(bytes_max: int) -> Problem:
    """413, known before the body is read to its end."""
    return Problem(
        413, "value-too-large", f"body: at most {bytes_max} bytes", b"Dynamo-Applied: no\r\n"
    )
