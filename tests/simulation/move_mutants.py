"""Deliberate faults in moves, in the data that may leave a node, and in changes of defaults
(S-MOVE-1..7, S-MEM-3, S-RING-3)."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.causality import records
from dynamo_core.forgetting import participant
from dynamo_core.keys import range_of
from dynamo_core.moves import cleanup, promises, receiver, settling
from dynamo_core.repair import hint_delivery
from dynamo_core.replica import replica
from dynamo_core.request import admission_control
from dynamo_core.ring import document as ring_document
from dynamo_core.ring import preference
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant


@mutant("sloppy false is not obeyed")
def _() -> list[Patch]:
    original = admission_control.fill_in

    def fill_in(operation: Any, defaults: Any, wall_ms: int) -> None:
        original(operation, msgspec.structs.replace(defaults, sloppy=True), wall_ms)

    return [(admission_control, "fill_in", fill_in)]


@mutant("a promise kept for another node id")
def _() -> list[Patch]:
    def lacking(owners: Any, done: Any, document: Any) -> Any:
        return [name for name in owners if name not in done]

    return [(receiver.Moves, "_lacking", staticmethod(lacking))]


@mutant("two promises in a term")
def _() -> list[Patch]:
    return [(promises.Promises, "binding", lambda self, partition, document: None)]


@mutant("no joint writes")
def _() -> list[Patch]:
    return [(ring_document.Entry, "quorums", property(lambda entry: (entry.owners,)))]


@mutant("writes during a transfer are not sent on")
def _() -> list[Patch]:
    original = preference.Preference.__init__

    def init(self: Any, document: Any, bits: Any = None) -> None:
        original(self, document, bits)
        self.places = tuple(
            preference.Place(place.owners, (place.owners,), self.bits) for place in self.places
        )

    return [(preference.Preference, "__init__", init)]


@mutant("`old` removed at once")
def _() -> list[Patch]:
    def ask(self: Any, partition: int) -> None:
        entry = self.node.ring.entries[partition]
        if entry.old is not None:
            self._clear(partition, entry)

    return [(settling.Settling, "_ask", ask)]


@mutant("switch before the pass ends")
def _() -> list[Patch]:
    def copy(self: Any, receiving: Any, name: str) -> None:
        receiving.copied[name] = self.node.ring.members[name].id
        self._drive(receiving)

    return [(receiver.Moves, "_copy", copy)]


@mutant("copied from one owner only")
def _() -> list[Patch]:
    original = receiver.Moves._copy

    def copy(self: Any, receiving: Any, name: str) -> None:
        if not receiving.under_way:
            for other in self.node.ring.entries[receiving.partition].owners:
                if other != name:
                    receiving.copied[other] = self.node.ring.members[other].id
            original(self, receiving, name)

    return [(receiver.Moves, "_copy", copy)]


@mutant("ids not in contexts")
def _() -> list[Patch]:
    return [(records.History, "naming", lambda self, siblings: self)]


@mutant("unowned data deleted on the switch")
def _() -> list[Patch]:
    def start(self: Any, now: float) -> Any:
        start_, end = range_of(self.partition, self.view.ring.partition_bits)
        for stored, record in self.replica.rows(start_, end, 1 << 20):
            self.replica.forget(stored, record)
        return self._end()

    return [(cleanup.Cleanup, "start", start)]


@mutant("document taken from a removed node")
def _() -> list[Patch]:
    return [(ring_document.Ring, "is_gone", lambda self, name, node_id: False)]


@mutant("target of a superseded plan finished")
def _() -> list[Patch]:
    return [(receiver.Moves, "_wanted", staticmethod(lambda document, partition, entry: True))]


@mutant("a round does not mind data that is not owned")
def _() -> list[Patch]:
    return [(participant.RoundParticipant, "_holding", lambda self, partition: "")]


@mutant("a forgotten promise proves something")
def _() -> list[Patch]:
    original = replica.Replica.refresh

    def refresh(self: Any, *partitions: int) -> None:
        self.compared.update(name for others in self.owned().values() for name in others)
        self.quarantined.clear()
        original(self, *partitions)

    return [(replica.Replica, "refresh", refresh)]


@mutant("hint dropped when its target left")
def _() -> list[Patch]:
    original = hint_delivery.Delivery._send

    def send(self: Any, stored: bytes, record: bytes) -> Any:
        if self.target not in self.view.preference.names:
            self.book.drop(self.target, stored)
            return []
        return original(self, stored, record)

    return [(hint_delivery.Delivery, "_send", send)]


@mutant("hint of a removed node dropped before its place is filled")
def _() -> list[Patch]:
    return [(hint_delivery, "waits", lambda view, target, partition: False)]


MIX_OF |= dict.fromkeys(
    (
        "a promise kept for another node id",
        "switch before the pass ends",
        "unowned data deleted on the switch",
    ),
    "moves",
)
LADDER_OF |= {
    "`old` removed at once": "L1",
    "a forgotten promise proves something": "L8",
    "a round does not mind data that is not owned": "L2",
    "copied from one owner only": "a put that one owner misses",
    "hint of a removed node dropped before its place is filled": (
        "two removed, and the disk of the third lost"
    ),
    "no joint writes": "a put between copy and switch",
    "target of a superseded plan finished": "a plan that is taken back",
    "two promises in a term": "a second receiver of the term",
    "writes during a transfer are not sent on": "a put between copy and switch",
}
