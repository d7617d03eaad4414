"""One message of the protocol as a short line for people, with keys and dots in clear text.

Digests, cursors and random numbers tell a reader nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import Record, Sibling
from dynamo_core.keys import PREFIX_BYTES
from dynamo_core.protocol.messages import (
    COMPLETE,
    HINTED,
    OWNER,
    SYNCED,
    VOLATILE,
    WRITER,
    Message,
)
from dynamo_core.protocol.operations import Acks, Operation, Outcome, Put
from dynamo_core.ring.document import Entry, RingParts

ActorName = Callable[[int], str]
FIELD_CHARS_MAX = 40
UNREAD = frozenset(
    {
        "digest",
        "digests",
        "entry",
        "entry_id",
        "expiry",
        "floor",
        "id",
        "members",
        "number",
        "seen",
        "sequence",
        "timeout_s",
    }
)
"""Fields that a reader of a ladder does not need."""
FLAGS = (
    (OWNER, "owner"), (COMPLETE, "complete"), (HINTED, "hinted"), (SYNCED, "fsynced"),
    (WRITER, "writer"), (VOLATILE, "volatile"),
)  # fmt: skip


def number_of(actor: int) -> str:
    """A number for an actor without a name."""
    return f"{actor:x}"


def record_text(record: Record, actor_name: ActorName = number_of) -> str:
    """The siblings by dot: `{a:1 'milk', b:1 deleted}`."""
    siblings = []
    for sibling in record.siblings:
        value = "deleted" if sibling.value is None else _shown(sibling.value)
        siblings.append(f"{actor_name(sibling.actor)}:{sibling.counter} {value}")
    return "{" + ", ".join(siblings) + "}"


def entry_text(entry: Entry) -> str:
    """The owners, the move in progress, the owners before a switch."""
    text = "owners " + "".join(_listed(entry.owners))
    if entry.move is not None:
        text += f", {entry.move[0]} gives to {entry.move[1]}"
    if entry.old is not None:
        text += ", before " + _listed(entry.old)
    return f"term {entry.term}: {text}"


def message_text(message: Message | Operation | Outcome, actor_name: ActorName = number_of) -> str:
    """The message's name, then its informative fields."""
    told = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name in UNREAD or (not value and name != "partition"):
            continue
        told.append(_field(name, value, actor_name))
    text = ", ".join(part for part in told if part)
    return f"{type(message).__name__}({text})"


def _field(name: str, value: object, actor_name: ActorName) -> str:
    if isinstance(value, bytes):
        return _of_bytes(name, value, actor_name)
    if isinstance(value, list):
        return _of_list(name, value, actor_name)
    if name == "flags" and isinstance(value, int):
        return " ".join(word for bit, word in FLAGS if value & bit)
    if isinstance(value, Entry):
        return entry_text(value)
    if isinstance(value, Acks):
        return f"acks {value.total}: {value.owners} of owners, {value.hinted} hinted"
    if isinstance(value, Context):
        return name
    if isinstance(value, RingParts):
        parts = [part for part in value.__struct_fields__ if getattr(value, part)]
        return "ring parts " + ", ".join(parts)
    if isinstance(value, (Put, Outcome)):
        return message_text(value, actor_name)
    if value is True:
        return name
    return f"{name}={_short(repr(value))}"


def _of_bytes(name: str, value: bytes, actor_name: ActorName) -> str:
    if name == "stored":
        return _shown(value[PREFIX_BYTES:])
    if name == "record":
        return record_text(decode_record(value), actor_name)
    if name in ("key", "value"):
        return _shown(value)
    return f"{len(value)} bytes"


def _of_list(name: str, rows: list[object], actor_name: ActorName) -> str:
    """Records, siblings, store keys, or rows that begin with a store key or with a number."""
    first = rows[0]
    if name == "records":
        records = [decode_record(row) if row else None for row in rows if isinstance(row, bytes)]
        return " ".join("-" if r is None else record_text(r, actor_name) for r in records)
    if isinstance(first, Sibling):
        return record_text(Record(tuple(s for s in rows if isinstance(s, Sibling))), actor_name)
    if isinstance(first, (tuple, list)) and isinstance(first[0], bytes):
        first_words = [row[0] for row in rows if isinstance(row, (tuple, list))]
        return " ".join(_shown(word[PREFIX_BYTES:]) for word in first_words)
    if isinstance(first, bytes):
        return " ".join(_shown(row[PREFIX_BYTES:]) for row in rows if isinstance(row, bytes))
    if isinstance(first, int):
        return f"{name}={_short(repr(rows))}"
    entries = [row[1] for row in rows if isinstance(row, tuple) and isinstance(row[1], Entry)]
    if entries:
        return "; ".join(entry_text(entry) for entry in entries)
    return f"{len(rows)} {name}"


def _listed(names: tuple[str, ...]) -> str:
    return " ".join(names)


def _shown(data: bytes) -> str:
    return _short(repr(data)[1:])


def _short(text: str) -> str:
    return text if len(text) <= FIELD_CHARS_MAX else text[: FIELD_CHARS_MAX - 1] + "…"
