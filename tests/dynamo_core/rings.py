"""Small rings, and rings after changes, for tests of changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dynamo_core.ring.change_request import parse_change_request
from dynamo_core.ring.document import (
    JOINING,
    LEAVING,
    LEFT,
    MEMBER,
    Entry,
    Identity,
    Member,
    Ring,
    RingTarget,
)
from dynamo_core.ring.placement import first_ring
from dynamo_core.ring.planning import Plan, applied, plan

JOIN_D = {"join": [{"name": "d", "address": "d:1"}]}


def a_ring(names: str = "abc", partitions: int = 64, n: int = 3, zones: str = "") -> Ring:
    lines = {
        name: Member(name, 1, at + 1, f"{name}:1", zone=zones[at : at + 1])
        for at, name in enumerate(names)
    }
    return first_ring(Identity("c", partitions, n), lines, RingTarget())


def with_line(ring: Ring, name: str, **fields: Any) -> Ring:
    line = msgspec.structs.replace(ring.members[name], **fields)
    return msgspec.structs.replace(ring, members=ring.members | {name: line})


def with_entry(ring: Ring, partition: int, **fields: Any) -> Ring:
    entry = msgspec.structs.replace(ring.entries[partition], **fields)
    entries = (*ring.entries[:partition], entry, *ring.entries[partition + 1 :])
    return msgspec.structs.replace(ring, entries=entries)


def planned(ring: Ring, body: Mapping[str, Any]) -> Plan:
    return plan(ring, parse_change_request(body))


def after(ring: Ring, body: Mapping[str, Any], operation: str = "op") -> Ring:
    wishes = parse_change_request(body)
    ids = {new.name: (1000 + ord(new.name[0]), f"{new.name}:80") for new in wishes.join}
    return applied(ring, plan(ring, wishes), wishes, ids, operation)


def done(ring: Ring) -> Ring:
    """Every move of the target has switched, and the members have their final states."""
    entries = tuple(
        Entry(entry.term + 1, 0, owners) if set(owners) != set(entry.owners) else entry
        for entry, owners in zip(ring.entries, ring.target.owners, strict=True)
    )
    states = {JOINING: MEMBER, LEAVING: LEFT}
    lines = {
        name: msgspec.structs.replace(line, state=states.get(line.state, line.state))
        for name, line in ring.members.items()
    }
    return Ring(ring.identity, lines, ring.target, entries)
