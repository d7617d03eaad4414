"""Whether this node's fsyncs stall, and since when (S-RW-8).

A disk may accept writes but delay their fsyncs for seconds: a faulty device, a full write cache, a
snapshot of the volume. The node then still serves reads and takes copies, but a put that it
coordinates would wait for its own disk. So the node says that its fsyncs stall. Other owners then
coordinate its puts. Gossip tells the other nodes; status, `/readyz` and metrics tell people.

An fsync that has lasted `fsync_stall_s` is stalled. The state ends when an fsync is quicker than
that. The node makes one fsync with every heartbeat, because without writes there would be none.
"""

from __future__ import annotations

NEVER = float("inf")


class Durability:
    """Watches the fsyncs of one node. Times in its monotonic seconds."""

    def __init__(self, stall_s: float) -> None:
        self.stalled = False
        self.since_ms = 0
        """By the wall clock: when the node asked for the first fsync that stalled."""
        self.stall_s = stall_s
        self._wanted_at = NEVER
        """When the node asked for the fsync under way."""
        self.wake_at = NEVER
        """When the fsync under way will have stalled. Each turn asks for it, so it is kept
        ready."""

    def retune(self, stall_s: float) -> None:
        """Another bound, in seconds."""
        self.stall_s = stall_s
        self._reckon()

    def _reckon(self) -> None:
        self.wake_at = NEVER if self.stalled else self._wanted_at + self.stall_s

    def wanted(self, now: float, wall_ms: int) -> bool:
        """A caller waits for an fsync. True if this call finds for the first time that it
        stalls."""
        if self._wanted_at == NEVER:
            self._wanted_at = now
            self._reckon()
        lasts_s = now - self._wanted_at
        if self.stalled or lasts_s < self.stall_s:
            return False
        self.stalled, self.since_ms = True, wall_ms - round(lasts_s * 1000)
        self._reckon()
        return True

    def synced(self, now: float) -> None:
        """The fsync has ended; the time of the next one counts from when a caller wants it."""
        took_s, self._wanted_at = now - self._wanted_at, NEVER
        if self.stalled and 0 <= took_s < self.stall_s:
            self.stalled = False
        self._reckon()
