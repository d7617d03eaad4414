"""The guarded edge inside uvicorn's httptools protocol: one connection, held to its limits.

`GuardedProtocol` holds each connection to the limits of `edge` and then leaves requests to uvicorn
and an ASGI application; `kv_protocol` answers them itself.

Not public API of uvicorn, hence its pinned minor version.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from math import inf
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dynamo_node.edge import Edge, bad_framing, body_bytes_max, check_head, check_target, too_large
from dynamo_node.problems import Answer, Problem

STATUS = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
_NO_LENGTH = (204, 304)
log = structlog.get_logger()


class GuardedProtocol(HttpToolsProtocol):
    """One connection, held to the limits."""

    def __init__(self, edge: Edge, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.edge = edge
        self.deadline = edge.now + edge.limits.idle_s_max
        self.url = b""
        self.version = "1.1"
        self._in_head = self._in_message = self._began_here = self._refused = False
        self._later_head_bytes = 0
        self._body_bytes = self._body_bytes_max = self._held = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, unless there are too many."""
        super().connection_made(transport)
        self.edge.connections.add(self)
        if len(self.edge.connections) > self.edge.limits.connections_max:
            self._refuse(Problem(503, "overloaded", "too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what it had begun ends by itself."""
        self.edge.connections.discard(self)
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes, from wherever the last ones ended."""
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._began_here = False
        try:
            self.parser.feed_data(data)
            if self._in_head and not self._began_here:
                # A field without an end is shown to nobody; its bytes are counted here.
                self._later_head_bytes += len(data)
                if self._later_head_bytes > self.edge.limits.head_bytes_max:
                    raise Problem(431, "", "headers: too many bytes")
        except Problem as problem:
            self._refuse(problem)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, Problem):
                self._refuse(cause)
            else:
                # A write may have been begun: no answer is true but none.
                log.error("a fault of our own in a request", exc_info=cause)
                self.transport.abort()
        except httptools.HttpParserUpgrade:
            self._refuse(bad_framing("upgrade: not here"))
        except httptools.HttpParserError as error:
            self._refuse(bad_framing(str(error)))

    # ------------------------------------------------------------ callbacks of the parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begin_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self.url += url
        if len(self.url) > self.edge.limits.request_line_bytes_max:
            check_target(self.url, self.edge.limits)

    def on_headers_complete(self) -> None:
        """The head is there, whole."""
        self._check_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._count(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there, whole."""
        self._in_message = False
        self.deadline = inf
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn has answered."""
        self._release()
        if not self._in_message:
            self.deadline = self.edge.now + self.edge.limits.idle_s_max
        super().on_response_complete()

    # ------------------------------------------------------------ the limits

    def _begin_head(self) -> None:
        self._in_head = self._in_message = self._began_here = True
        self._later_head_bytes = 0
        self.deadline = self.edge.now + self.edge.limits.head_s_max

    def _check_head(self) -> None:
        self._in_head = False
        limits = self.edge.limits
        check_target(self.url, limits)
        parser = self.parser
        self.version = version = parser.get_http_version()
        length = check_head(version, self.headers, limits)
        if parser.should_upgrade():
            raise bad_framing("upgrade: not here")
        self._body_bytes = 0
        self._body_bytes_max = 0
        if length:
            self._body_bytes_max = body_bytes_max(self.url, limits)
            if length > self._body_bytes_max:
                raise too_large(self._body_bytes_max)
            if length > 0:
                self.edge.hold(length)
                self._held += length
            self.deadline = self.edge.now + limits.body_s_max

    def _count(self, size: int) -> None:
        self._body_bytes += size
        if self._body_bytes > self._body_bytes_max:
            raise too_large(self._body_bytes_max)
        if self._body_bytes > self._held:
            self.edge.hold(self._body_bytes - self._held)
            self._held = self._body_bytes

    def _release(self) -> None:
        self.edge.bodies_bytes -= self._held
        self._held = 0

    def expire(self) -> None:
        """The sweep found the deadline passed."""
        if self._refused or not self._in_message:
            self.transport.abort()
        else:
            self._refuse(Problem(408, "", "the request did not arrive in time"))

    def _refuse(self, problem: Problem) -> None:
        """The last answer of this connection; what still arrives is thrown away for a while."""
        self._refused = True
        self.deadline = self.edge.now + self.edge.limits.linger_s_max
        if self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body):
            # Another answer is owed first; taken for it, this one would be a lie about a write.
            self.transport.abort()
        elif not self.transport.is_closing():
            self._write(problem.answer(), keep_alive=False)
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _write(self, answer: Answer, keep_alive: bool, with_body: bool = True) -> None:
        status, head, body = answer
        lines = [STATUS[status], head]
        lines += [b"%b: %b\r\n" % line for line in self.server_state.default_headers]
        if status not in _NO_LENGTH:
            lines.append(b"Content-Length: %d\r\n" % len(body))
        lines.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
        if with_body:
            lines.append(body)
        self.transport.write(b"".join(lines))
