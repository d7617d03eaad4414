"""The budget of background work, so that clients do not feel it (S-BG-1, [P 6.5]).

The controller of one node watches what its clients feel: p99, the 99th percentile of the reads that
it answered in the last minute, against a threshold. Once a second the budget b, the share of its
full speed that background work has, is multiplied by `SLOWER` when p99 is above, else `FASTER` is
added, within `BUDGET_MIN`..1: down quickly, as clients wait, and up again slowly, to find the speed
at which they do not. So few reads that they say nothing leave the work its way up.

Work draws slices from it in two ways. Of what may run k at once, `share(k)` may, b k rounded up.
That is still too much by the part that was rounded, so each rests after a slice: if that took t
seconds, until t is d = b k / share(k) of the time. Both together are b, and neither ever comes to
nothing: work goes on at `BUDGET_MIN` however long clients suffer, as copies that are missing may be
what they suffer from.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from math import ceil

WINDOW_S = 60
BUDGET_MIN = 0.05
SLOWER = 0.8
"""From 1 to the least in 14 s."""
FASTER = 0.05
"""Back again in 19 s."""
READS_MIN = 20
"""Of fewer reads in the window the slowest one would decide."""
REST_S_MAX = 0.05
"""Of a slice that took longer most was waiting for a busy node, not work."""
STEPS = 24
STEP = 1.25
"""Limits of the histogram are threshold x 1.25^i, i = -24..24: p99 is right to a quarter, and exact
where it is compared."""


class Throttle:
    """The controller of one node. Times in seconds of its monotonic clock."""

    def __init__(self, threshold_ms: float, counters: Counter[str]) -> None:
        self.counters = counters
        self.budget = 1.0
        self.p99_ms: float | None = None
        """As of the last turn; None when fewer than `READS_MIN` reads say anything."""
        self.usual_s = 0.0
        """The same of the reads that were not hedged, in seconds; 0.0 for None (S-RW-9)."""
        self._seconds: deque[tuple[int, list[int]]] = deque()
        """The window, a histogram for each second that had a read; `_sums` is all of them."""
        self._hedged: deque[tuple[int, int]] = deque()
        """Of these the hedged ones, which took as long as the hedge let them: second and place."""
        self.wake_at = 0.0
        """When `tick` is due; nobody needs to be woken for it."""
        self.retune(threshold_ms)

    def retune(self, threshold_ms: float) -> None:
        """Another threshold. The histogram has it in its midst, so the window begins anew."""
        self.threshold_ms = threshold_ms
        self._limits = [threshold_ms / 1000 * STEP**i for i in range(-STEPS, STEPS + 1)]
        self._sums = [0] * (len(self._limits) + 1)
        self._seconds.clear()
        self._hedged.clear()

    def read(self, took_s: float, now: float, hedged: bool = False) -> None:
        """A read of a client was answered."""
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, [0] * len(self._sums)))
        place = bisect_left(self._limits, took_s)
        self._seconds[-1][1][place] += 1
        self._sums[place] += 1
        if hedged:
            self._hedged.append((second, place))

    def tick(self, now: float) -> None:
        """Once a second: look, and set the budget."""
        self.wake_at = now + 1.0
        while self._seconds and self._seconds[0][0] <= now - WINDOW_S:
            _, counts = self._seconds.popleft()
            self._sums = [a - b for a, b in zip(self._sums, counts, strict=True)]
        while self._hedged and self._hedged[0][0] <= now - WINDOW_S:
            self._hedged.popleft()
        self.p99_ms = self._p99_ms(self._sums)
        usual_ms = self.p99_ms
        if self._hedged:
            plain = list(self._sums)
            for _, place in self._hedged:
                plain[place] -= 1
            usual_ms = self._p99_ms(plain)
        self.usual_s = (usual_ms or 0.0) / 1000
        if self.p99_ms is not None and self.p99_ms > self.threshold_ms:
            self.counters["background_slowed"] += self.budget > BUDGET_MIN
            self.budget = max(BUDGET_MIN, self.budget * SLOWER)
        else:
            self.budget = min(1.0, self.budget + FASTER)

    def _p99_ms(self, sums: list[int]) -> float | None:
        """The limit that 99 of 100 reads do not exceed."""
        beyond = sum(sums)
        if beyond < READS_MIN:
            return None
        left = beyond - beyond // 100
        for limit, count in zip(self._limits, sums, strict=False):
            left -= count
            if left <= 0:
                return 1000 * limit
        return 1000 * self._limits[-1] * STEP

    def share(self, at_once: int) -> int:
        """How many of so many things at once, at least one."""
        return ceil(self.budget * at_once)

    def rest_s(self, took_s: float, at_once: int) -> float:
        """How long to rest after a slice of work that took so long, where so many may run at once
        at full speed."""
        allowed = self.budget * at_once
        return min(REST_S_MAX, took_s * (self.share(at_once) / allowed - 1))
