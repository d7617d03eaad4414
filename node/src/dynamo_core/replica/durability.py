"""Whether this node's fsyncs stall, and since when (S-RW-8).

A disk may take writes and hold back their fsyncs for seconds: a sick device, a full write cache, a
snapshot of the volume. The node then serves reads and takes copies as ever, but a put that it
coordinates would wait for its own disk. So it says that its fsyncs stall: it lets other owners
coordinate, gossip tells the other nodes, and status, `/readyz` and metrics tell people.

An fsync that has lasted `fsync_stall_s` stalls. The state is over when an fsync has been quicker
than that; the node asks for one with every heartbeat, since without writes none would come.
"""

from __future__ import annotations

NEVER = float("inf")


class Durability:
    """Watches the fsyncs of one node. Times in its monotonic seconds."""

    def __init__(self, stall_s: float) -> None:
        self.stalled = False
        self.since_ms = 0
        """By the wall clock: when the first fsync that stalled was asked for."""
        self.stall_s = stall_s
        self._wanted_at = NEVER
        """When the fsync under way was asked for."""

    @property
    def wake_at(self) -> float:
        """When the fsync under way will have stalled."""
        return NEVER if self.stalled else self._wanted_at + self.stall_s

    def wanted(self, now: float, wall_ms: int) -> bool:
        """Somebody waits for an fsync. True when it has just been found to stall."""
        if self._wanted_at == NEVER:
            self._wanted_at = now
        lasts_s = now - self._wanted_at
        if self.stalled or lasts_s < self.stall_s:
            return False
        self.stalled, self.since_ms = True, wall_ms - round(lasts_s * 1000)
        return True

    def synced(self, now: float) -> None:
        """The fsync is over; the next one is counted from when it is wanted."""
        took_s, self._wanted_at = now - self._wanted_at, NEVER
        if self.stalled and 0 <= took_s < self.stall_s:
            self.stalled = False
