"""One question of a person to several nodes. The answer shows each node that answers, and names
each other node with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamo_core.protocol.look_messages import BODY_BYTES_MAX, Look, Looked, decode_body
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Failure, Reason
from dynamo_core.runtime.machine import Effects, Machine, copied

ASKED_AT_ONCE_MAX = 4
GATHERED_BYTES_MAX = 640 * 1024
"""Bytes of bodies that one gathering holds. A node is asked only if its longest body has room."""
NO_ROOM = "not asked: the answers of the other nodes are too long, or too late"
Gathered = Callable[[dict[str, Any], dict[str, str]], None]
"""Bodies by node, and why each other node has none."""


class Gathering(Machine):
    """Asks all named nodes the same, a few at a time, but none that is down. It calls `done` once:
    when all have answered, or when the time is over. After half of the time it asks the next nodes
    without waiting for the answers of the earlier ones."""

    def __init__(
        self, ask: Look, names: list[str], down: list[str], wait_s: float, done: Gathered
    ) -> None:
        super().__init__()
        self._ask = ask
        self._left = list(reversed(names))
        self._asked: set[str] = set()
        self._found: dict[str, bytes] = {}
        self._missing = dict.fromkeys(down, "down")
        self._bytes = 0
        self._wait_s = wait_s
        self._done = done

    def start(self, now: float) -> Effects:
        self._until = now + self._wait_s
        self.wake_at = now + self._wait_s / 2
        return self._go_on(ASKED_AT_ONCE_MAX)

    def _go_on(self, most: int) -> Effects:
        """Ask the next nodes, so that `most` calls are under way."""
        effects: Effects = []
        while self._left and len(self._asked) < most:
            if self._bytes + (len(self._asked) + 1) * BODY_BYTES_MAX > GATHERED_BYTES_MAX:
                break  # until those that are asked have answered with less
            name = self._left.pop()
            self._asked.add(name)
            effects.append((name, copied(self._ask)))
        return effects or ([] if self._asked else self._end())

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Looked)
        self._asked.discard(node)
        self._found[node] = reply.body
        self._bytes += len(reply.body)
        return self._go_on(ASKED_AT_ONCE_MAX)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self._asked.discard(node)
        self._missing[node] = reason.words
        return self._go_on(ASKED_AT_ONCE_MAX)

    def expired(self, now: float) -> Effects:
        if now < self._until:
            self.wake_at = self._until
            return self._go_on(len(self._asked) + ASKED_AT_ONCE_MAX)
        for name in self._asked:
            self._missing[name] = Failure.NO_ANSWER.words
        return self._end()

    def _end(self) -> Effects:
        self.finished = True
        self._missing |= dict.fromkeys(reversed(self._left), NO_ROOM)
        found = {name: decode_body(self._ask.what, body) for name, body in self._found.items()}
        self._found.clear()
        self._done(found, self._missing)
        return []
