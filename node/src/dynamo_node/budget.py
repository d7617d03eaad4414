"""The books of one listener over all its connections: bytes and places, in shares (T-4, T-5).

`requests`: bytes of requests from their first byte until they are answered. `large`: those of them
in bodies that are larger than the usual memory of an operation. Only as many of these run at once
as end in time (`runtime.pace`); the others wait in the kernel with their socket paused. The next
one is of the client that holds least: the one that has waited longest, or, if its wait is long
enough that its client may have gone, the newest one. `answers`: bytes that are made and not
read yet. `places`: connections by client.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from dynamo_core.runtime.pace import Pace
from dynamo_core.runtime.shares import Shares
from dynamo_node.problems import Problem

LARGE_BYTES_MIN = 16 * 1024
"""A smaller body is let in at once: it is part of what an operation takes."""
LARGE_BYTES_FIRST = 4 * 1024 * 1024
"""Bytes of large bodies that may be under way when the node starts."""
LARGE_BYTES_LEAST = 1024 * 1024
"""This much may always be under way. Three nodes on two cores could not end more in time."""
LATE_BYTES_MAX = 8 * 1024 * 1024
"""Large bodies that may run but do not arrive give up their turn, up to this many bytes."""
REFUSED_LEAST, REFUSED_PART = 8, 16
"""Large bodies whose wait is over are refused in parts: in each sweep at least the first number, or
the second number's fraction of those that wait. If all were refused at once, all clients would
retry at once, and the requests under way would end too late."""
LONG_S = 1.0
"""The usual time of a request. Bodies that have waited longer come after the others."""
NOT_APPLIED = b"Dynamo-Applied: no\r\n"


class Waiting(Protocol):
    """A connection with a large body that waits to be let in."""

    principal: str
    waits_for: int
    """Bytes."""

    def let_in(self) -> None:
        """The body may come."""


def overloaded(status: int) -> Problem:
    """A refusal before any effect: 429 where a client's share is used up, 503 where all is."""
    detail = "your share of this node is used up; nothing was done" if status == 429 else ""
    return Problem(status, "overloaded", detail, NOT_APPLIED)


def holder(host: str) -> str:
    """Whose share a connection from this address takes. A client of IPv4 that comes to a listener
    of both families (`::ffff:10.0.0.1`, RFC 4291, 2.5.5.2) keeps its name."""
    return host.removeprefix("::ffff:")


class Books:
    """Who holds how much of one listener."""

    def __init__(
        self, requests: int, large: int, answers: int, places: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        self.requests = Shares(requests)
        self.answers = Shares(answers)
        self.places = Shares(places)
        self.late_most = min(LATE_BYTES_MAX, large // 3)
        self.late = 0
        """Bytes of large bodies that have given their turn to others, as they are slow to come."""
        most = large - self.late_most
        self.pace = Pace(min(LARGE_BYTES_LEAST, most), most, LARGE_BYTES_FIRST)
        self.large = Shares(self.pace.allowed)
        self.clock = loop.time
        self._loop = loop
        self._due = False
        self._refusals_left = REFUSED_LEAST
        self._queues: dict[str, dict[Waiting, float]] = {}
        """Who waits, in the order in which they came, and since when."""

    def hold(self, client: str, size: int) -> None:
        """Bytes of a request that begins or goes on. Raises Problem when there are too many."""
        if status := self.requests.refusal(client, size):
            raise overloaded(status)
        self.requests.take(client, size)

    # ------------------------------------------------------------ large bodies

    def begin(self, client: str, size: int) -> bool:
        """Lets a large body in, if it may come now and no other waits."""
        if self._queues or not self._fits(client, size):
            return False
        self.large.take(client, size)
        return True

    def queue(self, connection: Waiting) -> None:
        """It is let in when its turn has come."""
        self._queues.setdefault(connection.principal, {})[connection] = self.clock()
        self._soon()

    def unqueue(self, connection: Waiting) -> None:
        """It waits no more."""
        queue = self._queues.get(connection.principal, {})
        queue.pop(connection, None)
        if not queue:
            self._queues.pop(connection.principal, None)

    @property
    def waiting(self) -> int:
        """How many large bodies wait to be let in."""
        return sum(map(len, self._queues.values()))

    def swept(self) -> None:
        """A sweep begins."""
        self._refusals_left = REFUSED_LEAST + self.waiting // REFUSED_PART

    def may_refuse(self) -> bool:
        """Whether one more body whose wait is over is refused in this sweep."""
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
        """A large body that was let in is slow to come: another takes its turn, where not too many
        have done so. Else the connections of a few slow clients would hold up all."""
        if self.late + size > self.late_most:
            return False
        self.late += size
        self.end(client, size)
        return True

    def take_turn(self, client: str, size: int) -> None:
        """The body that has given its turn is there, or its connection is gone (then `end`)."""
        self.late -= size
        self.large.take(client, size)

    def _soon(self) -> None:
        """Admit in a separate turn of the loop: a request may be answered at once, and the next
        one too."""
        if self._queues and not self._due:
            self._due = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Lets in as many as may come now, of the clients that hold least."""
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
        """0 where an answer of the size may be made, else the status of the refusal. One that is
        alone has room, whatever its size."""
        return self.answers.refusal(client, size) if self.answers.used else 0
