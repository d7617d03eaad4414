"""Slow operations are reported with what they waited for; quick ones leave no trace."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from dynamo_core.keys import store_key
from dynamo_core.protocol.operations import Put
from dynamo_core.runtime.slow import LINES_MAX, MINUTE_S, Slow, SlowBook
from dynamo_core.testing.town import SETTINGS, Town

KEY = b"cart"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def lines(town: Town, name: str) -> list[Slow]:
    told = list(town.nodes[name].slow.untold)
    town.nodes[name].slow.untold.clear()
    return told


def cut_off(town: Town, *names: str) -> None:
    """These nodes answer no call, and no other node knows it yet."""
    town.cut |= {(name, other) for name in names for other in town.names}


def test_a_quick_operation_leaves_nothing() -> None:
    town = Town("a b c")
    at = town.owners(KEY)[0]
    town.put(at, KEY, b"v", trace=TRACE)
    assert town.get(at, KEY).status == 200
    assert lines(town, at) == [] and town.counters("slow_operations") == 0


def test_a_slow_put_names_the_nodes_that_it_waited_for() -> None:
    town = Town("a b c")
    first, second, third = town.owners(KEY)
    cut_off(town, second, third)
    outcome = town.put(first, KEY, b"v", timeout_s=0.8, trace=TRACE)
    assert outcome.status == 503 and outcome.explanation is None
    (line,) = lines(town, first)
    assert (line.kind, line.position) == ("put", store_key(KEY)[:4].hex())
    assert line.silent == sorted((second, third)) and line.trace == TRACE
    assert (line.status, line.answers, line.wanted, line.dw) == (503, 1, 2, 1)
    assert line.seconds == pytest.approx(0.8, abs=0.01)


def test_a_slow_put_names_the_nodes_that_answered_late() -> None:
    town = Town("a b c")
    first, second, third = town.owners(KEY)
    town.stalled = {second}
    cut_off(town, third)
    answers: list[int] = []
    town.nodes[first].submit(
        Put(key=KEY, value=b"v", w=2, dw=2, timeout_s=5.0), lambda o: answers.append(o.status)
    )
    town.run(0.7)
    assert answers == []
    town.stalled = set()
    town.until(lambda: bool(answers), 4.0)
    (line,) = lines(town, first)
    assert [one.node for one in line.late].count(second) >= 1 and line.silent == [third]
    assert all(one.ms >= 50 for one in line.late) and line.seconds >= 0.7
    assert (line.answers, line.durable) == (2, 2)


def test_a_slow_get_names_the_node_that_it_waited_for_and_the_extra_one() -> None:
    town = Town("a b c")
    first, second, third = town.owners(KEY)
    town.put(first, KEY, b"v", w=3)
    cut_off(town, second, third)
    assert town.get(first, KEY, timeout_s=0.8, trace=TRACE).status == 503
    (line,) = lines(town, first)
    assert (line.kind, line.hedged, line.silent) == ("get", True, sorted((second, third)))
    assert (line.answers, line.wanted, line.trace) == (1, 2, TRACE)


def test_forwarding_and_coordinating_nodes_each_log_their_part() -> None:
    town = Town("a b c d")
    at, (first, second, third) = town.others(KEY)[0], town.owners(KEY)
    cut_off(town, second, third)
    town.cut |= {(at, second), (at, third)}
    outcome = town.put(at, KEY, b"v", w=3, timeout_s=0.8, trace=TRACE)
    town.run(1.0)
    assert outcome.status == 503
    (here,), (there,) = lines(town, at), lines(town, first)
    assert (here.forwarded_to, there.forwarded_to) == (first, "")
    assert here.trace == there.trace == TRACE
    assert second in there.silent


def test_a_delete_that_reads_first_counts_that_time() -> None:
    """The read waits for the hedge delay, the write for nothing."""
    town = Town("a b c", settings=msgspec.structs.replace(SETTINGS, hedge_s=0.3, slow_s=0.25))
    first, second, _ = town.owners(KEY)
    town.put(first, KEY, b"v", w=3)
    cut_off(town, second)
    assert town.put(first, KEY, None, timeout_s=3.0).status == 204
    told = lines(town, first)
    assert [line.kind for line in told] == ["get", "delete"]
    assert told[1].seconds >= told[0].seconds >= 0.3


@pytest.mark.parametrize(("slow_s", "count"), [(0.0, 0), (0.9, 0), (0.5, 1)])
def test_the_bound_is_a_setting_and_changes_at_once(slow_s: float, count: int) -> None:
    town = Town("a b c")
    at, *others = town.owners(KEY)
    town.nodes[at].retune(msgspec.structs.replace(SETTINGS, slow_s=slow_s))
    cut_off(town, *others)
    town.put(at, KEY, b"v", timeout_s=0.8)
    assert len(lines(town, at)) == town.counters("slow_operations") == count


def test_a_minute_has_so_many_lines_and_the_rest_is_counted() -> None:
    counters: Counter[str] = Counter()
    book = SlowBook(0.5, counters)
    assert [book.wants(100.0) for _ in range(LINES_MAX + 7)] == [True] * LINES_MAX + [False] * 7
    assert book.suppressed(100.0 + MINUTE_S - 1) == 0
    assert book.suppressed(100.0 + MINUTE_S) == 7
    assert book.suppressed(100.0 + MINUTE_S) == 0
    assert book.wants(100.0 + MINUTE_S)
    assert counters == {"slow_operations": LINES_MAX + 8}
