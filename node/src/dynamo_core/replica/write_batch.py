"""What this process has decided but not yet written: one batch per tick (S-DOT-3).

Reads see the batch, so the next read of the same tick sees a write. A waiter for a write is called
only after the store has it. A waiter for the disk is called only after the fsync that covers the
write. So nothing is acknowledged earlier ([P 4.5], C7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from dynamo_core.errors import Corrupt, StoreError
from dynamo_core.keys import DATA, HINTS
from dynamo_core.replica.store import Change, StoreContract

PAGE_BYTES = 4 * 1024 * 1024
"""Values of one page; a page ends with the value that reaches it (T-4)."""
Page = tuple[list[tuple[bytes, bytes]], bytes | None]
"""Rows, and where the next page begins."""
Waiter = Callable[[bool], None]
"""Called with True when the write is persisted at the wanted level, with False when it is not."""


Changes = tuple[dict[bytes, bytes | None], ...]


def _nothing() -> Changes:
    return {}, {}, {}, {}


class WriteBatch:
    """A store, and the batch before it."""

    def __init__(self, store: StoreContract) -> None:
        self.store = store
        self.sequence = 0
        self.changes = _nothing()
        """The changes of this tick, by family; None deletes."""
        self._written: list[tuple[Waiter | None, Waiter | None]] = []
        self.syncing: deque[tuple[int, Waiter]] = deque()
        """Those who wait for an fsync, each with the sequence number that it must reach."""
        self.writable = True

    def load(self) -> int:
        """The sequence number of the store at the start."""
        self.sequence = self.store.sequence()
        return self.sequence

    def get(self, family: int, key: bytes) -> bytes | None:
        """Raises Corrupt."""
        changes = self.changes[family]
        return changes[key] if key in changes else self.store.get(family, key)

    def put(self, family: int, key: bytes, value: bytes | None) -> None:
        """Add a change to this tick's batch; None deletes."""
        self.changes[family][key] = value

    def scan(
        self, family: int, start: bytes, end: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """Rows as if the batch were written. Raises Corrupt."""
        mine = {
            key: value
            for key, value in self.changes[family].items()
            if start <= key and (end is None or key < end)
        }
        rows = self.store.scan(family, start, end, limit + len(mine))
        if not mine:
            return rows
        if len(rows) >= limit + len(mine):
            mine = {key: value for key, value in mine.items() if key <= rows[-1][0]}
        merged: dict[bytes, bytes | None] = {**dict(rows), **mine}
        found = sorted((key, value) for key, value in merged.items() if value is not None)
        return found[:limit]

    def holds_data(self) -> bool:
        """Whether anything lies on this disk; a founder's must be empty (S-RING-5)."""
        try:
            return any(self.scan(family, b"", None, 1) for family in (DATA, HINTS))
        except Corrupt:
            return True

    def page(self, family: int, start: bytes, end: bytes | None, limit: int) -> Page:
        """Rows as from `scan`, about `limit` of them and about as many bytes as a page has (T-4),
        and the start of the next page, None if there is none. Raises Corrupt."""
        rows = self.store.scan(family, start, end, limit, PAGE_BYTES)
        after = None
        if len(rows) >= limit or sum(len(value) for _, value in rows) >= PAGE_BYTES:
            after = rows[-1][0] + b"\x00"
        stop = after if after is not None else end
        mine = {
            key: value
            for key, value in self.changes[family].items()
            if start <= key and (stop is None or key < stop)
        }
        if mine:
            merged: dict[bytes, bytes | None] = {**dict(rows), **mine}
            rows = sorted((key, value) for key, value in merged.items() if value is not None)
        return rows, after

    def then(self, written: Waiter | None, synced: Waiter | None = None) -> None:
        """Call `written` once this tick's batch is in the store, `synced` once it is fsynced."""
        self._written.append((written, synced))

    def when_synced(self, synced: Waiter) -> None:
        """Call `synced` when the present content of the store is fsynced. It is for a caller that
        has just heard that its write is in the store."""
        self.syncing.append((self.sequence, synced))

    @property
    def pending(self) -> bool:
        """Whether there is a change to write or a waiter to call."""
        return True if self._written else any(self.changes)

    @property
    def sync_wanted(self) -> bool:
        """Whether a waiter waits for an fsync."""
        return bool(self.syncing)

    def flush(self) -> bool:
        """Writes the batch and calls the waiters. False when the store refused it."""
        changes, waiters, self._written = self.changes, self._written, []
        accepted = self.writable
        batch: list[Change] = []
        for family, rows in enumerate(changes):
            if rows:
                batch += [(family, key, value) for key, value in rows.items()]
        if batch:
            self.changes = _nothing()
        if batch and accepted:
            try:
                self.sequence = self.store.write(batch)
            except StoreError:
                accepted = self.writable = False
        elif batch:
            accepted = False
        for written, synced in waiters:
            if written is not None:
                written(accepted)
            if synced is not None:
                if accepted:
                    self.syncing.append((self.sequence, synced))
                else:
                    synced(False)
        return accepted

    def synced(self, sequence: int) -> None:
        """All writes up to this sequence number are on the disk."""
        while self.syncing and self.syncing[0][0] <= sequence:
            self.syncing.popleft()[1](True)

    def refused(self) -> None:
        """The store takes no writes from now on (S-DISK-4)."""
        self.writable = False

    def reopened(self) -> None:
        """The store takes writes again: what waited for an fsync is not known to be durable."""
        waiting, self.syncing = self.syncing, deque()
        for _, synced in waiting:
            synced(False)
        self.writable = True
