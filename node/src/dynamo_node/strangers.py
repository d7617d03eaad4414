"""Accepted links whose other side has not proven itself: few places, separate from peers' places.

If all are taken, a new stranger takes the place of the oldest one of the host that has most. A peer
needs its place for one round trip, so a flood of strangers cannot keep it out (T-4), and one host
cannot take the places of the others (T-5).
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
        """Adds the link; returns the link that loses its place."""
        out = None
        if self._count >= self.strangers_max:
            most = max(self._by_host, key=lambda host: len(self._by_host[host]))
            out = next(iter(self._by_host[most]))
            self.discard(out, most)
        self._by_host.setdefault(host, {})[link] = None
        self._count += 1
        return out

    def discard(self, link: Incoming, host: str) -> None:
        """The link is gone, or is a peer."""
        links = self._by_host.get(host, {})
        if link in links:
            del links[link]
            self._count -= 1
            if not links:
                del self._by_host[host]
