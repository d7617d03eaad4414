"""What replicas say to each other about records and trees.

Messages are array-like msgpack structs with an integer tag. They are compact on the wire, and
machines use the same objects. New fields go at the end with a default, so that old and new nodes
understand each other (C17). Every message with a record has the `seen` number of the store that it
was read from (S-DEL-3). Every message about a partition has the sender's entry (S-RING-4). The
types have the bounds of their values (S-IN-2); the decoder refuses a frame with other values.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dynamo_core.bounds import (
    Count,
    Cursor,
    Digest,
    EntryId,
    Flags,
    Partition,
    Random,
    RoundNumber,
    StoreKey,
    Text,
    Version,
)
from dynamo_core.protocol.operations import Outcome, Put
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.traceparent import Trace
from dynamo_core.ring.document import Entry

OWNER, COMPLETE, HINTED, SYNCED, CORRUPT, WRITER, VOLATILE = 1, 2, 4, 8, 16, 32, 64

"""Flags of a reply: what the replica is for the key, and what it did. A WRITER keeps a copy without
being an owner: the receiver of a move, or an owner before a switch that settles. VOLATILE: the node
keeps nothing over a restart, so its SYNCED means only a copy in memory (S-RW-3)."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """A request or a reply; a reply carries the `id` of its request."""

    id: Count


class Fetch(Message, tag=1):
    """Read what you hold of the key. `trace`: the traceparent of the client's request. `timed`:
    above 0 in a sampled call (`runtime/delays`), whose answer tells when it was handled."""

    partition: Partition
    entry_id: EntryId
    stored: StoreKey
    trace: Trace = ""
    timed: Count = 0


class Fetched(Message, tag=2):
    """`record` is empty when the node holds nothing of the key. `at`: when it handled a sampled
    call, in µs of its monotonic clock; else 0."""

    record: bytes
    flags: Flags
    seen: RoundNumber = 0
    at: Count = 0


class Store(Message, tag=3):
    """Merge the record into what you hold. `target` is the node that a hinted replica is for.
    `sync`: reply only when it is fsynced. `cause`: "put", "repair", "hint", "exchange", "offer", or
    "double". A "double" is a second replica of the coordinator; no bound on hints refuses it (C8).
    `trace`: the traceparent of the client's request. `timed`: as of a Fetch; the receiver puts its
    own clock there when it handles the call."""

    partition: Partition
    entry_id: EntryId
    stored: StoreKey
    record: bytes
    target: Text = ""
    sync: bool = False
    cause: Text = "put"
    seen: RoundNumber = 0
    trace: Trace = ""
    timed: Count = 0


class Stored(Message, tag=4):
    """The record is persisted; `flags` say in which role. `at`: as of a Fetched."""

    flags: Flags
    at: Count = 0


class Refused(Message, tag=5):
    """Nothing was done. With ENTRY comes the receiver's entry, with STALE its numbers."""

    reason: Refusal
    partition: Partition = 0
    entry: Entry | None = None
    floor: RoundNumber = 0
    seen: RoundNumber = 0


class Forward(Message, tag=6):
    """Coordinate this put: you keep the key (S-DOT-4). The receiver never forwards it again.
    `digest` is the digest of the put, made by the node that got it from the client (T-1). `expiry`
    is the digest of its absolute expiry, which older nodes do not know."""

    put: Put
    digest: bytes = b""
    expiry: bytes = b""


class Forwarded(Message, tag=7):
    """How the forwarded put ended, and the `digest` of the client's answer (T-1)."""

    outcome: Outcome
    digest: bytes = b""


class Roots(Message, tag=10):
    """Ask for the tree roots of partitions (partition, term, version)."""

    partitions: list[tuple[Partition, Version, Random]]


class RootsReply(Message, tag=11):
    """Root by partition; a partition whose entry differs is missing (S-AE-2)."""

    roots: list[tuple[Partition, Digest]]


class Leaves(Message, tag=12):
    """Ask for the leaves of one partition's tree."""

    partition: Partition
    entry_id: EntryId


class LeavesReply(Message, tag=13):
    """All leaves, concatenated, in order; the numbers of this owner."""

    leaves: bytes
    seen: RoundNumber = 0
    floor: RoundNumber = 0


class Listing(Message, tag=14):
    """Ask for the keys and digests of the records in one leaf, after a store key."""

    partition: Partition
    entry_id: EntryId
    leaf: Count
    after: Cursor = b""


class ListingReply(Message, tag=15):
    """Store keys and digests in order; `more`: the leaf has further records."""

    rows: list[tuple[StoreKey, Digest]]
    more: bool = False


class FetchMany(Message, tag=16):
    """Read many records of one partition."""

    partition: Partition
    entry_id: EntryId
    keys: list[StoreKey]


class FetchedMany(Message, tag=17):
    """Records in the order asked; empty for a key without a record, or with a damaged one."""

    records: list[bytes]
    seen: RoundNumber = 0


class Order(Message, tag=26):
    """Run anti-entropy over these partitions, for the repair named `repair` (S-AE-3)."""

    repair: Text
    partitions: list[Partition]
    full: bool = False


class Progress(Message, tag=27):
    """The sender's progress with a repair; `failed` counts partitions that it could not repair."""

    done: Count
    total: Count
    repaired: Count
    failed: Count = 0


class Keys(Message, tag=28):
    """List live keys of a partition after a store key, for administrators."""

    partition: Partition
    after: Cursor
    limit: Annotated[int, Meta(ge=1, le=1 << 16)]


class KeysReply(Message, tag=29):
    """Store keys of live records; `more` when there are further rows behind `cursor`."""

    keys: list[StoreKey]
    more: bool = False
    cursor: Cursor = b""


class Sizes(Message, tag=60):
    """Ask how much data the receiver has in each of these partitions, for plans."""

    partitions: list[Partition]


class SizesReply(Message, tag=61):
    """(partition, bytes, keys) of the partitions that are counted. Those in `left` are not counted
    yet: ask again. `free_bytes` is the free space of the disk, 0 when it is not known."""

    rows: list[tuple[Partition, Count, Count]]
    left: Count = 0
    free_bytes: Count = 0
