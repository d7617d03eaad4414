"""Hinted replicas: records that this node keeps for others until they have them [P 4.6],
S-HINT-1..5.

A hint is stored in a separate family under target name and store key. The node finds its hints
again by a scan at its start. It drops a hint only after the target's durable ack, and only if the
hint still has the bytes that were acked. A hint is part of the local record while this node stores
it (S-DOT-3, S-HINT-5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice

from dynamo_core.causality.codec import merge_bytes
from dynamo_core.keys import HINTS, META, PREFIX_BYTES, partition_of
from dynamo_core.replica.hint_target import HintTarget, shown, spelled, target_of
from dynamo_core.replica.write_batch import WriteBatch

_DIRTY = b"dirty/"
KEYS_LOOKED_AT_MAX = 20_000
"""Keys with hints that one request of a person looks through."""
ARC_BITS = 12
"""Hints are counted by arcs; an arc is as narrow as a partition of the largest ring."""


def hint_key(target: HintTarget, stored: bytes) -> bytes:
    """The key of the hint in the store."""
    name = spelled(target).encode()
    return bytes((len(name),)) + name + stored


def split_hint_key(key: bytes) -> tuple[HintTarget, bytes]:
    """Target and store key of a hint."""
    end = 1 + key[0]
    return target_of(key[1:end].decode()), key[end:]


class HintBook:
    """The hints of one node. The index in memory is derived from the store at start."""

    def __init__(self, write_batch: WriteBatch, bytes_max: int, rows_max: int) -> None:
        self._write_batch = write_batch
        self.bytes_max = bytes_max
        self._rows_max = rows_max
        self._sizes: dict[bytes, dict[HintTarget, int]] = {}
        """By store key and target, the bytes of the hint."""
        self._in_arc: Counter[int] = Counter()
        """How many keys with hints lie in each arc of the ring that has any."""
        self.counts: dict[HintTarget, int] = {}
        self.bytes: dict[HintTarget, int] = {}
        self.dirty: set[tuple[int, str]] = set()
        self.fresh: dict[HintTarget, dict[bytes, None]] = {}
        """By removed target: the hints kept since a run over all its hints began (S-HINT-3). A
        target that is not here: all its hints must be handed on, again."""

    def retune(self, bytes_max: int) -> None:
        """Another bound on what is kept for one target."""
        self.bytes_max = bytes_max

    def hand_on_again(self) -> None:
        """A node has started anew, perhaps with another disk: all is handed on once more."""
        self.fresh.clear()

    def load(self) -> None:
        """Find every hint and dirty mark in the store."""
        self._sizes, self.counts, self.bytes, self.dirty = {}, {}, {}, set()
        self._in_arc.clear()
        self.fresh.clear()
        start: bytes | None = b""
        while start is not None:
            rows, start = self._write_batch.page(HINTS, start, None, self._rows_max)
            for key, value in rows:
                target, stored = split_hint_key(key)
                self._count(target, stored, len(value))
        for key, _ in self._write_batch.scan(META, _DIRTY, _DIRTY + b"\xff", 1 << 20):
            partition, name = key[len(_DIRTY) :][:2], key[len(_DIRTY) + 2 :]
            self.dirty.add((int.from_bytes(partition, "big"), name.decode()))

    def _count(self, target: HintTarget, stored: bytes, after: int) -> None:
        """The hint has `after` bytes from now on; 0: it is gone."""
        known = stored in self._sizes
        sizes = self._sizes.setdefault(stored, {})
        before = sizes.pop(target, 0)
        self.bytes[target] = self.bytes.get(target, 0) + after - before
        if after and target in self.fresh:
            self.fresh[target][stored] = None
        if after:
            sizes[target] = after
        if after and not before:
            self.counts[target] = self.counts.get(target, 0) + 1
            if not known:
                self._in_arc[partition_of(stored, ARC_BITS)] += 1
        elif not after:
            self.handed_on(target, stored)
            self.counts[target] -= 1
            if not sizes:
                del self._sizes[stored]
                arc = partition_of(stored, ARC_BITS)
                self._in_arc[arc] -= 1
                if not self._in_arc[arc]:
                    del self._in_arc[arc]
            if not self.counts[target]:
                del self.counts[target], self.bytes[target]

    def any_for(self, stored: bytes) -> bool:
        """Whether this node holds a hint of the key."""
        return stored in self._sizes

    def any_of(self, partition: int, bits: int) -> bool:
        """Whether this node holds a hint of the partition, on a ring of 2**bits partitions."""
        width, arcs = ARC_BITS - bits, self._in_arc
        if len(arcs) < 1 << width:
            return any(arc >> width == partition for arc in arcs)
        return any(arc in arcs for arc in range(partition << width, (partition + 1) << width))

    def some_of(
        self,
        partition: int,
        bits: int,
        limit: int,
        but: Callable[[HintTarget], bool] = lambda target: False,
    ) -> list[tuple[HintTarget, bytes]]:
        """Hints of the partition: (target, store key), without those for which `but` is true."""
        if not self.any_of(partition, bits):
            return []
        found = (
            (target, stored)
            for stored, targets in self._sizes.items()
            if partition_of(stored, bits) == partition
            for target in sorted(targets, key=spelled)
            if not but(target)
        )
        return list(islice(found, limit))

    def targets(self, stored: bytes) -> list[HintTarget]:
        """The targets of this node's hints of the key."""
        return sorted(self._sizes.get(stored, ()), key=spelled)

    def record(self, target: HintTarget, stored: bytes) -> bytes | None:
        """One hint. Raises Corrupt."""
        return self._write_batch.get(HINTS, hint_key(target, stored))

    def full(self, target: HintTarget) -> bool:
        """Whether the bound for the target is reached (S-HINT-4)."""
        return self.bytes.get(target, 0) >= self.bytes_max

    def keep(self, target: HintTarget, stored: bytes, record: bytes, lww: bool) -> None:
        """Merge a record into the hint for `target`, in this tick's batch. Raises Corrupt."""
        before = self.record(target, stored)
        merged = merge_bytes(stored[4:], before, record, lww)
        if merged != before:
            self._write_batch.put(HINTS, hint_key(target, stored), merged)
            self._count(target, stored, len(merged))

    def drop(self, target: HintTarget, stored: bytes) -> None:
        """Drop a hint in this tick's batch: the target has it durably, or it cannot be read."""
        if target in self._sizes.get(stored, ()):
            self._write_batch.put(HINTS, hint_key(target, stored), None)
            self._count(target, stored, 0)

    def handed_on(self, target: HintTarget, stored: bytes) -> None:
        """This hint need not be handed on again while it stays unchanged."""
        self.fresh.get(target, {}).pop(stored, None)

    def some(
        self, target: HintTarget, start: bytes, limit: int, end: bytes | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Hints for a target from one store key up to another: (store key, record) in order.
        Raises Corrupt."""
        last = hint_key(target, end or b"\xff" * 4) + (b"" if end else b"\xff" * 1024)
        rows = self._write_batch.scan(HINTS, hint_key(target, start), last, limit)
        return [(split_hint_key(key)[1], record) for key, record in rows]

    def keys_of(self, name: str, limit: int) -> list[bytes]:
        """For people: some keys of the hints that `by_name` counts under this name, those that this
        process knows for longest. It looks at a bounded number of keys, so it may find fewer."""
        sizes = islice(self._sizes.items(), KEYS_LOOKED_AT_MAX)
        found = (stored[PREFIX_BYTES:] for stored, targets in sizes if name in map(shown, targets))
        return list(islice(found, limit))

    def by_name(self) -> dict[str, tuple[int, int]]:
        """For people: count and bytes by target; all hints for all owners are under one name."""
        found: dict[str, tuple[int, int]] = {}
        for target in sorted(self.counts, key=spelled):
            name = shown(target)
            count, size = found.get(name, (0, 0))
            found[name] = (count + self.counts[target], size + self.bytes.get(target, 0))
        return found

    def mark_dirty(self, partition: int, target: str) -> None:
        """`target` misses writes of `partition` and no hint has them: exchange this pair first."""
        if (partition, target) not in self.dirty:
            self.dirty.add((partition, target))
            self._write_batch.put(META, _dirty_key(partition, target), b"1")

    def clean(self, partition: int, target: str) -> None:
        """An exchange over the partition with `target` has been done."""
        if (partition, target) in self.dirty:
            self.dirty.discard((partition, target))
            self._write_batch.put(META, _dirty_key(partition, target), None)


def _dirty_key(partition: int, target: str) -> bytes:
    return _DIRTY + partition.to_bytes(2, "big") + target.encode()
