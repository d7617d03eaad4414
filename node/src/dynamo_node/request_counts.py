"""Client operations that this node answered: plain numbers, cheap for the hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from dynamo_core.protocol.operations import Get, Operation, Outcome

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
SIBLINGS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)


class Buckets:
    """A histogram: `counts[i]` values up to `limits[i]`, the last one above all limits."""

    __slots__ = ("counts", "limits", "total")

    def __init__(self, limits: tuple[float, ...]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Cumulative counts, as Prometheus expects them."""
        rows, below = [], 0
        for limit, count in zip((*self.limits, float("inf")), self.counts, strict=True):
            below += count
            rows.append(("+Inf" if limit == float("inf") else str(limit), float(below)))
        return rows


class Requests:
    """Client operations that this node answered."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()
        self.seconds = {kind: Buckets(SECONDS) for kind in ("get", "put", "delete")}
        self.siblings = Buckets(SIBLINGS)
        self.asked_at = float("-inf")
        """When a client asked last, in seconds of the monotonic clock."""

    def asked(self, now: float) -> float:
        """Notes that a client asks now. Returns `now`."""
        self.asked_at = now
        return now

    def observe(self, operation: Operation, outcome: Outcome, seconds: float) -> None:
        """Counts one answered operation."""
        if type(operation) is Get:
            kind = "get"
            if outcome.values:
                self.siblings.observe(len(outcome.values))
        else:
            kind = "put" if operation.value is not None else "delete"  # type: ignore[union-attr]
        self.counts[kind, outcome.status] += 1
        self.seconds[kind].observe(seconds)
