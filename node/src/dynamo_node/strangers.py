"""Accepted links whose other side has not proven itself: few places, apart from those of peers.

When all are taken, the newest comes in and another goes out: the oldest of the host that has most.
A peer needs its place for one round trip, so a flood of strangers cannot keep it out (T-4), and one
host cannot take what others need (T-5).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamo_node.link_ends import Incoming

STRANGERS_MAX = 256


class Strangers:
    """The links by host, oldest first."""

    def __init__(self, strangers_max: int = STRANGERS_MAX) -> None:
        self.strangers_max = strangers_max
        self._by_host: dict[str, dict[Incoming, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Incoming]:
        return (link for links in self._by_host.values() for link in links)

    def add(self, link: Incoming, host: str) -> Incoming | None:
        """Takes it in; returns the one that has to go for it."""
        out = None
        if self._count >= self.strangers_max:
            most = max(self._by_host, key=lambda host: len(self._by_host[host]))
            out = next(iter(self._by_host[most]))
            self.discard(out, most)
        self._by_host.setdefault(host, {})[link] = None
        self._count += 1
        return out

    def discard(self, link: Incoming, host: str) -> None:
        """It is gone, or a peer."""
        links = self._by_host.get(host, {})
        if link in links:
            del links[link]
            self._count -= 1
            if not links:
                del self._by_host[host]
