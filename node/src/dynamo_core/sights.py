"""What people are shown of a key and of a tree: bodies of several nodes, made into one document.

Pure functions. Copies are compared by what they cover: a copy lacks a version when its history does
not cover that version's dot, and it shows a version that is superseded elsewhere when another copy
covers the dot and does not have it. Parents of a put are the latest events that its context covers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

from dynamo_core.look_messages import (
    Dot,
    Happened,
    HistoryBody,
    RecordBody,
    RecordSeen,
    SiblingSeen,
    TreeBody,
)
from dynamo_core.merkle import SUM_BYTES
from dynamo_core.messages import COMPLETE, CORRUPT, OWNER, WRITER
from dynamo_core.versions import History

LEAVES_SHOWN_MAX = 1 << 12


def dot_word(dot: Dot) -> str:
    """A dot for people: 16 hexadecimal digits of the actor, a colon, the counter."""
    return f"{dot[0]:016x}:{dot[1]}"


def vector_words(vector: Mapping[int, int]) -> dict[str, int]:
    """A vector for people."""
    return {f"{actor:016x}": counter for actor, counter in vector.items()}


def _value(kind: str, size: int, value: bytes) -> dict[str, Any]:
    return {"kind": kind, "bytes": size, "value": b64encode(value).decode()}


def _history(seen: RecordSeen | Happened) -> History:
    return History(seen.vector, frozenset(seen.dots))


def roles(flags: int) -> dict[str, bool]:
    """What a node is for a partition."""
    return {"owner": bool(flags & OWNER), "complete": bool(flags & COMPLETE),
            "writer": bool(flags & (OWNER | WRITER))}  # fmt: skip


def records_document(found: Mapping[str, RecordBody]) -> dict[str, Any]:
    """Every copy of one key, side by side, and whether they agree."""
    copies = [(name, body, seen) for name, body in found.items() for seen in body.records]
    shown = []
    for name, body, seen in copies:
        own = _history(seen)
        others = [other for _, _, other in copies if other is not seen]
        lacks = {s.dot for o in others for s in o.siblings if not own.covers_dot(s.dot)}
        mine = {s.dot for s in seen.siblings}
        stale = {
            dot for o in others for dot in mine
            if _history(o).covers_dot(dot) and dot not in {s.dot for s in o.siblings}
        }  # fmt: skip
        shown.append(
            {
                "node": name, "target": seen.target or None, **roles(body.flags),
                "damaged": body.damaged or bool(body.flags & CORRUPT),
                "digest": seen.digest.hex(), "bytes": seen.size,
                "vector": vector_words(seen.vector), "dots": [dot_word(d) for d in seen.dots],
                "siblings": [_sibling(s) for s in seen.siblings],
                "actors_count": seen.actors, "siblings_count": seen.siblings_count,
                "lacks": sorted(map(dot_word, lacks)), "superseded": sorted(map(dot_word, stale)),
            }
        )  # fmt: skip
    without = [
        {"node": name, **roles(body.flags), "damaged": body.damaged}
        for name, body in found.items()
        if not body.records
    ]
    owners = [name for name, body in found.items() if body.flags & OWNER]
    digests = {copy["digest"] for copy in shown if copy["owner"] and copy["target"] is None}
    holding = {copy["node"] for copy in shown if copy["target"] is None}
    agree = len(digests) <= 1 and (not digests or holding.issuperset(owners))
    return {"copies": shown, "without": without, "owners_agree": agree}


def _sibling(seen: SiblingSeen) -> dict[str, Any]:
    return {
        "dot": dot_word(seen.dot), **_value(seen.kind, seen.size, seen.value),
        "content_type": seen.content_type, "expires_ms": seen.expires_ms or None,
        "request_id": seen.request_id or None,
    }  # fmt: skip


def trees_document(found: Mapping[str, TreeBody]) -> dict[str, Any]:
    """The trees of the owners of one partition, and the leaves that differ."""
    trees = {
        name: [body.leaves[i : i + SUM_BYTES].hex() for i in range(0, len(body.leaves), SUM_BYTES)]
        for name, body in found.items()
    }
    rows = list(zip(*trees.values(), strict=False))[:LEAVES_SHOWN_MAX]
    return {
        "copies": [
            {"node": name, **roles(body.flags), "root": body.root.hex(), "leaves": trees[name],
             "seen": body.seen, "floor": body.floor}
            for name, body in found.items()
        ],
        "differ": [number for number, row in enumerate(rows) if len(set(row)) > 1],
    }  # fmt: skip


def history_document(found: Mapping[str, HistoryBody]) -> dict[str, Any]:
    """The causal history of one key as Figure 3 of the paper draws it: one event a put."""
    events: dict[Dot, dict[str, Any]] = {}
    contexts: dict[Dot, History] = {}
    for name, body in found.items():
        for line in body.events:
            if line.made is not None:
                contexts[line.made] = _history(line)
                events[line.made] = {
                    "dot": dot_word(line.made), "coordinator": name, "at_ms": line.at_ms,
                    "target": line.target or None, **_value(line.kind, line.size, line.value),
                    "context": bool(line.vector or line.dots), "parents": [],
                    "superseded_by": [], "came": [],
                }  # fmt: skip
    for name, body in found.items():
        for line in body.events:
            for dot in map(_dot, line.new):
                event = events.setdefault(dot, _unseen(dot))
                if line.made is None:
                    event["came"].append({"node": name, "way": line.way, "at_ms": line.at_ms,
                                          "target": line.target or None})  # fmt: skip
                    if event["kind"] == "unknown" and len(line.new) == 1:
                        event.update(_value(line.kind, line.size, line.value))
    for dot, seen in contexts.items():
        parents = latest([d for d in events if d != dot and seen.covers_dot(d)], contexts)
        events[dot]["parents"] = [dot_word(d) for d in parents]
        for parent in parents:
            events[parent]["superseded_by"].append(dot_word(dot))
    changes = [
        {"node": name, "at_ms": line.at_ms, "way": line.way, "target": line.target or None,
         "new": [dot_word(d) for d in line.new], "gone": [dot_word(d) for d in line.gone]}
        for name, body in found.items()
        for line in body.events
    ]  # fmt: skip
    return {
        "watched": any(body.watched for body in found.values()),
        "events": sorted(events.values(), key=lambda e: (e["at_ms"], e["dot"])),
        "changes": sorted(changes, key=lambda c: (c["at_ms"], c["node"])),
        "dropped": {name: body.dropped for name, body in found.items() if body.dropped},
    }


def _dot(dot: Iterable[int]) -> Dot:
    actor, counter = dot
    return actor, counter


def _unseen(dot: Dot) -> dict[str, Any]:
    """An event whose put nobody remembers: made before the watch, or on a node that is gone."""
    return {
        "dot": dot_word(dot), "coordinator": None, "at_ms": 0, "target": None,
        **_value("unknown", 0, b""), "context": False, "parents": [], "superseded_by": [],
        "came": [],
    }  # fmt: skip


def latest(dots: list[Dot], contexts: Mapping[Dot, History]) -> list[Dot]:
    """Of these events those that no other of them has seen."""
    return [
        dot for dot in dots
        if not any(other != dot and other in contexts and contexts[other].covers_dot(dot)
                   for other in dots)
    ]  # fmt: skip
