"""Checks of a message that its types cannot make, before it changes any state (S-IN-2, T-3).

The types of messages bound single values. This module checks values that must fit together: a
partition and the ring, a key and its partition, an answer and its request, numbers of rounds,
entries, the options of a put. One function for each kind says what is wrong, "" for nothing. A
message that makes no sense is refused as a whole, before it is handled, so no half of it can take
effect. The other messages of the frame are handled. Every kind is in `CHECKS` or in `PLAIN`; a test
compares both with all kinds that exist.

Documents (`Parts`, `Announce`, `FirstRing`, `Admitted`) are checked by `gate` where the node takes
them: `gate` checks the resulting ring, not the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from dynamo_core.bounds import (
    EXPIRES_MS_MAX,
    PARTITIONS_MAX,
    TEXT_MAX,
    address_fault,
    name_fault,
)
from dynamo_core.keys import KEY_BYTES_MAX, PREFIX_BYTES, partition_of, store_key
from dynamo_core.protocol.answers import Receiver, context_fault, partition_bits
from dynamo_core.protocol.backup_messages import (
    Load,
    Loaded,
    Part,
    Save,
    Saved,
    SaveHints,
    backup_id_fault,
    part_fault,
)
from dynamo_core.protocol.look_messages import BODIES, HISTORY, RECORD, Look, Looked
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
from dynamo_core.protocol.refusal import Refusal
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
from dynamo_core.protocol.staleness_messages import CANARY, Delays, DelaysTold, Glance, Glanced
from dynamo_core.ring.gate import entry_fault

DIGESTS = 4
WEIGHT_MAX = 1 << 20
TIMEOUT_S_MAX = 3600.0
EXPIRES_S_MAX = 1 << 40


def fault(message: Message, here: Receiver) -> str:
    """What is wrong with a message that this node has received, "" when nothing is."""
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
    """Checks the target: the node that the copy is kept for. The place of the key is checked
    together with the record (T-1)."""
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
        return "a content type or request id that is too long"
    return context_fault(put.context)


def _partitions(message: Roots | Sizes | Order, here: Receiver) -> str:
    partitions = message.partitions
    return "more partitions than the ring has" if len(partitions) > _size(here) else ""


def _order(message: Order, here: Receiver) -> str:
    outside = [p for p in message.partitions if p >= _size(here)]
    return f"partition {outside[0]}" if outside else _partitions(message, here)


def _listing(message: Listing, here: Receiver) -> str:
    return "" if message.leaf < 1 << here.settings.leaf_bits else f"leaf {message.leaf}"


def _keys(message: Keys, here: Receiver) -> str:
    return "" if message.partition < _size(here) else f"partition {message.partition}"


def _save(message: Save, here: Receiver) -> str:
    if message.partition >= _size(here):
        return f"partition {message.partition}"
    return _backup(message, here)


def _backup(message: Save | SaveHints, here: Receiver) -> str:
    """The id stands in names of objects, the archive in words for people."""
    if fault := backup_id_fault(message.backup):
        return f"backup: {fault}"
    return "" if message.archive.isprintable() else "archive: words that are none"


def _saved(message: Saved, here: Receiver) -> str:
    faults = (name_fault(name) for name in message.missed)
    return next((f for f in faults if f), "") or _parts_named(message.parts, message.why)


def _load(message: Load, here: Receiver) -> str:
    """The partitions are those of the ring that was saved."""
    if (
        message.partitions > PARTITIONS_MAX
        or max(message.without, default=-1) >= message.partitions
    ):
        return f"partitions {message.partitions}"
    return _parts_named([message.part], message.restore + message.archive)


def _loaded(message: Loaded, here: Receiver) -> str:
    return _parts_named([], message.why)


def _parts_named(parts: list[Part], words: str) -> str:
    """Names of objects, and words that people are shown."""
    if not words.isprintable():
        return "words that are none"
    return next((fault for part in parts if (fault := part_fault(part))), "")


def _look(message: Look, here: Receiver) -> str:
    if message.what not in BODIES or message.partition >= _size(here):
        return f"{message.what[:40]!r} of partition {message.partition}"
    if message.what in (RECORD, HISTORY):
        stored = message.stored
        if len(stored) <= PREFIX_BYTES:
            return "no key"
        if partition_of(stored, partition_bits(here)) != message.partition:
            return f"a key that is not of partition {message.partition}"
    return ""


def _delays(message: DelaysTold, here: Receiver) -> str:
    return next((fault for pair in message.pairs if (fault := name_fault(pair.to))), "")


def _glance(message: Glance, here: Receiver) -> str:
    """Only canary keys are read so, each at its place."""
    key = message.stored[PREFIX_BYTES:]
    if not key.startswith(CANARY) or store_key(key) != message.stored:
        return "not a canary key"
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
    return "" if len(message.entries) <= len(ring.entries) else "more entries than partitions"


def _promise(message: Promise, here: Receiver) -> str:
    ring, wish = here.ring_or_none, message.wish
    if ring is None or message.partition >= len(ring.entries):
        return f"partition {message.partition}"
    if wish.move is None or wish.by < 1:
        return "the entry is not from a receiver"
    return entry_fault(wish, ring.identity.n)


def _rows(message: Offer | RoundAsk | RoundCommit, here: Receiver) -> str:
    """Checks that the keys are of one partition."""
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
    if message.reason is Refusal.STALE and message.floor > message.seen:
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
    Admitted: _admitted, Save: _save, SaveHints: _backup, Saved: _saved, Load: _load,
    Loaded: _loaded, Look: _look, DelaysTold: _delays, Glance: _glance,
}  # fmt: skip
"""The check of each kind whose types do not check all. Answers are also compared with their
request."""
PLAIN: frozenset[type] = frozenset(
    (Fetch, Leaves, Still, Settle, Numbers, FirstRing, Announce, Fetched, Stored, Forwarded,
     RootsReply, LeavesReply, ListingReply, FetchedMany, Prepared, Founded, Reached, Progress,
     KeysReply, Promised, StillReply, Settled, Shown, SizesReply, Announced, RoundAnswer,
     RoundDone, Looked, Delays, Glanced)
)  # fmt: skip
"""The kinds without a check here: their types check all, or they are compared with their request,
or with the ring."""
WITHOUT_RING: frozenset[type] = frozenset((Gossip, Parts, Prepare, Reach, Admit, Admitted))
"""The kinds that a node takes before it has a ring; it drops all others."""
