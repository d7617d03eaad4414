"""Ten times as many large bodies as can end in time (T-5): a model of three nodes on two cores.

The books of the nodes and the pace are the real ones; the clock, the cores and the clients are the
model. The costs of a put and of a refusal were measured with 2,000 connections that each send
values of 1 MiB (0.08 s and 2.6 ms of a core, over all processes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynamo_node.budget import Books
from dynamo_node.http_limits import Limits, patience_s

MIB = 1 << 20
CORES = 2
PUT_S, REFUSAL_S = 0.08, 0.0026
TIMEOUT_S = 1.0
STEP_S = 0.005
LIMITS = Limits(MIB)


class Cores:
    """All work in progress runs at the same rate. This is also the loop of the books."""

    def __init__(self) -> None:
        self.now = 0.0
        self._work: dict[Callable[[], None], float] = {}
        self._soon: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def begin(self, done: Callable[[], None], takes_s: float) -> None:
        self._work[done] = takes_s

    def step(self) -> None:
        self.now += STEP_S
        rate = STEP_S * min(1.0, CORES / len(self._work)) if self._work else 0.0
        for done in list(self._work):
            self._work[done] -= rate
            if self._work[done] <= 0:
                del self._work[done]
                done()
        while self._soon:
            self._soon.pop(0)()


class Flood:
    """Connections that put one large value after the other, each at the next node."""

    def __init__(self, connections: int, put_s: float) -> None:
        self.cores = Cores()
        self.put_s = put_s
        loop: Any = self.cores
        self.nodes = [
            Books(
                LIMITS.bodies_bytes_max,
                LIMITS.large_bytes_max,
                LIMITS.answers_bytes_max,
                LIMITS.connections_max,
                loop,
            )
            for _ in range(3)
        ]
        self.number = self.well = self.unknown = self.refused = 0
        self.waiting: dict[Connection, None] = {}
        for _ in range(connections):
            Connection(self).begin()

    def run(self, seconds: float) -> None:
        end = self.cores.now + seconds
        sweep = self.cores.now
        while self.cores.now < end:
            self.cores.step()
            if self.cores.now >= sweep:
                sweep += LIMITS.sweep_s
                self.sweep()

    def sweep(self) -> None:
        for books in self.nodes:
            books.swept()
        for connection in [one for one in self.waiting if one.deadline < self.cores.now]:
            if connection.books.may_refuse():
                connection.expire()


class Connection:
    principal = "flood"
    waits_for = MIB

    def __init__(self, flood: Flood) -> None:
        self.flood = flood
        self.deadline = self.began = 0.0
        self.books = flood.nodes[0]

    def begin(self) -> None:
        flood = self.flood
        flood.number += 1
        self.books = flood.nodes[flood.number % 3]
        if self.books.begin(self.principal, MIB):
            self.do()
        else:
            self.deadline = flood.cores.now + patience_s(b"/v1/kv/k", LIMITS)
            flood.waiting[self] = None
            self.books.queue(self)

    def let_in(self) -> None:
        del self.flood.waiting[self]
        self.do()

    def do(self) -> None:
        self.began = self.flood.cores.now
        self.flood.cores.begin(self.done, self.flood.put_s)

    def done(self) -> None:
        took_s = self.flood.cores.now - self.began
        self.flood.well += took_s <= TIMEOUT_S
        self.flood.unknown += took_s > TIMEOUT_S
        self.books.end(self.principal, MIB, took_s)
        self.begin()

    def expire(self) -> None:
        del self.flood.waiting[self]
        self.books.unqueue(self)
        self.flood.refused += 1
        self.flood.cores.begin(self.begin, REFUSAL_S)


@pytest.mark.parametrize("put_s", [PUT_S, 3 * PUT_S])
def test_most_of_the_goodput_stays_under_ten_times_the_load(put_s: float) -> None:
    """Also if everything is three times as slow, because the machine is busy."""
    well = {}
    for connections in (20, 200, 2000):
        flood = Flood(connections, put_s)
        flood.run(60.0)
        well[connections] = flood.well
        assert flood.unknown < 0.05 * flood.well
        assert all(books.large.used <= LIMITS.large_bytes_max for books in flood.nodes)
    assert min(well.values()) >= 0.7 * max(well.values())


@pytest.mark.parametrize(
    ("url", "wait_s"),
    [
        (b"/v1/kv/k", LIMITS.large_wait_s_max),
        (b"/v1/kv/k?timeout_ms=1000", 0.5),
        (b"/v1/kv/k?w=1&timeout_ms=600&dw=1", 0.3),
        (b"/v1/kv/k?timeout_ms=30000", LIMITS.large_wait_s_max),
        (b"/v1/kv/k?timeout_ms=soon", LIMITS.large_wait_s_max),
        (b"/v1/kv/timeout_ms=1", LIMITS.large_wait_s_max),
    ],
)
def test_a_body_waits_for_half_of_the_time_that_its_request_names(
    url: bytes, wait_s: float
) -> None:
    assert patience_s(url, LIMITS) == wait_s
