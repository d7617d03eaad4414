"""Answers beside their requests: what fits, and what a machine must never be handed (S-IN-2).

Each call has one kind of answer, or is refused. What an answer says must be about what was asked:
keys of the leaf or the partition, numbers of rows that were sent, roots of partitions that were
named. A machine may rely on that; an answer that does not fit is counted, and its call has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.gate import entry_fault
from dynamo_core.ids import partition_of, range_of
from dynamo_core.look_messages import Look, Looked, decode_body
from dynamo_core.messages import (
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
    Roots,
    RootsReply,
    Sizes,
    SizesReply,
    Store,
    Stored,
)
from dynamo_core.move_messages import (
    Offer,
    Promise,
    Promised,
    Settle,
    Settled,
    Shown,
    Still,
    StillReply,
)
from dynamo_core.operations import Context, Outcome
from dynamo_core.ring import Ring
from dynamo_core.ring_messages import (
    Announce,
    Announced,
    Found,
    Founded,
    Prepare,
    Prepared,
    Reach,
    Reached,
)
from dynamo_core.round_messages import (
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
)
from dynamo_core.sense import TEXT_MAX, address_fault
from dynamo_core.settings import Settings
from dynamo_core.versions import decode_history

STATUS_MIN, STATUS_MAX = 200, 599
COUNT_MAX = 1 << 32


class Receiver(Protocol):
    """What is known of the node that a message has come to."""

    settings: Settings
    now: float
    ring_or_none: Ring | None


def partition_bits(here: Receiver) -> int:
    """Of the ring; only for kinds that a node without one never looks at."""
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


ANSWER_OF: dict[type, type] = {
    Fetch: Fetched, Store: Stored, Forward: Forwarded, Roots: RootsReply, Leaves: LeavesReply,
    Listing: ListingReply, FetchMany: FetchedMany, Prepare: Prepared, Found: Founded,
    Reach: Reached, Order: Progress, Keys: KeysReply, Sizes: SizesReply, Promise: Promised,
    Still: StillReply, Settle: Settled, Offer: Shown, RoundAsk: RoundAnswer, RoundCommit: RoundDone,
    Announce: Announced, Look: Looked,
}  # fmt: skip
"""What a call is answered with, unless it is refused."""


def answer_fault(request: Message, reply: Message, here: Receiver) -> str:
    """What is wrong with an answer to this very request."""
    kind = type(reply)
    if kind is not ANSWER_OF.get(type(request)):
        return f"{kind.__name__} in answer to {type(request).__name__}"
    check = _ANSWERS.get(kind)
    return check(request, reply, here) if check is not None else ""


def _forwarded(request: Forward, reply: Forwarded, here: Receiver) -> str:
    outcome = reply.outcome
    if not STATUS_MIN <= outcome.status <= STATUS_MAX:
        return f"status {outcome.status}"
    words = outcome.problem + outcome.applied + outcome.node  # they stand in heads of answers
    if len(words) > TEXT_MAX or not words.isprintable():
        return "words that are none"
    return _acks(outcome) or context_fault(outcome.context)


def _acks(outcome: Outcome) -> str:
    if outcome.acks is None:
        return ""
    return "" if all(0 <= number <= COUNT_MAX for number in _fields(outcome.acks)) else "acks"


def _fields(struct: Any) -> tuple[Any, ...]:
    return msgspec.structs.astuple(struct)


def _roots(request: Roots, reply: RootsReply, here: Receiver) -> str:
    asked = {partition for partition, _, _ in request.partitions}
    return "" if all(p in asked for p, _ in reply.roots) else "roots that were not asked for"


def _leaves(request: Leaves, reply: LeavesReply, here: Receiver) -> str:
    return f"seen {reply.seen:x}, floor {reply.floor:x}" if reply.floor > reply.seen else ""


def _listed(request: Listing, reply: ListingReply, here: Receiver) -> str:
    """Keys of the leaf in their order, behind the last page."""
    bits = here.settings.leaf_bits
    slot = (request.partition << bits) + request.leaf
    start, end = range_of(slot, partition_bits(here) + bits)
    if reply.more and not reply.rows:
        return "a page of nothing, and more"
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
        return "a page that does not lead on"
    return "" if len(reply.keys) <= request.limit else "more keys than were asked for"


def _progress(request: Order, reply: Progress, here: Receiver) -> str:
    return "" if reply.done <= reply.total <= COUNT_MAX else "more done than there is"


def _prepared(request: Prepare, reply: Prepared, here: Receiver) -> str:
    return address_fault(reply.client) if reply.client else ""


def _still(request: Still, reply: StillReply, here: Receiver) -> str:
    ring = here.ring_or_none
    return entry_fault(reply.now, ring.identity.n) if ring is not None else ""


def _shown(request: Offer, reply: Shown, here: Receiver) -> str:
    lacking = reply.lacking
    known = len(request.rows)
    if len(lacking) > known or any(number >= known for number in lacking):
        return "rows that were not offered"
    return ""


def _sizes(request: Sizes, reply: SizesReply, here: Receiver) -> str:
    asked = set(request.partitions)
    if len(reply.rows) > len(asked) or reply.left > len(asked):
        return "more than was asked for"
    return "" if all(p in asked for p, _, _ in reply.rows) else "sizes that were not asked for"


def _looked(request: Look, reply: Looked, here: Receiver) -> str:
    try:
        decode_body(request.what, reply.body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return f"body: {error}"
    return ""


_ANSWERS: dict[type, Callable[[Any, Any, Any], str]] = {
    Forwarded: _forwarded, RootsReply: _roots, LeavesReply: _leaves, ListingReply: _listed,
    FetchedMany: _fetched_many, KeysReply: _keys_told, Progress: _progress, Prepared: _prepared,
    StillReply: _still, Shown: _shown, SizesReply: _sizes, Looked: _looked,
}  # fmt: skip
