"""The guarded edge inside uvicorn's httptools protocol: one connection, held to its limits.

`GuardedProtocol` holds each connection to `http_limits` and then leaves requests to uvicorn
and an ASGI application: the admin listener, and the client listener's plain front. `kv_protocol`
answers them itself.

The answers of a connection are in the order of its requests, and a refusal stands where no other
answer is owed (T-6): it waits until every answer before it is written. A request that is refused in
the middle of its body is not carried out; the refusal is its answer.

An offer of `Upgrade` is ignored. The parser would stop after the head and call the body another
protocol, so the head is given to a new parser again without the offer.

Not public API of uvicorn, hence its pinned minor version.
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

from dynamo_node.access import NOBODY, Asker
from dynamo_node.budget import holder
from dynamo_node.http_limits import Edge, bad_framing, check_head, check_target, too_large
from dynamo_node.problems import Answer, Problem

STATUS = {s.value: b"HTTP/1.1 %d %b\r\n" % (s.value, s.phrase.encode()) for s in HTTPStatus}
COPIED_BYTES_MAX = 64 * 1024
"""A larger body is not copied behind its head."""
_NO_LENGTH = (204, 304)
log = structlog.get_logger()


class _Flow(FlowControl):
    """Reads on only where no request waits behind another and the client reads its answers."""

    def __init__(self, protocol: GuardedProtocol) -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        """Also called by uvicorn for each request that begins, whatever waits behind it."""
        if not (self.write_paused or self._protocol.pipeline):
            super().resume_reading()


class GuardedProtocol(HttpToolsProtocol):
    """One connection, held to the limits."""

    def __init__(self, edge: Edge, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.edge = edge
        self.deadline = edge.now + edge.limits.idle_s_max
        self.url = b""
        self.version = "1.1"
        self._in_head = self._in_message = self._moved = self._refused = False
        self._offered = False
        """The head that is read offers an upgrade; it is read again without."""
        self._refusal: Problem | None = None
        """What is said when no other answer is owed any more."""
        self._owed = 0
        """Requests that are there, whole, and not answered."""
        self._idle_bytes = 0
        self.principal = ""
        """Whose share of the listener the connection takes (T-5): its address."""
        self.asker = NOBODY
        """Who asks what is read now."""
        self._length = self._body_bytes = self._body_bytes_max = self._held = 0
        self._unread = self._written = self._left = 0
        """Bytes of answers that the kernel has not taken, as the books have them; of the last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, unless there are too many."""
        super().connection_made(transport)
        self.flow = _Flow(self)
        self.principal = holder(self.client[0]) if self.client else ""
        self.asker = Asker(self.principal, self.principal)
        transport.set_write_buffer_limits(high=0)  # the books hear of every byte that waits
        if (refusal := self.edge.enter(self)) is not None:
            self._refuse(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; what it had begun ends by itself."""
        self.edge.leave(self)
        self._release()
        self._read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes, from wherever the last ones ended."""
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._feed(data)
            if self._in_message and not self._moved:
                # A field, a trailer or a chunk's extension without an end: the parser hands on
                # nothing and keeps it, so its bytes are counted here.
                self._idle_bytes += len(data)
                if self._idle_bytes > self.edge.limits.head_bytes_max:
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
        except httptools.HttpParserError as error:
            self._refuse(bad_framing(str(error)))

    def _feed(self, data: bytes) -> None:
        """A loop: each request of a pipeline may offer an upgrade."""
        rest: bytes | memoryview = data
        while rest:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as stopped:
                rest = memoryview(rest)[stopped.args[0] :]
            self._read_without_offer()  # not in the handler, which would hide a Problem's cause

    def _read_without_offer(self) -> None:
        """The head that was just read goes to a new parser, without `Upgrade`."""
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
        """A field of the head; one behind the body is refused, or it could pass for the head's."""
        if not self._in_head:
            raise bad_framing("trailer: no fields behind the body")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there, whole."""
        if self._offers():
            return
        self._check_head()
        url, self.url = self.url, b"/"  # uvicorn takes //a/b for the host a
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
        """The request is there, whole."""
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
            self._owed -= 1  # else it was answered before its body was there
        if not self._in_message:
            self._release()
        super().on_response_complete()
        if not self._owed:
            self._nothing_owed()

    def pause_writing(self) -> None:
        """The client does not read its answers; it must go on within the time of an idle one."""
        super().pause_writing()
        self._read()
        self._left = self.transport.get_write_buffer_size()
        self._unread = max(self._written, self._left)
        self.edge.books.answers.take(self.principal, self._unread)
        self.deadline = self.edge.now + self.edge.limits.idle_s_max

    def resume_writing(self) -> None:
        """The client has read what there was."""
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
        """Whether this head is to be read again, without its offer of an upgrade."""
        self._offered = self.parser.should_upgrade()
        if self._offered and self.parser.get_method() == b"CONNECT":
            raise bad_framing("CONNECT: this is no proxy")
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
        """A body of this length is to come. Raises Problem."""
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
        """What waited for the client to read it waits no more."""
        if self._unread:
            self.edge.books.answers.give(self.principal, self._unread)
            self._unread = 0

    @property
    def idle(self) -> bool:
        """Whether the client may be sent away: it has asked nothing and is owed nothing."""
        return not (self._owed or self._in_message or self._refused or self._unread)

    def _wait_for_us(self) -> None:
        """The client has said all and has no deadline, unless it leaves its answers unread."""
        if not self.flow.write_paused:
            self.deadline = inf

    def _nothing_owed(self) -> None:
        """Each whole request is answered: a refusal that waits is due, or the client's turn."""
        limits = self.edge.limits
        if self._refused:
            problem, self._refusal = self._refusal, None
            if problem is not None:
                self._say_refusal(problem)
        elif not self._in_message:
            self.deadline = self.edge.now + limits.idle_s_max
        else:
            # While answers were owed nothing was read: the client has its time from now on.
            rest_s = limits.head_s_max if self._in_head else limits.body_s_max
            self.deadline = self.edge.now + rest_s

    @property
    def silent(self) -> bool:
        """Whether nothing is carried out for the client: it has not said all of a request."""
        return not self._owed

    def cut(self) -> None:
        """The edge wants its place."""
        self._refused = True
        self.transport.abort()

    def expire(self) -> None:
        """The sweep found the deadline passed."""
        left = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
        if 0 < left < self._left and not self._refused:
            # It reads, slowly.
            self._left = left
            self.deadline = self.edge.now + self.edge.limits.idle_s_max
        elif self._refused or self.flow.write_paused or not self._in_message:
            self.transport.abort()
        else:
            self._refuse(Problem(408, "", "the request did not arrive in time"))

    def _refuse(self, problem: Problem) -> None:
        """The last answer of this connection, after those that are owed (T-6)."""
        self._refused = True
        if not self._give_up_begun():
            self._linger()
        elif self._owed:
            self._refusal = problem
            self._wait_for_us()
        else:
            self._say_refusal(problem)

    def _give_up_begun(self) -> bool:
        """The request whose body is being read is not carried out. False when it has an answer,
        which it can have before its body is there: then nothing more may be said."""
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
        """What still arrives is thrown away for a while, so that the last answer is read."""
        self.deadline = self.edge.now + self.edge.limits.linger_s_max
        if not self.transport.is_closing():
            self._read_on()
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _read_on(self) -> None:
        """Where reading was paused it goes on."""
        self.flow.resume_reading()

    def _write(self, answer: Answer, keep_alive: bool, with_body: bool = True) -> None:
        status, head, body = answer
        lines = [STATUS[status], head]
        lines += [b"%b: %b\r\n" % line for line in self.server_state.default_headers]
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
