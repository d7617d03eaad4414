"""Deliberate faults in the shares of clients (T-5) and in hedging (S-RW-9, C8)."""

from __future__ import annotations

from typing import Any

from ladders import ladder
from mutants import LADDER_OF, MIX_OF, Patch, mutant

from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Fetched
from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.runtime import hedging, shares
from dynamo_core.testing.town import SETTINGS, Town

KEY = b"cart"
SLOW, FROZEN, LATE = "all nodes are slow", "a node is frozen", "the own loop is late"
MIX_OF |= {"shares not kept": "greedy"}
LADDER_OF |= {
    "hedges without a bound": SLOW,
    "a silent peer counts as a slow one": FROZEN,
    "hedges while the loop is late": LATE,
}


def _reads(town: Town, count: int) -> list[Outcome]:
    answers: list[Outcome] = []
    for _ in range(count):
        town.nodes["a"].submit(Get(key=KEY, r=2), answers.append)
    town.settle()
    return answers


def _slow() -> Town:
    """Peers of `a` speak all the time, and answer no read."""
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)

    def lost(sender: str, receiver: str, frame: Frame) -> bool:
        return receiver == "a" and any(isinstance(one, Fetched) for one in frame.messages)

    town.lost = lost
    return town


@ladder(SLOW)
def one_in_twenty_asks_more() -> None:
    """While all nodes are slow and speak, no more gets ask another node than the share."""
    town = _slow()
    _reads(town, 400)
    end = town.now + 4 * SETTINGS.hedge_s
    while town.now < end:
        for name in "bc":
            town.nodes[name].membership.heartbeat()
        town.run(0.01)
    asked = town.counters("hedges")
    assert 0 < asked <= SETTINGS.hedges_at_once_max + hedging.SHARE * 400


@ladder(FROZEN)
def around_a_frozen_node() -> None:
    """A node that says nothing is asked around at once, however many gets need it."""
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)
    town.cut = {("b", "a"), ("a", "b")}
    town.run(0.4)
    answers = _reads(town, 400)
    town.run(1.5 * SETTINGS.hedge_s)
    assert [one.status for one in answers] == [200] * 400


@ladder(LATE)
def not_while_late() -> None:
    """What a late loop waits for may lie unread before it."""
    town = _slow()
    node = town.nodes["a"]
    _reads(town, 10)
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
