"""What a message may say beside its types, before any of it becomes state (S-IN-2, T-3).

The types of messages bound single values; here is what must fit together: a partition and the ring,
a key and its partition, an answer and its request, numbers of rounds, entries, wishes for a put.
One function a kind says what is wrong, "" for nothing. A message that makes no sense is refused
whole, before it is handled, and what came with it in the frame goes on: so no half of it can stay
behind. Every kind is in one of `CHECKS` and `PLAIN`, which a test compares with all there are.

Documents (`Parts`, `Announce`, `Found`, `Admitted`) pass `gate` where they are taken, as what they
make of the ring is checked, not the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from dynamo_core.answers import Receiver, context_fault, partition_bits
from dynamo_core.gate import entry_fault
from dynamo_core.ids import KEY_BYTES_MAX, partition_of
from dynamo_core.look_messages import BODIES, HISTORY, RECORD, Look, Looked
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
    Refused,
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
from dynamo_core.ring_messages import (
    Admit,
    Admitted,
    Announce,
    Announced,
    Entries,
    Found,
    Founded,
    Gossip,
    Parts,
    Prepare,
    Prepared,
    Reach,
    Reached,
)
from dynamo_core.round_messages import (
    Numbers,
    NumbersTold,
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
)
from dynamo_core.sense import EXPIRES_MS_MAX, TEXT_MAX, address_fault, name_fault

DIGESTS = 4
WEIGHT_MAX = 1 << 20
TIMEOUT_S_MAX = 3600.0
EXPIRES_S_MAX = 1 << 40


def fault(message: Message, here: Receiver) -> str:
    """What is wrong with a message that has come, "" when nothing is."""
    kind = type(message)
    check = CHECKS.get(kind)
    if check is None or (here.ring_or_none is None and kind not in WITHOUT_RING):
        return ""
    return check(message, here)


def _size(here: Receiver) -> int:
    ring = here.ring_or_none
    return 0 if ring is None else len(ring.entries)


# ---------------------------------------------------------------- requests and news


def _store(message: Store, here: Receiver) -> str:
    """The name of the node that the copy is kept for. The key's place is checked with the record
    (T-1)."""
    if message.target and (fault := name_fault(message.target)):
        return f"target: {fault}"
    return ""


def _forward(message: Forward, here: Receiver) -> str:
    put, ring = message.put, here.ring_or_none
    if ring is None or not 0 < len(put.key) <= KEY_BYTES_MAX:
        return f"a key of {len(put.key)} bytes"
    n = ring.identity.n
    if not (1 <= put.w <= n and 1 <= put.dw <= n):
        return f"w={put.w}, dw={put.dw} with n={n}"
    if not (isfinite(put.timeout_s) and 0 <= put.timeout_s <= TIMEOUT_S_MAX):
        return f"timeout_s={put.timeout_s}"
    if not 0 <= put.expires_in_s <= EXPIRES_S_MAX:
        return f"expires_in_s={put.expires_in_s}"
    if put.expires_ms > EXPIRES_MS_MAX:
        return f"expires_ms={put.expires_ms}"
    if max(len(put.content_type), len(put.request_id)) > TEXT_MAX:
        return "a content type or request id without end"
    return context_fault(put.context)


def _partitions(message: Roots | Sizes | Order, here: Receiver) -> str:
    partitions = message.partitions
    return "more partitions than there are" if len(partitions) > _size(here) else ""


def _order(message: Order, here: Receiver) -> str:
    outside = [p for p in message.partitions if p >= _size(here)]
    return f"partition {outside[0]}" if outside else _partitions(message, here)


def _listing(message: Listing, here: Receiver) -> str:
    return "" if message.leaf < 1 << here.settings.leaf_bits else f"leaf {message.leaf}"


def _keys(message: Keys, here: Receiver) -> str:
    return "" if message.partition < _size(here) else f"partition {message.partition}"


def _look(message: Look, here: Receiver) -> str:
    if message.what not in BODIES or message.partition >= _size(here):
        return f"{message.what[:40]!r} of partition {message.partition}"
    if message.what in (RECORD, HISTORY):
        stored = message.stored
        if len(stored) < 5 or partition_of(stored, partition_bits(here)) != message.partition:
            return f"a key that is not of partition {message.partition}"
    return ""


def _gossip(message: Gossip, here: Receiver) -> str:
    if message.admin and (fault := address_fault(message.admin)):
        return f"admin: {fault}"
    digests = message.digests
    return "" if len(digests) in (0, DIGESTS) else f"{len(digests)} digests"


def _parts(message: Parts, here: Receiver) -> str:
    digests = message.digests
    return "" if len(digests) in (0, DIGESTS) else f"{len(digests)} digests"


def _admit(message: Admit, here: Receiver) -> str:
    if not 1 <= message.weight <= WEIGHT_MAX:
        return f"weight {message.weight}"
    return address_fault(message.client) if message.client else ""


def _named(message: Prepare | Reach, here: Receiver) -> str:
    return name_fault(message.name)


def _entries(message: Entries, here: Receiver) -> str:
    ring = here.ring_or_none
    if ring is None:
        return ""
    for partition, entry in message.entries:
        if partition >= len(ring.entries):
            return f"partition {partition}"
        if fault := entry_fault(entry, ring.identity.n):
            return f"partition {partition}: {fault}"
    return "" if len(message.entries) <= len(ring.entries) else "entries without end"


def _promise(message: Promise, here: Receiver) -> str:
    ring, wish = here.ring_or_none, message.wish
    if ring is None or message.partition >= len(ring.entries):
        return f"partition {message.partition}"
    if wish.move is None or wish.by < 1:
        return "the entry is no receiver's"
    return entry_fault(wish, ring.identity.n)


def _rows(message: Offer | RoundAsk | RoundCommit, here: Receiver) -> str:
    """Keys of one partition."""
    rows = message.rows if isinstance(message, Offer) else message.listed
    bits = partition_bits(here)
    wrong = any(partition_of(stored, bits) != message.partition for stored, _ in rows)
    return f"keys that are not of partition {message.partition}" if wrong else ""


def _asked_keys(message: FetchMany, here: Receiver) -> str:
    bits = partition_bits(here)
    wrong = any(partition_of(stored, bits) != message.partition for stored in message.keys)
    return f"keys that are not of partition {message.partition}" if wrong else ""


def _round(message: RoundAsk, here: Receiver) -> str:
    return "no number" if message.number < 1 else _rows(message, here)


def _told(message: NumbersTold, here: Receiver) -> str:
    size = _size(here)
    for partition, seen, floor in message.rows:
        if partition >= size or floor > seen:
            return f"partition {partition}: seen {seen:x}, floor {floor:x}"
    return ""


def _refused(message: Refused, here: Receiver) -> str:
    ring = here.ring_or_none
    if ring is None:
        return ""
    if message.partition >= len(ring.entries):
        return f"partition {message.partition}"
    if message.reason == "stale" and message.floor > message.seen:
        return f"seen {message.seen:x}, floor {message.floor:x}"
    return entry_fault(message.entry, ring.identity.n) if message.entry is not None else ""


def _admitted(message: Admitted, here: Receiver) -> str:
    parts = message.parts
    if parts is not None and parts.entries is not None:
        size = len(parts.entries)
        for partition, seen, floor in message.numbers:
            if partition >= size or floor > seen:
                return f"partition {partition}: seen {seen:x}, floor {floor:x}"
    return ""


CHECKS: dict[type, Callable[[Any, Any], str]] = {
    Store: _store, Forward: _forward, Roots: _partitions, Sizes: _partitions, Order: _order,
    Listing: _listing, Keys: _keys, Gossip: _gossip, Parts: _parts, Admit: _admit, Prepare: _named,
    Reach: _named, Entries: _entries, Promise: _promise, Offer: _rows, RoundAsk: _round,
    RoundCommit: _rows, FetchMany: _asked_keys, NumbersTold: _told, Refused: _refused,
    Admitted: _admitted, Look: _look,
}  # fmt: skip
"""Of kinds with more to check than their types; answers besides are held against their request."""
PLAIN: frozenset[type] = frozenset(
    (Fetch, Leaves, Still, Settle, Numbers, Found, Announce, Fetched, Stored, Forwarded, RootsReply,
     LeavesReply, ListingReply, FetchedMany, Prepared, Founded, Reached, Progress, KeysReply,
     Promised, StillReply, Settled, Shown, SizesReply, Announced, RoundAnswer, RoundDone, Looked)
)  # fmt: skip
"""Of kinds whose types say all, or that are held against their request, or against the ring."""
WITHOUT_RING: frozenset[type] = frozenset((Gossip, Parts, Prepare, Reach, Admit, Admitted))
"""Kinds that a node takes before it has a ring; it drops the others, whatever they say."""
