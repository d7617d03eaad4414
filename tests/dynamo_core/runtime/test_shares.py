"""Shares of clients, and the pace of admitted bodies (T-5)."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.runtime.pace import LESS, SLOW_S, Pace
from dynamo_core.runtime.shares import ALL_USED, SHARE_USED, Shares
from dynamo_core.testing.town import SETTINGS, Town


def fill(shares: Shares, client: str) -> int:
    """Takes slots one by one until the client is refused."""
    while not shares.refusal(client):
        shares.take(client)
    return shares.held(client)


@pytest.mark.parametrize("total", [9, 90, 4096])
def test_one_client_alone_gets_eight_ninths_and_the_next_one_something(total: int) -> None:
    shares = Shares(total)
    alone = fill(shares, "a")
    assert total * 8 // 9 <= alone <= total * 8 // 9 + 1
    assert shares.refusal("a") == SHARE_USED
    assert shares.refusal("b") == 0
    assert fill(shares, "b") >= 1


def test_shares_become_equal_as_what_was_taken_comes_back() -> None:
    shares = Shares(900)
    fill(shares, "greedy")
    for _ in range(900):
        shares.give("greedy")
        for client in ("b", "c", "greedy"):
            if not shares.refusal(client):
                shares.take(client)
        if not shares.held("greedy"):
            break
    held = [shares.held(client) for client in ("greedy", "b", "c")]
    assert max(held) - min(held) <= 900 // 27, held


def test_nothing_is_given_beyond_all() -> None:
    random = Random(1)
    shares = Shares(50)
    for _ in range(10_000):
        client, amount = random.choice("abcd"), random.randint(1, 5)
        if random.random() < 0.5 and not shares.refusal(client, amount):
            shares.take(client, amount)
        elif shares.held(client) >= amount:
            shares.give(client, amount)
        assert 0 <= shares.used <= 50
        assert shares.used == sum(map(shares.held, "abcd"))


def test_a_client_without_anything_is_refused_only_where_nothing_is_free() -> None:
    shares = Shares(2)
    shares.take("a")
    assert shares.refusal("b") == 0
    shares.take("b")
    assert shares.refusal("c") == ALL_USED
    assert Shares(0).refusal("a") == ALL_USED


def test_slots_of_a_node_are_shared() -> None:
    """r=3 in a ring with one silent node: each get holds its slot for its whole time."""
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, in_flight_max=18))
    town.put("a", b"cart", b"milk", w=3)
    town.cut = {("a", "c"), ("c", "a")}
    answers: dict[str, list[Outcome]] = {"greedy": [], "modest": []}
    for _ in range(40):
        town.nodes["a"].submit(Get(key=b"cart", r=3), answers["greedy"].append, "greedy")
    refused = [one for one in answers["greedy"] if one.problem == "overloaded"]
    assert {one.status for one in refused} == {429} and len(refused) == 40 - 16
    assert all(one.applied == "no" for one in refused)
    town.nodes["a"].submit(Get(key=b"cart", r=1), answers["modest"].append, "modest")
    town.deliver()
    assert [one.status for one in answers["modest"]] == [200]
    town.run(2.0)
    assert town.nodes["a"].admission_control.in_flight == 0


def test_large_records_of_gets_under_way_are_bounded() -> None:
    """T-4: a get that waits for a silent node holds what others have answered."""
    settings = msgspec.structs.replace(SETTINGS, records_bytes_max=1_000_000)
    town = Town("a b c", settings=settings)
    town.put("a", b"cart", b"m" * 100_000, w=3)
    town.cut = {("a", "c"), ("c", "a")}
    node = town.nodes["a"]
    answers: list[Outcome] = []
    for _ in range(40):
        node.submit(Get(key=b"cart", r=3), answers.append)
        town.deliver()
        assert node.records.used <= 1_000_000
    assert node.records.used
    assert {(one.status, one.problem) for one in answers} == {(429, "overloaded")}
    town.run(2.0)
    assert len(answers) == 40 and node.records.used == 0
    assert node.detector.peers["b"].misses == 0  # those that were given up blame nobody
    town.cut = set()
    town.run(3.0)
    assert town.values("a", b"cart") == [b"m" * 100_000]


def test_the_pace_falls_when_work_takes_long_and_comes_back() -> None:
    pace = Pace(4, 1000)
    for at in range(200):
        pace.ended(10, SLOW_S / 2, float(at))
    high = pace.allowed
    assert high > 50
    pace.ended(10, 2 * SLOW_S, 300.0)
    assert pace.allowed == int(high * LESS)
    pace.ended(10, 2 * SLOW_S, 300.1)  # it had begun before: it says nothing new
    assert pace.allowed == int(high * LESS)
    for at in range(100):
        pace.ended(10, 2 * SLOW_S, 400.0 + at)
    assert pace.allowed == 4
