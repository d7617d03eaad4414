"""Expiries in a simulated history: the stamps of nodes, and the wall clocks of all machines.

The checker has no clock. With each read it gets the earliest time of any machine during the read,
and the latest time that any node has ever used. A value that expires after the latest time is alive
for all; one that expires before the earliest time is dead for all (S-TTL-1).
"""

from __future__ import annotations

from collections.abc import Iterable

WALL_MS = 1_700_000_000_000
"""A machine's clock at the start of a history, if no fault has set it."""


class WallClocks:
    """The wall clocks of all machines, in ms since 1970."""

    def __init__(self) -> None:
        self.latest_ms = 0
        """The latest time that any node has used."""
        self._lowest: list[tuple[float, int]] = [(0.0, 0)]
        """From when on which offset is the lowest of all machines."""

    def tell(self, now: float, offset_ms: int) -> int:
        """The time of a clock with this offset."""
        told = WALL_MS + int(now * 1000) + offset_ms
        if told > self.latest_ms:
            self.latest_ms = told
        return told

    def are_set(self, now: float, offsets_ms: Iterable[int]) -> None:
        """A machine has got another offset; these are the offsets of all machines."""
        self._lowest.append((now, min(offsets_ms)))

    def earliest_ms(self, since: float) -> int:
        """The earliest time that any machine has had since then."""
        before = [offset for at, offset in self._lowest if at <= since][-1]
        after = [offset for at, offset in self._lowest if at > since]
        return WALL_MS + int(since * 1000) + min([before, *after])


def absolute_ms(now: float, until_s: float) -> int:
    """The time `until_s` after now, by a clock that no fault has set; 0 for no expiry."""
    return WALL_MS + int((now + until_s) * 1000) if until_s else 0
