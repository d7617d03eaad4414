"""When one node more is asked because another is slow (S-RW-9, [P 6.1]: percentiles).

A get asks the rest of its nodes, a put looks for another, after the longer of `hedge_s` and the
99th percentile of the reads that this node answered in the last minute without asking more, so a
node that is merely busy is not given more to do. Of twenty gets at most one asks more, and none
while this node's own loop is late, as what it waits for may lie unread before it.

None of this may cost an answer (C8). A peer that has said nothing at all for long is asked around
without a count, and at half of its time every get asks the rest whatever was said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dynamo_core.runtime.throttle import Throttle
from dynamo_core.settings import Settings

if TYPE_CHECKING:
    from dynamo_core.runtime.failure_detector import FailureDetector

SHARE = 0.05
"""Of gets, those that may ask more."""
LATE_S = 0.01
"""A turn that comes so long after it was due is late; the timers of the shell are right to 2 ms."""
SILENT_TIMES = 4
"""A peer without a word for so many times the delay is silent, not slow."""


class Hedging:
    """The delay, and the budget of a node."""

    __slots__ = (
        "_counters",
        "_detector",
        "_hedge_s",
        "_late_until",
        "_most",
        "_throttle",
        "_tokens",
        "again_s",
    )  # fmt: skip

    def __init__(
        self, settings: Settings, throttle: Throttle, detector: FailureDetector,
        counters: Counter[str],
    ) -> None:  # fmt: skip
        self._throttle = throttle
        self._detector = detector
        self._counters = counters
        self.retune(settings.hedge_s)
        self._most = self._tokens = settings.hedges_at_once_max
        self._late_until = 0.0

    def retune(self, hedge_s: float) -> None:
        """Another silence after which one node more is asked."""
        self._hedge_s = hedge_s
        self.again_s = hedge_s / 2
        """A get that may not ask more yet looks again so often."""

    def after_s(self, timeout_s: float) -> float:
        """How long to wait for an answer before another node is asked."""
        usual_s = self._throttle.usual_s
        if usual_s <= self._hedge_s:
            return self._hedge_s
        return max(self._hedge_s, min(usual_s, timeout_s / 2))

    def begun(self) -> None:
        """A get has begun."""
        if self._tokens < self._most:
            self._tokens += SHARE

    def late(self, now: float, late_s: float) -> None:
        """This turn comes so late: for as long again, at most the delay, nothing is hedged."""
        self._late_until = max(self._late_until, now + min(late_s, self._hedge_s))

    def may(self, asked: Iterable[str], since: float, now: float) -> bool:
        """Whether a get that has waited for these since then may ask more now."""
        counters = self._counters
        if now < self._late_until:
            counters["hedges_put_off"] += 1
            return False
        if any(self._silent(name, since, now) for name in asked):
            counters["hedges_around_silence"] += 1
            return True
        if self._tokens < 1.0:
            counters["hedges_refused"] += 1
            return False
        self._tokens -= 1.0
        counters["hedges"] += 1
        return True

    def _silent(self, name: str, since: float, now: float) -> bool:
        peer = self._detector.peers.get(name)
        if peer is None or peer.heard_ms > since * 1000:
            return False
        longest_s = SILENT_TIMES * max(self._hedge_s, self._throttle.usual_s)
        return now * 1000 - peer.heard_ms > longest_s * 1000
