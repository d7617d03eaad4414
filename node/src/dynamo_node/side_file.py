"""The side file: what the store must still know after a crash (S-DISK-2).

A write-ahead log cannot tell that its own tail is missing: a store that lost acked writes, or an
old copy put back in its place, opens without a word. So a small file beside it holds the last
durable sequence number, a clean-stop mark and the kernel's boot id, and `judge` compares.

The number is written after every sync with one `pwrite` and without a further fsync. It survives a
process crash; after a power cut the boot id differs, which is enough reason for doubt. The marks
(start, clean stop) are fsynced. A start in doubt stays in doubt over further crashes until the
first sync after it, for by then the core's own note of it is durable. The file is also the lock
of its directory (S-DISK-6): held before anything else there is touched, gone with the process.
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
    """Lets the next `open_store` salvage this data directory; for a block that does not read."""
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
    """What the side file says."""

    durable: int
    """The store's sequence number that the last finished sync covered."""
    clean: bool
    """The last process closed the store and synced it."""
    doubted: bool
    """The last start was in doubt and no sync has followed it."""
    boot_id: str
    """The kernel's boot id of the last start; empty where the system has none."""


def read_boot_id() -> str:
    """The kernel's boot id, or "" where there is none (then only a clean stop is trusted)."""
    try:
        return BOOT_ID_PATH.read_text().strip()[:BOOT_ID_BYTES_MAX]
    except OSError:
        return ""


def judge(marks: Marks | None, sequence: int, boot_id: str) -> tuple[bool, str]:
    """Whether a store that opened at `sequence` may be believed, and why (S-DISK-2)."""
    if marks is None:
        return (True, "new") if sequence == 0 else (False, "the side file is missing or damaged")
    if sequence < marks.durable:
        return False, f"the store is at {sequence}, behind the durable {marks.durable}"
    if marks.doubted:
        return False, "the last start was in doubt and nothing was synced since"
    if marks.clean:
        return True, "clean stop"
    if not boot_id or marks.boot_id != boot_id:
        return False, "no clean stop, and the machine has started anew since"
    return True, "the process ended without a clean stop; the machine did not"


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
    """One open side file; `marks` is what is believed to be in it (None: nothing readable)."""

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
        """Takes the clean-stop mark away; fsynced, for a lost mark would vouch for a lost tail."""
        durable = sequence if self.marks is None else self.marks.durable
        self._put(Marks(durable, False, not trusted, boot_id))
        os.fsync(self._file)

    def note_durable(self, sequence: int) -> None:
        """After a sync that covered `sequence`."""
        marks = self.marks
        if marks is not None and (sequence > marks.durable or marks.doubted):
            self._put(marks._replace(durable=max(sequence, marks.durable), doubted=False))

    def clean_stop(self, sequence: int) -> None:
        """After the last sync of a store that was closed; fsynced."""
        if self.marks is not None:
            self._put(self.marks._replace(durable=sequence, clean=True))
            os.fsync(self._file)

    def forget(self) -> None:
        """As a new file: the store that it was of is to go. The lock stays."""
        os.ftruncate(self._file, 0)
        os.fsync(self._file)
        self.marks = None

    def close(self) -> None:
        """Lets the file go; what was written stays."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _put(self, marks: Marks) -> None:
        os.pwrite(self._file, pack(marks), 0)
        self.marks = marks
