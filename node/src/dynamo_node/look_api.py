"""The look-inside part of the admin listener: requests that only read (docs/console.md).

The core decides what is shown and how much of it. A request that asks other nodes takes its memory
from the bytes of gets with large records, so the formula of memory has it already. Events are a
stream (Server-Sent Events): a task waits until the core has a new one, so an open page costs little
while nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Annotated, Any

import msgspec
from fastapi import Path, Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Meta

from dynamo_core.look.documents import without_values
from dynamo_core.protocol.look_messages import KEYS_SHOWN_MAX
from dynamo_core.runtime.event_log import Event
from dynamo_node.admin_answers import answer, query_of
from dynamo_node.budget import overloaded
from dynamo_node.driver import Driver
from dynamo_node.keyring import Keyring
from dynamo_node.problems import Problem

GATHERINGS_MAX = 2
"""Requests that ask other nodes at once; further ones wait (T-5)."""
GATHERING_BYTES = 16 * 1024 * 1024
"""For each of them. Bodies are decoded, made into a document and encoded in one step, so only one
request at a time needs most of its memory: 25 MiB measured for the worst bodies (`test_inside.py`),
which is less than both have together."""
LOOKS = "(looks)"
"""Who holds these bytes, among the clients."""
STREAMS_MAX = 16
"""Streams of events that are open at once; a further one is refused."""
QUIET_S = 10.0
"""After this silence a comment is sent, so that both ends notice a lost connection."""
CHECK_S = 1.0
"""A stream ends this soon when the node drains or when rights or secrets change."""
STREAM_S_MAX = 300.0
"""A stream ends after this time. The client asks again, and its credential is checked again."""
Answered = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]
PARTITION = {"type": "integer", "minimum": 0, "maximum": 4095}
"""In the OpenAPI document; the handler reads the text itself and tells what is wrong with it."""


class HintsWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Query of GET /v1/hints."""

    target: Annotated[str, Meta(max_length=255)] = ""
    limit: Annotated[int, Meta(ge=0, le=KEYS_SHOWN_MAX)] = 0


class EventsWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Query of GET /v1/events."""

    after: Annotated[int, Meta(ge=0)] = 0


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """Query of a request that has none."""


class LookApi:
    """Handlers of one node's driver. `answered` enters the core and waits for status and body."""

    def __init__(self, driver: Driver, keyring: Keyring, answered: Answered) -> None:
        self.driver = driver
        self._keyring = keyring
        self._answered = answered
        self._inside = driver.node.inside
        self._at_once = asyncio.Semaphore(GATHERINGS_MAX)
        self._news: set[asyncio.Event] = set()
        driver.node.events.tell(self._tell)

    def routes(self) -> tuple[tuple[str, str, Callable[..., Awaitable[Response]], int], ...]:
        """Method, path, handler, status."""
        return (
            ("GET", "/v1/cluster", self.cluster, 200),
            ("GET", "/v1/records/{key}", self.records, 200),
            ("GET", "/v1/history/{key}", self.history, 200),
            ("GET", "/v1/trees/{partition}", self.trees, 200),
            ("GET", "/v1/hints", self.hints, 200),
            ("GET", "/v1/events", self.events, 200),
        )

    async def _gather(
        self,
        call: Callable[..., None],
        *more: Any,
        shown: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body,
    ) -> Response:
        records = self.driver.node.records

        def encoded(*arguments: Any) -> None:
            *given, done = arguments
            call(*given, lambda s, body: done(s, {"response": answer(s, shown(body))}))

        async with self._at_once:
            if status := records.refusal(LOOKS, GATHERING_BYTES):
                raise overloaded(status)
            records.take(LOOKS, GATHERING_BYTES)
            try:
                _, body = await self._answered(encoded, *more)
                response: Response = body["response"]
                return response
            finally:
                records.give(LOOKS, GATHERING_BYTES)

    async def cluster(self, request: Request) -> Response:
        """Every member's status, and which other members take it for up; from any node."""
        query_of(request, Nothing)
        return await self._gather(self._inside.cluster)

    async def records(self, request: Request) -> Response:
        """What every owner and every holder of a hint has of a key, side by side."""
        return await self._keyed(request, self._inside.records)

    async def history(self, request: Request) -> Response:
        """The causal history of a watched key: puts, their parents, and how versions travelled."""
        return await self._keyed(request, self._inside.history)

    async def _keyed(self, request: Request, call: Callable[..., None]) -> Response:
        """A look at one key. Values are shown to those who may get it (`get`, not `admin`)."""
        query_of(request, Nothing)
        key: bytes = request.scope["dynamo_key"]
        readable: tuple[bytes, ...] | None = request.scope.get("dynamo_get")
        allowed = readable is None or key.startswith(readable)

        def shown(body: dict[str, Any]) -> dict[str, Any]:
            if "problem" in body:
                return body
            return {**(body if allowed else without_values(body)), "values_shown": allowed}

        return await self._gather(call, key, shown=shown)

    async def trees(
        self, request: Request, partition: Annotated[str, Path(json_schema_extra=PARTITION)]
    ) -> Response:
        """The hash trees of a partition's owners, leaf by leaf, and the leaves that differ."""
        query_of(request, Nothing)
        if not (partition.isascii() and partition.isdigit() and len(partition) <= 4):
            raise Problem(400, "bad-parameter", "partition: a number of at most four digits")
        return await self._gather(self._inside.trees, int(partition))

    async def hints(self, request: Request) -> Response:
        """Hints of every node by target and what they wait for; with `target` some of the keys."""
        wanted = query_of(request, HintsWanted)
        return await self._gather(self._inside.hints, wanted.target, wanted.limit)

    async def events(self, request: Request) -> Response:
        """What happens on this node, as Server-Sent Events, from the number after `after`."""
        wanted = query_of(request, EventsWanted)
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else wanted.after
        if len(self._news) >= STREAMS_MAX:
            raise Problem(503, "overloaded", f"{STREAMS_MAX} streams of events are open")
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(
            self._stream(after), media_type="text/event-stream", headers=headers
        )

    async def _stream(self, after: int) -> AsyncIterator[bytes]:
        """Lines as they come, until the client goes, the node drains, or the time is over."""
        events, node = self.driver.node.events, self.driver.node
        after = 0 if after > events.last else after
        began = said = monotonic()
        news, standing = asyncio.Event(), self._standing()
        if len(self._news) >= STREAMS_MAX:
            return  # others began after this one was let in
        self._news.add(news)
        try:
            yield b": events of one node, the oldest that is kept first\n\n"
            while not (self.driver.stopped or node.draining) and self._standing() == standing:
                news.clear()
                for line in events.since(after):
                    after, said = line.serial, monotonic()
                    yield event_of(line)
                now = monotonic()
                if now - began > STREAM_S_MAX:
                    return
                if now - said > QUIET_S:
                    said = now
                    yield b": quiet\n\n"
                try:
                    async with asyncio.timeout(CHECK_S):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            self._news.discard(news)

    def _standing(self) -> tuple[object, object]:
        """Another value when rights or secrets have changed."""
        access = self.driver.access
        return self._keyring.now, access.rights if access is not None else None

    def _tell(self) -> None:
        for news in self._news:
            news.set()


def event_of(line: Event) -> bytes:
    """One line of the log as one event of the stream."""
    data = {"at_ms": line.at_ms, "kind": line.kind, "rule": line.rule, **line.about}
    return b"id: %d\ndata: %b\n\n" % (line.serial, msgspec.json.encode(data))
