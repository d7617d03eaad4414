"""The budget of background work under a virtual clock (S-BG-1, [P 6.5])."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.request.admission_control import BACKGROUND
from dynamo_core.runtime.throttle import (
    BUDGET_MIN,
    FASTER,
    READS_MIN,
    REST_S_MAX,
    SLOWER,
    STEP,
    WINDOW_S,
    Throttle,
)
from dynamo_core.testing.town import Town

THRESHOLD_MS = 50.0


class Clock:
    """A controller and the seconds that pass for it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.throttle = Throttle(THRESHOLD_MS, Counter())

    def second(self, *reads_ms: float) -> float:
        for took in reads_ms:
            self.throttle.read(took / 1000, self.now)
        self.now += 1.0
        self.throttle.tick(self.now)
        return self.throttle.budget


def test_without_reads_background_work_has_full_speed() -> None:
    clock = Clock()
    assert [clock.second() for _ in range(5)] == [1.0] * 5
    assert clock.throttle.p99_ms is None


def test_slow_reads_multiply_it_down_to_its_least() -> None:
    clock = Clock()
    slow = [80.0] * READS_MIN
    assert [clock.second(*slow) for _ in range(3)] == pytest.approx([SLOWER, SLOWER**2, SLOWER**3])
    for _ in range(30):
        clock.second(*slow)
    assert clock.throttle.budget == BUDGET_MIN
    assert clock.throttle.counters["background_slowed"] == 14


def test_it_is_added_to_again_when_the_slow_reads_are_a_window_old() -> None:
    clock = Clock()
    for _ in range(20):
        clock.second(*[80.0] * READS_MIN)
    for _ in range(WINDOW_S - 2):
        assert clock.second() == BUDGET_MIN
    budgets = [clock.second() for _ in range(3)]
    assert budgets == pytest.approx([BUDGET_MIN + FASTER * i for i in (1, 2, 3)])
    for _ in range(30):
        clock.second()
    assert clock.throttle.budget == 1.0


def test_one_read_in_a_hundred_may_be_slow() -> None:
    clock = Clock()
    assert clock.second(*[1.0] * 99, 500.0) == 1.0
    assert clock.second(500.0) == SLOWER


def test_a_few_slow_reads_say_nothing() -> None:
    clock = Clock()
    assert clock.second(*[500.0] * (READS_MIN - 1)) == 1.0
    assert clock.second(500.0) == SLOWER


def test_at_the_threshold_is_not_above() -> None:
    clock = Clock()
    assert clock.second(*[THRESHOLD_MS] * READS_MIN) == 1.0
    assert clock.throttle.p99_ms == THRESHOLD_MS


@given(st.lists(st.floats(0.5, 5000.0), min_size=READS_MIN, max_size=300))
def test_p99_is_right_to_a_quarter(reads_ms: list[float]) -> None:
    clock = Clock()
    clock.second(*reads_ms)
    exact = sorted(reads_ms)[len(reads_ms) - len(reads_ms) // 100 - 1]
    assert clock.throttle.p99_ms is not None
    assert exact * 0.999 <= clock.throttle.p99_ms <= exact * STEP * 1.001


@given(st.floats(BUDGET_MIN, 1.0), st.integers(1, 64), st.floats(0.0001, 0.0025))
def test_shares_and_rests_are_the_budget_together(budget: float, k: int, took: float) -> None:
    throttle = Clock().throttle
    throttle.budget = budget
    share, rest = throttle.share(k), throttle.rest_s(took, k)
    assert 1 <= share <= k and 0 <= rest <= REST_S_MAX
    assert share / k * took / (took + rest) == pytest.approx(budget)


def test_full_speed_needs_no_rest() -> None:
    assert Clock().throttle.rest_s(3.0, 4) == 0.0


def test_reads_of_clients_are_what_it_sees_and_status_shows() -> None:
    town = Town("a b c")
    for _ in range(READS_MIN):
        assert town.get("a", b"k").status == 404
    town.run(1.0)
    status = town.nodes["a"].admin.status()["background"]
    assert status["budget"] == 1.0 and status["latency_p99_ms"] > 0
    assert town.nodes["b"].admin.status()["background"]["latency_p99_ms"] is None


def test_reads_of_the_node_itself_do_not_count() -> None:
    """A job that writes old values again reads each key first, slowly while the node is busy: it
    would hold itself at the least budget although no client waits."""
    town = Town("a b c")
    answers: list[Outcome] = []
    for _ in range(READS_MIN):
        town.nodes["a"].submit(Get(key=b"k"), answers.append, BACKGROUND)
    town.deliver()
    town.run(1.0)
    assert [outcome.status for outcome in answers] == [404] * READS_MIN
    assert town.nodes["a"].throttle.p99_ms is None
