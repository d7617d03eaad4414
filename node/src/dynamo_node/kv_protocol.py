"""The client listener inside the parser's callbacks: the fast way.

`KvProtocol` answers requests without a task or a scope per request: about twice the rate of
`GuardedProtocol` and an ASGI application. One request of a connection is under way at a time; the
next begins after its answer has left. Bytes that a client pipelines behind it wait unparsed, and
meanwhile the socket is not read (T-4).
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import structlog

from dynamo_node.access import UNNAMED, Asker
from dynamo_node.budget import LARGE_BYTES_MIN, overloaded
from dynamo_node.client_api import ClientApi
from dynamo_node.guarded_protocol import GuardedProtocol
from dynamo_node.http_limits import Edge, patience_s
from dynamo_node.problems import Answer, Problem

SLICE_BYTES = 2048
"""Bytes of a pipeline that are parsed at once: a parsed request takes many times its bytes."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
log = structlog.get_logger()
METHODS = {m.encode(): m for m in ("GET", "HEAD", "PUT", "DELETE", "POST")}


class _Waiting(NamedTuple):
    method: str
    url: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool
    large: int = 0
    """Its bytes that count as a large body (T-5)."""
    asker: Asker = UNNAMED


class KvProtocol(GuardedProtocol):
    """One connection; its requests are answered in the parser's callbacks."""

    def __init__(self, api: ClientApi, edge: Edge, **of_uvicorn: Any) -> None:
        super().__init__(edge, **of_uvicorn)
        self.api = api
        self._body = bytearray()
        self._waiting: deque[_Waiting] = deque()
        self._under_way: _Waiting | None = None
        self._waits = False
        """The client sends its body after 100 Continue."""
        self._turning = self._last = self._paused = self._taking = False
        self._rest = memoryview(b"")
        """Bytes that arrived and are not parsed yet, because an answer or a body comes first."""
        self._rest_held = 0
        self.waits_for = 0
        """Bytes of the large body that is not admitted yet."""
        self._large = 0
        self._timely = self._late = False
        """The large body has its turn; it was slow and has given its turn to another."""
        self._began = 0.0

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._rest = memoryview(b"")
        self._hold_rest()
        self._wait_no_more()
        self._take_turn()
        for large in (self._large, *(waiting.large for waiting in self._waiting)):
            if large:
                self.edge.books.end(self.principal, large)
        self._large = 0
        self._waiting.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; only a part of many is parsed until its requests are answered."""
        if len(data) <= SLICE_BYTES and not (self._rest or self._refused or self.waits_for):
            super().data_received(data)
        elif not self._refused:
            self._rest = memoryview(bytes(self._rest) + data if self._rest else data)
            self._take_rest()

    @property
    def _stopped(self) -> bool:
        """Whether nothing more is parsed at present."""
        waits = self._waiting or self.flow.write_paused or self.waits_for
        return bool(waits or self._last or self.transport.is_closing())

    def _take_rest(self) -> None:
        """A loop, because answers may be ready at once and call this again."""
        if self._taking:
            return
        self._taking = True
        while self._rest and not self._refused and not self._stopped:
            left = self._length - self._body_bytes if self._in_message and not self._in_head else 0
            size = max(SLICE_BYTES, left)
            piece, self._rest = self._rest[:size], self._rest[size:]
            super().data_received(bytes(piece))
        self._taking = False
        if self._refused:
            self._rest = memoryview(b"")
        try:
            self._hold_rest()
        except Problem as problem:
            self._rest = memoryview(b"")
            self._hold_rest()
            if self.waits_for:
                # The body has no room to wait. It is refused when its wait is over: if it were
                # refused now, the client would retry now, and each refusal takes time from other
                # answers (T-5).
                self.edge.books.unqueue(self)
                self._pause()
                return
            self._refuse(problem)
        if self._rest:
            self._pause()
        else:
            self._resume()

    def _hold_rest(self) -> None:
        """Count the rest as bytes of requests; waiting requests leave half of the bytes to admitted
        ones. Raises Problem."""
        more = len(self._rest) - self._rest_held
        if more > 0:
            requests = self.edge.books.requests
            if self.waits_for and requests.used + more > requests.total // 2:
                raise overloaded(503)
            self.edge.books.hold(self.principal, more)
        elif more < 0:
            self.edge.books.requests.give(self.principal, -more)
        self._rest_held += more

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begin_head()
        if self.flow.write_paused:
            self.deadline = self.edge.now + self.edge.limits.idle_s_max
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        """The head is there, whole."""
        if self._offers():
            return
        self._check_head()
        self._waits = self.expect_100_continue
        if self._waits and not self._owed and not self.waits_for:
            self._tell_to_send()

    def _admit(self, length: int) -> None:
        """A large body is admitted when it can end in time; until then it is not read (T-5)."""
        books = self.edge.books
        if length < LARGE_BYTES_MIN:
            super()._admit(length)
        elif self.waits_for:
            raise overloaded(503)
        elif not self._owed and books.begin(self.principal, length):
            self._large = length
            super()._admit(length)
            self._timely = True
            self.deadline = self.edge.now + self.edge.limits.large_late_s_max
        else:
            self.waits_for = length
            self.deadline = books.clock() + patience_s(self.url, self.edge.limits)
            self._pause()
            books.queue(self)

    def _count(self, size: int) -> None:
        super()._count(size)
        if not self._length and self._body_bytes >= LARGE_BYTES_MIN:
            # A chunked body: its size was not known before.
            large, more = self.edge.books.large, self._body_bytes - self._large
            if large.used and (status := large.refusal(self.principal, more)):
                raise overloaded(status)
            large.take(self.principal, more)
            self._large += more

    def let_in(self) -> None:
        """The books have room for the body."""
        self._large, self.waits_for = self.waits_for, 0
        self._timely = not self._owed
        self.deadline = self.edge.books.clock() + self.edge.limits.large_late_s_max
        try:
            self.edge.books.hold(self.principal, self._length - self._body_bytes)
        except Problem as problem:
            self.edge.books.end(self.principal, self._large)
            self._large = 0
            self._refuse(problem)
            return
        self._held += self._length - self._body_bytes
        if self._waits and not self._owed:
            self._tell_to_send()
        self._read_on()

    def expire(self) -> None:
        """The sweep found that the deadline has passed; a large body that waits is refused."""
        if self._refused:
            super().expire()
        elif self.waits_for:
            if self.edge.books.may_refuse():
                self._wait_no_more()
                self._refuse(overloaded(503))
        elif self._timely and not self.flow.write_paused:
            # From now on the body has the same deadline as any other.
            self._timely = False
            self._late = self.edge.books.give_turn(self.principal, self._large)
            limits = self.edge.limits
            self.deadline += limits.body_s_max - limits.large_late_s_max
        else:
            super().expire()

    def _take_turn(self) -> None:
        if self._late:
            self._late = False
            self.edge.books.take_turn(self.principal, self._large)

    def _wait_no_more(self) -> None:
        if self.waits_for:
            self.waits_for = 0
            self.edge.books.unqueue(self)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._count(len(body))
        self._waits = False
        self._body += body

    def on_message_complete(self) -> None:
        """The request is complete: carry it out now, or after those before it."""
        if self._offered:
            return
        self._in_message = False
        self._owed += 1
        self._timely = False
        if self._late:
            self._take_turn()
        keep_alive = self.version == "1.1" and self.parser.should_keep_alive()
        method = METHODS.get(name := self.parser.get_method()) or name.decode()
        body = bytes(self._body)
        now = _Waiting(method, self.url, self.headers, body, keep_alive, self._large, self.asker)
        self._large, self._body = 0, bytearray()
        if self._turning or self._busy:
            self._waiting.append(now)
            self._pause()
        else:
            self._turn(now)

    def _pause(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    @property
    def _busy(self) -> bool:
        """Whether the next request waits."""
        return self._under_way is not None or self._last or self.flow.write_paused

    def _next(self) -> None:
        """Carry out the request that waits, if it may begin."""
        if self._waiting and not (self._turning or self._busy):
            self._turn(self._waiting.popleft())

    def _turn(self, now: _Waiting) -> None:
        """Requests one after the other; a loop, because answers may be ready at once."""
        self._turning = True
        while True:
            self._under_way = now
            if not self._in_message:
                self._wait_for_us()
            try:
                if now.large:
                    self._began = self.edge.books.clock()
                request = (now.method, now.url, now.headers, now.body)
                self.api.answer(*request, self._answered, now.asker)
            except Exception:
                # A write may have begun: every answer could be wrong, so send none.
                log.exception("an internal error in a request")
                self._last = True
                self.transport.abort()
            if not self._waiting or self._busy:
                break
            now = self._waiting.popleft()
        self._turning = False

    def _tell_to_send(self) -> None:
        self._waits = False
        self.transport.write(CONTINUE)

    def _answered(self, answer: Answer) -> None:
        now, self._under_way = self._under_way, None
        assert now is not None
        self._owed -= 1
        if not self._in_message:
            self._release()
        if now.large:
            books = self.edge.books
            books.end(self.principal, now.large, books.clock() - self._began)
        if self.transport.is_closing():
            return
        keep_alive = now.keep_alive and not self._last and not self.api.node.draining
        self._write(answer, keep_alive, now.method != "HEAD")
        if not keep_alive:
            self._last = True
            self.transport.close()
            return
        self._next()
        if not self._owed:
            self._nothing_owed()

    def _nothing_owed(self) -> None:
        super()._nothing_owed()
        if self._waits and not self._refused:
            self._tell_to_send()
        if not self.flow.write_paused:
            self._read_on()

    def _read_on(self) -> None:
        if self._rest:
            self._take_rest()
        else:
            self._resume()

    def _resume(self) -> None:
        if self._paused and not self._rest and (self._refused or not self._stopped):
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def shutdown(self) -> None:
        """The node stops: an owed answer is the last one."""
        if self._under_way is None:
            self.transport.close()
        self._last = True

    def pause_writing(self) -> None:
        """The client does not read its answers, so the node reads nothing more from it."""
        super().pause_writing()
        self._pause()

    def resume_writing(self) -> None:
        """The client has read its answers: carry out the next request."""
        super().resume_writing()
        self._next()
