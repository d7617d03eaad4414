"""What an operation costs in rings of several sizes, for `bench.py`: processor of all nodes.

A client that knows the ring asks an owner of the key; one that does not asks any node, so that most
puts are forwarded in a large ring. They are two rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.changes import Figure, Ring, Sizes, met, ring
from benchmarks.load_runs import own

GROWTH_OFF_MAX = 0.15
NODE_CONNECTIONS = 16
"""A ring has more clients when it has more nodes: with as many for each size, turns would shrink
and an operation would seem to cost more."""


@dataclass
class Grown:
    """One size of ring, under clients that know the ring or do not."""

    rates: dict[str, float] = field(default_factory=dict)
    cpu_us: dict[str, float] = field(default_factory=dict)
    """Of all nodes, an operation."""

    def text(self) -> str:
        """Its figure."""
        parts = (f"{k} {rate:,.0f}/s at {self.cpu_us[k]:.0f} µs" for k, rate in self.rates.items())
        return ", ".join(parts)

    def goal(self, least: Grown) -> str:
        """An operation costs the same in a ring of any size, for clients that know it."""
        off = max((abs(us / least.cpu_us[kind] - 1) for kind, us in self.cpu_us.items()), default=0)
        return met(off <= GROWTH_OFF_MAX, f"±{GROWTH_OFF_MAX:.0%} CPU of the least")


def _grown(made: Ring, keys: int, seconds: float, aware: bool) -> Grown:
    grown, children = Grown(), made.children()
    connections = NODE_CONNECTIONS * len(made.nodes)
    for kind in ("get", "put"):
        load = own(
            kind, made.addresses, prefix=f"grown-{aware}-", keys=keys, connections=connections,
            aware=aware,
        )  # fmt: skip
        before = sum(child.cpu_s() for child in children)
        sample = load.run(seconds)
        used = sum(child.cpu_s() for child in children) - before
        grown.rates[kind] = sample.rate
        grown.cpu_us[kind] = 1e6 * used / max(1, sample.operations)
    return grown


def growth(place: Path, sizes: Sizes) -> list[Figure]:
    """Rings of several sizes with as many connections a node, and what an operation takes."""
    figures: list[Figure] = []
    least: dict[int, Grown] = {}
    for nodes, keys in sizes.growth:
        with ring(place, nodes) as made:
            began = time.monotonic()
            made.fill(keys)
            filled = keys / (time.monotonic() - began)
            aware = _grown(made, keys, sizes.growth_s, aware=True)
            others = _grown(made, keys, sizes.growth_s, aware=False)
            children = made.children()
            resident = max(child.resident_bytes() for child in children) / 1e6
            used = sum(child.cpu_s() for child in children)
            began = time.monotonic()
            time.sleep(sizes.growth_s)
            busy = sum(child.cpu_s() for child in children) - used
            idle = 100 * busy / (time.monotonic() - began) / nodes
        size = f"{nodes} nodes, {keys:,} keys"
        goal = aware.goal(least[keys]) if keys in least else ""
        least.setdefault(keys, aware)
        figures += [
            Figure("growth", f"{size}, clients that know the ring", aware.text(), goal),
            Figure("growth", f"{size}, clients that do not", others.text()),
            Figure(
                "growth",
                size,
                f"fill {filled:,.0f}/s, {resident:.0f} MB and {idle:.1f}% of a core a node"
                " when idle",
            ),
        ]
    return figures
