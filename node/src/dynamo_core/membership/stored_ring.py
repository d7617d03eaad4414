"""The ring document on this disk, and what is left when it makes no sense (S-IN-2, T-3).

If the document does not decode, or the gate refuses it, the node starts without a ring. It keeps
its id and its data, and no partition is complete until its passes. It asks its seeds and the
addresses that it remembers for the document, and takes one that names its id. It is never founded
and never admitted as an empty node: its disk belongs to a ring that the node cannot read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from dynamo_core.bounds import address_fault
from dynamo_core.errors import Corrupt
from dynamo_core.keys import META
from dynamo_core.replica.write_batch import WriteBatch
from dynamo_core.ring.document import LEFT, Ring

RING_KEY = b"ring"
GONE_KEY = b"gone"
"""All that is left on the disk of an id that never comes back; the next start gives the disk a new
one."""
ADDRESSES_KEY = b"addresses"
"""The addresses of the other members, stored beside the document, in case it does not decode."""
ADDRESSES_MAX = 64
"""The number of addresses that the node asks at each heartbeat."""
_decoder = msgspec.msgpack.Decoder(list[str])


def decoded(data: bytes) -> tuple[Ring | None, str]:
    """The document of the disk, or the reason why it cannot be used."""
    try:
        return Ring.decode(data), ""
    except Corrupt as error:
        return None, str(error)


def addresses_row(ring: Ring, name: str) -> bytes:
    """The row with the addresses of the other members."""
    lines = ring.members.values()
    others = {line.address for line in lines if line.name != name and line.state != LEFT}
    return msgspec.msgpack.encode(sorted(others)[:ADDRESSES_MAX])


def remembered(write_batch: WriteBatch, document: bytes, mine: str) -> tuple[str, ...]:
    """Addresses to ask: those of the stored row, and every text in the document that looks like an
    address."""
    found = _of_row(write_batch.get(META, ADDRESSES_KEY)) + _of_document(document)
    good = (one for one in found if one != mine and not address_fault(one))
    return tuple(dict.fromkeys(good))[:ADDRESSES_MAX]


def _of_row(row: bytes | None) -> list[str]:
    try:
        return _decoder.decode(row) if row is not None else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []


def _of_document(document: bytes) -> list[str]:
    try:
        tree: Any = msgspec.msgpack.decode(document)
        lines = tree[1].values()
        return [line[3] for line in lines if isinstance(line[3], str)]
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError, AttributeError):
        return []
    except RecursionError:
        return []


def lost(why: str) -> str:
    """The text in this node's status about its lost ring."""
    return f"the ring on this disk makes no sense ({why})"


def says(lost_ring: str, seeds: Iterable[str], known: Iterable[str]) -> str:
    """The log line at the start."""
    asked = tuple(dict.fromkeys((*seeds, *known)))
    if asked:
        whom = f"asks {', '.join(asked[:8])}{' and others' * (len(asked) > 8)} for it"
    else:
        whom = "has no seeds and remembers no address to ask for it: start it with --seeds"
    return f"{lost_ring}: the node starts without it and {whom}"
