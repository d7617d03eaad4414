"""What the core asks of a disk: families of sorted rows, written in atomic batches."""

from __future__ import annotations

from typing import Protocol

ENDLESS = 1 << 62
"""The bound for a scan whose bytes are not bounded."""


Change = tuple[int, bytes, bytes | None]
"""One line of a batch: family, key, value or None to delete."""


class StoreContract(Protocol):
    """What the core asks of a disk; every call is synchronous and short."""

    def get(self, family: int, key: bytes) -> bytes | None:
        """The value or None. Raises Corrupt."""

    def scan(
        self, family: int, start: bytes, end: bytes | None, limit: int, bytes_max: int = ENDLESS
    ) -> list[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in byte order, at most `limit`. The last row is the one
        with which the values reach `bytes_max`. Raises Corrupt."""

    def write(self, batch: list[Change]) -> int:
        """All or nothing at level wal; the sequence number after it. Raises StoreError."""

    def sequence(self) -> int:
        """The latest sequence number; grows with every write."""
