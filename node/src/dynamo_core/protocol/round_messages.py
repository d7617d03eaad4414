"""What nodes say of the rounds that forget tombstones, and of the numbers of these (S-DEL-2, 3).

New fields go at the end with a default, so that old and new nodes understand each other (C17).
"""

from __future__ import annotations

from dynamo_core.bounds import Count, Digest, EntryNumber, Partition, RoundNumber, StoreKey, Text
from dynamo_core.protocol.messages import Message

Versions = list[tuple[StoreKey, Digest]]
"""Store key and digest of records without a live value."""


class RoundAsk(Message, tag=50):
    """To every member: may these be forgotten? `members` and `target` are digests of ring parts."""

    partition: Partition
    entry: EntryNumber
    number: RoundNumber
    members: Digest
    target: Digest
    listed: Versions


class RoundAnswer(Message, tag=51):
    """Why not, or "" and, from an owner, those that it has held for long enough in exactly this
    version. The sender has `seen` this number."""

    refusal: Text
    seen: RoundNumber
    listed: Versions


class RoundCommit(Message, tag=52):
    """To every owner: all members agreed to the round, all owners listed these."""

    partition: Partition
    entry: EntryNumber
    number: RoundNumber
    listed: Versions


class RoundDone(Message, tag=53):
    """How many were deleted, durably."""

    collected: Count


class Numbers(Message, tag=54):
    """What are your numbers? `id` is the sender's clock, which the answer repeats: it is no call.
    Said again until every partition of the sender has been compared (S-DEL-3)."""


class NumbersTold(Message, tag=55):
    """Partition, seen and floor of every partition that the sender owns."""

    rows: list[tuple[Partition, RoundNumber, RoundNumber]]
