"""Where disks whose fsyncs are slow come into plans beside whatever else is wrong (S-RW-8)."""

from __future__ import annotations

from random import Random

from dynamo_core.testing.faults import Fault
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step

HISTORIES = 0.05
"""Of the random histories so many have a node with slow fsyncs at which clients put at W=1."""
PUTS = 8


def add_to(rng: Random, plan: Plan) -> None:
    """One disk, or two, and puts that need one copy and one fsync, at those nodes."""
    if plan.quiet or rng.random() > HISTORIES:
        return
    slow = rng.sample(range(plan.nodes), min(plan.nodes, rng.choice((1, 1, 2))))
    begins, lasts = READY_S + rng.uniform(0.3, plan.ends_at), rng.choice((1.0, 3.0))
    for node in slow:
        plan.faults.append(Fault(begins, "slow fsync", node, lasts=lasts, amount=rng.random()))
    for _ in range(PUTS):
        at = begins - READY_S + rng.uniform(0.0, lasts)
        step = Step(at, "put", rng.randrange(KEYS), rng.choice(slow), w=1, strict=False)
        step.context = rng.choice((-1.0, 1.0))
        plan.steps.append(step)
    plan.faults.sort(key=lambda fault: fault.at)
    plan.steps.sort(key=lambda step: step.at)
