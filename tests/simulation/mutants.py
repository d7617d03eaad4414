"""Deliberate faults: each breaks one rule of the core, and the simulator must notice it.

A mutant patches one function or attribute while its context lasts; product code has no switch for
it. Tests of the disk rules look for a fault of the real store, because the simulator has another
disk. Mutants of moves, of rounds and others are in separate files.
tests/dynamo_core/repair/test_anti_entropy.py catches a node that never scrubs: in the simulator
reads find most damage first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from typing import Any
from unittest.mock import patch

from dynamo_core import keys
from dynamo_core.causality import codec, records
from dynamo_core.causality.records import History, Record
from dynamo_core.membership import bootstrap, replacement, ring_state
from dynamo_core.protocol import messages
from dynamo_core.repair import exchange, hint_delivery
from dynamo_core.replica import coordination, hash_tree, hints, local_replica, replica, write_batch
from dynamo_core.request import get, put
from dynamo_core.ring import document as ring_document
from dynamo_core.runtime import dispatcher
from dynamo_core.testing.simulation import run
from dynamo_core.testing.workload import make_plan
from tests.simulation.ladders import stands

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
"""The mix in which a fault is sought that random plans show once in hundreds of seeds."""
LADDER_OF: dict[str, str] = {}
"""The ladder that shows a fault that seeds do not show."""


def seeds_to_catch(name: str, seeds_max: int) -> tuple[int, str]:
    """The number of seeds that it took, 0 if it survived, and the broken claim."""
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

    def init(self: Any, name: str, *rest: Any, **named: Any) -> None:
        actor = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
        original(self, name, *rest[:-1], lambda: actor, **named)

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
    original = records.sync

    def sync(a: Record, b: Record, lww: bool = False) -> Record:
        return records.last_writer(original(a, b, lww))

    return [(codec, "sync", sync)]


@mutant("no dots")
def _() -> list[Patch]:
    def with_dot(self: History, dot: tuple[int, int]) -> History:
        vector = self.vector | {dot[0]: max(dot[1], self.vector.get(dot[0], 0))}
        return History(vector, self.dots, self.ids)

    return [(History, "with_dot", with_dot)]


@mutant("returned context lacks its own dot")
def _() -> list[Patch]:
    original = coordination.Coordinated

    def coordinated(call_id: int, record: bytes, context: bytes, flags: int, seen: int) -> Any:
        siblings = codec.decode_record(record).siblings
        tops = {s.actor: s.counter for s in siblings}  # in the order of their counters
        told = records.decode_history(context)
        vector = {a: c - (tops.get(a) == c) for a, c in told.vector.items()}
        dots = frozenset(d for d in told.dots if tops.get(d[0]) != d[1])
        return original(call_id, record, History(vector, dots).encode(), flags, seen)

    return [(coordination, "Coordinated", coordinated)]


@mutant("siblings in no canonical order")
def _() -> list[Patch]:
    def any_order(kept: Any, history: History, lww: bool) -> tuple[Any, ...]:
        stay = {s.dot for s in original(kept, history, lww)}
        return tuple(s for s in kept.values() if s.dot in stay)

    original = records._one_per_request
    return [(records, "_one_per_request", any_order), (records, "in_order", tuple)]


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

    return [(write_batch.WriteBatch, "then", then)]


@mutant("sync off")
def _() -> list[Patch]:
    def then(self: Any, written: Any, synced: Any = None) -> None:
        self._written.append((written, None))
        if synced is not None:
            self._written.append((synced, None))

    return [(write_batch.WriteBatch, "then", then)]


@mutant("tree mark outside the batch")
def _() -> list[Patch]:
    original = hash_tree.HashTree.write

    def write(self: Any, stored: bytes, before: bytes | None, after: bytes | None) -> None:
        slot = self.forest.slot_of(stored).to_bytes(4, "big")
        write_batch, leaves = self._write_batch, self._write_batch.changes[keys.TREE]
        earlier = leaves.get(slot)
        original(self, stored, before, after)
        leaf = leaves.pop(slot)
        leaves |= {} if earlier is None else {slot: earlier}
        write_batch.then(lambda written: write_batch.put(keys.TREE, slot, leaf))

    return [(hash_tree.HashTree, "write", write)]


# ---------------------------------------------------------------- hints


@mutant("hint deleted on send")
def _() -> list[Patch]:
    original = hint_delivery.Delivery._send

    def send(self: Any, stored: bytes, record: bytes) -> Any:
        effects = original(self, stored, record)
        self.book.drop(self.target, stored)
        return effects

    def delivered(self: Any, stored: bytes, record: bytes) -> None:
        self.replica.counters["hints_delivered"] += 1

    return [
        (hint_delivery.Delivery, "_send", send),
        (hint_delivery.Delivery, "_delivered", delivered),
    ]


@mutant("hints not found at start")
def _() -> list[Patch]:
    return [(hints.HintBook, "load", lambda self: None)]


@mutant("stand-in acks without keeping the hint")
def _() -> list[Patch]:
    return [(hints.HintBook, "keep", lambda self, target, stored, record, lww: None)]


# ---------------------------------------------------------------- quorums


def _count_again(operation: Any, flags: int) -> None:
    """One more ack, as if another owner had given it."""
    copies = operation.copies
    for bit in map(copies.bits.__getitem__, operation.place.writers):
        if not bit & copies.counted(False)[0]:
            copies.owners |= bit
            copies.synced |= bit if flags & messages.SYNCED else 0
            return


@mutant("duplicate ack counted twice")
def _() -> list[Patch]:
    original = put.PutOperation.replied

    def replied(self: Any, to: str, request: Any, reply: Any, now: float) -> Any:
        again = isinstance(reply, put.Stored) and self.copies.heard_from(to)
        if again and to != self.view.name:
            _count_again(self, reply.flags)
        return original(self, to, request, reply, now)

    def answered(self: Any, frame: Any, replies: Any) -> Any:
        replies = list(replies)
        known = [(reply, self._pending.get(reply.id)) for reply in replies]
        strangers = answer(self, frame, replies)
        for reply, call in known:
            if call is not None and isinstance(reply, put.Stored) and not call[0].finished:
                self._pending[reply.id] = call
        return strangers

    answer = dispatcher.Dispatcher.answered
    return [(put.PutOperation, "replied", replied), (dispatcher.Dispatcher, "answered", answered)]


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
        copies, acked = self.copies, isinstance(reply, put.Stored)
        again = acked and copies.bits[request.target or to] & copies.counted(False)[0]
        if again and not copies.heard_from(to):
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
    def merge(self: Any, stored: bytes, record: bytes, cause: str = "") -> bool:
        before = self.data(stored)
        if before == record:
            return False
        self.tree.write(stored, before, record)
        return True

    return [(replica.Replica, "merge", merge)]


@mutant("a wiped node is complete at once")
def _() -> list[Patch]:
    original = replica.Replica.adopt

    def adopt(self: Any, document: ring_document.Ring, founding: bool = False) -> None:
        original(self, document, True)

    return [(replica.Replica, "adopt", adopt)]


@mutant("membership by wall clock")
def _() -> list[Patch]:
    walls: list[int] = [0]
    original = replacement.Replacements.admit

    def admit(self: Any, frame: Any, route: str, message: Any) -> None:
        walls[0] = self.node.wall_ms
        original(self, frame, route, message)

    def next_life(line: Any, node_id: int, address: str, client: str) -> Any:
        life = bootstrap.next_life(line, node_id, address, client)
        return ring_document.Member(
            life.name,
            line.incarnation,
            life.id,
            life.address,
            life.client,
            life.zone,
            life.weight,
            life.state,
            walls[0],
        )

    return [(replacement.Replacements, "admit", admit), (replacement, "next_life", next_life)]


@mutant("a replaced node goes on serving")
def _() -> list[Patch]:
    return [(ring_state.RingState, "_become_gone", lambda self: None)]


# ---------------------------------------------------------------- keys and places


@mutant("key normalised")
def _() -> list[Patch]:
    def store_key(key: bytes) -> bytes:
        return keys.store_key(key.lower())

    return [(put, "store_key", store_key), (get, "store_key", store_key)]


@mutant("ring wrap off by one")
def _() -> list[Patch]:
    original = keys.range_of

    def range_of(slot: int, bits: int) -> tuple[bytes, bytes | None]:
        start, end = original(slot, bits)
        return start, end if end is not None else start

    return [(module, "range_of", range_of) for module in (hash_tree, local_replica, exchange)]
