"""When a get asks one more node (S-RW-9), and that this never costs an answer (C8)."""

from __future__ import annotations

from dynamo_core.runtime.hedging import SHARE
from dynamo_core.testing.town import SETTINGS, Town
from tests.dynamo_core.runtime.slow_peers import KEY, reads, slow_town

HEDGE_S = SETTINGS.hedge_s


def chatter(town: Town, seconds: float) -> None:
    """Time passes, and every node sends something."""
    end = town.now + seconds
    while town.now < end:
        for name in "bc":
            town.nodes[name].membership.heartbeat()
        town.run(0.01)


def test_of_twenty_gets_one_asks_more_when_all_are_slow() -> None:
    town = slow_town()
    node = town.nodes["a"]
    before = SETTINGS.hedges_at_once_max
    count = 400
    answers = reads(town, count)
    chatter(town, 4 * HEDGE_S)
    assert node.counters["hedges"] <= before + SHARE * count
    assert node.counters["hedges_refused"] > 0
    assert node.counters["hedges_around_silence"] == 0
    assert len(answers) == 0


def test_at_half_of_its_time_every_get_asks_the_rest() -> None:
    """C8: b is frozen right after a message; the budget is long used up."""
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)
    town.nodes["a"].hedging._tokens = 0.0
    town.nodes["a"].hedging._most = 0.0
    town.run(1.0)
    town.cut = {("b", "a"), ("a", "b")}
    town.nodes["a"].detector.peers["b"].heard_ms = int((town.now + 10) * 1000)
    answers = reads(town, 50)
    town.run(0.55)
    assert [one.status for one in answers] == [200] * 50


def test_a_silent_peer_is_asked_around_without_a_count() -> None:
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)
    node = town.nodes["a"]
    node.hedging._tokens = node.hedging._most = 0.0
    town.cut = {("b", "a"), ("a", "b")}
    town.run(0.4)
    assert node.up("b")
    answers = reads(town, 50)
    town.run(1.5 * HEDGE_S)
    assert [one.status for one in answers] == [200] * 50
    assert node.counters["hedges_around_silence"] > 0 and node.counters["hedges"] == 0


def test_nothing_is_hedged_while_the_own_loop_is_late() -> None:
    town = slow_town()
    node = town.nodes["a"]
    reads(town, 10)
    town.now += 3 * HEDGE_S  # a turn of this node took so long
    node.tick(town.now, town.wall_ms)
    assert node.counters["hedges_put_off"] > 0
    assert node.counters["hedges"] == node.counters["hedges_around_silence"] == 0


def test_the_delay_is_the_p99_of_reads_that_were_not_hedged() -> None:
    town = Town("a", n=1)
    node = town.nodes["a"]
    assert node.hedging.after_s(1.0) == HEDGE_S
    for _ in range(200):
        node.throttle.read(0.2, town.now)
    for _ in range(20):
        node.throttle.read(5.0, town.now, hedged=True)
    town.run(1.5)
    assert 0.2 <= node.hedging.after_s(1.0) <= 0.25
    assert node.hedging.after_s(0.3) == 0.15  # never so long that no time is left
    assert node.throttle.p99_ms is not None and node.throttle.p99_ms > 1000
    town.run(62.0)
    assert node.hedging.after_s(1.0) == HEDGE_S
