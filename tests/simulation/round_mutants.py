"""Deliberate faults in the rules of forgetting (S-DEL-2, S-DEL-3, S-NET-1, S-RING-6)."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.forgetting import coordinator, participant, quarantine
from dynamo_core.repair import scheduler
from dynamo_core.replica import actors
from dynamo_core.replica import round_numbers as numbers
from dynamo_core.request import get
from dynamo_core.runtime import failure_detector
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant

LADDER_OF |= {
    "a collected tombstone's count forgotten": "a dot after a collection",
    "a joiner takes no numbers": "L6",
    "a round number used twice": "L7",
    "a stamp taken at sending": "L4",
    "floor not synced with the deletion": "M1 after a restart",
    "ids not in contexts": "L10",
    "old frames accepted": "L3",
    "puts of an unchecked start not kept apart": "L5",
    "rebuilt from one owner": "M2",
    "round ignores hints": "a hint that waits",
    "stale not refused": "M1",
}
MIX_OF |= {
    "round asks owners only": "stale",
    "tombstones collected by age": "stale",
}


@mutant("tombstones collected by age")
def _() -> list[Patch]:
    def begin(self: Any) -> None:
        for partition in self.replica.owned():
            for stored, _ in self._aged(partition, self.node.now):
                record = self.replica.data(stored)
                if record is not None:
                    self.replica.collect(partition, stored, record)

    return [(coordinator.RoundCoordinator, "_begin", begin)]


@mutant("a round number used twice")
def _() -> list[Patch]:
    original = participant.RoundParticipant._refusal

    def refusal(self: Any, request: Any) -> str:
        return original(self, msgspec.structs.replace(request, number=1 << 63))

    return [(participant.RoundParticipant, "_refusal", refusal)]


@mutant("stale not refused")
def _() -> list[Patch]:
    return [(numbers.RoundNumbers, "commit", lambda self, partition, number: None)]


@mutant("floor not synced with the deletion")
def _() -> list[Patch]:
    def commit(self: Any, partition: int, number: int) -> None:
        self.see(partition, number)
        self._floor[partition] = max(number, self.floor(partition))

    return [(numbers.RoundNumbers, "commit", commit)]


@mutant("a stamp taken at sending")
def _() -> list[Patch]:
    original = get.GetOperation._finish

    def finish(self: Any) -> Any:
        self.seen = self.view.replica.numbers.seen(self.partition)
        return original(self)

    return [(get.GetOperation, "_finish", finish)]


@mutant("puts of an unchecked start not kept apart")
def _() -> list[Patch]:
    return [(quarantine.Quarantine, "begin", lambda self: None)]


@mutant("old frames accepted")
def _() -> list[Patch]:
    def fresh(self: Any, frame: Any) -> bool:
        return bool(frame.echo_boot == self.boot)

    return [(failure_detector.FailureDetector, "fresh", fresh)]


@mutant("round asks owners only")
def _() -> list[Patch]:
    original = coordinator.Round.__init__

    def init(self: Any, *given: Any) -> None:
        original(self, *given)
        self._asks = [ask for ask in self._asks if ask[0] in self.entry.owners]

    return [(coordinator.Round, "__init__", init)]


@mutant("round ignores hints")
def _() -> list[Patch]:
    original = participant.obstacle

    def obstacle(*given: Any) -> str:
        why = original(*given)
        return "" if why.startswith("a hint") else why

    return [(module, "obstacle", obstacle) for module in (participant, coordinator)]


@mutant("a joiner takes no numbers")
def _() -> list[Patch]:
    return [
        (numbers.RoundNumbers, "take", lambda self, rows: None),
        (quarantine.Quarantine, "begin", lambda self: None),
    ]


@mutant("rebuilt from one owner")
def _() -> list[Patch]:
    original = scheduler.Repairs._credit

    def credit(self: Any, partition: int, peer: str) -> None:
        self._passed(partition).update(self.replica.owned().get(partition, ()))
        original(self, partition, peer)

    return [(scheduler.Repairs, "_credit", credit)]


@mutant("a collected tombstone's count forgotten")
def _() -> list[Patch]:
    return [(actors.Actors, "collected", lambda self, partition, history: None)]
