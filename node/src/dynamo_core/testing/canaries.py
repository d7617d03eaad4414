"""Canaries and reports of staleness in simulated histories, and a ring with known delays.

In a few histories the nodes sample, write canaries and report, together with all other faults. In
these histories the judge checks only the other claims: no dot twice, nothing lost, no message
without sense. In a history without faults where R + W > N, each canary must be fresh (S-RW-1).

`agreement` makes a ring whose network has a known distribution of delays. There the prediction and
the measurement must agree; tests/simulation/staleness_ladders.py judges that.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from dynamo_core.testing.beginning import begin
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.network import Weather
from dynamo_core.testing.plan import Plan
from dynamo_core.testing.world import World

if TYPE_CHECKING:
    from dynamo_core.node import Node

WITH_CANARIES = 0.04
"""Share of histories with canaries."""
ASK_S = 6.0
"""Interval at which a person asks a node for a report."""


def add_to(rng: Random, plan: Plan) -> None:
    """In a few histories nodes write canaries."""
    if rng.random() < WITH_CANARIES and not plan.quiet:
        plan.canaries = rng.choice((30, 120, 600))


def begin_asking(world: World) -> None:
    """A person asks a node for its report of staleness every `ASK_S` seconds."""
    if not world.plan.canaries or world.healed:
        return
    world.later(ASK_S, lambda: begin_asking(world))
    process = world.processes[int(world.now) % len(world.processes)]
    node = process.node
    if node is not None:
        world.enter(process, lambda: node.staleness.ask(15.0, 0, lambda status, body: None))


def end(world: World) -> None:
    """Ends the canaries: the judge needs a ring without requests."""
    if not world.plan.canaries:
        return
    off = {"canaries_per_minute": 0, "delay_samples_per_minute": 0}
    world.settings = msgspec.structs.replace(world.settings, **off)
    for process in world.processes:
        node = process.node
        if node is not None:
            world.enter(process, lambda node=node: node.retune(world.settings))  # type: ignore[misc]


def judge(world: World) -> None:
    """S-RW-1: quorums overlap, and nothing has failed."""
    plan = world.plan
    calm = not plan.faults and not plan.families and not plan.weather.loss and not plan.wire.bad
    if calm and plan.r + plan.w > plan.n and (stale := world.counters["canaries_stale"]):
        detail = f"{stale} canaries were stale although R + W > N"
        world.events.append(Trouble("S-RW-1", detail))


def agreement(seed: int, rw: tuple[int, int], mean_s: float, seconds: float) -> dict[str, Any]:
    """The report of a ring of three nodes, N = 3, after so many seconds with canaries. Each frame
    takes a millisecond and an exponential time with this mean, and the clocks are minutes apart."""
    plan = Plan(
        seed=seed, nodes=3, n=3, r=rw[0], w=rw[1], dw=1, lossy=False, quiet=True, created=False,
        weather=Weather(latency_s=0.001, spread_s=0.0, exponential_s=mean_s), lag_s=0.0,
        hint_bytes_max=1 << 20, ends_at=seconds, idle_s=4.0, steps=[], faults=[], families=[],
        canaries=3000,
    )  # fmt: skip
    world = World(plan)
    begin(world)
    found: list[dict[str, Any]] = []
    process = world.processes[0]

    def ask() -> None:
        node: Node | None = process.node
        assert node is not None
        node.staleness.ask(15.0, 0, lambda status, body: found.append(body))

    world.run_until(seconds / 2)
    world.enter(process, ask)  # so that canaries are read when the curve is steep
    world.run_until(seconds)
    found.clear()
    world.enter(process, ask)
    world.run_until(seconds + 3.0)
    return found[-1]
