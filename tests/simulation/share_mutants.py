"""Deliberate faults in the shares of clients (T-5) and in hedging (S-RW-9, C8)."""

from __future__ import annotations

from typing import Any

from dynamo_core.runtime import hedging, shares
from dynamo_core.testing.town import SETTINGS, Town
from tests.dynamo_core.runtime.slow_peers import KEY, reads, slow_town
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, MIX_OF, Patch, mutant

SLOW, FROZEN, LATE = "all nodes are slow", "a node is frozen", "the own loop is late"
MIX_OF |= {"shares not kept": "greedy"}
LADDER_OF |= {
    "hedges without a bound": SLOW,
    "a silent peer counts as a slow one": FROZEN,
    "hedges while the loop is late": LATE,
}


@ladder(SLOW)
def one_in_twenty_asks_more() -> None:
    """While all nodes are slow but send messages, at most the share of gets asks another node."""
    town = slow_town()
    reads(town, 400)
    end = town.now + 4 * SETTINGS.hedge_s
    while town.now < end:
        for name in "bc":
            town.nodes[name].membership.heartbeat()
        town.run(0.01)
    asked = town.counters("hedges")
    assert 0 < asked <= SETTINGS.hedges_at_once_max + hedging.SHARE * 400


@ladder(FROZEN)
def around_a_frozen_node() -> None:
    """Gets ask others at once if a node sends nothing, however many gets this needs."""
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)
    town.cut = {("b", "a"), ("a", "b")}
    town.run(0.4)
    answers = reads(town, 400)
    town.run(1.5 * SETTINGS.hedge_s)
    assert [one.status for one in answers] == [200] * 400


@ladder(LATE)
def not_while_late() -> None:
    """The answers that a late loop waits for may be in its socket already."""
    town = slow_town()
    node = town.nodes["a"]
    reads(town, 10)
    town.now += 3 * SETTINGS.hedge_s
    node.tick(town.now, town.wall_ms)
    assert not node.counters["hedges"] and not node.counters["hedges_around_silence"]


@mutant("shares not kept")
def _() -> list[Patch]:
    def refusal(self: Any, client: str, amount: int = 1) -> int:
        return 0 if self.used + amount <= self.total else shares.ALL_USED

    return [(shares.Shares, "refusal", refusal)]


@mutant("hedges without a bound")
def _() -> list[Patch]:
    def may(self: Any, asked: Any, since: float, now: float) -> bool:
        self._counters["hedges"] += 1
        return True

    return [(hedging.Hedging, "may", may)]


@mutant("a silent peer counts as a slow one")
def _() -> list[Patch]:
    return [(hedging.Hedging, "_silent", lambda self, name, since, now: False)]


@mutant("hedges while the loop is late")
def _() -> list[Patch]:
    return [(hedging.Hedging, "late", lambda self, now, late_s: None)]
