"""The records without a live value on this node, and since when (S-DEL-2).

This is an index in memory; rounds choose from it. The next pass of the scrub finds what is missing
in it. The node reads a record again before it deletes it. Ages count by the monotonic clock from
the moment when this process noticed the record; that is never before the record was stored here or
the store was opened.
"""

from __future__ import annotations

from collections.abc import Collection

from dynamo_core.causality.codec import digest_in
from dynamo_core.protocol.round_messages import Versions

TOMBSTONE_BYTES_MAX = 512
"""A write looks only at records up to this size; the scrub finds longer ones."""
TOMBSTONE_MARK = b"\xc0\xa0"
"""msgpack of a value None followed by an empty content type: every tombstone has these bytes."""


class Tombstones:
    """By partition and store key: the digest of the version, and since when."""

    def __init__(self, tracked_max: int) -> None:
        self._tracked_max = tracked_max
        self._tracked = 0
        self._since: dict[int, dict[bytes, tuple[bytes, float]]] = {}
        self._noticed: dict[bytes, tuple[bytes, bool]] = {}
        """By store key: the digest, and whether it was written. A write starts its age again."""

    def written(self, stored: bytes, record: bytes) -> None:
        """Every write calls this: remember a record that may be a tombstone."""
        if len(record) <= TOMBSTONE_BYTES_MAX and TOMBSTONE_MARK in record:
            self._notice(stored, record, True)

    def read(self, stored: bytes, record: bytes) -> None:
        """The scrub has met a record without a live value."""
        if stored not in self._noticed:
            self._notice(stored, record, False)

    def _notice(self, stored: bytes, record: bytes, written: bool) -> None:
        if len(self._noticed) + self._tracked < self._tracked_max:
            self._noticed[stored] = (digest_in(record), written)

    def noticed(self, limit: int) -> list[tuple[bytes, bytes, bool]]:
        """Takes out up to `limit` noticed records: store key, digest, written."""
        some = list(self._noticed)[:limit]
        return [(stored, *self._noticed.pop(stored)) for stored in some]

    def track(self, partition: int, stored: bytes, digest: bytes, since: float) -> None:
        """Track this version: it was found to be a tombstone."""
        self.forget(partition, stored)
        self._since.setdefault(partition, {})[stored] = (digest, since)
        self._tracked += 1

    def tracks(self, partition: int, stored: bytes, digest: bytes) -> bool:
        """Whether this version is tracked already."""
        return self._since.get(partition, {}).get(stored, (b"",))[0] == digest

    def forget(self, partition: int, stored: bytes) -> None:
        """The record is not a tombstone any more."""
        tracked = self._since.get(partition, {})
        if tracked.pop(stored, None) is not None:
            self._tracked -= 1
            if not tracked:
                del self._since[partition]

    def forget_all(self, partition: int) -> None:
        """The copy of the partition is dropped or given up."""
        self._tracked -= len(self._since.pop(partition, ()))

    def partitions(self) -> Collection[int]:
        """Those with a tracked tombstone."""
        return self._since.keys()

    def aged(self, partition: int, before: float) -> Versions:
        """The tombstones that have been here since before that time, the oldest first."""
        tracked = self._since.get(partition, {})
        return [(stored, digest) for stored, (digest, since) in tracked.items() if since <= before]

    def is_aged(self, partition: int, stored: bytes, digest: bytes, before: float) -> bool:
        """Whether this version has been here since before that time."""
        known, since = self._since.get(partition, {}).get(stored, (b"", 0.0))
        return known == digest and since <= before

    def oldest(self) -> tuple[int, float] | None:
        """Partition and time of the tombstone that has been here longest."""
        firsts = [
            (next(iter(tracked.values()))[1], partition)
            for partition, tracked in self._since.items()
        ]
        since, partition = min(firsts, default=(0.0, -1))
        return (partition, since) if firsts else None
