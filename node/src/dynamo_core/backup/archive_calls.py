"""What a node asks of an archive: objects by name, in a directory or an object store.

The shell carries these out; they are calls like any other and their failures are events, but they
are never on a link. What comes back is from outside, and is proven like what peers send.
"""

from __future__ import annotations

from dynamo_core.protocol.backup_messages import Part
from dynamo_core.protocol.messages import Message


class ArchiveFailed(Message):
    """It did not do what was asked, or it may have; in words for people."""

    why: str


class Put(Message):
    """Keep an object."""

    archive: str
    name: str
    data: bytes


class Done(Message):
    """It is kept."""


class Bring(Message):
    """Read an object."""

    archive: str
    name: str


class Brought(Message):
    """Its bytes, None where there is none."""

    data: bytes | None


class Pack(Message):
    """Read these rows of the store as they are now, and keep them as parts under this prefix."""

    archive: str
    prefix: str
    family: int
    start: bytes
    end: bytes | None


class Packed(Message):
    """`damaged`: store keys of records that did not read back, of which no part has any (S-DISK-7);
    `unreadable`: rows that could not be read at all."""

    parts: list[Part]
    damaged: tuple[bytes, ...] = ()
    unreadable: bool = False


class Unpack(Message):
    """Read a part, held against its checksum."""

    archive: str
    part: Part


class Unpacked(Message):
    """Its rows: store key and record."""

    rows: list[tuple[bytes, bytes]]
