"""The look-inside part of the admin listener: requests that only read (docs/console.md).

The core decides what is shown and how much of it. Events are a stream (Server-Sent Events): this
module waits for the core to say that there is something new, so an open page costs nothing while
nothing happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import msgspec
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Meta

from dynamo_core.happenings import Happening
from dynamo_core.look_messages import KEYS_SHOWN_MAX
from dynamo_node.driver import Driver

STREAMS_MAX = 16
"""Streams of events that are open at once; one more is refused."""
QUIET_S = 10.0
"""After such a silence a comment is sent, so that both ends notice a lost connection."""
LOOK_UP_S = 1.0
"""So soon a stream ends when the node drains."""
GATHERINGS_MAX = 4
"""Requests that ask all nodes at once; the others wait."""
Ask = Callable[..., Awaitable[Response]]


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
    """Handlers of one node's driver. `ask` enters the core and waits; `query` checks a query;
    `refuse` makes a problem of status, slug and detail."""

    def __init__(
        self, driver: Driver, ask: Ask, query: Callable[[Request, type], Any],
        refuse: Callable[[int, str, str], Exception],
    ) -> None:  # fmt: skip
        self.driver = driver
        self._ask = ask
        self._query = query
        self._refuse = refuse
        self._at_once = asyncio.Semaphore(GATHERINGS_MAX)
        self._news: set[asyncio.Event] = set()
        driver.node.happenings.heard = self._tell

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

    async def _gather(self, call: Callable[..., None], *more: Any) -> Response:
        async with self._at_once:
            return await self._ask(call, *more)

    async def cluster(self, request: Request) -> Response:
        """Every member's state, as it says itself and as the others see it; from any node."""
        self._query(request, Nothing)
        return await self._gather(self.driver.node.inside.cluster)

    async def records(self, request: Request) -> Response:
        """What every owner and every holder of a hint has of a key, side by side."""
        self._query(request, Nothing)
        inside = self.driver.node.inside
        return await self._gather(inside.records, request.scope["dynamo_key"])

    async def history(self, request: Request) -> Response:
        """The causal history of a watched key: puts, their parents, and how versions travelled."""
        self._query(request, Nothing)
        inside = self.driver.node.inside
        return await self._gather(inside.history, request.scope["dynamo_key"])

    async def trees(self, request: Request, partition: str) -> Response:
        """The hash trees of a partition's owners, leaf by leaf, and the leaves that differ."""
        self._query(request, Nothing)
        if not (partition.isascii() and partition.isdigit() and len(partition) <= 4):
            raise self._refuse(400, "bad-parameter", "partition: a number")
        return await self._gather(self.driver.node.inside.trees, int(partition))

    async def hints(self, request: Request) -> Response:
        """Hints of every node by target and what they wait for; with `target` the first keys."""
        wanted = self._query(request, HintsWanted)
        return await self._gather(self.driver.node.inside.hints, wanted.target, wanted.limit)

    async def events(self, request: Request) -> Response:
        """What happens on this node, as Server-Sent Events, from the number after `after`."""
        wanted = self._query(request, EventsWanted)
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else wanted.after
        if len(self._news) >= STREAMS_MAX:
            raise self._refuse(503, "overloaded", f"{STREAMS_MAX} streams of events are open")
        news = asyncio.Event()
        self._news.add(news)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(
            self._stream(after, news), media_type="text/event-stream", headers=headers
        )

    async def _stream(self, after: int, news: asyncio.Event) -> AsyncIterator[bytes]:
        """Lines as they come, until the client goes or the node drains."""
        happenings = self.driver.node.happenings
        after = 0 if after > happenings.last else after
        quiet_s = 0.0
        try:
            yield b": events of one node, the oldest that is kept first\n\n"
            while not (self.driver.stopped or self.driver.node.draining):
                news.clear()
                for line in happenings.since(after):
                    after = line.number
                    yield event_of(line)
                    quiet_s = 0.0
                try:
                    async with asyncio.timeout(LOOK_UP_S):
                        await news.wait()
                except TimeoutError:
                    quiet_s += LOOK_UP_S
                    if quiet_s >= QUIET_S:
                        quiet_s = 0.0
                        yield b": quiet\n\n"
        finally:
            self._news.discard(news)

    def _tell(self) -> None:
        for news in self._news:
            news.set()


def event_of(line: Happening) -> bytes:
    """One line of the list as one event of the stream."""
    data = {"at_ms": line.at_ms, "kind": line.kind, "rule": line.rule, **line.about}
    return b"id: %d\ndata: %b\n\n" % (line.number, msgspec.json.encode(data))
