"""Marks of restores in the archive, so that no restore is done twice.

The operator may not have heard of the end of a restore, and the node that led it forgets it when
its process ends. Merged again much later, the backup would bring back what clients have deleted
since, if the tombstones are forgotten by then.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.causality.records import History, decode_history
from dynamo_core.errors import BadParameter

MARKS = "restores/"
EMPTY_HISTORY = History().encode()


class Mark(msgspec.Struct):
    """How far a restore is. Of one into the past `keys` are written; of the next ones `contexts`
    are the histories that were read: None, not to be written; b"", no node knew the key. No key is
    in it, for the archive may be encrypted."""

    backup: str
    prefix: bytes
    state: str
    report: dict[str, Any]
    keys: int = 0
    contexts: list[bytes | None] = []
    into_past: bool = False


def mark_name(restore: str) -> str:
    """Where the mark lies in the archive."""
    return f"{MARKS}{restore}.json"


def encode_mark(mark: Mark) -> bytes:
    """As JSON."""
    return msgspec.json.encode(mark)


def decode_mark(data: bytes, name: str, backup: str, prefix: bytes, into_past: bool) -> Mark:
    """The inverse. Raises BadParameter: the mark of another restore, or none."""
    try:
        mark = msgspec.json.decode(data, type=Mark)
        for context in mark.contexts:
            decode_history(context or EMPTY_HISTORY)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadParameter(name, f"not the mark of a restore: {error}") from None
    if (mark.backup, mark.prefix, mark.into_past) != (backup, prefix, into_past):
        how = "into the past" if mark.into_past else "as a merge"
        raise BadParameter(name, f"that of a restore of {mark.backup!r}, {mark.prefix!r}, {how}")
    return mark
