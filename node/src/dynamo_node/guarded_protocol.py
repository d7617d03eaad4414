"""One connection of uvicorn's httptools protocol, held to the limits of its listener.

`GuardedProtocol` holds each connection to `http_limits` and then gives requests to uvicorn and an
ASGI application: the admin listener, and the client listener's plain front. `kv_protocol` answers
requests itself.

The answers of a connection have the order of its requests. A refusal is the last answer and waits
for all answers before it (T-6). A request that is refused in the middle of its body is not carried
out; its answer is the refusal.

An offer of `Upgrade` is ignored. The parser would stop after the head and treat the body as another
protocol, so a new parser gets the head again, without the offer.

Parts of uvicorn that are used here are not its public API, so its minor version is pinned.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from math import inf
from typing import Any
from urllib.parse import unquote

import httptools
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dynamo_node.access import UNNAMED, Asker
from dynamo_node.budget import holder
from dynamo_node.http_limits import Edge, bad_framing, check_head, check_target, too_large
from dynamo_node.problems import Answer, Problem

STATUS = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
COPIED_BYTES_MAX = 64 * 1024
"""A larger body is written separately and not copied behind its head."""
_NO_LENGTH = (204, 304)
log = structlog.get_logger()


class _Flow(FlowControl):
    """Reads on only if no request waits behind another and the client reads its answers."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        """uvicorn also calls this for each request that begins, even if requests wait behind it."""
        if not (self.write_paused or self._protocol.pipeline):
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """One connection with limits."""

    def __init__(self, edge: Edge, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.edge = edge
        self.deadline = edge.now + edge.limits.idle_s_max
        self.url = b""
        self.version = "1.1"
        self._in_head = self._in_message = self._moved = self._refused = False
        self._offered = False
        """The head offers an upgrade; it is parsed again without the offer."""
        self._refusal: Problem | None = None
        """The refusal that is sent when no other answer is owed."""
        self._owed = 0
        """Complete requests that are not answered."""
        self._idle_bytes = 0
        self.principal = ""
        """The name whose share of the listener the connection takes (T-5): its address."""
        self.asker = UNNAMED
        """The sender of the request that is being read."""
        self._length = self._body_bytes = self._body_bytes_max = self._held = 0
        self._unread = self._written = self._left = 0
        """Bytes of answers that the kernel has not taken, for the books; at the last sweep."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new client; it is refused if there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(self)
        self.principal = holder(self.client[0]) if self.client else ""
        self.asker = Asker(self.principal, self.principal)
        transport.set_write_buffer_limits(high=0)  # the books count every byte that waits
        if (refusal := self.edge.enter(self)) is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; its requests end by themselves."""
        self.edge.leave(self)
        self._release()
        self._read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; they may begin and end anywhere."""
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._feed(data)
            if self._in_message and not self._moved:
                # A field, a trailer or a chunk's extension may have no end: the parser reports
                # nothing and keeps it, so its bytes are counted here.
                self._idle_bytes += len(data)
                if self._idle_bytes > self.edge.limits.head_bytes_max:
                    raise Problem(431, "", "headers: too many bytes")
        except Problem as problem:
            self._refuse(problem)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, Problem):
                self.edge.tell(cause, self.parser.get_method(), self.url, self.principal)
                self._refuse(cause)
            else:
                # A write may have begun: every answer could be wrong, so send none.
                log.error("an internal error in a request", exc_info=cause)
                self.transport.abort()
        except httptools.HttpParserError as error:
            self._refuse(bad_framing(str(error)))

    def _feed(self, data: bytes) -> None:
        """A loop, because each request of a pipeline may offer an upgrade."""
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as stopped:
                rest = memoryview(rest)[stopped.args[0] :]
            self._read_without_offer()  # not in the `except` block, else a Problem has a cause

    def _read_without_offer(self) -> None:
        """Give the head again to a new parser, without `Upgrade`."""
        method = self.parser.get_method()
        fields = [line for line in self.headers if line[0] != b"upgrade"]
        lines = [b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b\r\n" % line for line in fields]
        lines.append(b"\r\n")
        self._offered = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join(lines))

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

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. A field behind the body is refused: it could pass for the head's."""
        if not self._in_head:
            raise bad_framing("trailer: no fields are allowed behind the body")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._offers():
            return
        self._check_head()
        url, self.url = self.url, b"/"  # uvicorn reads //a/b as host a
        super().on_headers_complete()
        self.url = url
        path, _, query = url.partition(b"?")
        scope: Any = self.scope
        scope["raw_path"], scope["query_string"] = path, query
        scope["dynamo_asker"], scope["dynamo_transport"] = self.asker, self.transport
        scope["path"] = unquote(path.decode("ascii"))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._count(len(body))
        self.cycle.waiting_for_100_continue = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._offered:
            return
        self._in_message = False
        if not self.cycle.response_complete:
            self._owed += 1
            self._wait_for_us()
        elif not self._owed:
            self._release()
            self._nothing_owed()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn has answered."""
        begun = self._in_message and not self._in_head
        if not (begun and self.cycle.response_complete):
            self._owed -= 1  # else it was answered before its body was complete
        if not self._in_message:
            self._release()
        super().on_response_complete()
        if not self._owed:
            self._nothing_owed()

    def pause_writing(self) -> None:
        """The client does not read its answers; it must go on reading within the idle time."""
        super().pause_writing()
        self._read()
        self._left = self.transport.get_write_buffer_size()
        self._unread = max(self._written, self._left)
        self.edge.books.answers.take(self.principal, self._unread)
        self.deadline = self.edge.now + self.edge.limits.idle_s_max

    def resume_writing(self) -> None:
        """The client has read what was sent."""
        super().resume_writing()
        self._read()
        if self._owed:
            self._wait_for_us()
        else:
            self._nothing_owed()
        self._read_on()

    # ------------------------------------------------------------ the limits

    def _begin_head(self) -> None:
        self._in_head = self._in_message = self._moved = True
        self._idle_bytes = 0
        self.deadline = self.edge.now + self.edge.limits.head_s_max

    def _offers(self) -> bool:
        """Whether this head is parsed again without its offer of an upgrade."""
        self._offered = self.parser.should_upgrade()
        if self._offered and self.parser.get_method() == b"CONNECT":
            raise bad_framing("CONNECT: this server is not a proxy")
        return self._offered

    def _check_head(self) -> None:
        edge = self.edge
        check_target(self.url, edge.limits)
        self.version = version = self.parser.get_http_version()
        length, waits = check_head(version, self.headers, edge.limits)
        if edge.access is not None:
            request = self.parser.get_method().decode("latin-1"), self.url, self.headers
            self.asker = edge.access.ask(self.asker, self.transport, request, length != 0)
        self.expect_100_continue = waits
        self._length = max(length, 0)
        self._body_bytes = 0
        self._body_bytes_max = 0
        if length:
            self._body_bytes_max = edge.body_bytes_max(self.url)
            self.deadline = edge.now + edge.limits.body_s_max
            if length > self._body_bytes_max:
                raise too_large(self._body_bytes_max)
            if length > 0:
                self._admit(length)
        self._in_head = False

    def _admit(self, length: int) -> None:
        """A body of this length will follow. Raises Problem."""
        self.edge.books.hold(self.principal, length)
        self._held += length

    def _count(self, size: int) -> None:
        self._moved = True
        self._idle_bytes = 0
        self._body_bytes += size
        if self._body_bytes > self._body_bytes_max:
            raise too_large(self._body_bytes_max)
        if self._body_bytes > self._held:
            self.edge.books.hold(self.principal, self._body_bytes - self._held)
            self._held = self._body_bytes

    def _release(self) -> None:
        if self._held:
            self.edge.books.requests.give(self.principal, self._held)
            self._held = 0

    def _read(self) -> None:
        """Requests that waited for the client to read may go on."""
        if self._unread:
            self.edge.books.answers.give(self.principal, self._unread)
            self._unread = 0

    @property
    def idle(self) -> bool:
        """Whether it may be closed: the client has asked nothing and no answer is owed."""
        return not (self._owed or self._in_message or self._refused or self._unread)

    def _wait_for_us(self) -> None:
        """The client has sent its whole request: no deadline, unless it leaves answers unread."""
        if not self.flow.write_paused:
            self.deadline = inf

    def _nothing_owed(self) -> None:
        """Every complete request is answered: a waiting refusal is sent, or the client is next."""
        limits = self.edge.limits
        if self._refused:
            problem, self._refusal = self._refusal, None
            if problem is not None:
                self._say_refusal(problem)
        elif not self._in_message:
            self.deadline = self.edge.now + limits.idle_s_max
        else:
            # While answers were owed, nothing was read: the client's time begins now.
            rest_s = limits.head_s_max if self._in_head else limits.body_s_max
            self.deadline = self.edge.now + rest_s

    @property
    def silent(self) -> bool:
        """Whether nothing is under way for the client: it has not sent a complete request."""
        return not self._owed

    def cut(self) -> None:
        """The listener needs its place."""
        self._refused = True
        self.transport.abort()

    def expire(self) -> None:
        """The sweep found that the deadline has passed."""
        left = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        if 0 < left < self._left and not self._refused:
            # The client reads, but slowly.
            self._left = left
            self.deadline = self.edge.now + self.edge.limits.idle_s_max
        elif self._refused or self.flow.write_paused or not self._in_message:
            self.transport.abort()
        else:
            self._refuse(Problem(408, "", "the request did not arrive in time"))

    def _refuse(self, problem: Problem) -> None:
        """The last answer of this connection, after all answers that are owed (T-6)."""
        self._refused = True
        if not self._give_up_begun():
            self._linger()
        elif self._owed:
            self._refusal = problem
            self._wait_for_us()
        else:
            self._say_refusal(problem)

    def _give_up_begun(self) -> bool:
        """Do not carry out the request whose body is being read. False if it already has an answer,
        which it can have before its body is complete: then nothing more may be sent."""
        cycle = self.cycle
        if cycle is None or self._in_head or not self._in_message:
            return True
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
        answered: bool = cycle.response_started
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        return not answered

    def _say_refusal(self, problem: Problem) -> None:
        if not self.transport.is_closing():
            self._write(problem.answer(), keep_alive=False)
        self._linger()

    def _linger(self) -> None:
        """Discard what still arrives for a while, so that the client reads the last answer."""
        self.deadline = self.edge.now + self.edge.limits.linger_s_max
        if not self.transport.is_closing():
            self._read_on()
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _read_on(self) -> None:
        """Go on reading after a pause."""
        self.flow.resume_reading()

    def _write(self, answer: Answer, keep_alive: bool, with_body: bool = True) -> None:
        status, head, body = answer
        lines = [STATUS[status], head]
        if defaults := self.server_state.default_headers:
            lines += [b"%b: %b\r\n" % line for line in defaults]
        if status not in _NO_LENGTH:
            lines.append(b"Content-Length: %d\r\n" % len(body))
        lines.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
        large = with_body and len(body) > COPIED_BYTES_MAX
        if with_body and not large:
            lines.append(body)
        whole = b"".join(lines)
        self._written = len(whole) + len(body) * large
        if large:
            self.transport.writelines((whole, body))
        else:
            self.transport.write(whole)
