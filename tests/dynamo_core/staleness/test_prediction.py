"""The Monte Carlo against the paper: its published numbers, its closed form, and simple truths."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from dynamo_core.staleness.prediction import Curve, Model, Samples, Trials, Way, missed, quantile

DRAWN = 6000
TRIALS = 12_000


def exponential(rng: Random, there: float, back: float) -> list[Way]:
    """Delays with these rates a millisecond, as in the paper's section 5.3."""

    def us(rate: float) -> int:
        return int(rng.expovariate(rate) * 1000)

    return [(us(there), us(back)) for _ in range(DRAWN)]


def curves(model: Model, seed: int = 1) -> dict[tuple[int, int], Curve]:
    trials = Trials(model, Random(seed).random)
    trials.run(TRIALS)
    return {(curve.r, curve.w): curve for curve in trials.curves()}


def model_of_the_paper(rate_of_writes: float) -> Model:
    """N = 3; the coordinators keep no copy, and reads ask all replicas."""
    rng = Random(7)
    pairs = {
        ("writer", name): Samples(writes=exponential(rng, rate_of_writes, 1)) for name in "abc"
    }
    pairs |= {("reader", name): Samples(reads=exponential(rng, 1, 1)) for name in "abc"}
    places = [("a", "b", "c")]
    return Model(places=places, pairs=pairs, asks_all=True, writers=["writer"], readers=["reader"])


@pytest.mark.parametrize(
    ("rate", "at_once", "after_ms", "off_ms"), [(4, 0.94, 1, 0.3), (0.1, 0.41, 65, 7)]
)
def test_the_numbers_of_the_paper(
    rate: float, at_once: float, after_ms: float, off_ms: float
) -> None:
    """Section 5.3, N = 3 and R = W = 1, with A = R = S at rate 1."""
    curve = curves(model_of_the_paper(rate))[1, 1]
    assert curve.fresh(0) == pytest.approx(at_once, abs=0.015)
    assert curve.after_us(0.999) / 1000 == pytest.approx(after_ms, abs=off_ms)


@pytest.mark.parametrize(
    ("n", "r", "w", "share"), [(3, 1, 1, 2 / 3), (3, 1, 2, 1 / 3), (3, 2, 1, 1 / 3), (3, 2, 2, 0.0)]
)
def test_the_closed_form_of_the_paper(n: int, r: int, w: int, share: float) -> None:
    """Section 3.1: copies stay where they were acknowledged, quorums are random."""
    assert missed(n, r, w) == pytest.approx(share)
    assert missed(n, r, w, versions=2) == pytest.approx(share**2)
    rng = Random(3)
    # The W quickest replicas have the write; the copies of the others are underway for ever.
    quick = [(rng.randrange(1000), 0) for _ in range(DRAWN)]
    pairs: dict[tuple[str, str], Samples] = {}
    names = tuple("abcde"[:n])
    for name in names:
        pairs["writer", name] = Samples(writes=quick)
        pairs["reader", name] = Samples(reads=[(0, back) for back, _ in quick])
    trials = StaysThere(
        Model(places=[names], pairs=pairs, asks_all=True, writers=["writer"], readers=["reader"]),
        Random(5).random,
    )
    trials.run(TRIALS)
    curve = next(c for c in trials.curves() if (c.r, c.w) == (r, w))
    assert 1 - curve.fresh(10_000_000) == pytest.approx(share, abs=0.02)


class StaysThere(Trials):
    """One W at a time: a replica that is not among the W quickest never gets the write."""

    def _once(self) -> None:
        place = self.model.places[0]
        arrives, acked = self._write_once("writer", place)
        needs_by_w = []
        for w in range(1, len(place) + 1):
            within = sorted(arrives)[:w]
            kept = [t if t in within else inf for t in arrives]
            state = self._read_once("reader", place, kept)
            needs_by_w.append(state[0])
        for w, needs in enumerate(needs_by_w, 1):
            for r, need in enumerate(needs, 1):
                self._fresh[r, w].append(max(need - acked[w - 1], 0.0))
        for line in (*self._read.values(), *self._write.values()):
            line.append(0.0)


def ring(way: Way, own: int = 0, **fields: object) -> Model:
    """Three nodes, all pairs with the same delays."""
    pairs = {(a, b): Samples(writes=[way], reads=[way]) for a in "abc" for b in "abc" if a != b}
    own_of = {name: [own] for name in "abc"}
    return Model(places=[("a", "b", "c")], pairs=pairs, own=own_of, **fields)  # type: ignore[arg-type]


def test_quorums_that_overlap_are_always_fresh() -> None:
    found = curves(ring((5000, 5000)))
    assert {rw for rw, curve in found.items() if curve.fresh(0) == 1} >= {
        (1, 3), (2, 2), (3, 1), (3, 2), (2, 3), (3, 3),
    }  # fmt: skip


def test_without_acks_of_others_a_read_elsewhere_waits_for_the_copy() -> None:
    """W = 1 is acknowledged by the own copy at 2 ms, the copy is there at 5 ms."""
    curve = curves(ring((5000, 5000), own=2000))[1, 1]
    assert curve.fresh(0) == 0 and curve.fresh(2999) == 0 and curve.fresh(3000) == 1
    assert curve.write_us[0] == 2000 and curve.read_us[0] == 0


def test_the_time_of_the_read_there_counts() -> None:
    """The second replica is asked over the network, 4 ms later: half of the reads ask the writer,
    the others another replica, to which the write takes 5 ms."""
    ways = {"writes": [(5000, 0)], "reads": [(4000, 0)]}
    pairs = {(a, b): Samples(**ways) for a in "abc" for b in "abc" if a != b}  # type: ignore[arg-type]
    curve = curves(Model(places=[("a", "b", "c")], pairs=pairs))[2, 1]
    assert 0 < curve.fresh(0) < 1
    assert curve.fresh(999) == curve.fresh(0) and curve.fresh(1000) == 1


def test_a_slow_answer_lets_the_read_ask_the_others() -> None:
    slow = {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("a", "c"), ("c", "a")}
    pairs = {pair: Samples(writes=[(1, 1)], reads=[(90_000, 0)]) for pair in slow}
    pairs["a", "c"] = Samples(writes=[(1, 1)], reads=[(1000, 0)])
    places = [("a", "b", "c")]
    model = Model(places=places, pairs=pairs, hedge_us=50_000.0, writers=["b"], readers=["a"])
    assert curves(model)[2, 1].read_us[0] == 51_000
    model.hedge_us = inf
    assert curves(model)[2, 1].read_us[0] == 90_000


def test_calls_without_an_answer_are_copies_that_never_come() -> None:
    model = ring((1000, 1000))
    for samples in model.pairs.values():
        samples.writes_lost = 0.25
    found = curves(model)
    assert found[1, 1].fresh(10_000_000) == pytest.approx(0.75, abs=0.02)
    assert found[1, 1].after_us(0.999) == inf
    assert len(found[1, 3].fresh_us) == pytest.approx(0.5625 * TRIALS, rel=0.05)


def test_one_replica_is_always_fresh() -> None:
    assert curves(Model(places=[("a",)], pairs={}))[1, 1].fresh(0) == 1


def test_quantiles() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.25, 0.26, 0.5, 1.0)] == [
        1, 1, 2, 2, 4,
    ]  # fmt: skip
