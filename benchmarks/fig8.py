"""Figure 8 of the paper as pure functions: how evenly three layouts divide the load [P 6.2].

Efficiency is mean load over the load of the busiest node; a node's load is the share of all keys
of which it is a replica. Keys are uniform, all nodes are equal. `x` is the size of the metadata,
the same for every strategy that is compared: the number of tokens or partitions.

    strategy 1   x/S random tokens a node; a token's arc goes to the N distinct nodes that follow
    strategy 2   x/4 random tokens, 3x/4 equal arcs; an arc goes to the N distinct nodes whose
                 tokens follow its end (the paper does not say how it divides x)
    strategy 3   x equal arcs, x/S of them to each node, dealt at random; lists as above
    dynamo-ring  x equal arcs, placed by `dynamo_core.ring.placement`
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from random import Random

from dynamo_core.ring.placement import place

NODES = 30
N = 3
POINTS = (60, 120, 240, 480, 960, 1920, 3840, 7680, 30720)
PAPER_1 = (0.52, 0.61, 0.69, 0.76, 0.82, 0.87, 0.91, 0.93, 0.96)
PAPER_3 = (0.86, 0.87, 0.90, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99)
"""Read from the plot."""


def efficiency(loads: Sequence[float]) -> float:
    """Mean over maximum."""
    return sum(loads) / len(loads) / max(loads)


def loads_of_walk(holders: Sequence[int], widths: Sequence[float]) -> list[float]:
    """Load by node if each arc goes to the next N distinct nodes from its own token on."""
    loads = [0.0] * NODES
    size = len(holders)
    for start, width in enumerate(widths):
        owners: list[int] = []
        step = start
        while len(owners) < N:
            node = holders[step % size]
            if node not in owners:
                owners.append(node)
                loads[node] += width
            step += 1
    return loads


def _dealt(x: int, random: Random) -> list[int]:
    holders = [i % NODES for i in range(x)]
    random.shuffle(holders)
    return holders


def strategy_1(x: int, random: Random) -> float:
    """Efficiency of one ring of x random tokens."""
    ends = sorted(random.random() for _ in range(x))
    widths = [end - before for before, end in zip((ends[-1] - 1, *ends), ends, strict=False)]
    return efficiency(loads_of_walk(_dealt(x, random), widths))


def strategy_2(x: int, random: Random) -> float:
    """Efficiency of one ring of random tokens and equal partitions."""
    tokens, arcs = x // 4, x - x // 4
    ends = sorted(random.random() for _ in range(tokens))
    holders = _dealt(tokens, random)
    widths = [0.0] * tokens
    for arc in range(1, arcs + 1):
        widths[bisect_left(ends, arc / arcs) % tokens] += 1.0
    return efficiency(loads_of_walk(holders, widths))


def strategy_3(x: int, random: Random) -> float:
    """Efficiency of one ring of x equal partitions, dealt at random."""
    return efficiency(loads_of_walk(_dealt(x, random), [1.0] * x))


def dynamo_ring(x: int) -> float:
    """Efficiency of our own placement over x equal partitions."""
    loads = dict.fromkeys((f"node-{i}" for i in range(NODES)), 0)
    for owners in place(dict.fromkeys(loads, ("", 1)), x, N):
        for name in owners:
            loads[name] += 1
    return efficiency(list(loads.values()))


def mean_of_runs(strategy: Callable[[int, Random], float], x: int, seed: int = 8) -> float:
    """The mean over as many seeded rings as 120,000 arcs allow, at least eight."""
    runs = max(8, 120_000 // x)
    random = Random(f"{seed} {x}")
    return sum(strategy(x, random) for _ in range(runs)) / runs
