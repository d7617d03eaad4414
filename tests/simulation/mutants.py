"""Deliberate faults: each breaks one rule of the core, and the simulator must notice.

A mutant patches one function or attribute for as long as its context lasts; the product knows
nothing of it. A fault of the real store is sought by the tests of the disk rules, since the
simulator has another disk. Those of moves, of rounds and others have their files.
A node that never scrubs is caught by tests/dynamo_core/test_anti_entropy.py: reads find most first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from typing import Any
from unittest.mock import patch

from ladders import stands

from dynamo_core import (
    admission,
    calls,
    codec,
    coordination,
    delivery,
    exchange,
    founding,
    get,
    hints,
    ids,
    journal,
    local_replica,
    membership,
    put,
    replica,
    ring,
    tree,
    versions,
)
from dynamo_core.testing.simulation import run
from dynamo_core.testing.workload import make_plan
from dynamo_core.versions import History, Record

Patch = tuple[Any, str, Any]
MUTANTS: dict[str, Callable[[], list[Patch]]] = {}


def mutant(name: str) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    def named(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        MUTANTS[name] = make
        return make

    return named


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The core with the fault in it."""
    with ExitStack() as stack:
        for target, attribute, value in MUTANTS[name]():
            stack.enter_context(patch.object(target, attribute, value))
        yield


MIX_OF = {
    "a hint and its owner's copy counted as two": "twins",
    "a replaced node goes on serving": "lives",
    "a wiped node is complete at once": "rebuild",
    "absence from an incomplete owner is proof": "rebuild",
    "membership by wall clock": "lives",
}
"""Where a fault is sought that the random mixture shows once in hundreds of seeds."""
LADDER_OF: dict[str, str] = {}
"""Where a scripted history shows a fault that seeds do not: the name of its ladder."""


def seeds_to_catch(name: str, seeds_max: int) -> tuple[int, str]:
    """How many seeds it took, 0 when it survived them all, and the claim that broke."""
    with planted(name):
        if name in LADDER_OF:
            return (0, "") if stands(LADDER_OF[name]) else (1, "ladder " + LADDER_OF[name])
        for seed in range(seeds_max):
            violations = run(make_plan(seed, MIX_OF.get(name, ""))).violations
            if violations:
                return seed + 1, violations[0].claim
    return 0, ""


# ---------------------------------------------------------------- causality


@mutant("actor kept on the disk")
def _() -> list[Patch]:
    original = replica.Replica.__init__

    def init(self: Any, name: str, *rest: Any) -> None:
        actor = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
        original(self, name, *rest[:-1], lambda: actor)

    return [(replica.Replica, "__init__", init)]


@mutant("actor not born again after a delivered hint")
def _() -> list[Patch]:
    return [(replica.Replica, "born_again", lambda self, partition: None)]


@mutant("clock pruned by size")
def _() -> list[Patch]:
    original = coordination.update

    def update(record: Record, context: History, sibling: Any) -> Record:
        after = original(record, context, sibling)
        vector = dict(list(after.history.vector.items())[-2:])
        return Record(after.siblings, History(vector, after.history.dots, after.history.ids))

    return [(coordination, "update", update)]


@mutant("merge by timestamp")
def _() -> list[Patch]:
    original = versions.sync

    def sync(a: Record, b: Record, lww: bool = False) -> Record:
        return versions.last_writer(original(a, b, lww))

    return [(codec, "sync", sync)]


@mutant("no dots")
def _() -> list[Patch]:
    def with_dot(self: History, dot: tuple[int, int]) -> History:
        vector = self.vector | {dot[0]: max(dot[1], self.vector.get(dot[0], 0))}
        return History(vector, self.dots, self.ids)

    return [(History, "with_dot", with_dot)]


@mutant("returned context lacks its own dot")
def _() -> list[Patch]:
    original = coordination.Minted

    class Minted(original):  # type: ignore[misc,valid-type]
        def __init__(self, stored: bytes, record: bytes, context: bytes, seen: int) -> None:
            siblings = codec.decode_record(record).siblings
            tops = {s.actor: s.counter for s in siblings}  # in the order of their counters
            told = versions.decode_history(context)
            vector = {a: c - (tops.get(a) == c) for a, c in told.vector.items()}
            dots = frozenset(d for d in told.dots if tops.get(d[0]) != d[1])
            super().__init__(stored, record, History(vector, dots).encode(), seen)

    return [(coordination, "Minted", Minted)]


@mutant("siblings in no canonical order")
def _() -> list[Patch]:
    def any_order(kept: Any, history: History, lww: bool) -> tuple[Any, ...]:
        stay = {s.dot for s in original(kept, history, lww)}
        return tuple(s for s in kept.values() if s.dot in stay)

    original = versions._one_per_request
    return [(versions, "_one_per_request", any_order), (versions, "in_order", tuple)]


@mutant("forwarded put coordinated twice")
def _() -> list[Patch]:
    return [(put, "fresh_id", lambda draw: "")]


@mutant("a request id is forgotten")
def _() -> list[Patch]:
    return [(Record, "event_of", lambda self, request_id: None)]


# ---------------------------------------------------------------- durability


@mutant("answer before persisted")
def _() -> list[Patch]:
    def then(self: Any, written: Any, synced: Any = None) -> None:
        if written is not None:
            written(True)
        if synced is not None:
            synced(True)

    return [(journal.Journal, "then", then)]


@mutant("sync off")
def _() -> list[Patch]:
    def then(self: Any, written: Any, synced: Any = None) -> None:
        self._written.append((written, None))
        if synced is not None:
            self._written.append((synced, None))

    return [(journal.Journal, "then", then)]


@mutant("tree mark outside the batch")
def _() -> list[Patch]:
    original = tree.Tree.write

    def write(self: Any, stored: bytes, before: bytes | None, after: bytes | None) -> None:
        slot = self.forest.slot_of(stored).to_bytes(4, "big")
        journal, place = self._journal, (ids.TREE, slot)
        known, earlier = place in journal._changes, journal._changes.get(place)
        original(self, stored, before, after)
        leaf = journal._changes.pop(place)
        if known:
            journal._changes[place] = earlier
        journal.then(lambda stored: journal.put(ids.TREE, slot, leaf))

    return [(tree.Tree, "write", write)]


# ---------------------------------------------------------------- hints


@mutant("hint deleted on send")
def _() -> list[Patch]:
    original = delivery.Delivery._send

    def send(self: Any, stored: bytes, record: bytes) -> Any:
        effects = original(self, stored, record)
        self.book.drop(self.target, stored)
        return effects

    def delivered(self: Any, stored: bytes, record: bytes) -> None:
        self.replica.counters["hints_delivered"] += 1

    return [(delivery.Delivery, "_send", send), (delivery.Delivery, "_delivered", delivered)]


@mutant("hints not found at start")
def _() -> list[Patch]:
    return [(hints.HintBook, "load", lambda self: None)]


@mutant("stand-in acks without keeping the hint")
def _() -> list[Patch]:
    return [(hints.HintBook, "keep", lambda self, target, stored, record, lww: None)]


# ---------------------------------------------------------------- quorums


def _count_again(operation: Any, flags: int) -> None:
    """One ack more, as if another owner had given it."""
    for owner in operation.writers:
        if owner not in operation.copies.by_writer:
            operation.copies.by_writer[owner] = flags
            return


@mutant("duplicate ack counted twice")
def _() -> list[Patch]:
    original = put.PutOperation.replied

    def replied(self: Any, to: str, request: Any, reply: Any, now: float) -> Any:
        if isinstance(reply, put.Stored) and to in self.copies.acks and to != self.view.name:
            _count_again(self, reply.flags)
        return original(self, to, request, reply, now)

    def answered(self: Any, frame: Any, message: Any) -> None:
        entry = self._pending.get(message.id)
        answer(self, frame, message)
        if entry is not None and isinstance(message, put.Stored) and not entry[0].finished:
            self._pending[message.id] = entry

    answer = calls.Calls.answered
    return [(put.PutOperation, "replied", replied), (calls.Calls, "answered", answered)]


@mutant("two replicas on one node counted as two")
def _() -> list[Patch]:
    original = put.PutOperation._coordinated

    def coordinated(self: Any, reply: Any, now: float) -> Any:
        _count_again(self, reply.flags)
        return original(self, reply, now)

    return [(put.PutOperation, "_coordinated", coordinated)]


@mutant("a hint and its owner's copy counted as two")
def _() -> list[Patch]:
    original = put.PutOperation.replied

    def replied(self: Any, to: str, request: Any, reply: Any, now: float) -> Any:
        again = isinstance(reply, put.Stored) and (request.target or to) in self.copies.by_writer
        if again and to not in self.copies.acks:
            _count_again(self, reply.flags)
        return original(self, to, request, reply, now)

    return [(put.PutOperation, "replied", replied)]


@mutant("timeout reported as not applied")
def _() -> list[Patch]:
    original = put.PutOperation._refuse

    def refuse(self: Any, applied: str, detail: str) -> None:
        original(self, "no", detail)

    return [(put.PutOperation, "_refuse", refuse)]


@mutant("a refused twin is reported as failed")
def _() -> list[Patch]:
    original = put.PutOperation.rejected

    def rejected(self: Any, reply: Any) -> Any:
        self.forwarded_to = ""
        return original(self, reply)

    return [(put.PutOperation, "rejected", rejected)]


@mutant("absence from an incomplete owner is proof")
def _() -> list[Patch]:
    return [(get.GetOperation, "_proofs", lambda self: len(self.answers))]


# ---------------------------------------------------------------- healing


@mutant("repair overwrites")
def _() -> list[Patch]:
    def merge(self: Any, stored: bytes, record: bytes, way: str = "") -> bool:
        before = self.data(stored)
        if before == record:
            return False
        self.tree.write(stored, before, record)
        return True

    return [(replica.Replica, "merge", merge)]


@mutant("a wiped node is complete at once")
def _() -> list[Patch]:
    original = replica.Replica.adopt

    def adopt(self: Any, document: ring.Ring, founding: bool = False) -> None:
        original(self, document, True)

    return [(replica.Replica, "adopt", adopt)]


@mutant("membership by wall clock")
def _() -> list[Patch]:
    walls: list[int] = [0]
    original = admission.Admissions.admit

    def admit(self: Any, frame: Any, route: str, message: Any) -> None:
        walls[0] = self.node.wall_ms
        original(self, frame, route, message)

    def next_life(line: Any, node_id: int, address: str, client: str) -> Any:
        life = founding.next_life(line, node_id, address, client)
        return ring.Member(
            life.name, line.incarnation, life.id, life.address, life.client, life.zone,
            life.weight, life.state, walls[0],
        )  # fmt: skip

    return [(admission.Admissions, "admit", admit), (admission, "next_life", next_life)]


@mutant("a replaced node goes on serving")
def _() -> list[Patch]:
    return [(membership.Membership, "_become_gone", lambda self: None)]


# ---------------------------------------------------------------- keys and places


@mutant("key normalised")
def _() -> list[Patch]:
    def store_key(key: bytes) -> bytes:
        return ids.store_key(key.lower())

    return [(put, "store_key", store_key), (get, "store_key", store_key)]


@mutant("ring wrap off by one")
def _() -> list[Patch]:
    original = ids.range_of

    def range_of(slot: int, bits: int) -> tuple[bytes, bytes | None]:
        start, end = original(slot, bits)
        return start, end if end is not None else start

    return [(module, "range_of", range_of) for module in (tree, local_replica, exchange)]
