"""What a node asks of an archive: objects by name, in a directory or an object store.

The shell carries these out. They are calls like any other, and their failures are events, but they
never go over a link. The answers come from outside, so the node checks them like those of peers.
"""

from __future__ import annotations

from dynamo_core.protocol.backup_messages import Part
from dynamo_core.protocol.messages import Message


class ArchiveFailed(Message):
    """The archive failed; it may have done what was asked. In words for people."""

    why: str


class Put(Message):
    """Keep an object. `create`: only if there is none of this name."""

    archive: str
    name: str
    data: bytes
    create: bool = False


class Done(Message):
    """Whether the object is kept; False if there was one already."""

    kept: bool = True


class Bring(Message):
    """Read an object."""

    archive: str
    name: str


class Brought(Message):
    """The bytes of the object, None if there is none."""

    data: bytes | None


class Measure(Message):
    """Say which objects are there under these prefixes, each of which ends with a slash."""

    archive: str
    prefixes: tuple[str, ...]


class Measured(Message):
    """Their names, and the bytes of each."""

    sizes: dict[str, int]


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
    """Read a part and check its checksum."""

    archive: str
    part: Part


class Unpacked(Message):
    """The rows of the part: store key and record."""

    rows: list[tuple[bytes, bytes]]
