"""What nodes say to each other about backups.

A *part* is one object of an archive (`archive_calls`) with records: rows of (store key, record) of
one partition or of the hints of one node. A part is held against the checksum that the manifest has
of it, and each record is proven (T-1).
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta

from dynamo_core.bounds import (
    Count,
    Digest,
    EntryId,
    Name,
    Partition,
    RoundNumber,
    StoreKey,
    Text,
    Why,
)
from dynamo_core.keys import PREFIX_BYTES
from dynamo_core.protocol.messages import Message

PARTS = "parts/"
"""The beginning of the names of all parts; the id of their backup follows."""
PARTS_MAX = 1 << 16
SUSPECTS_MAX = 512
DAMAGED_MAX = 4096
Hex = Annotated[str, Meta(max_length=128)]
Rounds = dict[Partition, RoundNumber]
Parts = Annotated[list["Part"], Meta(max_length=PARTS_MAX)]
Suspects = Annotated[tuple[StoreKey, ...], Meta(max_length=SUSPECTS_MAX)]
KeyHash = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ID = re.compile(_WORD)
_PART = re.compile(f"{PARTS}{_WORD}/{_WORD}")


class Part(msgspec.Struct, frozen=True):
    """One object with records: how many, their bytes, those of the object, its SHA-256."""

    name: Text
    records: Count
    bytes: Count
    stored_bytes: Count
    sha256: Hex


def backup_id_fault(name: str) -> str:
    """What is wrong with the id of a backup, "" when nothing is."""
    return "" if _ID.fullmatch(name) else "1 to 128 letters, digits, . _ -, a letter or digit first"


def key_hash(stored: bytes) -> str:
    """A key in a manifest, which shows no key: the first 16 hex digits of the key's SHA-256."""
    return sha256(stored[PREFIX_BYTES:]).hexdigest()[:16]


def part_fault(part: Part) -> str:
    """What is wrong with the name of a part, "" when nothing is. A valid name cannot lead out of
    the archive's parts."""
    return "" if _PART.fullmatch(part.name) else f"{part.name[:80]!r} is no name of a part"


class Save(Message, tag=64):
    """Save your copy of this partition, after passes over the other owners that are up. `alone`:
    save it only if it is complete. `root`: the root of a copy that an earlier backup has. `again`:
    another number after saved parts were lost; otherwise a second order counts as the first one.
    `suspects`: keys of which some node had a damaged record."""

    backup: Text
    archive: Text
    partition: Partition
    entry_id: EntryId
    alone: bool = True
    root: Digest = b""
    again: Count = 0
    suspects: Suspects = ()


class SaveHints(Message, tag=65):
    """Save all hints that you keep. `again`: as in Save."""

    backup: Text
    archive: Text
    again: Count = 0


class Saved(Message, tag=66):
    """`parts` are in the archive; `unchanged`: the earlier backup has the same. `missed`: owners
    that were down, over which no pass was made. `why`: the reason if nothing is saved.

    The numbers are those of rounds that forget tombstones (S-DEL-3). Of a partition: `seen`, the
    last one that the store had agreed to when its rows were read; `floor`, the last one that it
    knew to be committed then, and `passed`, before the passes. Of hints: `stamps`, for each part by
    partition the *seen* at which they were read; `unsure`, partitions with hints that may be newer
    than that, because the node has not compared its numbers yet.

    `suspects`, with hints: keys whose records were damaged at this node. `damaged`, of a partition:
    those that no owner has any more, each as `key_hash`."""

    parts: Parts
    root: Digest = b""
    unchanged: bool = False
    missed: tuple[Name, ...] = ()
    why: Why = ""
    seen: RoundNumber = 0
    floor: RoundNumber = 0
    passed: RoundNumber = 0
    stamps: Annotated[list[Rounds], Meta(max_length=PARTS_MAX)] = msgspec.field(
        default_factory=list
    )
    unsure: tuple[Partition, ...] = ()
    suspects: Suspects = ()
    damaged: Annotated[tuple[KeyHash, ...], Meta(max_length=DAMAGED_MAX)] = ()


class Load(Message, tag=67):
    """Merge the records of this part into the ring, those whose keys begin with `prefix`, and not
    those of the partitions `without` of the ring that was saved, which had so many `partitions`."""

    restore: Text
    archive: Text
    part: Part
    prefix: Annotated[bytes, Meta(max_length=1024)] = b""
    without: tuple[Partition, ...] = ()
    partitions: Count = 0


class Loaded(Message, tag=68):
    """The whole part is in the ring. The counts are of records that were written, and of records of
    other keys than those asked for. `why`: the reason if a record of it is not in the ring."""

    records: Count
    skipped: Count = 0
    why: Why = ""
