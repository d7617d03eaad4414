"""The ring document as JSON, for people and for clients that route by it (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dynamo_core.errors import BadParameter
from dynamo_core.ring.document import Entry, Identity, Member, Ring, RingTarget

NOT_HEARD: Mapping[str, str | None] = {}


def to_document(ring: Ring, admins: Mapping[str, str | None] = NOT_HEARD) -> dict[str, Any]:
    """The JSON form for people and clients, docs/http-api.md. `admins` has the address of each
    member's admin listener. It is not in the ring: each member tells it to the others."""
    target = ring.target
    return {
        "cluster_id": ring.identity.cluster_id,
        "epoch": ring.epoch,
        "digest": ring.digest.hex(),
        "partitions": ring.identity.partitions,
        "n": ring.identity.n,
        "r": target.r,
        "w": target.w,
        "dw": target.dw,
        "sloppy": target.sloppy,
        "conflicts": ring.identity.conflicts,
        "members": [
            {**_line(ring.members[name]), "admin": admins.get(name)}
            for name in sorted(ring.members)
        ],
        "entries": [_row(entry) for entry in ring.entries],
        "target": [list(owners) for owners in target.owners] or None,
    }


def from_document(document: dict[str, Any]) -> Ring:
    """The ring that a client sees. The JSON form has no versions of members and of the target, so
    its epoch and digest cannot be computed here: read them in `document`. Raises BadParameter."""
    try:
        entries = [
            {**row, "move": row["move"] and (row["move"]["out"], row["move"]["in"])}
            for row in document["entries"]
        ]
        ring = Ring(
            _of(document, Identity),
            {
                line["name"]: _of({**line, "id": int(line["id"], 16)}, Member)
                for line in document["members"]
            },
            _of({**document, "owners": document["target"] or ()}, RingTarget),
            tuple(_of(row, Entry) for row in entries),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise BadParameter("ring", f"not a ring document: {error!r}") from error
    if fault := ring.fault():
        raise BadParameter("ring", fault)
    return ring


def _line(member: Member) -> dict[str, Any]:
    fields = {
        **msgspec.structs.asdict(member),
        "id": f"{member.id:016x}",
    }  # a JSON number has 53 bits
    del fields["version"]
    return fields


def _row(entry: Entry) -> dict[str, Any]:
    fields = {
        **msgspec.structs.asdict(entry),
        "owners": list(entry.owners),
        "move": dict(zip(("out", "in"), entry.move, strict=True)) if entry.move else None,
        "old": list(entry.old) if entry.old is not None else None,
    }
    del fields["by"]  # no client needs it
    return fields


def _of(fields: dict[str, Any], kind: type[Any]) -> Any:
    """A struct of `kind` from the fields of a JSON object; fields of newer nodes are ignored."""
    known = msgspec.structs.fields(kind)
    values = {f.name: fields[f.name] for f in known if f.name in fields}
    missing = [f.name for f in known if f.required and f.name not in values]
    if missing:
        raise KeyError(*missing)
    return kind(
        **{f.name: msgspec.convert(values[f.name], f.type) for f in known if f.name in values}
    )
