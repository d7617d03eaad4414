"""Reads the undamaged rows of a damaged RocksDB (S-DISK-1, S-DISK-2); `data_dir` copies them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rocksdict as rocks

from dynamo_core.errors import StoreDamaged
from dynamo_node.storage import engine_options

POSITION_BYTES = 5
"""Family and the first four bytes of a key: the step of the search for readable rows."""
Row = tuple[bytes, bytes]
_ENDS = 1 << (8 * POSITION_BYTES)


@contextmanager
def readable(path: Path, memtable_bytes: int) -> Iterator[Iterator[Row | None]]:
    """The readable rows of a closed, damaged database; None for each range that cannot be read.

    Raises StoreDamaged.
    """
    source = _open_damaged(path, memtable_bytes)
    try:
        yield _readable(source)
    finally:
        source.close()


def _open_damaged(path: Path, memtable_bytes: int) -> rocks.Rdict:
    """Opens it without the bad records of its log, or else after the engine's repair."""
    options = engine_options(memtable_bytes, rocks.DBRecoveryMode.skip_any_corrupted_record())
    options.set_paranoid_checks(False)
    try:
        return rocks.Rdict(str(path), options, access_type=rocks.AccessType.read_only())
    except Exception:  # noqa: BLE001
        try:
            rocks.Rdict.repair(str(path), options)
            return rocks.Rdict(str(path), options, access_type=rocks.AccessType.read_only())
        except Exception as error:  # noqa: BLE001
            raise StoreDamaged(f"{path.name} cannot be read, not even in part: {error}") from None


def _readable(source: rocks.Rdict, position: int = 0) -> Iterator[Row | None]:
    while position < _ENDS:
        rows = source.iter()
        rows.seek(position.to_bytes(POSITION_BYTES, "big"))
        while rows.valid():
            key = rows.key()
            position = int.from_bytes(key[:POSITION_BYTES].ljust(POSITION_BYTES, b"\0"), "big")
            yield key, rows.value()
            rows.next()
        if _sound(rows):
            return
        yield None
        position = _beyond(source, position)


def _beyond(source: rocks.Rdict, bad: int) -> int:
    """The nearest position after `bad` from which rows can be read: double the step, then halve it.

    A new iterator for each seek, because after damage an iterator may report good rows as damaged.
    """
    step, low, high = 1, bad, bad + 1
    while high < _ENDS and not _sound(source.iter(), high):
        low, high, step = high, high + 2 * step, 2 * step
    high = min(high, _ENDS)
    while high - low > 1:
        middle = (low + high) // 2
        if _sound(source.iter(), middle):
            high = middle
        else:
            low = middle
    return high


def _sound(rows: rocks.RdictIter, position: int | None = None) -> bool:
    if position is not None:
        rows.seek(position.to_bytes(POSITION_BYTES, "big"))
    try:
        rows.status()
    except Exception:  # noqa: BLE001
        return False
    return True
