"""What nodes say while a partition moves: promises, switches that settle, data nobody owns.

New fields go at the end with a default, so that old and new nodes understand each other (C17).
"""

from __future__ import annotations

from dynamo_core.messages import Message
from dynamo_core.ring import Entry


class Promise(Message, tag=40):
    """S-MOVE-1: adopt this entry, and no other one of its term but from its receiver."""

    partition: int
    wish: Entry


class Promised(Message, tag=41):
    """Done, durably."""


class Still(Message, tag=42):
    """To a receiver: do you still want my promise for this term and version?"""

    partition: int
    term: int
    version: int


class StillReply(Message, tag=43):
    """Whether it does, and its entry: that of the switch, or of the move given up."""

    wanted: bool
    now: Entry


class Settle(Message, tag=44):
    """S-MOVE-3: answer when you have learnt this switch durably."""

    partition: int
    entry: tuple[int, int]


class Settled(Message, tag=45):
    """The sender has."""


class Offer(Message, tag=46):
    """S-MOVE-5: the sender holds these records of a partition that it does not own: store key and
    digest."""

    partition: int
    entry: tuple[int, int]
    rows: list[tuple[bytes, bytes]]


class Shown(Message, tag=47):
    """What the owner is (`flags`), and the numbers of the rows of which it has another record or
    none; the others are on its disk."""

    flags: int
    lacking: list[int]
