"""One question to several nodes at once, for people who look inside: who answers is shown, who does
not is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamo_core.look_messages import Look, Looked, decode_body
from dynamo_core.machine import Effects, Machine
from dynamo_core.messages import Message

GATHER_S = 2.0
"""Who is silent for longer is shown as silent."""
Gathered = Callable[[dict[str, Any], dict[str, str]], None]
"""Bodies by node, and why each other node has none."""


class Gathering(Machine):
    """Asks every node named the same; `done` is told once, when all have answered or the time is
    over. Nodes that are down are not asked."""

    def __init__(self, ask: Look, names: list[str], down: list[str], done: Gathered) -> None:
        super().__init__()
        self._ask = ask
        self._names = names
        self._found: dict[str, Any] = {}
        self._missing = dict.fromkeys(down, "down")
        self._done = done

    def start(self, now: float) -> Effects:
        self.wake_at = now + GATHER_S
        a = self._ask
        if not self._names:
            return self._end()
        return [(n, Look(0, a.what, a.partition, a.stored, a.target, a.limit)) for n in self._names]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Looked)
        self._found[node] = decode_body(self._ask.what, reply.body)
        return self._maybe_end()

    def failed(self, node: str, request: Message, reason: str, now: float) -> Effects:
        self._missing[node] = reason
        return self._maybe_end()

    def expired(self, now: float) -> Effects:
        for name in self._names:
            if name not in self._found:
                self._missing.setdefault(name, "no answer")
        return self._end()

    def _maybe_end(self) -> Effects:
        waits = any(n not in self._found and n not in self._missing for n in self._names)
        return [] if waits or self.finished else self._end()

    def _end(self) -> Effects:
        self.finished = True
        self._done(self._found, self._missing)
        return []
