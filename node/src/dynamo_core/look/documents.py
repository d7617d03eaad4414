"""What people are shown: bodies of several nodes, made into one document. Pure functions.

Copies are compared by what they cover. A copy lacks a version if its history does not cover the dot
of that version. It shows a version that is superseded elsewhere if another copy covers the dot and
does not have it. The parents of a put are the latest events that its context covers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from dynamo_core.causality.records import History
from dynamo_core.protocol.look_messages import (
    Change,
    Dot,
    HintsBody,
    HistoryBody,
    RecordBody,
    RecordShown,
    SiblingShown,
    Status,
    TreeBody,
    peers_of,
)
from dynamo_core.protocol.messages import COMPLETE, CORRUPT, OWNER, WRITER
from dynamo_core.replica.merkle import SUM_BYTES

COPIES_SHOWN_MAX = 32
"""Copies of a key: each is compared with each other."""
EVENTS_SHOWN_MAX = 256
"""Events of a history, the newest: each is compared with each other."""


def dot_word(dot: Dot) -> str:
    """A dot for people: 16 hexadecimal digits of the actor, a colon, the counter."""
    return f"{dot[0]:016x}:{dot[1]}"


def vector_words(vector: Mapping[int, int]) -> dict[str, int]:
    """A vector for people."""
    return {f"{actor:016x}": counter for actor, counter in vector.items()}


def _value(kind: str, size: int, value: bytes) -> dict[str, Any]:
    return {"kind": kind, "bytes": size, "value": b64encode(value).decode()}


def _history(told: RecordShown | Change) -> History:
    return History(told.vector, frozenset(told.dots))


def roles(flags: int) -> dict[str, bool]:
    """What a node is for a partition."""
    return {
        "owner": bool(flags & OWNER),
        "complete": bool(flags & COMPLETE),
        "writer": bool(flags & (OWNER | WRITER)),
    }


# ---------------------------------------------------------------- members, hints, trees


def members_document(
    lines: Iterable[dict[str, Any]], statuses: Mapping[str, Status]
) -> list[dict[str, Any]]:
    """Each line of the ring document, with the member's status and with what others see of it."""
    members = {line["name"]: {**line, "answered": False, "seen_by": {}} for line in lines}
    for other, status in statuses.items():
        for name, word in peers_of(status).items():
            if name in members and name != other:
                members[name]["seen_by"][other] = "up" if word == "up" else "down"
    for name, member in members.items():
        member["answered"], member["status"] = name in statuses, statuses.get(name)
    return list(members.values())


def hints_document(found: Mapping[str, HintsBody]) -> dict[str, Any]:
    """The hints of each node by target."""
    holders = [
        {
            "node": name,
            "next_attempt_ms": body.next_ms,
            "targets": [
                {
                    "target": line.target,
                    "count": line.count,
                    "bytes": line.size,
                    "oldest_s": round(line.held_ms / 1000, 1),
                    "waits_for": line.waits_for,
                    "keys": [b64encode(key).decode() for key in line.keys],
                }
                for line in body.targets
            ],
        }
        for name, body in found.items()
    ]
    return {"holders": holders}


def trees_document(found: Mapping[str, TreeBody]) -> dict[str, Any]:
    """The trees of one partition, leaf by leaf, and the leaves that differ."""
    trees = {
        name: [body.leaves[i : i + SUM_BYTES].hex() for i in range(0, len(body.leaves), SUM_BYTES)]
        for name, body in found.items()
    }
    rows = zip(*trees.values(), strict=True)
    return {
        "copies": [
            {
                "node": name,
                **roles(body.flags),
                "root": body.root.hex(),
                "leaves": trees[name],
                "seen": body.seen,
                "floor": body.floor,
            }
            for name, body in found.items()
        ],
        "differ": [index for index, row in enumerate(rows) if len(set(row)) > 1],
    }


# ---------------------------------------------------------------- the copies of one key


def records_document(found: Mapping[str, RecordBody]) -> dict[str, Any]:
    """Every copy of one key, side by side, and whether they agree."""
    every = ((name, body, one) for name, body in found.items() for one in body.records)
    copies = list(islice(every, COPIES_SHOWN_MAX))
    histories = [_history(one) for _, _, one in copies]
    dots = [{s.dot for s in one.siblings} for _, _, one in copies]
    shown = []
    for at, (name, body, one) in enumerate(copies):
        own, mine = histories[at], dots[at]
        others = [other for other in range(len(copies)) if other != at]
        lacks = {dot for o in others for dot in dots[o] if not own.covers_dot(dot)}
        stale = {dot for o in others for dot in mine - dots[o] if histories[o].covers_dot(dot)}
        shown.append(_copy(name, body, one, lacks, stale))
    without = [
        {"node": name, **roles(body.flags), "damaged": body.damaged}
        for name, body in found.items()
        if not body.records
    ]
    owners = [name for name, body in found.items() if body.flags & OWNER]
    digests = {copy["digest"] for copy in shown if copy["owner"] and copy["target"] is None}
    holding = {copy["node"] for copy in shown if copy["target"] is None}
    agree = len(digests) <= 1 and (not digests or holding.issuperset(owners))
    left_out = {name: body.left_out for name, body in found.items() if body.left_out}
    return {"copies": shown, "without": without, "owners_agree": agree, "left_out": left_out}


def _copy(
    name: str, body: RecordBody, one: RecordShown, lacks: Iterable[Dot], stale: Iterable[Dot]
) -> dict[str, Any]:
    return {
        "node": name,
        "target": one.target or None,
        **roles(body.flags),
        "damaged": body.damaged or bool(body.flags & CORRUPT),
        "digest": one.digest.hex(),
        "bytes": one.size,
        "vector": vector_words(one.vector),
        "dots": [dot_word(dot) for dot in one.dots],
        "siblings": [_sibling(sibling) for sibling in one.siblings],
        "actors_count": one.actors,
        "siblings_count": one.siblings_count,
        "lacks": sorted(map(dot_word, lacks)),
        "superseded": sorted(map(dot_word, stale)),
    }


def _sibling(sibling: SiblingShown) -> dict[str, Any]:
    return {
        "dot": dot_word(sibling.dot),
        **_value(sibling.kind, sibling.size, sibling.value),
        "content_type": sibling.content_type,
        "expires_ms": sibling.expires_ms or None,
        "request_id": sibling.request_id or None,
    }


# ---------------------------------------------------------------- the history of one key


def history_document(found: Mapping[str, HistoryBody]) -> dict[str, Any]:
    """The causal history of one key as Figure 3 of the paper draws it: one event a put."""
    changes = [(name, change) for name, body in found.items() for change in body.changes]
    events: dict[Dot, dict[str, Any]] = {}
    contexts: dict[Dot, History] = {}
    for name, change in changes:
        if change.made is not None:
            contexts[change.made] = _history(change)
            events[change.made] = _made(name, change)
    for name, change in changes:
        for dot in change.new:
            event = events.setdefault(dot, _unseen(dot))
            if change.made is None:
                event["came"].append(_came(name, change))
                if event["kind"] == "unknown" and len(change.new) == 1:
                    event.update(_value(change.kind, change.size, change.value))
    newest = sorted(events, key=lambda dot: (events[dot]["at_ms"], events[dot]["dot"]))
    shown = newest[-EVENTS_SHOWN_MAX:]
    for dot, parents in _parents(shown, contexts).items():
        events[dot]["parents"] = [dot_word(parent) for parent in parents]
        for parent in parents:
            events[parent]["superseded_by"].append(dot_word(dot))
    lines = [
        {
            **_came(name, change),
            "new": [dot_word(dot) for dot in change.new],
            "gone": [dot_word(dot) for dot in change.gone],
        }
        for name, change in changes
    ]
    return {
        "watched": any(body.watched for body in found.values()),
        "events": [events[dot] for dot in shown],
        "changes": sorted(lines, key=lambda line: (line["at_ms"], line["node"])),
        "dropped": {name: body.dropped for name, body in found.items() if body.dropped},
    }


def _came(name: str, change: Change) -> dict[str, Any]:
    at_ms, target = change.at_ms, change.target or None
    return {"node": name, "way": change.way, "at_ms": at_ms, "target": target}


def _made(name: str, change: Change) -> dict[str, Any]:
    assert change.made is not None
    return {
        "dot": dot_word(change.made),
        "coordinator": name,
        "at_ms": change.at_ms,
        "target": change.target or None,
        **_value(change.kind, change.size, change.value),
        "context": bool(change.vector or change.dots),
        "parents": [],
        "superseded_by": [],
        "came": [],
    }


def _unseen(dot: Dot) -> dict[str, Any]:
    """An event whose put no node remembers: made before the watch, or on a node that is gone."""
    return {
        "dot": dot_word(dot),
        "coordinator": None,
        "at_ms": 0,
        "target": None,
        **_value("unknown", 0, b""),
        "context": False,
        "parents": [],
        "superseded_by": [],
        "came": [],
    }


def _parents(dots: list[Dot], contexts: Mapping[Dot, History]) -> dict[Dot, list[Dot]]:
    """Of each event the latest ones that its context covers: those that no other of them covers.
    Sets of events are bits of an integer, so that a long history costs little."""
    covers = [
        sum(1 << at for at, other in enumerate(dots) if other != dot and seen.covers_dot(other))
        if (seen := contexts.get(dot)) is not None
        else 0
        for dot in dots
    ]
    found: dict[Dot, list[Dot]] = {}
    for at, dot in enumerate(dots):
        covered = [other for other in range(len(dots)) if covers[at] >> other & 1]
        earlier = 0
        for other in covered:
            earlier |= covers[other]
        found[dot] = [dots[other] for other in covered if not earlier >> other & 1]
    return found


def without_values(document: dict[str, Any]) -> dict[str, Any]:
    """A document of records or of a history for a reader who may not read this key: no values, only
    their sizes."""
    for copy in document.get("copies", ()):
        for sibling in copy["siblings"]:
            sibling["value"] = ""
    for event in document.get("events", ()):
        event["value"] = ""
    return document
