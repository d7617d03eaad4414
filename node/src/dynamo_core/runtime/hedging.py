"""When an operation asks one more node because another is slow (S-RW-9, [P 6.1]: percentiles).

After a delay, a get asks all its other nodes, and a put looks for another node. The delay is the
longer of two times: `hedge_s`, and the 99th percentile of the reads that this node answered in the
last minute without asking more. So nodes that are only busy do not get more work. At most one get
in twenty asks more. No get does while this node's own loop is late, because the answer may already
be here, unread.

These limits must not cost an answer (C8). If a peer has been completely silent for long, a get asks
other nodes outside of the budget. At half of its time, every get asks all its other nodes.
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
"""The share of gets that may ask more."""
LATE_S = 0.01
"""A turn is late when it comes this long after it was due. The shell's timers are right to 2 ms."""
SILENT_TIMES = 4
"""A peer without a word for this many times the delay is silent, not slow."""


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
    )

    def __init__(
        self,
        settings: Settings,
        throttle: Throttle,
        detector: FailureDetector,
        counters: Counter[str],
    ) -> None:
        self._throttle = throttle
        self._detector = detector
        self._counters = counters
        self.retune(settings.hedge_s)
        self._most = self._tokens = settings.hedges_at_once_max
        self._late_until = 0.0

    def retune(self, hedge_s: float) -> None:
        """Use another `hedge_s` from now on."""
        self._hedge_s = hedge_s
        self.again_s = hedge_s / 2
        """A get that may not ask more yet tries again after this time."""

    def after_s(self, left_s: float) -> float:
        """How long to wait for an answer before another node is asked: at most half of the time
        that the operation has left, so that the other node has time to answer."""
        usual_s = self._throttle.usual_s
        if usual_s <= self._hedge_s:
            return self._hedge_s
        return max(self._hedge_s, min(usual_s, left_s / 2))

    def begun(self) -> None:
        """A get has begun."""
        if self._tokens < self._most:
            self._tokens += SHARE

    def late(self, now: float, late_s: float) -> None:
        """This turn is `late_s` late: for the same time again, at most the delay, no operation asks
        more."""
        self._late_until = max(self._late_until, now + min(late_s, self._hedge_s))

    def may(self, asked: Iterable[str], since: float, now: float) -> bool:
        """Whether a get that has waited for the nodes `asked` since `since` may ask more now."""
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
