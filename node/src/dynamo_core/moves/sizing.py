"""Asks owners for the size of partitions, and receivers for their free space."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dynamo_core.protocol.messages import Message, Sizes, SizesReply
from dynamo_core.protocol.refusal import Reason
from dynamo_core.runtime.machine import Effects, Machine, View

SIZING_S = 5.0


PACE_S = 0.005
"""Seconds between two questions to a node that is still counting."""


Counts = dict[int, tuple[int, int]]
"""Bytes and keys by partition."""


class Sizing(Machine):
    """Gets the bytes and keys of partitions from an owner of each that is up, and the free bytes of
    receivers. What no node has told in time is missing in the result."""

    def __init__(
        self,
        view: View,
        partitions: Iterable[int],
        receivers: Iterable[str],
        done: Callable[[Counts, dict[str, int]], None],
    ) -> None:
        super().__init__()
        self.view = view
        self.counts: Counts = {}
        self.free: dict[str, int] = {}
        self._partitions = sorted(set(partitions))
        self._receivers = sorted(set(receivers))
        self._done = done
        self._tried: dict[int, set[str]] = {}
        self._again: list[tuple[str, list[int]]] = []
        self._open = 0

    def start(self, now: float) -> Effects:
        self._until = self.wake_at = now + SIZING_S
        asked = self._shared_out(self._partitions)
        for name in filter(self.view.up, self._receivers):
            asked.setdefault(name, [])
        return self._ask(asked.items())

    def _shared_out(self, partitions: Iterable[int]) -> dict[str, list[int]]:
        """Gives each partition to an owner that was not asked for it yet, in turns."""
        asked: dict[str, list[int]] = {}
        for partition in partitions:
            tried = self._tried.setdefault(partition, set())
            owners = self.view.preference.owners(partition)
            left = [o for o in owners if o not in tried and self.view.up(o)]
            if left:
                name = left[partition % len(left)]
                tried.add(name)
                asked.setdefault(name, []).append(partition)
        return asked

    def _ask(self, asked: Iterable[tuple[str, list[int]]]) -> Effects:
        effects: Effects = [(name, Sizes(0, partitions)) for name, partitions in asked]
        self._open += len(effects)
        return effects if self._open else self._end()

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(request, Sizes) and isinstance(reply, SizesReply)
        self._open -= 1
        self.counts.update((p, (size, keys)) for p, size, keys in reply.rows)
        self.free[node] = reply.free_bytes
        if reply.left:
            self._again.append((node, request.partitions))
            self.wake_at = min(self._until, now + PACE_S)
        return [] if self._open or self._again else self._end()

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        assert isinstance(request, Sizes)
        self._open -= 1
        asked = self._shared_out(request.partitions)
        return [] if self._again and not asked else self._ask(asked.items())

    def expired(self, now: float) -> Effects:
        if now >= self._until:
            return self._end()
        self.wake_at = self._until
        again, self._again = self._again, []
        return self._ask(again)

    def _end(self) -> Effects:
        self.finished = True
        self._done(self.counts, self.free)
        return []
