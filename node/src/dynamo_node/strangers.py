"""Accepted links whose other side has not proven itself: few places, separate from peers' places.

If all are taken, a new stranger takes a place of the host that has most, so one host cannot take
the places of the others (T-5). Of that host, the oldest stranger that has sent nothing goes first.
Only the older half is searched for it: a peer has just connected when it has sent nothing. If all
of the older half have sent something, the oldest goes.

So a peer keeps its place until half of all places were taken anew, and when its hello has arrived,
silent strangers cannot take it any more. It needs one round trip, therefore a flood of strangers
cannot keep it out, even if they come from its own address (T-4).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
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
            links = self._by_host[most]
            older = islice(links, (len(links) + 1) // 2)
            out = next((one for one in older if not one.heard), next(iter(links)))
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
