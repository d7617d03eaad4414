"""Checks that an answer fits its request, before a machine gets it (S-IN-2).

Each call has one kind of answer, or it is refused. An answer must be about the things that were
asked for: keys of that leaf or partition, numbers of rows that were sent, roots of partitions that
were named. A machine may rely on this. An answer that does not fit is counted, and its call fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from dynamo_core.bounds import TEXT_MAX, address_fault
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import decode_history
from dynamo_core.errors import BadFrame
from dynamo_core.keys import partition_of, range_of
from dynamo_core.protocol.backup_messages import Save, Saved, SaveHints
from dynamo_core.protocol.look_messages import Look, Looked, body_fault
from dynamo_core.protocol.messages import (
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
    Roots,
    RootsReply,
    Sizes,
    SizesReply,
)
from dynamo_core.protocol.move_messages import (
    Offer,
    Shown,
    Still,
    StillReply,
)
from dynamo_core.protocol.operations import Outcome
from dynamo_core.protocol.registry import ANSWER_OF
from dynamo_core.protocol.ring_messages import (
    Prepare,
    Prepared,
)
from dynamo_core.ring.document import Ring
from dynamo_core.ring.gate import entry_fault
from dynamo_core.settings import Settings

STATUS_MIN, STATUS_MAX = 200, 599
COUNT_MAX = 1 << 32
SUM_BYTES = 16
"""Of a leaf of a hash tree (`replica/merkle.py`)."""


class Receiver(Protocol):
    """What the checks need to know of the node that received a message."""

    settings: Settings
    now: float

    @property
    def ring_or_none(self) -> Ring | None:
        """The ring, None before it has one."""


def partition_bits(here: Receiver) -> int:
    """The partition bits of the ring; only for kinds that a node without a ring never checks."""
    assert here.ring_or_none is not None
    return here.ring_or_none.partition_bits


def context_fault(context: Context | None) -> str:
    """What is wrong with a context between nodes."""
    if context is None:
        return ""
    try:
        decode_history(context.history)
    except (msgspec.MsgspecError, ValueError, RecursionError, BadFrame) as error:
        return f"context: {error}"
    return ""


def answer_fault(request: Message, reply: Message, here: Receiver) -> str:
    """What is wrong with an answer to this request, "" when nothing is."""
    kind = type(reply)
    if kind is not ANSWER_OF.get(type(request)):
        return f"{kind.__name__} in answer to {type(request).__name__}"
    check = _ANSWERS.get(kind)
    return check(request, reply, here) if check is not None else ""


def _forwarded(request: Forward, reply: Forwarded, here: Receiver) -> str:
    outcome = reply.outcome
    if not STATUS_MIN <= outcome.status <= STATUS_MAX:
        return f"status {outcome.status}"
    words = outcome.problem + outcome.applied + outcome.node  # they become HTTP headers
    if len(words) > TEXT_MAX or not words.isprintable():
        return "a problem, applied or node that is too long or not printable"
    return _acks(outcome) or context_fault(outcome.context)


def _acks(outcome: Outcome) -> str:
    if outcome.acks is None:
        return ""
    return "" if all(0 <= value <= COUNT_MAX for value in _fields(outcome.acks)) else "acks"


def _fields(struct: Any) -> tuple[Any, ...]:
    return msgspec.structs.astuple(struct)


def _roots(request: Roots, reply: RootsReply, here: Receiver) -> str:
    asked = {partition for partition, _, _ in request.partitions}
    told = [partition for partition, _ in reply.roots]
    return "" if asked.issuperset(told) else "roots that were not asked for"


def _leaves(request: Leaves, reply: LeavesReply, here: Receiver) -> str:
    return f"seen {reply.seen:x}, floor {reply.floor:x}" if reply.floor > reply.seen else ""


def _listed(request: Listing, reply: ListingReply, here: Receiver) -> str:
    """The keys must be of the leaf, in order, and after the last page."""
    bits = here.settings.leaf_bits
    slot = (request.partition << bits) + request.leaf
    start, end = range_of(slot, partition_bits(here) + bits)
    if reply.more and not reply.rows:
        return "an empty page that says there is more"
    before = max(request.after, start)
    for stored, _ in reply.rows:
        if stored < start or stored <= request.after or stored < before:
            return "keys that are not in the order of their leaf"
        if end is not None and stored >= end:
            return "keys of another leaf"
        before = stored
    return ""


def _fetched_many(request: FetchMany, reply: FetchedMany, here: Receiver) -> str:
    return "" if len(reply.records) <= len(request.keys) else "more records than keys"


def _keys_told(request: Keys, reply: KeysReply, here: Receiver) -> str:
    bits = partition_bits(here)
    if any(partition_of(stored, bits) != request.partition for stored in reply.keys):
        return f"keys that are not of partition {request.partition}"
    if reply.more and (len(reply.cursor) < 5 or reply.cursor <= request.after):
        return "a page whose cursor does not move forward"
    return "" if len(reply.keys) <= request.limit else "more keys than were asked for"


def _progress(request: Order, reply: Progress, here: Receiver) -> str:
    return "" if reply.done <= reply.total <= COUNT_MAX else "more done than the total"


def _prepared(request: Prepare, reply: Prepared, here: Receiver) -> str:
    return address_fault(reply.client) if reply.client else ""


def _still(request: Still, reply: StillReply, here: Receiver) -> str:
    ring = here.ring_or_none
    return entry_fault(reply.now, ring.identity.n) if ring is not None else ""


def _shown(request: Offer, reply: Shown, here: Receiver) -> str:
    lacking = reply.lacking
    known = len(request.rows)
    if len(lacking) > known or any(index >= known for index in lacking):
        return "rows that were not offered"
    return ""


def _saved(request: Save | SaveHints, reply: Saved, here: Receiver) -> str:
    if isinstance(request, SaveHints) and len(reply.stamps) != len(reply.parts):
        return "numbers that are not one for each part"
    if not reply.passed <= reply.floor <= reply.seen:
        return "numbers of rounds that are not in order"
    compared = isinstance(request, Save) and request.root
    return "" if compared or not reply.unchanged else "unchanged, and there is no earlier one"


def _sizes(request: Sizes, reply: SizesReply, here: Receiver) -> str:
    asked = set(request.partitions)
    if len(reply.rows) > len(asked) or reply.left > len(asked):
        return "more than was asked for"
    return "" if all(p in asked for p, _, _ in reply.rows) else "sizes that were not asked for"


def _looked(request: Look, reply: Looked, here: Receiver) -> str:
    return body_fault(request.what, reply.body, SUM_BYTES << here.settings.leaf_bits)


_ANSWERS: dict[type, Callable[[Any, Any, Any], str]] = {
    Forwarded: _forwarded, RootsReply: _roots, LeavesReply: _leaves, ListingReply: _listed,
    FetchedMany: _fetched_many, KeysReply: _keys_told, Progress: _progress, Prepared: _prepared,
    StillReply: _still, Shown: _shown, SizesReply: _sizes, Saved: _saved,
    Looked: _looked,
}  # fmt: skip
