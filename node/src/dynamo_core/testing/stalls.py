"""Adds slow fsyncs and full links to plans, in addition to other faults (S-RW-8, T-4)."""

from __future__ import annotations

from random import Random

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step

SLOW, FULL = 0.05, 0.05
"""Shares of the random histories: a node with slow fsyncs at which clients put at W=1; links that
accept nothing more for some time."""
PUTS = 8


def full_links(rng: Random, plan: Plan) -> None:
    """A few links drop their senders' frames although they are open."""
    if plan.quiet or rng.random() > FULL or plan.nodes == 1:
        return
    for _ in range(rng.choice((1, 2, 4))):
        node, peer = rng.sample(range(plan.nodes), 2)
        at, lasts = rng.uniform(0.3, READY_S + plan.ends_at), rng.choice((0.05, 0.5, 3.0))
        plan.faults.append(Fault(at, "full link", node, peer, lasts))
    plan.faults.sort(key=lambda fault: fault.at)


def slow_fsyncs(rng: Random, plan: Plan) -> None:
    """One or two slow disks, and puts at those nodes that need one copy and one fsync."""
    if plan.quiet or rng.random() > SLOW:
        return
    slow = rng.sample(range(plan.nodes), min(plan.nodes, rng.choice((1, 1, 2))))
    begins, lasts = READY_S + rng.uniform(0.2, 0.8) * plan.ends_at, rng.choice((1.0, 3.0))
    for node in slow:
        plan.faults.append(Fault(begins, "slow fsync", node, lasts=lasts, amount=rng.random()))
    for _ in range(PUTS):
        at = min(begins - READY_S + rng.uniform(0.0, lasts), plan.ends_at)
        step = Step(at, "put", rng.randrange(KEYS), rng.choice(slow), w=1, strict=False)
        step.context = rng.choice((-1.0, 1.0))
        plan.steps.append(step)
    plan.faults.sort(key=lambda fault: fault.at)
    plan.steps.sort(key=lambda step: step.at)
