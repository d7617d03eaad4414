"""The twin of the disk: the same contract in memory, for tests and `--engine memory`.

The keys of a family are in a list that is sorted when a scan needs it, so that writes stay cheap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from dynamo_core.errors import StoreFailed
from dynamo_core.keys import FAMILIES, until_full
from dynamo_core.replica.store import ENDLESS, Change


class _Rows:
    """One family: its rows, and its keys, sorted when `keys()` is called."""

    __slots__ = ("_keys", "_stale", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._stale = False

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.rows:
            self._keys.append(key)
            self._stale = True
        self.rows[key] = value

    def delete(self, key: bytes) -> None:
        if self.rows.pop(key, None) is not None:
            keys = self.keys()
            del keys[bisect_left(keys, key)]

    def keys(self) -> list[bytes]:
        if self._stale:
            self._keys.sort()
            self._stale = False
        return self._keys


class MemoryStore:
    """A Store of dynamo_core.keys; `sync` and `reopen` do nothing; after `close` calls fail."""

    def __init__(self) -> None:
        self._families = tuple(_Rows() for _ in FAMILIES)
        self._sequence = 0
        self._open = True

    def get(self, family: int, key: bytes) -> bytes | None:
        """The value or None."""
        return self._rows(family).rows.get(key)

    def scan(
        self, family: int, start: bytes, end: bytes | None, limit: int, bytes_max: int = ENDLESS
    ) -> list[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in byte order, at most `limit`, and bytes."""
        family_rows = self._rows(family)
        keys, rows = family_rows.keys(), family_rows.rows
        first = bisect_left(keys, start)
        after = len(keys) if end is None else bisect_left(keys, end)
        found = [(key, rows[key]) for key in keys[first : min(after, first + max(limit, 0))]]
        return found if bytes_max == ENDLESS else until_full(found, bytes_max)

    def frozen(self, family: int, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end as they are now."""
        return iter(self.scan(family, start, end, len(self._rows(family).rows)))

    def write(self, batch: Sequence[Change]) -> int:
        """Applies the whole batch; returns the sequence number after it."""
        for family, key, value in batch:
            rows = self._rows(family)
            if value is None:
                rows.delete(key)
            else:
                rows.put(key, value)
        self._sequence += len(batch)
        return self._sequence

    def sequence(self) -> int:
        """The number of changes so far."""
        return self._sequence

    def sync(self) -> int:
        """Memory has nothing to sync: returns the present sequence number."""
        self._rows(0)
        return self._sequence

    def reopen(self) -> None:
        """Accepts requests again; the rows are still there."""
        self._open = True

    def close(self) -> None:
        """Every later call raises StoreFailed, as on disk."""
        self._open = False

    def disk_bytes(self) -> int:
        """Bytes of keys and values."""
        return sum(
            len(key) + len(value) for family in self._families for key, value in family.rows.items()
        )

    def _rows(self, family: int) -> _Rows:
        if not self._open:
            raise StoreFailed("the store is closed")
        return self._families[family]
