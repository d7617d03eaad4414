"""Adds nodes with a bad memory to plans: see `bad_memory` (T-1)."""

from __future__ import annotations

from random import Random

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step

HISTORIES = 0.08
"""Share of the random histories with a bad memory."""


def add_to(rng: Random, plan: Plan) -> None:
    """In few random histories, in addition to their other faults."""
    if plan.quiet or rng.random() > HISTORIES:
        return
    for _ in range(rng.choice((1, 1, 2))):
        at, lasts = rng.uniform(0.3, plan.ends_at), rng.choice((0.5, 2.0, 6.0))
        node = rng.randrange(plan.nodes)
        plan.faults.append(Fault(at, "bad memory", node, lasts=lasts, amount=rng.random()))
    plan.faults.sort(key=lambda fault: fault.at)


def every_way(rng: Random, plan: Plan) -> list[Step]:
    """One node's memory is bad for a long time. Meanwhile a record goes through every kind of
    message: every node puts it, it is read, deleted without a context, kept as a hint, copied to a
    lost disk, moved, and handed over by a node that does not own it any more (T-1)."""
    plan.nodes = rng.choice((3, 4, 4, 5))
    plan.n = min(3, plan.nodes)
    plan.w, plan.dw = rng.randint(1, 2), 1
    plan.r = rng.randint(1, plan.n)
    bad = rng.randrange(plan.nodes)
    other = (bad + rng.randrange(1, plan.nodes)) % plan.nodes
    begins, ends = READY_S + 0.5, READY_S + 12.0
    plan.faults.append(Fault(begins, "bad memory", bad, lasts=ends - begins, amount=rng.random()))
    happens = rng.choice(("crash", "isolate", "wipe", "tokens", "tokens", "leave"))
    at = begins + rng.uniform(1.0, 2.0)
    node = bad if happens in ("leave", "tokens") and rng.random() < 0.5 else other
    lasts = 2.0 if happens in ("crash", "isolate") else 0.3
    plan.faults.append(Fault(at, happens, node, rng.randrange(plan.nodes), lasts, rng.random()))
    plan.ends_at = ends - READY_S
    steps = []
    for _ in range(70):
        kind = rng.choice(("put", "put", "update", "get", "get", "get", "remove", "delete"))
        step = Step(rng.uniform(0.2, plan.ends_at), kind, rng.randrange(KEYS), 0)
        step.node, step.context = rng.randrange(plan.nodes), rng.choice((-1.0, 1.0))
        step.show = rng.random() < 0.3
        steps.append(step)
    return steps
