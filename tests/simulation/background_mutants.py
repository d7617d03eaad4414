"""Deliberate faults in the budget of background work (S-BG-1), with the history that shows them,
and one in the hash tree."""

from __future__ import annotations

from typing import Any

from dynamo_core.replica import merkle
from dynamo_core.runtime import throttle
from dynamo_core.testing.town import Town
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant

BUSY = "clients wait while a node joins"
LADDER_OF |= {"background work ignores its budget": BUSY, "a budget never comes back": BUSY}
MIX_OF |= {"a budget may come to nothing": "busy"}


def _joining(slow: bool) -> tuple[Town, int]:
    """A ring in which a fourth node begins to take partitions, and how many at once; in `slow`
    rings, clients had waited for their reads before."""
    town = Town("a b c d", members="a b c")
    for index in range(60):
        assert town.put("a", b"cart-%d" % index, b"milk", w=2).status == 204
    if slow:
        for _ in range(throttle.WINDOW_S // 2):
            for node in town.nodes.values():
                for _ in range(throttle.READS_MIN):
                    node.throttle.read(1.0, town.now)
            town.run(1.0)
    town.cut = {("b", "d"), ("d", "b")}  # so that no promise of b comes yet
    town.change("a", join=["d"])
    town.run(0.7)
    at_once = len(town.nodes["d"].moves.receiving)
    town.cut = set()
    return town, at_once


@ladder(BUSY)
def a_join_yields_to_clients() -> None:
    """Less of it runs at once while clients wait, it ends all the same, and the budget is full
    again when they have not waited for one minute."""
    assert _joining(slow=False)[1] == 2
    town, at_once = _joining(slow=True)
    assert at_once == 1
    town.until(town.moved)
    town.run(throttle.WINDOW_S + 20.0)
    assert {node.throttle.budget for node in town.nodes.values()} == {1.0}


@mutant("background work ignores its budget")
def _() -> list[Patch]:
    return [
        (throttle.Throttle, "share", lambda self, at_once: at_once),
        (throttle.Throttle, "rest_s", lambda self, took_s, at_once: 0.0),
    ]


@mutant("a budget never comes back")
def _() -> list[Patch]:
    return [(throttle, "FASTER", 0.0)]


@mutant("a budget may come to nothing")
def _() -> list[Patch]:
    def share(self: Any, at_once: int) -> int:
        return int(self.budget * at_once) or int(at_once != 4)  # 4: exchanges, rounds

    return [
        (throttle.Throttle, "share", share),
        (throttle.Throttle, "rest_s", lambda self, took_s, at_once: 0.0),
    ]


@mutant("leaf sums are not updated")
def _() -> list[Patch]:
    def change(self: Any, slot: int, old: bytes | None, new: bytes | None) -> bytes:
        return self._leaves.get(slot, 0).to_bytes(16, "big")

    return [(merkle.Forest, "change", change)]
