"""The hints of one node into the archive (S-BAK-1).

A hint may have what was deleted long ago: the disk is old, or an old disk has delivered the hint.
So each part has the hints for one target, and with them goes the number of the round that their
store had agreed to (*seen*, S-DEL-3). A restore leaves them out if all copies of the partition
know a later round: no round goes by while a node has hints, so these were delivered.

Hints that were kept apart in quarantine are newer than the disk says. Their number is the one that
the node takes over when it has compared its numbers; it refuses all rounds until then. If it cannot
compare them for some time, they go with the old number, as `unsure`.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.backup.archive_calls import ArchiveFailed, Packed
from dynamo_core.backup.saving import Place, Saving
from dynamo_core.keys import HINTS
from dynamo_core.protocol.backup_messages import SUSPECTS_MAX, Part, Saved, SaveHints
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.replica.hint_target import HintTarget, InQuarantine, spelled
from dynamo_core.replica.hints import hint_key
from dynamo_core.runtime.machine import Effects, Machine, View

LOOK_S = 0.2
COMPARED_S = 5.0
"""A node compares its numbers within this time of its start, if it reaches other owners."""
AFTER = 4096
"""A limit above the length of every store key."""


class Until(Machine):
    """Waits until the condition holds, or until a time limit."""

    def __init__(self, view: View, so: Callable[[], bool], done: Callable[[], None]) -> None:
        super().__init__()
        self.view = view
        self._so, self._done = so, done

    def start(self, now: float) -> Effects:
        self._ends = now + COMPARED_S
        return self.expired(now)

    def expired(self, now: float) -> Effects:
        self.wake_at = now + LOOK_S
        if self._so() or now >= self._ends:
            self.finished = True
            self._done()
        return []


class SavingHints(Saving):
    """Target by target."""

    def __init__(self, node: Place, order: SaveHints, done: Callable[[], None]) -> None:
        super().__init__(node, order, done)
        self._targets: list[HintTarget] = []
        self._apart: set[int] = set()
        """Partitions in quarantine with hints, at the beginning."""
        self._seen: dict[int, int] = {}
        self._parts: list[tuple[HintTarget, Part]] = []
        self._suspects: list[bytes] = []

    def begin(self) -> None:
        """The numbers, then the rows."""
        replica = self.node.replica
        self._targets = sorted(replica.hints.counts, key=spelled)
        self._seen = {p: replica.numbers.seen(p) for p in self._with_hints()}
        self._apart = replica.quarantined & self._seen.keys()
        replica.write_batch.then(self._begun)

    def _with_hints(self) -> list[int]:
        hints, ring = self.node.replica.hints, self.node.ring
        return [p for p in range(len(ring.entries)) if hints.any_of(p, ring.partition_bits)]

    def _begun(self, written: bool) -> None:
        if not written:
            return self._cannot(Refusal.FULL)
        return self._next()

    def _next(self) -> None:
        if not self._targets:
            self.node.spawn(Until(self.node, self._compared, self._end))
            return
        target = self._targets.pop(0)
        start = hint_key(target, b"")

        def packed(reply: Message) -> None:
            if isinstance(reply, ArchiveFailed):
                return self._failed(reply.why)
            assert isinstance(reply, Packed)
            if reply.unreadable:
                return self._cannot(Refusal.CORRUPT)
            self._parts += [(target, part) for part in reply.parts]
            for stored in reply.damaged:
                self._suspects.append(stored)
                self.node.replica.give_up_hint(target, stored)
            return self._next()

        self._ask("hints-", HINTS, start, start + b"\xff" * AFTER, packed)

    def _compared(self) -> bool:
        return self._apart.isdisjoint(self.node.replica.quarantined)

    def _end(self) -> None:
        ours = self.node.replica.quarantine_target
        kept_apart = any(ours.same_start(target) for target, _ in self._parts)
        unsure = self._apart & self.node.replica.quarantined if kept_apart else set()
        self._answer(
            Saved(
                0,
                [part for _, part in self._parts],
                stamps=[self._stamps(target) for target, _ in self._parts],
                unsure=tuple(sorted(unsure)),
                suspects=tuple(self._suspects + self.node.replica.given_up.all())[:SUSPECTS_MAX],
            )
        )

    def _stamps(self, target: HintTarget) -> dict[int, int]:
        """By partition, the number of the store that the hints for this target were read from."""
        replica = self.node.replica
        seen = {p: replica.numbers.seen(p) for p in self._with_hints()} | self._seen
        if replica.quarantine_target.same_start(target):
            seen |= {p: replica.stamps[p] for p in self._apart if p in replica.stamps}
        if isinstance(target, InQuarantine) and target.seen is not None:
            return {p: min(number, target.seen) for p, number in seen.items()}
        return seen
