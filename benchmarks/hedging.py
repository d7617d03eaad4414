"""What hedged reads cost a loaded ring, for `bench.py`: processor of all nodes for one get.

Two rings take gets by turns, one that asks one more node as in the defaults, one that never does.
More connections than the ring serves at once make every get slow, as an overload does: then a
hedge is work for nothing.

    python benchmarks/bench.py --only hedging
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.changes import Figure, Ring, Sizes, met, ring
from benchmarks.load_runs import own

COST_MAX = 1.05
CONNECTIONS = 1_024
KEYS = 2_000
NEVER_MS = 30_000
"""The longest delay that the setting takes."""
ROUNDS = 5
NODES = 3
EVENT = r'dynamo_events_total\{{event="{}"\}}'


def _get_us(made: Ring, seconds: float) -> float:
    children = made.children()
    load = own("get", made.addresses, prefix="key-", keys=KEYS, connections=CONNECTIONS)
    before = sum(child.cpu_s() for child in children)
    sample = load.run(seconds)
    used = sum(child.cpu_s() for child in children) - before
    return 1e6 * used / max(1, sample.operations)


def hedging(place: Path, sizes: Sizes) -> list[Figure]:
    """The cost of a get with hedges, against one without, and how many gets were hedged."""
    with ring(place, NODES) as usual, ring(place, NODES, f"--hedge-ms={NEVER_MS}") as never:
        rings = {"as usual": usual, "never": never}
        for made in rings.values():
            made.fill(KEYS)
        spent: dict[str, list[float]] = {name: [] for name in rings}
        for _ in range(ROUNDS):
            for name, made in rings.items():
                spent[name].append(_get_us(made, sizes.growth_s))
        hedges, refused, put_off = (
            sum(usual.metric(node, EVENT.format(event)) for node in usual.nodes)
            for event in ("hedges", "hedges_refused", "hedges_put_off")
        )
    with_us, without_us = (median(spent[name]) for name in rings)
    ratio = with_us / without_us
    return [
        Figure(
            "hedging",
            f"gets of {CONNECTIONS} connections, 3 nodes",
            f"{with_us:.0f} µs of processor a get, {without_us:.0f} without hedges: {ratio:.2f}×",
            met(ratio <= COST_MAX, f"≤ {COST_MAX}×"),
        ),
        Figure(
            "hedging",
            "and how often",
            f"{hedges:,.0f} hedged; {refused:,.0f} were more than one in twenty,"
            f" {put_off:,.0f} came while the node's loop was late",
        ),
    ]
