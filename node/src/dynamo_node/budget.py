"""The books of one listener over all its connections: bytes and places, in shares (T-4, T-5).

`requests`: bytes of requests, from the first byte until the answer. `large`: the part of these in
bodies that are larger than the usual memory of an operation. Only as many large bodies run at once
as can end in time (`runtime.pace`); the others wait in the kernel, and the node does not read their
sockets. The next body comes from the client that holds the fewest bytes. Of that client, the body
that has waited longest is next; but if it has waited longer than `LONG_S`, its client may have
gone, so the newest is next. `answers`: bytes of answers that are not read yet. `places`:
connections by client.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from dynamo_core.runtime.pace import Pace
from dynamo_core.runtime.shares import Shares
from dynamo_node.problems import Problem

LARGE_BYTES_MIN = 16 * 1024
"""A smaller body is admitted at once: the memory of an operation includes it."""
LARGE_BYTES_FIRST = 4 * 1024 * 1024
"""Bytes of large bodies that may be under way when the node starts."""
LARGE_BYTES_LEAST = 1024 * 1024
"""This much may always be under way: three nodes on two cores end it in time, but not more."""
LATE_BYTES_MAX = 8 * 1024 * 1024
"""Admitted large bodies that do not arrive give up their turn, up to this many bytes."""
REFUSED_LEAST, REFUSED_PART = 8, 16
"""Large bodies whose wait is over are refused in parts: in each sweep at least the first number, or
the second number's fraction of those that wait. If all were refused at once, all clients would
retry at once, and the requests under way would end too late."""
LONG_S = 1.0
"""The usual time of a request. Bodies that have waited longer come after the others."""
NOT_APPLIED = b"Dynamo-Applied: no\r\n"


class Waiting(Protocol):
    """A connection with a large body that waits for admission."""

    principal: str
    waits_for: int
    """Bytes."""

    def let_in(self) -> None:
        """The body may come."""


def overloaded(status: int) -> Problem:
    """A refusal before any effect: 429 if the client's share is used up, 503 if all is."""
    detail = "your share of this node is used up; nothing was done" if status == 429 else ""
    return Problem(status, "overloaded", detail, NOT_APPLIED)


def holder(host: str) -> str:
    """The name whose share a connection from this address takes. An IPv4 client of a listener for
    both families (`::ffff:10.0.0.1`, RFC 4291, 2.5.5.2) keeps its IPv4 name."""
    return host.removeprefix("::ffff:")


class Books:
    """What each client holds of one listener."""

    def __init__(
        self,
        requests: int,
        large: int,
        answers: int,
        places: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.requests = Shares(requests)
        self.answers = Shares(answers)
        self.places = Shares(places)
        self.late_most = min(LATE_BYTES_MAX, large // 3)
        self.late = 0
        """Bytes of large bodies that arrive slowly and have given their turn to others."""
        most = large - self.late_most
        self.pace = Pace(min(LARGE_BYTES_LEAST, most), most, LARGE_BYTES_FIRST)
        self.large = Shares(self.pace.allowed)
        self.clock = loop.time
        self._loop = loop
        self._due = False
        self._refusals_left = REFUSED_LEAST
        self._queues: dict[str, dict[Waiting, float]] = {}
        """Waiting connections, in the order of arrival, and the time at which each wait began."""

    def hold(self, client: str, size: int) -> None:
        """Count bytes of a request. Raises Problem if there are too many."""
        if status := self.requests.refusal(client, size):
            raise overloaded(status)
        self.requests.take(client, size)

    # ------------------------------------------------------------ large bodies

    def begin(self, client: str, size: int) -> bool:
        """Admit a large body if there is room and no other body waits."""
        if self._queues or not self._fits(client, size):
            return False
        self.large.take(client, size)
        return True

    def queue(self, connection: Waiting) -> None:
        """The connection is admitted when its turn comes."""
        self._queues.setdefault(connection.principal, {})[connection] = self.clock()
        self._soon()

    def unqueue(self, connection: Waiting) -> None:
        """The connection waits no longer."""
        queue = self._queues.get(connection.principal, {})
        queue.pop(connection, None)
        if not queue:
            self._queues.pop(connection.principal, None)

    @property
    def waiting(self) -> int:
        """How many large bodies wait for admission."""
        return sum(map(len, self._queues.values()))

    def swept(self) -> None:
        """A sweep begins."""
        self._refusals_left = REFUSED_LEAST + self.waiting // REFUSED_PART

    def may_refuse(self) -> bool:
        """Whether this sweep may refuse one more body whose wait is over."""
        self._refusals_left -= 1
        return self._refusals_left >= 0

    def end(self, client: str, size: int, took_s: float | None = None) -> None:
        """The request of a large body was answered after `took_s`, or its connection is gone."""
        if took_s is not None:
            self.pace.ended(size, took_s, self.clock())
            self.large.total = self.pace.allowed
        self.large.give(client, size)
        self._soon()

    def give_turn(self, client: str, size: int) -> bool:
        """An admitted body arrives slowly, so another body takes its turn. False if too many bodies
        have given up their turn. Without this, a few slow clients would stop all others."""
        if self.late + size > self.late_most:
            return False
        self.late += size
        self.end(client, size)
        return True

    def take_turn(self, client: str, size: int) -> None:
        """The slow body has arrived, or its connection is gone (then `end`)."""
        self.late -= size
        self.large.take(client, size)

    def _soon(self) -> None:
        """Admit in a separate turn of the loop, because `let_in` may answer the request at once and
        then admit the next one."""
        if self._queues and not self._due:
            self._due = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Admit as many bodies as have room, first those of the clients that hold least."""
        self._due = False
        while self._queues:
            client = min(self._queues, key=self.large.held)
            queue = self._queues[client]
            first, since = next(iter(queue.items()))
            if self.clock() - since > LONG_S:
                first = next(reversed(queue))
            if not self._fits(client, first.waits_for):
                return
            self.unqueue(first)
            self.large.take(client, first.waits_for)
            first.let_in()

    def _fits(self, client: str, size: int) -> bool:
        return not self.large.used or not self.large.refusal(client, size)

    # ------------------------------------------------------------ answers

    def room_for(self, client: str, size: int) -> int:
        """0 if an answer of this size may be made, else the status of the refusal. If no other
        answer waits, an answer of any size has room."""
        return self.answers.refusal(client, size) if self.answers.used else 0
