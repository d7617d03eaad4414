"""Keys whose records this node gave up because they were damaged (S-DISK-7).

Passes bring such a record back from the other owners. If all copies were damaged, no node has it,
and no read can tell that it was ever there. So the node keeps these keys on its disk for backups: a
backup says which keys it lacks.
"""

from __future__ import annotations

from dynamo_core.keys import META, partition_of
from dynamo_core.replica.write_batch import WriteBatch

GIVEN_UP = b"given up/"
KEYS_MAX = 1024
"""Keys that are remembered."""


class GivenUp:
    """Of one node."""

    def __init__(self, write_batch: WriteBatch) -> None:
        self._write_batch = write_batch
        self._keys: set[bytes] = set()

    def load(self) -> None:
        """Read them from the store."""
        rows = self._write_batch.scan(META, GIVEN_UP, GIVEN_UP + b"\xff" * 4, KEYS_MAX)
        self._keys = {key[len(GIVEN_UP) :] for key, _ in rows}

    def note(self, stored: bytes) -> None:
        """The record is given up, in this tick's batch."""
        if stored not in self._keys and len(self._keys) < KEYS_MAX:
            self._keys.add(stored)
            self._write_batch.put(META, GIVEN_UP + stored, b"")

    def over(self, stored: bytes) -> None:
        """The record is back, or was forgotten by a round since then."""
        if stored in self._keys:
            self._keys.discard(stored)
            self._write_batch.put(META, GIVEN_UP + stored, None)

    def all(self) -> list[bytes]:
        """The keys; some records may be back."""
        return sorted(self._keys)

    def of(self, partition: int, bits: int) -> list[bytes]:
        """The same, of one partition."""
        return [stored for stored in self.all() if partition_of(stored, bits) == partition]
