"""What nodes say while a partition moves: promises, switches that settle, data without an owner.

New fields go at the end with a default, so that old and new nodes understand each other (C17).
"""

from __future__ import annotations

from dynamo_core.bounds import (
    Count,
    Digest,
    EntryId,
    Flags,
    Partition,
    StoreKey,
    Version,
)
from dynamo_core.protocol.messages import Message
from dynamo_core.ring.document import Entry


class Promise(Message, tag=40):
    """S-MOVE-1: adopt this entry, and take no other entry of its term except from its receiver."""

    partition: Partition
    wish: Entry


class Promised(Message, tag=41):
    """The sender has given the promise, durably."""


class Still(Message, tag=42):
    """To a receiver: do you still want my promise for this term and version?"""

    partition: Partition
    term: Version
    version: Version


class StillReply(Message, tag=43):
    """Whether the receiver still wants it, and its entry: after the switch, or after the move was
    undone."""

    wanted: bool
    now: Entry


class Settle(Message, tag=44):
    """S-MOVE-3: answer when you have learnt this switch durably."""

    partition: Partition
    entry_id: EntryId


class Settled(Message, tag=45):
    """The sender has learnt the switch durably."""


class Offer(Message, tag=46):
    """S-MOVE-5: the sender holds these records of a partition that it does not own: store key and
    digest."""

    partition: Partition
    entry_id: EntryId
    rows: list[tuple[StoreKey, Digest]]


class Shown(Message, tag=47):
    """The state of the owner (`flags`), and the numbers of the rows of which it has another record
    or none. It has the other rows on its disk."""

    flags: Flags
    lacking: list[Count]
