"""The causal history of watched keys: a bounded ring in memory of what changed them.

A record knows which events it covers. It does not know when they came, or by which way. The history
remembers that for people, for keys that begin with one of the watched prefixes, or for one key in
so many. It keeps the newest changes, `bytes_max` bytes of them, and nothing over a restart. Where
it is off there is no such object, and each change pays one comparison with None.

It notes what was decided. A change that the store then refused is noted too, therefore a reload of
the store empties the history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.records import NOTHING, History, Sibling
from dynamo_core.errors import Corrupt
from dynamo_core.keys import PREFIX_BYTES
from dynamo_core.protocol.look_messages import (
    ACTORS_SHOWN_MAX,
    CHANGES_SHOWN_MAX,
    SHOWN_BYTES_MAX,
    WAYS,
    WORD_CHARS_MAX,
    Change,
    Dot,
    HistoryBody,
)
from dynamo_core.replica.hint_target import HintTarget, shown
from dynamo_core.settings import Settings

CHANGE_BYTES = 224
"""What one change takes in memory beside its key and its encoded form: two bytes objects, a tuple
and a place in the ring, 170 bytes measured."""
_CAUSES = {"put": "replica", "double": "replica", "pass": "exchange"}
"""What the cause of a Store is called here, where it has another name."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Change).decode


class KeyHistory:
    """What changed the watched keys of one node, the newest last."""

    def __init__(self, settings: Settings, wall_ms: Callable[[], int]) -> None:
        self.bytes_max = settings.history_bytes_max
        self.bytes = 0
        """Of all changes that are kept, with their objects; at most `bytes_max`."""
        self.dropped = 0
        self._wall_ms = wall_ms
        self._prefixes = settings.history_prefixes
        self._one_in = settings.history_one_in
        self._kept: deque[tuple[bytes, bytes]] = deque()
        """Store key and encoded change."""

    def watches(self, stored: bytes) -> bool:
        """Whether changes of the key are noted."""
        if self._prefixes and not stored.startswith(self._prefixes, PREFIX_BYTES):
            return False
        place = int.from_bytes(stored[:PREFIX_BYTES], "big")
        return self._one_in == 1 or place % self._one_in == 0

    def made(
        self,
        stored: bytes,
        covered: History,
        told: tuple[Iterable[Sibling], Sibling, Iterable[Sibling]],
        target: HintTarget,
    ) -> None:
        """A put made one event here. `covered` is what its context covers. `told` are the
        siblings before it, its own, and those after it."""
        if self.watches(stored):
            before, made, after = told
            kept = {s.dot for s in after}
            gone = [s.dot for s in before if s.dot not in kept]
            self._note(stored, "put", target, ([made.dot], gone), made, covered)

    def came(
        self,
        stored: bytes,
        before: bytes | None,
        after: bytes,
        cause: str,
        target: HintTarget = "",
    ) -> None:
        """A record came from another node; `after` is what is kept now. `cause` is that of the
        Store that brought it."""
        if not self.watches(stored):
            return
        try:
            old = {s.dot: s for s in decode_record(before).siblings} if before else {}
            new = {s.dot: s for s in decode_record(after).siblings}
        except Corrupt:
            return
        added, gone = [d for d in new if d not in old], [d for d in old if d not in new]
        if added or gone:
            first = new[added[0]] if len(added) == 1 else None
            way = _CAUSES.get(cause, cause)
            self._note(stored, way if way in WAYS else "replica", target, (added, gone), first)

    def left(self, stored: bytes, target: HintTarget) -> None:
        """A hint has reached its target and is not here any more."""
        if self.watches(stored):
            self._note(stored, "delivered", target, ([], []), None)

    def _note(
        self,
        stored: bytes,
        way: str,
        target: HintTarget,
        dots: tuple[list[Dot], list[Dot]],
        first: Sibling | None,
        covered: History | None = None,
    ) -> None:
        made = first.dot if covered is not None and first is not None else None
        covered = covered or NOTHING
        most = ACTORS_SHOWN_MAX
        value = (first.value if first is not None else None) or b""
        change = Change(
            self._wall_ms(),
            way,
            shown(target)[:WORD_CHARS_MAX] if target else "",
            made,
            dict(list(covered.vector.items())[:most]),
            sorted(covered.dots)[:most],
            dots[0][:most],
            dots[1][:most],
            "" if first is None else "tombstone" if first.value is None else "value",
            len(value),
            value[:SHOWN_BYTES_MAX],
        )
        line = (stored, _encode(change))
        self._kept.append(line)
        self.bytes += _size(line)
        self._forget()

    def _forget(self) -> None:
        """Drop the oldest changes that are beyond the bound."""
        while self.bytes > self.bytes_max:
            self.bytes -= _size(self._kept.popleft())
            self.dropped += 1

    def of(self, stored: bytes, bytes_max: int) -> HistoryBody:
        """The newest changes of one key, encoded at most so many bytes."""
        found: list[Change] = []
        for key, data in reversed(self._kept):
            if key == stored:
                bytes_max -= len(data)
                if bytes_max < 0 or len(found) >= CHANGES_SHOWN_MAX:
                    break
                found.append(_decode(data))
        return HistoryBody(self.watches(stored), self.dropped, found[::-1])

    def clear(self) -> None:
        """The store has refused writes: some of what was noted may not have happened."""
        self._kept.clear()
        self.bytes = 0


def _size(line: tuple[bytes, bytes]) -> int:
    return CHANGE_BYTES + len(line[0]) + len(line[1])
