"""What nodes tell each other for people who look inside: one question, one answer, its bodies.

A body is msgpack of one of the structs below. Everything in it has a bound, so an answer is never
long, and an answer that is something else is refused (S-IN-2). Nothing here changes a record.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dynamo_core.bounds import Count, Cursor, Digest, Flags, Partition, Random, RoundNumber, Text
from dynamo_core.protocol.messages import Message

BODY_BYTES_MAX = 64 * 1024
"""The most bytes in the answer of one node."""
SHOWN_BYTES_MAX = 256
"""Bytes of a value that are shown; the rest is only counted."""
WORD_CHARS_MAX = 100
"""Characters of a content type, a request id or a name; the rest is cut."""
SIBLINGS_SHOWN_MAX = 50
RECORDS_SHOWN_MAX = 16
"""Copies of one key on one node: its own, and one for each node that it keeps a hint for."""
ACTORS_SHOWN_MAX = 128
CHANGES_SHOWN_MAX = 200
KEYS_SHOWN_MAX = 100
TARGETS_SHOWN_MAX = 64
FIELDS_MAX = 100
"""The most fields of a status."""
STATUS, RECORD, TREE, HINTS, HISTORY = "status", "record", "tree", "hints", "history"

Dot = tuple[Random, Count]
Vector = Annotated[dict[Random, Count], Meta(max_length=ACTORS_SHOWN_MAX)]
Dots = Annotated[list[Dot], Meta(max_length=ACTORS_SHOWN_MAX)]
Preview = Annotated[bytes, Meta(max_length=SHOWN_BYTES_MAX)]


class Look(Message, tag=80):
    """Show what you have. `what` is one of the five words above. `stored` is the store key of a
    record or of a history. `target` and `limit` choose the hints whose keys are wanted."""

    what: Text
    partition: Partition = 0
    stored: Cursor = b""
    target: Text = ""
    limit: Annotated[int, Meta(ge=0, le=KEYS_SHOWN_MAX)] = 0


class Looked(Message, tag=81):
    """The body that belongs to the question."""

    body: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]


class SiblingShown(msgspec.Struct, array_like=True, gc=False):
    """One version. `kind` is "value", "tombstone" or "expired"; `size` counts all its bytes."""

    dot: Dot
    kind: Text
    size: Count
    value: Preview
    content_type: Text
    expires_ms: Count
    request_id: Text


class RecordShown(msgspec.Struct, array_like=True, gc=False):
    """One record: the node's own if `target` is "", else a hint for that node. `actors` and
    `siblings_count` count those that are not shown too."""

    target: Text
    digest: Digest
    size: Count
    vector: Vector
    dots: Dots
    siblings: Annotated[list[SiblingShown], Meta(max_length=SIBLINGS_SHOWN_MAX)]
    actors: Count
    siblings_count: Count


class RecordBody(msgspec.Struct, array_like=True, gc=False):
    """What a node holds of one key. `damaged`: some of it could not be read. `left_out`: so many
    hints of the key are not shown."""

    flags: Flags
    seen: RoundNumber
    damaged: bool
    records: Annotated[list[RecordShown], Meta(max_length=RECORDS_SHOWN_MAX)]
    left_out: Count = 0


class TreeBody(msgspec.Struct, array_like=True, gc=False):
    """The hash tree of one partition; `leaves` one after the other, in order."""

    flags: Flags
    root: Digest
    leaves: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]
    seen: RoundNumber
    floor: RoundNumber


class HintsFor(msgspec.Struct, array_like=True, gc=False):
    """The hints for one target, what they wait for, and some of their keys if these were wanted.
    `held_ms`: for how long there have been hints for it, since the process began at the longest."""

    target: Text
    count: Count
    size: Count
    waits_for: Text
    keys: Annotated[list[Cursor], Meta(max_length=KEYS_SHOWN_MAX)]
    held_ms: Count = 0


class HintsBody(msgspec.Struct, array_like=True, gc=False):
    """The hints of a node. It looks for hints that it can deliver again in `next_ms`
    milliseconds."""

    next_ms: Count
    targets: Annotated[list[HintsFor], Meta(max_length=TARGETS_SHOWN_MAX)]


class Change(msgspec.Struct, array_like=True, gc=False):
    """One change of one key on one node.

    `way`: "put" for an event that this node made; else how the versions came: "replica" (of a put),
    "repair", "hint", "exchange", "offer", "restore"; "delivered": the hint left this node. `made`:
    the dot that a put made. `vector`, `dots`: what the writer of the put had seen. `new`, `gone`:
    siblings that appeared here, and that were superseded here."""

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
    """The changes of a key that the node remembers, the oldest first. `watched`: the node remembers
    changes of this key. `dropped`: so many older changes of any key were forgotten."""

    watched: bool
    dropped: Count
    changes: Annotated[list[Change], Meta(max_length=CHANGES_SHOWN_MAX)]


class StatusBody(msgspec.Struct, array_like=True, gc=False):
    """A node's status as `GET /v1/status` shows it, in JSON."""

    status: Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]


BODIES: dict[str, type] = {
    STATUS: StatusBody, RECORD: RecordBody, TREE: TreeBody, HINTS: HintsBody, HISTORY: HistoryBody,
}  # fmt: skip
"""What each question is answered with."""
KINDS = ("", "value", "tombstone", "expired")
WAYS = ("put", "replica", "repair", "hint", "exchange", "offer", "restore", "delivered")
Status = Annotated[dict[str, msgspec.Raw], Meta(max_length=FIELDS_MAX)]
_status = msgspec.json.Decoder(Status).decode
_peers = msgspec.json.Decoder(dict[str, str]).decode
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[str, Any] = {what: msgspec.msgpack.Decoder(kind) for what, kind in BODIES.items()}


def encode_body(body: msgspec.Struct) -> bytes:
    """The bytes of a body."""
    return _encoder.encode(body)


def decode_body(what: str, data: bytes) -> Any:
    """The body of an answer to that question. Raises msgspec errors, ValueError, RecursionError."""
    return _decoders[what].decode(data)


def status_of(body: StatusBody) -> Status:
    """The status, field by field in JSON, so that it takes little more than its bytes. Raises
    msgspec errors, ValueError, RecursionError."""
    return _status(body.status)


def peers_of(status: Status) -> dict[str, str]:
    """The peers in a status, each with "up" or "down". Raises as `status_of`."""
    return _peers(status["peers"]) if "peers" in status else {}


def body_fault(what: str, data: bytes, leaves_bytes: int) -> str:
    """What is wrong with the body of an answer, "" when nothing is. `leaves_bytes`: of a hash tree
    of this ring."""
    try:
        body = decode_body(what, data)
        if isinstance(body, StatusBody):
            peers_of(status_of(body))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return f"body: {str(error)[:200]}"
    if isinstance(body, TreeBody) and len(body.leaves) != leaves_bytes:
        return f"a tree of {len(body.leaves)} bytes"
    return "" if all(map(_sound, _words(body))) else "a word that is none of these, or no text"


def _words(body: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Words of a body, each with those that it may be; () for any text that people can be shown."""
    if isinstance(body, RecordBody):
        kinds = [(s.kind, KINDS) for r in body.records for s in r.siblings]
        return [*((r.target, ()) for r in body.records), *kinds]
    if isinstance(body, HintsBody):
        return [(word, ()) for t in body.targets for word in (t.target, t.waits_for)]
    if isinstance(body, HistoryBody):
        ways = [(c.way, WAYS) for c in body.changes]
        return [
            *((c.target, ()) for c in body.changes),
            *ways,
            *((c.kind, KINDS) for c in body.changes),
        ]
    return []


def _sound(word: tuple[str, tuple[str, ...]]) -> bool:
    text, known = word
    return text in known if known else text.isprintable()
