"""The side file: what must be known about the store after a crash (S-DISK-2).

A write-ahead log cannot tell that its last part is missing: a store that lost acked writes, or an
old copy put back in its place, opens without an error. So a small file beside the store holds the
last durable sequence number, a clean-stop mark and the kernel's boot id, and `judge` compares.

After every sync, one `pwrite` writes the number, without a further fsync. The number survives a
crash of the process. After a power cut the boot id differs, and that is enough reason to distrust
the store. The marks (start, clean stop) are fsynced. A store that is distrusted at the start stays
so over further crashes until the first sync after it, because the core's own note of it is durable
by then. The file is also the lock of its directory (S-DISK-6): it is locked before anything else
there is changed, and the lock ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from dynamo_core.errors import StoreLocked

DAMAGED = "damaged"
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID_BYTES_MAX = 36
_RECORD = struct.Struct(f"<8sQ??{BOOT_ID_BYTES_MAX}s")
_CRC = struct.Struct("<I")
_MAGIC = b"dyn-side"


def mark_damaged(directory: Path) -> None:
    """Lets the next `open_store` salvage this data directory, because a block cannot be read."""
    marker = os.open(directory / DAMAGED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fsync(marker)
    os.close(marker)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    os.fsync(handle)
    os.close(handle)


class Marks(NamedTuple):
    """The content of the side file."""

    durable: int
    """The store's sequence number that the last finished sync covered."""
    clean: bool
    """The last process closed the store and synced it."""
    doubted: bool
    """The last start distrusted the store, and no sync has followed it."""
    boot_id: str
    """The kernel's boot id of the last start; empty where the system has none."""


def read_boot_id() -> str:
    """The kernel's boot id, or "" if the system has none (then only a clean stop is trusted)."""
    try:
        return BOOT_ID_PATH.read_text().strip()[:BOOT_ID_BYTES_MAX]
    except OSError:
        return ""


def judge(marks: Marks | None, sequence: int, boot_id: str) -> tuple[bool, str]:
    """Whether a store that opened at `sequence` may be trusted, and why (S-DISK-2)."""
    if marks is None:
        return (True, "new") if sequence == 0 else (False, "the side file is missing or damaged")
    if sequence < marks.durable:
        return False, f"the store is at {sequence}, behind {marks.durable}, which was durable"
    if marks.doubted:
        return False, "the last start distrusted the store, and there was no sync since"
    if marks.clean:
        return True, "clean stop"
    if not boot_id or marks.boot_id != boot_id:
        return False, "no clean stop, and the machine has restarted since"
    return True, "the process ended without a clean stop, but the machine did not restart"


def pack(marks: Marks) -> bytes:
    """The file's bytes: the marks and their checksum."""
    boot_id = marks.boot_id.encode()
    body = _RECORD.pack(_MAGIC, marks.durable, marks.clean, marks.doubted, boot_id)
    return body + _CRC.pack(crc32(body))


def unpack(raw: bytes) -> Marks | None:
    """The marks, or None for bytes that `pack` did not write."""
    body = raw[: _RECORD.size]
    if raw[_RECORD.size :] != _CRC.pack(crc32(body)) or len(body) != _RECORD.size:
        return None
    magic, durable, clean, doubted, boot_id = _RECORD.unpack(body)
    if magic != _MAGIC:
        return None
    return Marks(durable, clean, doubted, boot_id.rstrip(b"\0").decode(errors="replace"))


class SideFile:
    """One open side file; `marks` is its believed content (None: nothing readable)."""

    __slots__ = ("_file", "marks")

    def __init__(self, path: Path) -> None:
        """Opens or creates the file and locks the directory by it. Raises StoreLocked, OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise StoreLocked(f"another process has the data directory {path.parent}") from None
        self.marks = unpack(os.pread(self._file, 4096, 0))

    def start(self, trusted: bool, sequence: int, boot_id: str) -> None:
        """Removes the clean-stop mark; fsynced, because a wrong mark would hide lost writes."""
        durable = sequence if self.marks is None else self.marks.durable
        self._put(Marks(durable, False, not trusted, boot_id))
        os.fsync(self._file)

    def note_durable(self, sequence: int) -> None:
        """Call this after a sync that covered `sequence`."""
        marks = self.marks
        if marks is not None and (sequence > marks.durable or marks.doubted):
            self._put(marks._replace(durable=max(sequence, marks.durable), doubted=False))

    def clean_stop(self, sequence: int) -> None:
        """Call this after the last sync of a closed store; fsynced."""
        if self.marks is not None:
            self._put(self.marks._replace(durable=sequence, clean=True))
            os.fsync(self._file)

    def forget(self) -> None:
        """Becomes a new file, because its store will be deleted. The lock stays."""
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self.marks = None

    def close(self) -> None:
        """Closes the file; its content stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _put(self, marks: Marks) -> None:
        os.pwrite(self._file, pack(marks), 0)
        self.marks = marks
