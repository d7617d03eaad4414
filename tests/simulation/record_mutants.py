"""Deliberate faults where records come in: one digest check is left out, in each way in turn (T-1).
A node with a bad memory shows each."""

from __future__ import annotations

from typing import Any

from dynamo_core.keys import DATA
from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import Fetched, FetchedMany, Forwarded, Message, Store
from dynamo_core.protocol.operations import Outcome, Put
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.repair import exchange
from dynamo_core.replica import local_replica
from dynamo_core.request import admission_control
from dynamo_core.request.get import GetOperation
from dynamo_core.request.put import PutOperation
from dynamo_core.runtime import dispatcher
from dynamo_core.testing.town import Town
from tests.simulation.ladders import KEY, ladder
from tests.simulation.move_ladders import move
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant


def _answers(chosen: Any) -> list[Patch]:
    """Answers to the chosen machines are believed."""
    original = dispatcher.Dispatcher._holds

    def holds(machine: Any, request: Message, reply: Message) -> bool:
        return chosen(machine, reply) or original(machine, request, reply)

    return [(dispatcher.Dispatcher, "_holds", staticmethod(holds))]


def _stores(*causes: str) -> list[Patch]:
    original = local_replica.LocalReplica._holds

    def holds(self: Any, request: Store) -> bool:
        return request.cause in causes or original(self, request)

    return [(local_replica.LocalReplica, "_holds", holds)]


def _copies(moving: bool) -> list[Patch]:
    original = exchange.Exchange._verified

    def verified(self: Any, stored: bytes, record: bytes) -> bytes:
        receives = self.partition in self.view.moves.receiving
        return record if receives == moving else original(self, stored, record)

    return [(exchange.Exchange, "_verified", verified)]


def _is_get(machine: Any) -> bool:
    return isinstance(machine, GetOperation)


def _deletes(machine: Any) -> bool:
    """Whether a read belongs to a delete without a context."""
    return _is_get(machine) and getattr(machine.done, "__name__", "") == "read"


@mutant("digest not checked: a get's answers")
def _() -> list[Patch]:
    return _answers(lambda machine, reply: _is_get(machine) and not _deletes(machine))


@mutant("digest not checked: what a delete without a context has read")
def _() -> list[Patch]:
    return _answers(lambda machine, reply: _deletes(machine))


@mutant("digest not checked: what a put reads again")
def _() -> list[Patch]:
    return _answers(lambda m, reply: isinstance(m, PutOperation) and isinstance(reply, Fetched))


@mutant("digest not checked: the outcome of a forwarded put")
def _() -> list[Patch]:
    return _answers(lambda machine, reply: isinstance(reply, Forwarded))


@mutant("digest not checked: a forwarded put")
def _() -> list[Patch]:
    return [(admission_control, "verified_put", lambda put, *digests: put)]


@mutant("digest not checked: a coordinator's record")
def _() -> list[Patch]:
    return _stores("put", "double")


@mutant("digest not checked: a read repair")
def _() -> list[Patch]:
    return _stores("repair")


@mutant("digest not checked: a hint")
def _() -> list[Patch]:
    return _stores("hint")


@mutant("digest not checked: an exchange's push")
def _() -> list[Patch]:
    return _stores("exchange")


@mutant("digest not checked: an offered record")
def _() -> list[Patch]:
    return _stores("offer")


@mutant("digest not checked: an exchange")
def _() -> list[Patch]:
    return _copies(moving=False)


@mutant("digest not checked: a move")
def _() -> list[Patch]:
    return _copies(moving=True)


MIX_OF |= {
    f"digest not checked: {way}": "bad memory"
    for way in (
        "a get's answers",
        "what a delete without a context has read",
        "the outcome of a forwarded put",
        "a forwarded put",
        "a coordinator's record",
        "a read repair",
        "a hint",
        "an exchange's push",
        "an exchange",
        "an offered record",
    )
}


def _spoil(record: bytes) -> bytes:
    """Another value under the old digest."""
    return record.replace(b"100 euro", b"900 euro")


def _lying(town: Town, name: str) -> list[Frame]:
    """All records in the node's answers are wrong from now on; returns the changed frames."""
    changed: list[Frame] = []

    def lost(sender: str, receiver: str, frame: Frame) -> bool:
        before = encode_frame(frame)
        for message in frame.messages:
            if isinstance(message, Fetched):
                message.record = _spoil(message.record)
            elif isinstance(message, FetchedMany):
                message.records = [_spoil(record) for record in message.records]
        if sender != name or encode_frame(frame) == before:
            return False
        changed.append(frame)
        town.nodes[receiver].receive(encode_frame(frame))
        return True

    town.lost = lost
    return changed


COPIED = "a partition is copied from a node with a bad memory"
READ_AGAIN = "a put reads its record again at a node with a bad memory"
LADDER_OF |= {
    "digest not checked: a move": COPIED,
    "digest not checked: what a put reads again": READ_AGAIN,
}


@ladder(COPIED)
def copied_from_a_bad_memory() -> None:
    """The receiver takes no record with a wrong digest, and switches only when it has all."""
    town = Town("a b", n=1)
    (owner,), (receiver,) = town.owners(KEY), town.others(KEY)
    assert town.put(owner, KEY, b"100 euro", w=1).status == 204
    changed = _lying(town, owner)
    move(town, owner, owner, receiver)
    town.until(lambda: len(changed) > 1)
    assert town.owners(KEY) == (owner,)
    assert not any(b"900 euro" in row for row in town.disks[receiver].rows[DATA].values())
    assert town.nodes[receiver].corrupt_from[owner] == len(changed)
    town.lost = lambda sender, to, frame: False
    town.until(lambda: town.owners(KEY) == (receiver,))
    assert town.values(receiver, KEY, r=1) == [b"100 euro"]


@ladder(READ_AGAIN)
def read_again_at_a_bad_memory() -> None:
    """A node reads a record again if an owner found it too old. The node is another life by then if
    it was replaced during its put (S-DEL-3, S-MEM-4)."""
    town = Town("a b c")
    town.lost = lambda sender, to, frame: (
        to == "c" and any(isinstance(m, Store) for m in frame.messages)
    )
    node, answers = town.nodes["a"], list[Outcome]()
    node.submit(Put(key=KEY, value=b"100 euro", w=3), answers.append)
    town.deliver()
    pending = node.dispatcher._pending.values()
    operation, store = next((m, r) for m, _, r in pending if isinstance(r, Store))
    assert isinstance(operation, PutOperation)
    changed = _lying(town, "b")
    lying, sent = town.lost, list[bytes]()

    def heard(sender: str, to: str, frame: Frame) -> bool:
        sent.extend(m.record for m in frame.messages if isinstance(m, Store))
        return lying(sender, to, frame)

    town.lost = heard
    operation.me = "b"
    node.dispatcher._run(operation, operation.failed("c", store, Refusal.STALE, node.now))
    town.deliver()
    assert len(changed) == 1
    assert all(b"100 euro" in record for record in (operation.record, *sent) if record)
    assert node.corrupt_from == {"b": 1}
