"""Slow operations of clients, for the log: which, how long, and what they waited for.

A line names its key by the position on the ring alone (the first 32 bits of its MD5), never the key
itself. An operation begins to note who answers when its hedge delay is over, so one that is quick
notes nothing. Lines are bounded by the minute: what a sick ring does to every operation is told by
the first of them, and the others are counted.
"""

from __future__ import annotations

from collections import Counter, deque

import msgspec

from dynamo_core.protocol.operations import Asked

LINES_MAX = 30
"""In one minute."""
MINUTE_S = 60.0


class Slow(msgspec.Struct, kw_only=True):
    """One slow operation. `late` has who answered after the hedge delay, and what, in ms since the
    operation began; `silent` those that were asked and had not answered when it was decided;
    `hedged` says whether others were asked instead. `answers` counts against `wanted`: of a get the
    nodes that answered and R, of a put acks and W; `durable` fsynced copies against `dw`."""

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
    """Of a batch."""
    trace: str = ""
    """The traceparent of the request, "" for none; of a peer it is not to be believed."""


class SlowBook:
    """The slow operations of one node that the log has not been told of."""

    __slots__ = ("_counters", "_lines", "_since", "_suppressed", "limit_s", "untold")

    def __init__(self, slow_s: float, counters: Counter[str]) -> None:
        self._counters = counters
        self.untold: deque[Slow] = deque(maxlen=LINES_MAX)
        self._since = -MINUTE_S
        self._lines = self._suppressed = 0
        self.retune(slow_s)

    def retune(self, slow_s: float) -> None:
        """Another bound, in seconds; 0: no operation is slow."""
        self.limit_s = slow_s or float("inf")

    def wants(self, now: float) -> bool:
        """Counts one more; whether there is room for its line in this minute."""
        self._counters["slow_operations"] += 1
        if now - self._since >= MINUTE_S:
            self._since, self._lines = now, 0
        if self._lines >= LINES_MAX:
            self._suppressed += 1
            return False
        self._lines += 1
        return True

    def suppressed(self, now: float) -> int:
        """How many lines were left out, told once, when their minute is over."""
        if not self._suppressed or now - self._since < MINUTE_S:
            return 0
        count, self._suppressed = self._suppressed, 0
        return count
