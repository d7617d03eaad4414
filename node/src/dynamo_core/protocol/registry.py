"""One table of all kinds of messages: the answer of each, and whether it needs a fresh echo.

The union that frames are decoded to, the set of replies and the checks of answers come from the
tables here. CONTRIBUTING.md says how to add a message; `test_registry.py` names what is still
missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from dynamo_core.protocol.backup_messages import Load, Loaded, Save, Saved, SaveHints
from dynamo_core.protocol.look_messages import Look, Looked
from dynamo_core.protocol.messages import (
    Fetch,
    Fetched,
    FetchedMany,
    FetchMany,
    Forward,
    Forwarded,
    Keys,
    KeysReply,
    Leaves,
    LeavesReply,
    Listing,
    ListingReply,
    Message,
    Order,
    Progress,
    Refused,
    Roots,
    RootsReply,
    Sizes,
    SizesReply,
    Store,
    Stored,
)
from dynamo_core.protocol.move_messages import (
    Offer,
    Promise,
    Promised,
    Settle,
    Settled,
    Shown,
    Still,
    StillReply,
)
from dynamo_core.protocol.ring_messages import (
    Admit,
    Admitted,
    Announce,
    Announced,
    Entries,
    FirstRing,
    Founded,
    Gossip,
    Parts,
    Prepare,
    Prepared,
    Reach,
    Reached,
)
from dynamo_core.protocol.round_messages import (
    Numbers,
    NumbersTold,
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
)
from dynamo_core.protocol.staleness_messages import Delays, DelaysTold, Glance, Glanced

Kind = type[Message]

SINCE: dict[Kind, int] = {
    Save: 1, SaveHints: 1, Saved: 1, Load: 1, Loaded: 1, Look: 2, Looked: 2,
    Delays: 3, DelaysTold: 3, Glance: 3, Glanced: 3,
}  # fmt: skip
"""Kinds that the first version had not. A node drops a whole frame for one message that it does not
know, so every frame says up to which number its sender knows them, and a call of a higher one is
not sent to it (C17). A new kind takes the next number."""

KNOWS = max(SINCE.values())
"""What the frames of this node say."""

ANSWER_OF: dict[Kind, Kind] = {
    Fetch: Fetched, Store: Stored, Forward: Forwarded, Roots: RootsReply, Leaves: LeavesReply,
    Listing: ListingReply, FetchMany: FetchedMany, Prepare: Prepared, FirstRing: Founded,
    Reach: Reached, Order: Progress, Keys: KeysReply, Sizes: SizesReply, Promise: Promised,
    Still: StillReply, Settle: Settled, Offer: Shown, RoundAsk: RoundAnswer, RoundCommit: RoundDone,
    Announce: Announced, Save: Saved, SaveHints: Saved, Load: Loaded,
    Look: Looked, Delays: DelaysTold, Glance: Glanced,
}  # fmt: skip
"""Calls: a machine waits for the answer, which carries the call's id. Any call may be refused."""

NEWS: tuple[Kind, ...] = (Gossip, Parts, Entries, Admit, Numbers, NumbersTold)
"""Messages without an answer: no machine waits for one."""

NAMELESS: tuple[Kind, ...] = (Refused, Admitted)
"""Answers to more than one kind of message: to any call, and to an Admit."""

MEMBERSHIP: frozenset[Kind] = frozenset(
    (Gossip, Parts, Entries, Prepare, Prepared, FirstRing, Founded, Reach, Reached, Admit, Admitted)
)
"""Messages about membership. A node sends them before it has heard the receiver, so they need no
fresh echo."""

MESSAGES: tuple[Kind, ...] = tuple(
    dict.fromkeys((*ANSWER_OF, *ANSWER_OF.values(), *NEWS, *NAMELESS))
)
"""All kinds of messages."""

REPLIES: frozenset[Kind] = frozenset((*ANSWER_OF.values(), *NAMELESS))
"""Kinds that go to the machine that asked."""

MEMBERSHIP_REPLIES = REPLIES & MEMBERSHIP

if TYPE_CHECKING:
    AnyMessage = Message
else:
    AnyMessage = Union[MESSAGES]  # noqa: UP007
"""The union that a frame is decoded to: bytes with another tag are no frame."""
