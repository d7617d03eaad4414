"""What replicas say to each other about records and trees.

Messages are array-like msgpack structs with an integer tag: compact on the wire, and the very
objects that machines hand on. New fields go at the end with a default, so that old and new nodes
understand each other (C17). Every message that carries a record has the `seen` number of the
store that it was read from (S-DEL-3), every one about a partition the sender's entry (S-RING-4).
The types have the bounds of what they may hold (S-IN-2): a frame with other numbers is none.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dynamo_core.bounds import (
    Count,
    Cursor,
    Digest,
    EntryNumber,
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

"""Flags of a reply: what the replica is for the key, and what it did. A WRITER keeps a copy though
it is no owner: the receiver of a move, or an owner before a switch that settles. VOLATILE: the node
keeps nothing over a restart, so its SYNCED is worth no more than its memory (S-RW-3)."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """A request or a reply; a reply carries the `id` of its request."""

    id: Count


class Fetch(Message, tag=1):
    """Read what you hold of the key. `trace`: of the request that it is for (a traceparent)."""

    partition: Partition
    entry: EntryNumber
    stored: StoreKey
    trace: Trace = ""


class Fetched(Message, tag=2):
    """`record` is empty when nothing is held."""

    record: bytes
    flags: Flags
    seen: RoundNumber = 0


class Store(Message, tag=3):
    """Merge the record into what you hold; `target` names whom a hinted replica is for.
    `sync`: reply only when it is fsynced. `cause`: "put", "repair", "hint", "exchange", "offer", or
    "double": the coordinator's own second replica, which no bound on hints refuses (C8). `trace`:
    of the request that it is for (a traceparent)."""

    partition: Partition
    entry: EntryNumber
    stored: StoreKey
    record: bytes
    target: Text = ""
    sync: bool = False
    cause: Text = "put"
    seen: RoundNumber = 0
    trace: Trace = ""


class Stored(Message, tag=4):
    """It is persisted; `flags` say as what."""

    flags: Flags


class Refused(Message, tag=5):
    """Nothing was done. With ENTRY comes the receiver's entry, with STALE its numbers."""

    reason: Refusal
    partition: Partition = 0
    entry: Entry | None = None
    floor: RoundNumber = 0
    seen: RoundNumber = 0


class Forward(Message, tag=6):
    """Coordinate this put: you keep the key (S-DOT-4). Never forwarded again. `digest` is that of
    the put where it entered (T-1), `expiry` that of its absolute expiry, which nodes of before do
    not know."""

    put: Put
    digest: bytes = b""
    expiry: bytes = b""


class Forwarded(Message, tag=7):
    """How the forwarded put ended; the `digest` of what the client is told (T-1)."""

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
    entry: EntryNumber


class LeavesReply(Message, tag=13):
    """All leaves, concatenated, in order; the numbers of this owner."""

    leaves: bytes
    seen: RoundNumber = 0
    floor: RoundNumber = 0


class Listing(Message, tag=14):
    """Ask for key and digest of what lies in one leaf, after a store key."""

    partition: Partition
    entry: EntryNumber
    leaf: Count
    after: Cursor = b""


class ListingReply(Message, tag=15):
    """Store keys and digests in order; `more` when the leaf goes on."""

    rows: list[tuple[StoreKey, Digest]]
    more: bool = False


class FetchMany(Message, tag=16):
    """Read many records of one partition."""

    partition: Partition
    entry: EntryNumber
    keys: list[StoreKey]


class FetchedMany(Message, tag=17):
    """Records in the order asked, empty where nothing is held (or damaged)."""

    records: list[bytes]
    seen: RoundNumber = 0


class Order(Message, tag=26):
    """Run anti-entropy over these partitions, for the repair named `repair` (S-AE-3)."""

    repair: Text
    partitions: list[Partition]
    full: bool = False


class Progress(Message, tag=27):
    """How far the sender is with a repair; `failed` counts partitions that could not be done."""

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
    """How much lies in each of these partitions, for plans?"""

    partitions: list[Partition]


class SizesReply(Message, tag=61):
    """(partition, bytes, keys) of those that have been counted; `left` are being counted still: ask
    again. `free_bytes` is what the disk has room for, 0 when that is not known."""

    rows: list[tuple[Partition, Count, Count]]
    left: Count = 0
    free_bytes: Count = 0
