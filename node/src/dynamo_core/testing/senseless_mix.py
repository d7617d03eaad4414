"""The mix for senseless input: a peer sends it or a disk has it, while nodes fail."""

from __future__ import annotations

from random import Random

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step


def senseless(rng: Random, plan: Plan) -> list[Step]:
    """Everything written before must be readable afterwards, through every node (S-IN-2)."""
    plan.n = min(rng.choice((2, 3, 3)), plan.nodes)
    plan.w = rng.randint(1, plan.n)
    plan.r = plan.n - plan.w + 1
    plan.dw = rng.randint(1, plan.w)
    bad, victim = rng.randrange(plan.nodes), rng.randrange(plan.nodes)
    plan.faults = [
        Fault(at=READY_S + rng.uniform(0.8, 2.0), kind="senseless", node=bad, lasts=2.0),
        Fault(at=READY_S + rng.uniform(3.0, 5.0), kind="senseless", node=bad, lasts=1.0),
    ]
    if rng.random() < 0.7:
        at = READY_S + rng.uniform(1.5, 5.0)
        amount = rng.random()
        plan.faults.append(Fault(at, "spoilt ring", victim, lasts=0.4, amount=amount))
    if rng.random() < 0.4:
        kind = rng.choice(("crash", "pause", "isolate"))
        at = READY_S + rng.uniform(1.0, 6.0)
        plan.faults.append(Fault(at, kind, rng.randrange(plan.nodes), lasts=rng.uniform(0.3, 2.0)))
    plan.ends_at = 8.0
    steps = [
        Step(rng.uniform(0.2, 0.7), "put", key, rng.randrange(plan.nodes)) for key in range(KEYS)
    ]
    for _ in range(20):
        kind = rng.choice(("put", "update", "get", "get", "remove"))
        at, node = rng.uniform(0.8, plan.ends_at), rng.randrange(plan.nodes)
        steps.append(Step(at, kind, rng.randrange(KEYS), node, context=1.0))
    return steps
