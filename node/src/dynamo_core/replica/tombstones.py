"""Which records without a live value lie here, and since when (S-DEL-2).

An index in memory, for rounds to choose from: what it does not know is found by the next pass of
the scrub, and what it says is read again before anything is deleted. Ages count by the monotonic
clock from when this process has noticed the record, never before it was stored or opened here.
"""

from __future__ import annotations

from dynamo_core.causality.codec import digest_in
from dynamo_core.protocol.round_messages import Versions

TOMBSTONE_BYTES_MAX = 512
"""Of a record that a write looks at; longer ones are left to the scrub."""
TOMBSTONE_MARK = b"\xc0\xa0"
"""msgpack of a value None and of no content type after it: every tombstone has these bytes."""


class Tombstones:
    """By partition and store key: the digest of the version, and since when."""

    def __init__(self, tracked_max: int) -> None:
        self._tracked_max = tracked_max
        self._tracked = 0
        self._since: dict[int, dict[bytes, tuple[bytes, float]]] = {}
        self._noticed: dict[bytes, tuple[bytes, bool]] = {}
        """By store key: the digest, and whether it was written: then its age begins anew."""

    def written(self, stored: bytes, record: bytes) -> None:
        """On the path of every write: remember what may be a tombstone."""
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
        """Takes out some of what was noticed: store key, digest, written."""
        some = list(self._noticed)[:limit]
        return [(stored, *self._noticed.pop(stored)) for stored in some]

    def track(self, partition: int, stored: bytes, digest: bytes, since: float) -> None:
        """It is a tombstone indeed."""
        self.forget(partition, stored)
        self._since.setdefault(partition, {})[stored] = (digest, since)
        self._tracked += 1

    def tracks(self, partition: int, stored: bytes, digest: bytes) -> bool:
        """Whether this very version is known already."""
        return self._since.get(partition, {}).get(stored, (b"",))[0] == digest

    def forget(self, partition: int, stored: bytes) -> None:
        """It is none any more."""
        tracked = self._since.get(partition, {})
        if tracked.pop(stored, None) is not None:
            self._tracked -= 1
            if not tracked:
                del self._since[partition]

    def forget_all(self, partition: int) -> None:
        """The copy of the partition is dropped or given up."""
        self._tracked -= len(self._since.pop(partition, ()))

    def aged(self, partition: int, before: float) -> Versions:
        """Those that have lain here since before that time, the oldest first."""
        tracked = self._since.get(partition, {})
        return [(stored, digest) for stored, (digest, since) in tracked.items() if since <= before]

    def is_aged(self, partition: int, stored: bytes, digest: bytes, before: float) -> bool:
        """Whether this version has lain here since before that time."""
        known, since = self._since.get(partition, {}).get(stored, (b"", 0.0))
        return known == digest and since <= before

    def oldest(self) -> tuple[int, float] | None:
        """Partition and time of the one that has been here longest."""
        firsts = [
            (next(iter(tracked.values()))[1], partition)
            for partition, tracked in self._since.items()
        ]
        since, partition = min(firsts, default=(0.0, -1))
        return (partition, since) if firsts else None
