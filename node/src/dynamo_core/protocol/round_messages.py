"""What nodes say of the rounds that forget tombstones, and of the numbers of these (S-DEL-2, 3).

New fields go at the end with a default, so that old and new nodes understand each other (C17).
"""

from __future__ import annotations

from dynamo_core.bounds import Count, Digest, EntryId, Partition, RoundNumber, StoreKey, Text
from dynamo_core.protocol.messages import Message

Versions = list[tuple[StoreKey, Digest]]
"""Store key and digest of records without a live value."""


class RoundAsk(Message, tag=50):
    """Ask every member whether these may be forgotten. `members` and `target` are digests of ring
    parts."""

    partition: Partition
    entry_id: EntryId
    number: RoundNumber
    members: Digest
    target: Digest
    listed: Versions


class RoundAnswer(Message, tag=51):
    """The reason of a refusal, or "". An owner that agrees lists the versions that it has held for
    long enough, unchanged. `seen` is the sender's number."""

    refusal: Text
    seen: RoundNumber
    listed: Versions


class RoundCommit(Message, tag=52):
    """Tell every owner: all members agreed to the round, and all owners listed these versions."""

    partition: Partition
    entry_id: EntryId
    number: RoundNumber
    listed: Versions


class RoundDone(Message, tag=53):
    """The number of tombstones that were deleted, durably."""

    collected: Count


class Numbers(Message, tag=54):
    """Ask for the receiver's numbers. This is not a call: `id` is the sender's clock, and the
    answer repeats it. The sender asks again until all its partitions are compared (S-DEL-3)."""


class NumbersTold(Message, tag=55):
    """Partition, seen and floor of every partition that the sender owns."""

    rows: list[tuple[Partition, RoundNumber, RoundNumber]]
