"""Makes the model of a prediction from the samples of all members: which nodes hold a partition,
which are down, which pairs have no samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamo_core.protocol.staleness_messages import DelaysTold, PairDelays
from dynamo_core.runtime.host import Host
from dynamo_core.staleness.prediction import Model, Samples, Way

PLACES_MAX = 256
"""The model has the replicas of at most this number of partitions, evenly over the ring."""
ENOUGH = 8
"""Fewer samples of a pair do not count."""
SECOND_US = 1_000_000


def places_of(node: Host, n: int) -> list[tuple[str, ...]]:
    """The replicas that reads and writes reach now, for some partitions, if the ring kept `n`
    copies of each key: more of them would be where stand-ins are now. Unless the ring is strict, a
    stand-in with its hints takes the place of an owner that is down."""
    preference, sloppy = node.preference, node.ring.target.sloppy
    count, more = len(node.ring.entries), n - node.ring.identity.n
    places = []
    for partition in range(0, count, -(-count // PLACES_MAX)):
        owners = preference.owners(partition)
        walk, size = (*owners, *preference.stand_ins(partition)), len(owners) + more
        near = [name for name in walk[:size] if node.up(name)]
        if sloppy:
            others = (name for name in walk[size:] if node.up(name))
            near += [name for _, name in zip(range(size - len(near)), others, strict=False)]
        places.append(tuple(near))
    return places


def build(node: Host, told: Mapping[str, DelaysTold], n: int) -> Model | None:
    """The model of the ring as this node sees it, with `n` copies of each key. None if there are no
    samples, or if too many nodes are down. A pair with fewer than `ENOUGH` samples gets those of
    the same two nodes the other way round, else those of all pairs; without enough reads, writes
    tell the delays."""
    places = places_of(node, n)
    known = {(name, pair.to): pair for name, line in told.items() for pair in line.pairs}
    writes = [way for pair in known.values() for way in pair.writes]
    reads = [way for pair in known.values() for way in pair.reads]
    if not (writes or reads) or not all(places):
        return None
    pooled_writes, pooled_reads = _enough(writes, reads), _enough(reads, writes)
    names = sorted({name for place in places for name in place})
    pairs = {
        (a, b): _samples(known.get((a, b)), known.get((b, a)), pooled_writes, pooled_reads)
        for a in names
        for b in names
        if a != b
    }
    own = {name: line.own for name, line in told.items() if line.own}
    pooled = [took for line in own.values() for took in line]
    if pooled:
        own |= {name: pooled for name in names if name not in own}
    hedge_us = node.hedging.after_s(1.0) * SECOND_US
    return Model(places=places, pairs=pairs, own=own, hedge_us=hedge_us)


def _samples(
    pair: PairDelays | None,
    back: PairDelays | None,
    writes: Sequence[Way],
    reads: Sequence[Way],
) -> Samples:
    pair = pair or PairDelays("?")
    back = back or PairDelays("?")
    return Samples(
        writes=_enough(pair.writes, back.writes, writes),
        reads=_enough(pair.reads, back.reads, reads),
        writes_lost=_share(pair.writes_lost, len(pair.writes)),
        reads_lost=_share(pair.reads_lost, len(pair.reads)),
    )


def _enough(*choices: Sequence[Way]) -> Sequence[Way]:
    """The first of these with enough samples, else the one with the most."""
    return next((ways for ways in choices if len(ways) >= ENOUGH), max(choices, key=len))


def _share(lost: int, answered: int) -> float:
    return lost / (lost + answered) if lost else 0.0
