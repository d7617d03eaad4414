"""The orders of one backup or restore that are under way: at which node, since when, which nodes
are free, and whether there is progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from dynamo_core.protocol.messages import Message

AT_ONCE = 2
"""Orders that one node carries out at once."""
SILENT_S = 60.0
"""A node that is up and has not answered within this time is told again: the call may be lost."""
PATIENCE_S = 120.0
"""A run without progress for this time ends, unless a node is at work; a later run goes on."""
WORK_S = 3600.0
"""The longest time of a run without progress: no partition may take longer."""
FAILURE_S = 90.0
"""An archive that does not answer ends an order before this time; a longer one is work."""
AGAIN_S = 1.0
"""What failed is tried again after this time."""
ANY = "any"
"""Stands for every part that a node may be asked for."""
Place = tuple[str, int | str]
"""A node, and the part that it saves or merges."""


class _Order(msgspec.Struct):
    request: Message
    began: float
    again: float


class Orders:
    """By node and partition."""

    def __init__(self) -> None:
        self._under_way: dict[Place, _Order] = {}
        self._busy: Counter[str] = Counter()
        self._waits: dict[Place, float] = {}
        """The time before which the node is not asked again."""
        self._failing: set[int | str] = set()
        """Nodes at which an order has failed since the last progress, and what was ordered."""
        self._moved_at = 0.0

    def moved(self, now: float) -> None:
        """Notes progress."""
        self._moved_at = now
        self._failing.clear()

    def stuck(self, now: float) -> bool:
        """Whether there has been no progress for too long, and no node is at work."""
        waited = now - self._moved_at
        at_work = any(
            self._failing.isdisjoint(place) or now - order.began > FAILURE_S
            for place, order in self._under_way.items()
        )
        return waited > (WORK_S if at_work else PATIENCE_S)

    def give(self, node: str, what: int | str, request: Message, now: float) -> tuple[str, Message]:
        """Notes the order and returns its call."""
        self._under_way[node, what] = _Order(request, now, now + SILENT_S)
        self._busy[node] += 1
        return node, request

    def ended(self, node: str, what: int | str) -> bool:
        """An answer has come; returns whether the order was under way."""
        if self._under_way.pop((node, what), None) is None:
            return False
        self._busy[node] -= 1
        return True

    def rest(self, node: str, what: int | str, now: float) -> None:
        """The order failed; the node is asked again later."""
        self._waits[node, what] = now + AGAIN_S
        self._failing |= {node, what}

    def free(self, node: str, what: int | str, now: float) -> bool:
        """Whether the node may be asked for it now."""
        rested = self._waits.get((node, what), 0.0) <= now
        return rested and self._busy[node] < AT_ONCE and (node, what) not in self._under_way

    def is_asked(self, what: int | str) -> bool:
        """Whether any node is asked for it."""
        return any(asked == what for _, asked in self._under_way)

    def idlest(self, nodes: Iterable[str]) -> str:
        """The node with the fewest orders under way, the first by name of several."""
        return min(nodes, key=lambda node: (self._busy[node], node))

    def look(self, up: Callable[[str], bool], now: float) -> list[tuple[str, Message]]:
        """Forgets the orders of nodes that are down. Returns calls that must be made again."""
        again: list[tuple[str, Message]] = []
        for (node, what), order in list(self._under_way.items()):
            if not up(node):
                self.ended(node, what)
                self.rest(node, what, now)
            elif order.again <= now:  # it is one order, however often it is given
                order.again = now + SILENT_S
                again.append((node, order.request))
        return again
