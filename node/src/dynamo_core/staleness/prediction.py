"""The Monte Carlo prediction of staleness, as a pure function of samples (Bailis et al. 2012, 5).

One trial is one write and one read of the same key through another node. A random partition has N
replicas; the writer is one of them, the reader another one. Replica i gets the write w_i after its
coordinator has sent it, and the ack is back at w_i + a_i. The writer's own copy is there at once;
its ack comes after `own`, when this copy is persisted (fsynced, if the ring wants that). The write
is acknowledged at

    c(W) = max(own, the W-th smallest of all w_i + a_i)

A read that begins t later asks, as `request/get` does, the reader's own copy and the next R - 1
owners, and after the hedge delay all others; it ends with the R-th answer. Replica i handles the
read r_i after its begin. The read is fresh if one of the R answers is of a replica that had the
write by then: w_i <= c(W) + t + r_i. So each trial gives the time

    t* = max(0, min over the R answers of (w_i - r_i) - c(W))

from which on the read is fresh, and P(fresh after t) is the share of trials with t* <= t. One trial
serves every R and W.

The model of the paper differs in two points: its coordinators hold no copy, and reads ask all N
replicas at once (`asks_all`). Neither model has read repair, hedged writes or the budget of hedged
reads. Calls that had no answer count as a write that never arrives, so the true share is higher.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import comb, inf
from typing import TypeVar

import msgspec

_T = TypeVar("_T")
Chance = Callable[[], float]
"""A uniform random number from 0 to below 1."""
Way = tuple[int, int]
"""One-way delays (there, back) of one call, in µs."""


class Samples(msgspec.Struct, kw_only=True):
    """The samples of one ordered pair of nodes, the caller first."""

    writes: Sequence[Way] = ()
    reads: Sequence[Way] = ()
    writes_lost: float = 0.0
    """The share of writes without an answer, and of reads."""
    reads_lost: float = 0.0


class Model(msgspec.Struct, kw_only=True):
    """What a prediction is made from. `places`: the replicas of partitions, in the order of their
    lists. `writers`, `readers`: who coordinates, where replicas do not. `hedge_us`: after this time
    a read asks all others."""

    places: Sequence[tuple[str, ...]]
    pairs: Mapping[tuple[str, str], Samples]
    own: Mapping[str, Sequence[int]] = {}
    hedge_us: float = inf
    asks_all: bool = False
    writers: Sequence[str] = ()
    readers: Sequence[str] = ()


class Curve(msgspec.Struct):
    """The trials of one R and W: when reads become fresh, and how long reads and writes took, all
    in µs and sorted."""

    r: int
    w: int
    fresh_us: list[float] = []
    read_us: list[float] = []
    write_us: list[float] = []

    def fresh(self, t_us: float) -> float:
        """The share of reads that see the write if they begin t after its acknowledgement."""
        return bisect_right(self.fresh_us, t_us) / len(self.fresh_us)

    def after_us(self, share: float) -> float:
        """The shortest time after which this share of reads is fresh; infinite without one."""
        return quantile(self.fresh_us, share)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of these sorted numbers that at least this share of them does not exceed."""
    at = -int(-share * len(values) // 1)  # rounded up
    return values[min(max(at, 1), len(values)) - 1]


def missed(n: int, r: int, w: int, versions: int = 1) -> float:
    """The paper's closed form (its 3.1): the probability that a read of R random replicas misses
    the last `versions` writes, if each stays on the W random replicas that acknowledged it."""
    return float((comb(n - w, r) / comb(n, r)) ** versions)


class Trials:
    """Trials of one model; `chance` is their only source of randomness."""

    def __init__(self, model: Model, chance: Chance) -> None:
        self.model = model
        self.chance = chance
        self.count = 0
        self._size = min(map(len, model.places))
        sizes = range(1, self._size + 1)
        self._fresh: dict[tuple[int, int], list[float]] = {(r, w): [] for r in sizes for w in sizes}
        self._read: dict[int, list[float]] = {r: [] for r in sizes}
        self._write: dict[int, list[float]] = {w: [] for w in sizes}

    def run(self, count: int) -> None:
        """Make so many more trials."""
        for _ in range(count):
            self._once()
        self.count += count

    def curves(self) -> list[Curve]:
        """The results, by R, then by W."""
        reads = {r: sorted(line) for r, line in self._read.items()}
        writes = {w: sorted(line) for w, line in self._write.items()}
        return [
            Curve(r, w, sorted(line), reads[r], writes[w]) for (r, w), line in self._fresh.items()
        ]

    def _once(self) -> None:
        model, size = self.model, self._size
        place = self._one(model.places)[:size]
        writer = self._one(model.writers or place)
        others = model.readers or [name for name in place if name != writer] or place
        reader = self._one(others)
        arrives, acked = self._write_once(writer, place)
        needs, took = self._read_once(reader, place, arrives)
        for w, ack in enumerate(acked, 1):
            if ack < inf:  # else it is never acknowledged
                self._write[w].append(ack)
        for r, need in enumerate(needs, 1):
            if took[r - 1] == inf:
                continue  # this read has no answer
            self._read[r].append(took[r - 1])
            for w, ack in enumerate(acked, 1):
                if ack < inf:
                    self._fresh[r, w].append(need - ack if need > ack else 0.0)

    def _write_once(self, writer: str, place: Sequence[str]) -> tuple[list[float], list[float]]:
        """When each replica has the write, and when it is acknowledged with W = 1, 2, ..., N."""
        model = self.model
        own = float(self._one(model.own.get(writer) or (0,))) if writer in place else 0.0
        arrives, acks = [], []
        for name in place:
            there, back = (0.0, own) if name == writer else self._way(writer, name, True)
            arrives.append(there)
            acks.append(there + back)
        return arrives, [ack if ack > own else own for ack in sorted(acks)]

    def _read_once(
        self, reader: str, place: Sequence[str], arrives: Sequence[float]
    ) -> tuple[list[float], list[float]]:
        """For R = 1, 2, ..., N: from when on a read is fresh, counted from the begin of the write,
        and how long it takes. The reader asks itself first."""
        model = self.model
        pairs = list(zip(place, arrives, strict=True))
        answers: list[tuple[float, float]] = []
        for name, lack in [p for p in pairs if p[0] == reader] + [
            p for p in pairs if p[0] != reader
        ]:
            there, back = (0.0, 0.0) if name == reader else self._way(reader, name, False)
            answers.append((there + back, lack - there if there < inf else inf))
        needs, took = [], []
        for r in range(1, len(place) + 1):
            asked = len(place) if model.asks_all else r
            first = answers[:asked]
            if max(first)[0] > model.hedge_us:
                later = model.hedge_us
                first += [(end + later, need - later) for end, need in answers[asked:]]
            first.sort()
            took.append(first[r - 1][0])
            needs.append(min([need for _, need in first[:r]]))
        return needs, took

    def _way(self, caller: str, to: str, write: bool) -> tuple[float, float]:
        """One call: how long it takes there and back."""
        samples = self.model.pairs[caller, to]
        lost = samples.writes_lost if write else samples.reads_lost
        if lost and self.chance() < lost:
            return inf, 0.0
        ways = samples.writes if write else samples.reads
        there, back = ways[int(self.chance() * len(ways))]
        return float(there), float(back)

    def _one(self, choices: Sequence[_T]) -> _T:
        return choices[int(self.chance() * len(choices))]
