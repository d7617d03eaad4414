"""Slow operations of clients, for the log: which, how long, and what they waited for.

A line has the position of its key on the ring (the first 32 bits of its MD5), never the key. An
operation notes which nodes answer only after its hedge delay, so a quick one notes nothing. The
lines per minute are bounded: when a ring is slow for every operation, the first lines show it, and
the others are counted.
"""

from __future__ import annotations

from collections import Counter, deque

import msgspec

from dynamo_core.protocol.operations import Asked

LINES_MAX = 30
"""Log lines in one minute."""
MINUTE_S = 60.0


class Slow(msgspec.Struct, kw_only=True):
    """One slow operation. `late` has the nodes that answered after the hedge delay, with their
    answers and times, in ms since the operation began. `silent` has the nodes without an answer at
    the decision. `hedged`: whether other nodes were asked instead. `answers` and `wanted` are, for
    a get, the nodes that answered and R; for a put, the acks and W. `durable` is the number of
    fsynced copies, to compare with `dw`."""

    kind: str
    seconds: float
    status: int = 200
    position: str = ""
    late: list[Asked] = []
    silent: list[str] = []
    hedged: bool = False
    answers: int = 0
    wanted: int = 0
    durable: int = 0
    dw: int = 0
    forwarded_to: str = ""
    operations: int = 1
    """The number of operations, for a batch."""
    trace: str = ""
    """The traceparent of the request, "" for none. It may come from a peer, so do not trust it."""


class SlowBook:
    """The slow operations of one node that are not logged yet."""

    __slots__ = ("_counters", "_lines", "_since", "_suppressed", "limit_s", "untold")

    def __init__(self, slow_s: float, counters: Counter[str]) -> None:
        self._counters = counters
        self.untold: deque[Slow] = deque(maxlen=LINES_MAX)
        self._since = -MINUTE_S
        self._lines = self._suppressed = 0
        self.retune(slow_s)

    def retune(self, slow_s: float) -> None:
        """Use another bound, in seconds; with 0 no operation is slow."""
        self.limit_s = slow_s or float("inf")

    def wants(self, now: float) -> bool:
        """Counts one more operation; True if its line still fits into this minute."""
        self._counters["slow_operations"] += 1
        if now - self._since >= MINUTE_S:
            self._since, self._lines = now, 0
        if self._lines >= LINES_MAX:
            self._suppressed += 1
            return False
        self._lines += 1
        return True

    def suppressed(self, now: float) -> int:
        """The number of lines left out in the last minute; it is returned once."""
        if not self._suppressed or now - self._since < MINUTE_S:
            return 0
        count, self._suppressed = self._suppressed, 0
        return count
