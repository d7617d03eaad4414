"""What nodes tell each other for people who look inside: one question, one answer, and its bodies.

A body is msgpack of one of the structs below, with bounds on all that it holds, so that an answer
is never long and one that is something else is refused (S-IN-2). Nothing here changes a record.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dynamo_core.messages import Message
from dynamo_core.sense import Count, Cursor, Digest, Flags, Partition, Random, RoundNumber, Text

BODY_BYTES_MAX = 256 * 1024
"""Of one answer of one node."""
SHOWN_BYTES_MAX = 256
"""Of a value; the rest of it is only counted."""
SIBLINGS_SHOWN_MAX = 100
ACTORS_SHOWN_MAX = 256
EVENTS_SHOWN_MAX = 200
KEYS_SHOWN_MAX = 100
STATUS, RECORD, TREE, HINTS, HISTORY = "status", "record", "tree", "hints", "history"

Dot = tuple[Random, Count]
Vector = Annotated[dict[Random, Count], Meta(max_length=ACTORS_SHOWN_MAX)]
Dots = Annotated[list[Dot], Meta(max_length=ACTORS_SHOWN_MAX)]
Preview = Annotated[bytes, Meta(max_length=SHOWN_BYTES_MAX)]


class Look(Message, tag=80):
    """Show what you have: `what` is one of the five words above. `stored` is a store key for a
    record or a history; `target` and `limit` are of hints whose keys are wanted."""

    what: Text
    partition: Partition = 0
    stored: Cursor = b""
    target: Text = ""
    limit: Annotated[int, Meta(ge=0, le=KEYS_SHOWN_MAX)] = 0


class Looked(Message, tag=81):
    """The body that belongs to the question."""

    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]


class SiblingSeen(msgspec.Struct, array_like=True, gc=False):
    """One version. `kind` is "value", "tombstone" or "expired"; `size` counts all its bytes."""

    dot: Dot
    kind: Text
    size: Count
    value: Preview
    content_type: Text
    expires_ms: Count
    request_id: Text


class RecordSeen(msgspec.Struct, array_like=True, gc=False):
    """One record: the owner's own where `target` is "", else a hint for that node."""

    target: Text
    digest: Digest
    size: Count
    vector: Vector
    dots: Dots
    siblings: Annotated[list[SiblingSeen], Meta(max_length=SIBLINGS_SHOWN_MAX)]
    actors: Count
    siblings_count: Count


class RecordBody(msgspec.Struct, array_like=True, gc=False):
    """All that a node holds of one key. `damaged`: some of it does not hold its checksum."""

    flags: Flags
    seen: RoundNumber
    damaged: bool
    records: Annotated[list[RecordSeen], Meta(max_length=64)]


class TreeBody(msgspec.Struct, array_like=True, gc=False):
    """The hash tree of one partition; `leaves` concatenated, in order."""

    flags: Flags
    root: Digest
    leaves: Annotated[bytes, Meta(max_length=64 * 1024)]
    seen: RoundNumber
    floor: RoundNumber


class HintsFor(msgspec.Struct, array_like=True, gc=False):
    """The hints for one target, why they wait, and the first keys if these were wanted."""

    target: Text
    count: Count
    size: Count
    waits_for: Text
    keys: Annotated[list[Cursor], Meta(max_length=KEYS_SHOWN_MAX)]


class HintsBody(msgspec.Struct, array_like=True, gc=False):
    """All hints of a node; it looks for deliverable ones again in `next_ms` milliseconds."""

    next_ms: Count
    targets: Annotated[list[HintsFor], Meta(max_length=1024)]


class Happened(msgspec.Struct, array_like=True, gc=False):
    """One change of one key on one node.

    `way`: "put" for an event that was made here, else how the versions came: "replica" (of a put),
    "repair", "hint", "exchange", "offer"; "delivered": the hint left this node. `made`: the dot
    that a put made. `vector`, `dots`: what the writer of a put had seen. `new`, `gone`: siblings
    that appeared and that were superseded here."""

    at_ms: Count
    way: Text
    target: Text
    made: Dot | None
    vector: Vector
    dots: Dots
    new: Dots
    gone: Dots
    kind: Text
    size: Count
    value: Preview


class HistoryBody(msgspec.Struct, array_like=True, gc=False):
    """The changes that are still remembered, the oldest first. `watched`: the key is one of those
    that this node remembers changes of; `dropped`: older changes of any key were forgotten."""

    watched: bool
    dropped: Count
    events: Annotated[list[Happened], Meta(max_length=EVENTS_SHOWN_MAX)]


class StatusBody(msgspec.Struct, array_like=True, gc=False):
    """A node's status, as `GET /v1/status` has it."""

    status: dict[str, Any]


BODIES: dict[str, type] = {
    STATUS: StatusBody, RECORD: RecordBody, TREE: TreeBody, HINTS: HintsBody, HISTORY: HistoryBody,
}  # fmt: skip
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[str, Any] = {what: msgspec.msgpack.Decoder(kind) for what, kind in BODIES.items()}


def encode_body(body: msgspec.Struct) -> bytes:
    """The bytes of a body."""
    return _encoder.encode(body)


def decode_body(what: str, data: bytes) -> Any:
    """The body of an answer to that question. Raises msgspec errors or ValueError."""
    return _decoders[what].decode(data)
