"""The causal history of keys that are watched: a bounded ring in memory of what changed them.

A record knows which events it covers, not when they came or by which way. The chronicle remembers
that for people, for keys that begin with one of the watched prefixes or for one key in so many. It
keeps `bytes_max` bytes, the newest changes, and nothing over a restart. Off (0 bytes) it costs one
test per change. It notes what was decided: a change that the store then refused is noted too, which
is why a reload of the store empties it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from dynamo_core.codec import decode_record
from dynamo_core.errors import Corrupt
from dynamo_core.look_messages import (
    ACTORS_SHOWN_MAX,
    EVENTS_SHOWN_MAX,
    SHOWN_BYTES_MAX,
    Dot,
    Happened,
    HistoryBody,
)
from dynamo_core.versions import NOTHING, History, Sibling

EVENT_BYTES = 640
"""What one change takes in memory beside its value, its key and its dots: measured, rounded up."""
DOT_BYTES = 120


class Chronicle:
    """What changed the watched keys of one node, the newest last."""

    def __init__(self, bytes_max: int, prefixes: tuple[bytes, ...] = (), one_in: int = 1) -> None:
        self.on = bytes_max > 0
        self.bytes_max = bytes_max
        self.bytes = 0
        self.dropped = 0
        self.wall_ms = 0
        self._prefixes = prefixes
        self._one_in = one_in
        self._kept: deque[tuple[bytes, Happened, int]] = deque()

    def watches(self, stored: bytes) -> bool:
        """Whether changes of the key are noted."""
        if not self.on:
            return False
        if self._prefixes and not stored.startswith(self._prefixes, 4):
            return False
        return self._one_in == 1 or int.from_bytes(stored[:4], "big") % self._one_in == 0

    def made(
        self, stored: bytes, seen: History,
        told: tuple[Iterable[Sibling], Sibling, Iterable[Sibling]], target: str,
    ) -> None:  # fmt: skip
        """A put made one event here; `seen` is the context that it came with, `told` are the
        siblings before it, its own, and those after it."""
        if not self.watches(stored):
            return
        before, made, after = told
        kept = {s.dot for s in after}
        gone = [s.dot for s in before if s.dot not in kept]
        self._note(stored, "put", target, ([made.dot], gone), made, seen)

    def came(
        self, stored: bytes, before: bytes | None, after: bytes, way: str, target: str = ""
    ) -> None:
        """A record came from another node; `after` is what is kept now."""
        if not self.watches(stored):
            return
        try:
            old = {s.dot: s for s in decode_record(before).siblings} if before else {}
            new = {s.dot: s for s in decode_record(after).siblings}
        except Corrupt:
            return
        added, gone = [d for d in new if d not in old], [d for d in old if d not in new]
        if added or gone:
            shown = new[added[0]] if len(added) == 1 else None
            way = {"put": "replica", "double": "replica", "pass": "exchange"}.get(way, way)
            self._note(stored, way, target, (added, gone), shown)

    def left(self, stored: bytes, target: str) -> None:
        """A hint has reached its target and is no more here."""
        if self.watches(stored):
            self._note(stored, "delivered", target, ([], []), None)

    def _note(
        self, stored: bytes, way: str, target: str, dots: tuple[list[Dot], list[Dot]],
        shown: Sibling | None, seen: History | None = None,
    ) -> None:  # fmt: skip
        made = shown.dot if seen is not None and shown is not None else None
        seen = seen or NOTHING
        most = ACTORS_SHOWN_MAX
        vector = dict(list(seen.vector.items())[:most])
        beyond, new, gone = sorted(seen.dots)[:most], dots[0][:most], dots[1][:most]
        value = (shown.value if shown is not None else None) or b""
        kind = "" if shown is None else "tombstone" if shown.value is None else "value"
        event = Happened(
            self.wall_ms, way, target[:255], made, vector, beyond, new, gone, kind, len(value),
            value[:SHOWN_BYTES_MAX],
        )  # fmt: skip
        count = len(vector) + len(beyond) + len(new) + len(gone)
        size = EVENT_BYTES + len(stored) + len(event.value) + DOT_BYTES * count
        self._kept.append((stored, event, size))
        self.bytes += size
        while self.bytes > self.bytes_max and self._kept:
            self.bytes -= self._kept.popleft()[2]
            self.dropped += 1

    def of(self, stored: bytes, bytes_max: int) -> HistoryBody:
        """The changes of one key that are remembered: the newest, within so many bytes."""
        found: list[Happened] = []
        for key, event, size in reversed(self._kept):
            if key == stored:
                bytes_max -= size
                if bytes_max < 0 or len(found) >= EVENTS_SHOWN_MAX:
                    break
                found.append(event)
        return HistoryBody(self.watches(stored), self.dropped, found[::-1])

    def clear(self) -> None:
        """The store has refused writes: some of what was noted may never have been."""
        self._kept.clear()
        self.bytes = 0
