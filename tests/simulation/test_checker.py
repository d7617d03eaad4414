"""Tests of the judge: histories that must pass, and corrupted ones that must fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.testing.checker import check
from dynamo_core.testing.history import (
    Attempt,
    Copy,
    Damage,
    Dot,
    Event,
    Restored,
    Setting,
    Trouble,
    load,
    save,
)

K, L = b"cart", b"other"
SETTING = Setting(3)


def put(value: int, at: float, **fields: object) -> Attempt:
    known = {"key": K, "outcome": "ok", "status": 204, "sent": b"value %d" % value, "w": 2} | fields
    return Attempt(kind="put", value=value, node="a", began=at, ended=at + 0.1, **known)


def delete(value: int, at: float, **fields: object) -> Attempt:
    known = {"key": K, "outcome": "ok", "status": 204, "w": 2} | fields
    return Attempt(kind="delete", value=value, node="a", began=at, ended=at + 0.1, **known)


def get(values: list[int], at: float, **fields: object) -> Attempt:
    found = [b"value %d" % value for value in values]
    known = {"key": K, "outcome": "ok", "status": 200 if values else 404, "shown": found} | fields
    return Attempt(kind="get", node="b", began=at, ended=at + 0.1, **{"r": 2} | known)


def final(shown: list[int], **fields: object) -> Attempt:
    return get(shown, 99.0, final=True, **fields)


def claims(*events: Event) -> set[str]:
    return {violation.claim for violation in check([SETTING, *events])}


CORRUPTED: dict[str, tuple[str, list[Event]]] = {
    "an acked value is dropped": ("C1", [put(1, 1), put(2, 2), final([2])]),
    "404 for a live key after convergence": ("C1", [put(1, 1), final([])]),
    "a deleted value comes back that no merged backup had": (
        "C3",
        [
            put(1, 1),
            put(2, 2, covered=[1]),
            delete(3, 3, covered=[2]),
            Restored(K, [b"value 1"]),
            final([2]),
        ],
    ),
    "a value that was in a backup of another key comes back": (
        "C3",
        [put(1, 1), delete(2, 2, covered=[1]), Restored(L, [b"value 1"]), final([1])],
    ),
    "a backup brings back what was superseded and not deleted": (
        "C3",
        [put(1, 1), put(2, 2, covered=[1]), Restored(K, [b"value 1"]), final([1, 2])],
    ),
    "a value is lost that has not expired by any clock": (
        "C1",
        [put(1, 1, expires=True, expires_ms=5000), final([], earliest_ms=1000, latest_ms=4999)],
    ),
    "a value is shown that has expired by every clock": (
        "S-TTL-1",
        [
            put(1, 1, expires=True, expires_ms=5000),
            get([1], 2, earliest_ms=5000, latest_ms=9000),
        ],
    ),
    "a strict read misses what has not expired by any clock": (
        "C9",
        [
            put(1, 1, strict=True, expires=True, expires_ms=5000),
            get([], 2, strict=True, earliest_ms=1000, latest_ms=4999),
        ],
    ),
    "an acked put is lost with fewer damaged disks than W": (
        "C1",
        [put(1, 1, w=2), Damage(1, "a"), final([])],
    ),
    "an acked put is lost though a disk with an fsynced copy lost nothing": (
        "C1",
        [
            put(1, 1, w=2, dw=1),
            Damage(1, "a", durable=False),
            Damage(1, "b", durable=False),
            final([]),
        ],
    ),
    "a retry was superseded by a context that did not cover it": (
        "C1",
        [put(1, 1), put(2, 2, covered=[1]), put(3, 2), final([2])],
    ),
    "a write under another's id was refused and stored": (
        "C2",
        [put(1, 1), put(2, 2, reuses=1, outcome="fail", status=409), final([1, 2])],
    ),
    "a write is lost to another under its id that was refused": (
        "C1",
        [put(1, 1), put(2, 2, reuses=1, outcome="fail", status=409), final([])],
    ),
    "what superseded one of two writes under one id shows the other": (
        "C3",
        [put(1, 1), put(2, 2, reuses=1), put(3, 3, covered=[2]), final([1, 3])],
    ),
    "keys are swapped": (
        "C2",
        [put(1, 1), put(2, 1, key=L), final([2]), final([1], key=L)],
    ),
    "a value was never sent": (
        "C2",
        [put(1, 1), get([1], 2, shown=[b"value 1", b"no such thing"])],
    ),
    "a failed put is shown": ("C2", [put(1, 1, outcome="fail", status=503), get([1], 2)]),
    "a value is shown before it is sent": ("C2", [get([1], 1), put(1, 2)]),
    "one request is shown as two values": (
        "C2",
        [put(1, 1), get([1], 2, shown=[b"value 1", b"value 1"])],
    ),
    "a deleted value is back": ("C3", [put(1, 1), delete(2, 2, covered=[1]), final([1])]),
    "a superseded sibling is back": (
        "C3",
        [put(1, 1), put(2, 1), put(3, 2, covered=[1, 2]), final([1, 3])],
    ),
    "a superseded value is back by a chain": (
        "C3",
        [put(1, 1), put(2, 2, covered=[1]), put(3, 3, covered=[2]), final([1, 3])],
    ),
    "copies differ after healing": ("C4", [put(1, 1), Copy(K, "a", b"x"), Copy(K, "b", b"y")]),
    "an idle cluster repairs": ("C4", [Trouble("C4", "3 repairs in an idle minute")]),
    "two values share a dot": ("C5", [Dot(K, 7, 1, "v1"), Dot(K, 7, 1, "v2")]),
    "a context of ours is refused": (
        "C6",
        [put(1, 1, outcome="fail", status=400, problem="bad-context")],
    ),
    "siblings without concurrency": (
        "C6",
        [Setting(3, quiet=True), put(1, 1), put(2, 2), get([1, 2], 3)],
    ),
    "fewer holders than W": ("C7", [put(1, 1, holders=1)]),
    "fewer durable copies than promised": ("C7", [put(1, 1, holders=2, dw=1, synced=0)]),
    "an operation never ends": ("C8", [put(1, 1, outcome="")]),
    "a put is refused though the nodes are there": (
        "C8",
        [put(1, 1, outcome="unknown", status=503, due=True)],
    ),
    "a strict read is stale": ("C9", [put(1, 1, strict=True), get([], 2, strict=True)]),
    "a strict read shows only what came before": (
        "C9",
        [put(1, 1), put(2, 2, covered=[1], strict=True), get([1], 3, strict=True)],
    ),
    "404 for a live key though fewer disks than W were lost": (
        "C10",
        [put(1, 1, strict=True), Damage(1, "a"), get([], 2)],
    ),
    "bytes are cut off": ("C14", [put(1, 1), get([], 2, shown=[b"value"], status=200)]),
    "a bit is flipped": ("C14", [put(1, 1), get([], 2, shown=[b"valud 1"], status=200)]),
    "of concurrent writers none is left": (
        "C1",
        [Setting(3, lossy=True), put(1, 1), put(2, 1), final([])],
    ),
}

CLEAN: dict[str, list[Event]] = {
    "siblings": [put(1, 1), put(2, 1), get([1, 2], 2), final([1, 2])],
    "a superseded pair": [put(1, 1), put(2, 1), put(3, 2, covered=[1, 2]), final([3])],
    "a put without an answer may have happened": [put(1, 1, outcome="unknown"), final([1])],
    "or not": [put(1, 1, outcome="unknown"), final([])],
    "an unknown put may have superseded": [
        put(1, 1),
        put(2, 2, covered=[1], outcome="unknown"),
        final([2]),
    ],
    "a delete without context covers what was there": [
        put(1, 1),
        delete(2, 2, known=False),
        final([]),
    ],
    "or not all of it": [put(1, 1), delete(2, 2, known=False), final([1])],
    "a retry that succeeds": [
        put(1, 1, outcome="unknown", status=503),
        put(1, 2),
        final([1]),
    ],
    "as many disks lost as W": [put(1, 1), Damage(1, "a"), Damage(1, "b"), final([])],
    "as many disks lost as W, of which DW after the fsync": [
        put(1, 1, w=2, dw=1),
        Damage(1, "a"),
        Damage(1, "b", durable=False),
        final([]),
    ],
    "an expired value": [put(1, 1, expires=True), final([])],
    "a merged backup brings back a value that was deleted": [
        put(1, 1),
        delete(2, 2, covered=[1]),
        Restored(K, [b"value 1"]),
        final([1]),
    ],
    "a value that has expired by one clock may be gone": [
        put(1, 1, expires=True, expires_ms=5000),
        final([], latest_ms=5000),
    ],
    "or may not be": [
        put(1, 1, expires=True, expires_ms=5000),
        final([1], earliest_ms=4999, latest_ms=5000),
    ],
    "a retry that is stamped anew may expire at its first time": [
        put(1, 1, expires=True, expires_ms=3000, outcome="unknown"),
        put(1, 2, expires=True, expires_ms=5000),
        final([], latest_ms=4000),
    ],
    "or at its second one": [
        put(1, 1, expires=True, expires_ms=3000, outcome="unknown"),
        put(1, 2, expires=True, expires_ms=5000),
        final([1], earliest_ms=4000, latest_ms=4000),
    ],
    "a strict read does not see what has expired": [
        put(1, 1, strict=True, expires=True, expires_ms=5000),
        get([], 2, strict=True, latest_ms=6000),
    ],
    "a strict read sees a successor": [
        put(1, 1, strict=True),
        put(2, 2, covered=[1]),
        get([2], 3, strict=True),
    ],
    "a strict read sees a delete": [
        put(1, 1, strict=True),
        delete(2, 2, covered=[1]),
        get([], 3, strict=True),
    ],
    "R+W<=N promises no fresh read": [put(1, 1, strict=True, w=1), get([], 2, strict=True)],
    "404 after a rollback that no node could see": [
        put(1, 1, strict=True),
        Damage(1, "a", silent=True),
        get([], 2),
    ],
    "last writer wins loses": [Setting(3, lossy=True), put(1, 1), put(2, 1), final([2])],
    "of two writes under one id either stays": [
        put(1, 1),
        put(2, 2, reuses=1),
        put(3, 3, covered=[2]),
        final([3]),
    ],
    "a write under another's id is acked as its retry": [
        put(1, 1),
        put(2, 2, reuses=1),
        final([1]),
    ],
    "a write under another's id was refused": [
        put(1, 1),
        put(2, 2, reuses=1, outcome="fail", status=409),
        final([1]),
    ],
    "copies agree": [put(1, 1), Copy(K, "a", b"x"), Copy(K, "b", b"x"), final([1])],
}


@pytest.mark.parametrize("name", CORRUPTED)
def test_corrupted_histories_are_flagged(name: str) -> None:
    claim, events = CORRUPTED[name]
    assert claim in claims(*events)


@pytest.mark.parametrize("name", CLEAN)
def test_clean_histories_pass(name: str) -> None:
    assert check([SETTING, *CLEAN[name]]) == []


@given(st.lists(st.tuples(st.sampled_from("pmdg"), st.integers(0, 2), st.integers(0, 3))))
def test_a_perfect_store_passes(steps: list[tuple[str, int, int]]) -> None:
    """One copy, sequential, siblings as sets: no schedule of clients is a violation."""
    live: dict[bytes, set[int]] = {}
    contexts: dict[bytes, list[list[int]]] = {}
    events: list[Event] = [Setting(1)]
    for at, (kind, which, pick) in enumerate(steps):
        key = b"key %d" % which
        held = live.setdefault(key, set())
        if kind == "g":
            events.append(get(sorted(held), at, key=key, strict=True, r=1))
            contexts.setdefault(key, []).append(sorted(held))
            continue
        value = at + 1
        known = contexts.get(key, [])
        covered = known[pick % len(known)] if known and kind != "p" else []
        make = delete if kind == "d" else put
        events.append(make(value, at, key=key, covered=covered, w=1, strict=True, holders=1))
        live[key] = held - set(covered) | ({value} if kind != "d" else set())
        contexts.setdefault(key, []).append([value])
    events += [final(sorted(held), key=key, strict=True, r=1) for key, held in live.items()]
    assert check(events) == []


def test_histories_survive_the_file(tmp_path: Path) -> None:
    events = [SETTING, *(event for _, group in CORRUPTED.values() for event in group)]
    save(tmp_path / "history.jsonl", events)
    assert load(tmp_path / "history.jsonl") == events
