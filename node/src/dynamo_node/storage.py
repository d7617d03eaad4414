"""The disk: RocksDB behind the Store protocol; only this file and `salvage` use rocksdict.

One database; a row's key is one byte of family, then the key. Compared with four column families on
batches of eight (data 1 KB + tree 16 B): 1.27 times the writes, the same reads, and 69 MB of memory
instead of 123 MB. The fifth family belongs to this file (`_base`).

Four properties of the engine shaped this file. Its iterators end early and silently on a damaged
block, so their status must be checked (S-DISK-1). `put(sync=True)` holds the interpreter lock
during the fsync, `flush_wal` does not (S-DISK-3). After ENOSPC every write fails until the database
is opened again, while reads go on (S-DISK-4). Identity, trust and the steps of a salvage are in
`data_dir.py`.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import rocksdict as rocks

from dynamo_core.errors import (
    Corrupt,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    SyncFailed,
)
from dynamo_core.keys import DATA, FAMILIES
from dynamo_core.replica.store import ENDLESS, Change
from dynamo_node.descriptors import limit_now, store_share
from dynamo_node.side_file import DAMAGED, SideFile, mark_damaged

MEMTABLE_BYTES_MAX = 64 << 20
MEMTABLES_MAX = 3
BLOCK_CACHE_BYTES_MAX = 32 << 20
LOG_FILE_BYTES_MAX = 4 << 20
LOG_FILES_MAX = 3
BLOOM_BITS = 10
MEMTABLE_BLOOM_RATIO = 0.02
SLOWDOWN_FILES, STOP_FILES = 40, 60
"""Files at level 0 at which the engine slows and stops writers: a stopped write is StoreFull."""
SPARE_BYTES = 4 << 20
"""Free space, in addition to the log's size, that is needed to open a full store again."""
STALL_S = 0.01
COPY_ROWS_MAX, COPY_BYTES_MAX = 500, 1 << 20

_FAMILY = tuple(bytes([index]) for index in range(len(FAMILIES)))
_AFTER_FAMILY = tuple(bytes([index + 1]) for index in range(len(FAMILIES)))
_OWN = b"\xff"
_BASE_KEY = _OWN + b"base"

_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_SYNC = ("While fsync", "While fdatasync", "While sync")
_LOCKED = ("lock hold by current process", "While lock file")
_STALL = "Result incomplete"
_AFTERMATH = "Writer has previous error"
_NO_FILES = "Too many open files"


def engine_options(memtable_bytes: int, recovery: rocks.DBRecoveryMode) -> rocks.Options:
    """The measured settings, and small limits for everything else."""
    table = rocks.BlockBasedOptions()
    table.set_bloom_filter(BLOOM_BITS, False)
    table.set_data_block_index_type(rocks.DataBlockIndexType.binary_and_hash())
    table.set_block_cache(rocks.Cache(BLOCK_CACHE_BYTES_MAX))
    table.set_format_version(5)
    options = rocks.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_compression_type(rocks.DBCompressionType.none())
    options.set_wal_recovery_mode(recovery)
    options.set_write_buffer_size(memtable_bytes)
    options.set_max_write_buffer_number(MEMTABLES_MAX)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO)
    options.set_memtable_whole_key_filtering(True)
    options.set_level_zero_slowdown_writes_trigger(SLOWDOWN_FILES)
    options.set_level_zero_stop_writes_trigger(STOP_FILES)
    options.set_max_open_files(store_share(limit_now()))
    options.set_max_log_file_size(LOG_FILE_BYTES_MAX)
    options.set_keep_log_file_num(LOG_FILES_MAX)
    options.set_stats_dump_period_sec(0)
    return options


def failure(error: Exception) -> StoreError:
    """The engine's exception as one of ours; only its text tells its kind."""
    text = str(error)
    if any(words in text for words in _SYNC):
        return SyncFailed(text)
    if text.startswith(_STALL) or any(words in text for words in _FULL):
        return StoreFull(text)
    if any(words in text for words in _LOCKED):
        return StoreLocked(text)
    if text.startswith("Corruption") or "No such file" in text:
        return StoreDamaged(text)
    return StoreFailed("the store is closed" if isinstance(error, rocks.DbClosedError) else text)


def _unreadable(error: Exception, family: int, key: bytes) -> StoreError:
    """The failure of a read. A missing descriptor says nothing about the disk (T-7)."""
    if isinstance(error, rocks.DbClosedError) or _NO_FILES in str(error):
        return failure(error)
    return Corrupt(family, key, str(error))


class RocksStore:
    """A Store of dynamo_core.keys on one directory. Only `sync` may run on another thread."""

    __slots__ = ("_base", "_db", "_failed", "_lock", "_memtable_bytes", "_side", "_write", "path")

    def __init__(
        self, path: Path, side: SideFile | None = None, memtable_bytes: int = MEMTABLE_BYTES_MAX
    ) -> None:
        """Raises StoreLocked, StoreDamaged, StoreFull, StoreFailed."""
        self.path = path
        self._side = side
        self._memtable_bytes = memtable_bytes
        self._lock = threading.Lock()
        self._write = rocks.WriteOptions()
        self._write.no_slowdown = True
        self._failed: StoreError | None = None
        self._base = 0
        self._db = self._open(rocks.AccessType.read_write())
        self._base = self._read_base()

    def get(self, family: int, key: bytes) -> bytes | None:
        """The value or None. Raises Corrupt."""
        try:
            value: bytes | None = self._db.get(_FAMILY[family] + key)
        except Exception as error:  # noqa: BLE001
            raise _unreadable(error, family, key) from None
        return value

    def scan(
        self, family: int, start: bytes, end: bytes | None, limit: int, bytes_max: int = ENDLESS
    ) -> list[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in byte order, at most `limit`; it stops after the row with
        which the values reach `bytes_max`. Raises Corrupt."""
        prefix = _FAMILY[family]
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        try:
            for key, value in self._rows(
                prefix + start, _AFTER_FAMILY[family] if end is None else prefix + end
            ):
                if len(rows) >= limit or size >= bytes_max:
                    break
                rows.append((key[1:], value))
                size += len(value)
        except Exception as error:  # noqa: BLE001
            raise _unreadable(error, family, rows[-1][0] if rows else start) from None
        return rows

    def frozen(self, family: int, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end as they are now, for any one thread; later writes do not
        change them. Raises Corrupt, StoreFailed, also after the database was closed or reopened."""
        upper = _AFTER_FAMILY[family] if end is None else _FAMILY[family] + end
        options = rocks.ReadOptions()
        options.set_iterate_upper_bound(upper)
        try:
            rows = self._db.iter(options)
            rows.seek(_FAMILY[family] + start)
        except Exception as error:  # noqa: BLE001
            raise _unreadable(error, family, start) from None
        return self._thawed(rows, options, start)

    def _thawed(
        self, rows: Any, options: rocks.ReadOptions, last: bytes
    ) -> Iterator[tuple[bytes, bytes]]:
        """An iterator holds the lock of its database: it is let go when that is closed. Its options
        must live as long: the engine reads the bound there."""
        handle = self._db
        try:
            while rows.valid():
                if handle is not self._db:
                    raise StoreFailed("the store was opened again")
                last = rows.key()[1:]
                yield last, rows.value()
                rows.next()
            rows.status()
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001
            raise _unreadable(error, DATA, last) from None
        finally:
            del options

    def write(self, batch: Sequence[Change]) -> int:
        """Writes all or nothing at level wal; returns the sequence number after it.

        Raises StoreFull (a stall ends by itself; without space it lasts until `reopen`),
        StoreFailed (outcome unknown; lasts until `reopen`), SyncFailed (the process must end).
        """
        self._refuse()
        changes = rocks.WriteBatch(raw_mode=True)
        for family, key, value in batch:
            if value is None:
                changes.delete(_FAMILY[family] + key)
            else:
                changes.put(_FAMILY[family] + key, value)
        try:
            self._db.write(changes, self._write)
        except Exception as error:  # noqa: BLE001
            raise self._refused(error) from None
        return self._base + self._db.latest_sequence_number()

    def sequence(self) -> int:
        """The latest sequence number; grows with every write, also across a salvage."""
        try:
            return self._base + self._db.latest_sequence_number()
        except rocks.DbClosedError as error:
            raise failure(error) from None

    def sync(self) -> int:
        """Makes everything up to the returned number durable; blocks for one fsync.

        Raises SyncFailed (S-DISK-5: the process ends), StoreFull or StoreFailed if an earlier write
        had failed: then nothing more became durable and the store needs `reopen`.
        """
        with self._lock:
            self._refuse()
            sequence = self.sequence()
            try:
                self._db.flush_wal(True)
                if self._side is not None:
                    self._side.note_durable(sequence)
            except Exception as error:  # noqa: BLE001
                if _AFTERMATH not in str(error):
                    self._failed = SyncFailed(str(error))
                self._refuse()
                raise StoreFailed(str(error)) from None
            return sequence

    def reopen(self) -> None:
        """Opens the database again in place; writes work again when this returns.

        Until there is space, the old handle stays and reads go on; if the opening then fails, a
        read-only handle stays. Raises StoreFull, StoreDamaged, StoreFailed; after a failed sync
        always SyncFailed, because the kernel may report lost pages as clean.
        """
        with self._lock:
            if isinstance(self._failed, SyncFailed):
                self._refuse()
            if (self.path.parent / DAMAGED).exists():
                raise StoreDamaged("the store is damaged: the next start salvages it")
            try:
                logs = (status.st_size for name, status in self._files() if name.endswith(".log"))
                self._want_space(sum(logs), "open the store again")
            except OSError as error:
                raise StoreFailed(f"the store's directory cannot be read: {error}") from None
            self.let_go()
            try:
                self._db = self._open(rocks.AccessType.read_write())
                self._base = self._read_base()
            except StoreError as error:
                self._failed = error
                self._db = self._open(rocks.AccessType.read_only())
                raise error from None
            self._failed = None

    def close(self) -> None:
        """A clean stop: syncs the log, then marks the side file. A second call does nothing."""
        try:
            sequence = self.sync()
        except StoreError:
            sequence = None
        with self._lock:
            self.let_go()
            if self._side is not None:
                if sequence is not None:
                    self._side.clean_stop(sequence)
                self._side.close()
                self._side = None

    def let_go(self) -> None:
        """Closes the database without a sync and without a mark."""
        with suppress(Exception):  # a failed log fails again here; files and lock are free
            self._db.close()

    def disk_bytes(self) -> int:
        """Bytes of the database's files."""
        return sum(status.st_blocks * 512 for _, status in self._files())

    def raise_base(self, sequence: int) -> None:
        """Keeps `sequence()` above `sequence` from now on: peers remember the highest they saw."""
        base = max(self._base, sequence - self._db.latest_sequence_number())
        try:
            self._db.put(_BASE_KEY, base.to_bytes(8, "big"))
        except Exception as error:  # noqa: BLE001
            raise failure(error) from None
        self._base = base

    def copy_from(
        self, source: Iterable[tuple[bytes, bytes] | None], bytes_expected: int, leave_out: int
    ) -> tuple[int, int]:
        """Copies every row of a damaged database (`salvage.readable`) except family `leave_out`.

        Returns the number of copied rows and of lost ranges. Raises StoreDamaged, StoreFull.
        """
        copied = gaps = size = 0
        rows: list[tuple[bytes, bytes]] = []
        self._want_space(bytes_expected, "copy it")
        try:
            for row in source:
                if row is None:
                    gaps += 1
                elif row[0][:1] not in (_FAMILY[leave_out], _OWN):
                    copied += 1
                    rows.append(row)
                    size += len(row[1])
                    if len(rows) >= COPY_ROWS_MAX or size >= COPY_BYTES_MAX:
                        self._write_in_turn(rows)
                        rows, size = [], 0
            self._write_in_turn(rows)
            self._db.flush()
        except StoreFull:
            raise
        except Exception as error:  # noqa: BLE001
            raise failure(error) from None
        return copied, gaps

    def _write_in_turn(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Waits for a stall to end while there is space. The engine itself would wait without end
        for a flush that has found no space."""
        while True:
            changes = rocks.WriteBatch(raw_mode=True)
            for row in rows:
                changes.put(*row)
            try:
                return self._db.write(changes, self._write)
            except Exception as error:
                if not str(error).startswith(_STALL):
                    raise
            self._want_space(0, "go on")
            time.sleep(STALL_S)

    def _open(self, access: rocks.AccessType) -> rocks.Rdict:
        recovery = rocks.DBRecoveryMode.tolerate_corrupted_tail_records()
        options = engine_options(self._memtable_bytes, recovery)
        try:
            return rocks.Rdict(str(self.path), options, access_type=access)
        except Exception as error:  # noqa: BLE001
            raise failure(error) from None

    def _read_base(self) -> int:
        try:
            return int.from_bytes(self._db.get(_BASE_KEY) or b"", "big")
        except Exception as error:  # noqa: BLE001
            self._db.close()
            raise failure(error) from None

    def _rows(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The only way to iterate (S-DISK-1): it checks the status before it believes the end."""
        options = rocks.ReadOptions()
        options.set_iterate_upper_bound(end)
        rows = self._db.iter(options)
        rows.seek(start)
        while rows.valid():
            yield rows.key(), rows.value()
            rows.next()
        rows.status()

    def _refuse(self) -> None:
        """Raises the lasting failure as a new exception: a raised one grows its traceback."""
        if self._failed is not None:
            raise type(self._failed)(str(self._failed))

    def _refused(self, error: Exception) -> StoreError:
        """The failure of a write; all but a stall last until `reopen`."""
        refused = failure(error)
        if isinstance(refused, StoreDamaged):
            refused = StoreFailed(str(error))
            with suppress(OSError):
                mark_damaged(self.path.parent)
        if not str(error).startswith(_STALL):
            self._failed = refused
        return refused

    def _want_space(self, bytes_needed: int, purpose: str) -> None:
        """Raises StoreFull."""
        needed = bytes_needed + SPARE_BYTES
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise StoreFull(f"{free} bytes are free, {needed} are needed to {purpose}")

    def _files(self) -> list[tuple[str, os.stat_result]]:
        found = []
        with os.scandir(self.path) as entries:
            for row in entries:
                with suppress(FileNotFoundError):  # a compaction has just deleted it
                    found.append((row.name, row.stat()))
        return found
