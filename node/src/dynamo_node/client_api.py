"""Answers client requests: `/v1/kv`, `/v1/batch`, `/v1/ring`, and nothing else (listener 1).

Callbacks and no tasks: `answer` calls `done` with the answer exactly once, now or in a later turn
of the loop. Both fronts, the protocol class and the ASGI application, call this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.ring.document import Ring
from dynamo_node.access import UNNAMED, Access, Asker
from dynamo_node.batch import Answered, Batch, bytes_of, decode
from dynamo_node.budget import Books, overloaded
from dynamo_node.driver import Driver
from dynamo_node.http_codec import (
    Asked,
    Request,
    answer_of,
    asked_of,
    fields_of,
    trace_of,
)
from dynamo_node.http_limits import Limits
from dynamo_node.keyring import Keyring
from dynamo_node.problems import FIXED_HEAD, Answer, Problem, bad_parameter, not_allowed

if TYPE_CHECKING:  # from an optional extra
    from dynamo_node.spans import NodeSpans

KV = b"/v1/kv/"
SMALL_BYTES_MAX = 64 * 1024
"""Values up to this size need no room in the books: the kernel takes most of them at once."""


class ClientApi:
    """The client listener of one node's driver."""

    def __init__(self, driver: Driver, keyring: Keyring, limits: Limits, books: Books) -> None:
        self.driver = driver
        self.books = books
        self.limits = limits
        self.node = driver.node
        self.keyring = keyring
        self.value_bytes_max = limits.value_bytes_max
        self.access: Access | None = None
        """Who may do what; None if clients are not asked for a name."""
        self.spans: NodeSpans | None = None
        """The exporter of spans (`otel_endpoint`)."""
        self._shown_ring: tuple[tuple[Ring, int], bytes, bytes] | None = None

    def answer(
        self,
        method: str,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        done: Answered,
        asker: Asker = UNNAMED,
    ) -> None:
        """One request of that client; `done` gets its answer exactly once. Header names are lower
        case."""
        path, _, query = url.partition(b"?")
        refusal: Problem | None = None
        try:
            if self.access is not None and (not body or asker.known is None):
                # A body is read only where `ask` has allowed its head.
                self.access.allow(asker, (method, url, headers))
            fields = fields_of(headers)
            if path.startswith(KV):
                request = Request(method, path[len(KV) :], query, fields, body)
                asked = asked_of(request, self._n(), self.keyring.now.contexts)
            elif path == b"/v1/batch":
                if method != "POST":
                    raise not_allowed("POST")
                if query:
                    raise bad_parameter("query", "a batch has its parameters in the body")
                self._batch(fields, body, done, asker)
                return
            elif path == b"/v1/ring":
                done(self._ring(method, query, fields))
                return
            else:
                raise Problem(404, "not-found", "this listener has /v1/kv, /v1/batch, /v1/ring")
        except Problem as problem:
            refusal = problem
        if refusal is not None:
            # Not in the `except` block: `done` may read on, and an error there would have this
            # refusal as its cause, so the next request would get the refusal of this one (T-6).
            done(refusal.answer())
            return
        if self.spans is not None and (trace := asked.operation.trace):
            asked.operation.trace, done = self.spans.request(method, "/v1/kv/{key}", trace, done)

        def answered(outcome: Outcome) -> None:
            done(self._shown(asked, asker.address, outcome))

        self.driver.submit(asked.operation, answered, asker.share)

    def _shown(self, asked: Asked, principal: str, outcome: Outcome) -> Answer:
        try:
            if outcome.values:
                size = bytes_of(outcome)
                if size > SMALL_BYTES_MAX and (status := self.books.room_for(principal, size)):
                    if type(asked.operation) is Get:
                        raise overloaded(status)
                    # The write is done; the client only preferred to see it too (RFC 7240).
                    outcome.status, outcome.values = 204, []
            return answer_of(asked, outcome, self.keyring.now.contexts)
        except Problem as problem:
            return problem.answer()

    def _n(self) -> int:
        ring = self.node.ring_or_none
        if ring is None:
            raise Problem(503, "not-a-member", "", b"Dynamo-Applied: no\r\n")
        return ring.identity.n

    def _batch(self, fields: dict[bytes, bytes], body: bytes, done: Answered, asker: Asker) -> None:
        if b"content-range" in fields:
            raise bad_parameter("content-range", "not allowed: a batch is sent whole")
        if b"content-encoding" in fields:
            raise Problem(415, "", "content-encoding: not allowed in a batch")
        asked, encode = decode(fields.get(b"content-type", b""), body)
        trace, n = trace_of(fields), self._n()
        if self.spans is not None and trace:
            trace, done = self.spans.request("POST", "/v1/batch", trace, done)
        Batch(self, asked, encode, done, asker, trace).start(n)

    def _ring(self, method: str, query: bytes, fields: dict[bytes, bytes]) -> Answer:
        if method not in ("GET", "HEAD"):
            raise not_allowed("GET", "HEAD")
        if query:
            raise bad_parameter("query", "this path has no parameters")
        self._n()
        shows = (self.node.ring, self.node.detector.admins_told)
        if self._shown_ring is None or self._shown_ring[0] != shows:
            document = self.node.admin.ring_document()
            etag = f'"{document["epoch"]}-{document["digest"]}"'.encode()
            self._shown_ring = (shows, etag, msgspec.json.encode(document))
        _, etag, body = self._shown_ring
        head = FIXED_HEAD + b"ETag: %b\r\n" % etag
        known = [part.strip() for part in fields.get(b"if-none-match", b"").split(b",")]
        if etag in known or b"*" in known:
            return Answer(304, head)
        return Answer(200, head + b"Content-Type: application/json\r\n", body)
