"""What happens on one node, in words for people: a bounded list with numbers, the newest last.

A rare event is noted where it happens. What happens often (hints kept and delivered, repairs) is
counted anyway, so once per heartbeat the growth of each of those counters becomes one line. No
request pays for that.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

KEPT_MAX = 1024
"""Lines that are kept, about half a KiB each; of older ones only the numbers are known."""
COUNTED = {
    "hints_kept": "S-HINT-1", "hints_delivered": "S-HINT-2", "hints_handed_on": "S-HINT-3",
    "hints_refused": "S-HINT-4", "stored_by_repair": "S-RW-6", "stored_by_exchange": "S-AE-2",
    "exchange_differences": "S-AE-2", "moves_begun": "S-MOVE-1", "switches": "S-MOVE-3",
    "rounds_committed": "S-DEL-2", "rounds_abandoned": "S-DEL-2", "tombstones_collected": "S-DEL-2",
    "completed": "S-RING-6", "corrupt_records": "S-DISK-7", "ring_changes": "S-RING-4",
}  # fmt: skip
"""Counters whose growth is told, each with its rule (docs/rules.md)."""


class Event(msgspec.Struct, frozen=True):
    """One line: `serial` grows by one, `at_ms` is wall time, `rule` is in docs/rules.md."""

    serial: int
    at_ms: int
    kind: str
    rule: str
    about: dict[str, Any]


class EventLog:
    """The latest lines of one node."""

    def __init__(self) -> None:
        self.last = 0
        self._tell: Callable[[], None] = lambda: None
        self._kept: deque[Event] = deque(maxlen=KEPT_MAX)
        self._counted: Counter[str] = Counter()

    def tell(self, call: Callable[[], None]) -> None:
        """Call this from now on when there is a new line."""
        self._tell = call

    def add(self, at_ms: int, kind: str, rule: str, about: dict[str, Any]) -> None:
        """One line more."""
        self.last += 1
        self._kept.append(Event(self.last, at_ms, kind, rule, about))
        self._tell()

    def beat(self, at_ms: int, counters: Mapping[str, int]) -> None:
        """Once per heartbeat: a line for each counter that has grown."""
        for name, rule in COUNTED.items():
            now = counters.get(name)
            if now and (grown := now - self._counted[name]):
                self._counted[name] = now
                self.add(at_ms, name, rule, {"count": grown})

    def since(self, serial: int) -> list[Event]:
        """The lines after that one, as far as they are kept. All of them if this process has no
        such line."""
        if serial > self.last:
            serial = 0
        return [line for line in self._kept if line.serial > serial]
