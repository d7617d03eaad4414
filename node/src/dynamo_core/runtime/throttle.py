"""The budget of background work, so that clients do not feel it (S-BG-1, [P 6.5]).

The controller of one node compares p99, the 99th percentile of the reads that the node answered in
the last minute, with a threshold. The budget b is the share of its full speed that background work
may use. Once a second b is multiplied by `SLOWER` if p99 is above the threshold; otherwise `FASTER`
is added; b stays within `BUDGET_MIN`..1. It falls quickly, because clients wait, and rises slowly,
to find the speed that clients do not feel. With too few reads for a percentile, b rises.

The budget limits work in two ways. Of k concurrent jobs, share(k) = ceil(b·k) run. Rounding up
overshoots, so each job sleeps after a slice until its duty cycle is b·k / ceil(b·k). Together the
jobs use the share b. Work never stops: it goes on at `BUDGET_MIN` even if clients wait long, since
missing copies may be the reason why they wait.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from math import ceil

WINDOW_S = 60
BUDGET_MIN = 0.05
SLOWER = 0.8
"""From 1 to `BUDGET_MIN` it takes 14 s."""
FASTER = 0.05
"""Back to 1 it takes 19 s."""
READS_MIN = 20
"""With fewer reads in the window, the slowest one alone would decide."""
REST_S_MAX = 0.05
"""The longest rest. A longer slice mostly waited for a busy node, so it needs no longer rest."""
STEPS = 24
STEP = 1.25
"""The limits of the histogram are threshold x 1.25^i, i = -24..24. So p99 is right to a quarter,
and exact at the threshold."""


class Throttle:
    """The controller of one node. Times in seconds of its monotonic clock."""

    def __init__(self, threshold_ms: float, counters: Counter[str]) -> None:
        self.counters = counters
        self.budget = 1.0
        self.p99_ms: float | None = None
        """Of the last turn; None with fewer than `READS_MIN` reads."""
        self.usual_s = 0.0
        """The same for reads that were not hedged, in seconds; 0.0 for None (S-RW-9)."""
        self._seconds: deque[tuple[int, list[int]]] = deque()
        """The window: one histogram for each second with a read; `_sums` is their sum."""
        self._hedged: deque[tuple[int, int]] = deque()
        """The hedged reads among them, as (second, place in the histogram). Their time shows the
        hedge delay, not the usual time of a read."""
        self.wake_at = 0.0
        """When `tick` is due; the node need not wake up for it."""
        self.retune(threshold_ms)

    def retune(self, threshold_ms: float) -> None:
        """Use another threshold. The limits of the histogram depend on it, so the window starts
        empty."""
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
        """Once a second: compute p99 and set the budget."""
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
        """How many of `at_once` jobs may run at once, at least one."""
        return ceil(self.budget * at_once)

    def rest_s(self, took_s: float, at_once: int) -> float:
        """How long a job sleeps after a slice of `took_s` seconds, where `at_once` jobs may run at
        full speed."""
        allowed = self.budget * at_once
        return min(REST_S_MAX, took_s * (self.share(at_once) / allowed - 1))
