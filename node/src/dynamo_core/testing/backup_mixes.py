"""What administrators do with backups in a simulated history, and the faults around that."""

from __future__ import annotations

from random import Random

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step

RESTORES = 8
BACKED_UP = 0.1
"""Share of histories with backups."""


def add_to(rng: Random, plan: Plan) -> None:
    """In a few histories administrators back up and restore, together with all other faults."""
    if plan.quiet or rng.random() >= BACKED_UP:
        return
    plan.families.append("backups")
    at = READY_S + rng.uniform(0.5, plan.ends_at / 2)
    at = rng.choice(KINDS)(rng, plan, at)
    plan.ends_at = max(plan.ends_at, at + 2.0 - READY_S)
    plan.faults.sort(key=lambda f: f.at)


def _mixture(rng: Random, plan: Plan, at: float) -> float:
    """Everything in any order. Like the other mixtures it returns the time at which it ends."""
    kinds = rng.choices(("back up", "back up", "restore", "forget backup"), k=2)
    for kind in ("back up", *kinds, "back up", "forget backup", "restore"):
        plan.faults.append(Fault(at, kind, rng.randrange(plan.nodes)))
        at += rng.choice((0.3, 1.5, 3.0)) * rng.uniform(0.5, 1.5)
    return at


def _alone(rng: Random, plan: Plan, at: float) -> float:
    """A node that has just started reaches no other owner. So it is complete for no partition, and
    still saves its data."""
    node = rng.randrange(plan.nodes)
    asked = at + rng.uniform(2.5, 4.0)
    plan.faults += [
        Fault(at, "crash", node, lasts=0.3),
        Fault(at + 0.2, "isolate", node, lasts=12.0),
        Fault(asked, "back up", node),
        Fault(asked + 10.0, "restore", rng.randrange(plan.nodes)),
    ]
    return asked + 11.0


def _after_an_absence(rng: Random, plan: Plan, at: float) -> float:
    """A node that was down, or has lost its disk, comes back without the writes of that time. A
    restore reaches it before hints and exchanges do."""
    away = rng.randrange(plan.nodes)
    others = [node for node in range(plan.nodes) if node != away] or [away]
    if rng.random() < 0.5:
        plan.faults.append(Fault(at, "crash", away, lasts=7.0))
        plan.faults.append(Fault(at + 3.0, "back up", rng.choice(others)))
        at += 7.1
    else:
        plan.faults.append(Fault(at, "back up", rng.choice(others)))
        plan.faults.append(Fault(at + 3.0, "wipe", away, lasts=0.2))
        at += rng.uniform(6.0, 9.0)
    for _ in range(RESTORES):
        plan.faults.append(Fault(at, "restore", rng.choice(others)))
        at += rng.uniform(0.1, 0.3)
    return at + 1.0


def _one_after_the_other(rng: Random, plan: Plan, at: float) -> float:
    """Each backup refers to the one before it. The oldest is deleted while later ones stay."""
    for kind in ("back up", "back up", "forget backup", "back up", "forget backup", "restore"):
        plan.faults.append(Fault(at, kind, rng.randrange(plan.nodes)))
        at += rng.uniform(2.0, 4.0)
    return at


def _mixed_versions(rng: Random, plan: Plan, at: float) -> float:
    """Some nodes are of the version before and are updated one by one meanwhile. One node may go
    back to the version before (C17)."""
    older = rng.sample(range(plan.nodes), rng.randint(1, max(1, plan.nodes - 1)))
    plan.older = older
    asked = [n for n in range(plan.nodes) if n not in older] or older
    for kind in ("back up", "restore", "back up"):
        plan.faults.append(Fault(at, kind, rng.choice(asked)))
        at += rng.uniform(0.5, 2.0)
    for node in older:
        plan.faults.append(Fault(at, "update", node, lasts=rng.choice((0.1, 1.0))))
        at += rng.uniform(0.5, 2.0)
    if rng.random() < 0.4:
        node = rng.randrange(plan.nodes)
        plan.faults.append(Fault(at, "update", node, lasts=0.1))
        plan.faults.append(Fault(at + 3.0, "update", node, lasts=0.1))
    plan.faults.append(Fault(at + rng.uniform(2.0, 3.0), "restore", rng.choice(asked)))
    return at + 4.0


def _old_copies(rng: Random, plan: Plan, at: float) -> float:
    """Keys are deleted and forgotten. Then all nodes start again, one with a disk from before that.
    It reaches no node except the one that leads the backup, and no owner is complete (S-DEL-3)."""
    if plan.nodes < 3:
        return _mixture(rng, plan, at)
    plan.tombstone_age_s = 6.0
    old, asked = rng.sample(range(plan.nodes), 2)
    others = [node for node in range(plan.nodes) if node not in (old, asked)]
    for key in range(KEYS):
        plan.steps.append(Step(rng.uniform(0.2, 1.0), "put", key, rng.randrange(plan.nodes)))
        plan.steps.append(Step(rng.uniform(1.8, 2.8), "remove", key, rng.randrange(plan.nodes)))
    plan.steps.sort(key=lambda step: step.at)
    taken = READY_S + 1.5
    if rng.random() < 0.5:  # then the disk has hints for it
        plan.faults.append(Fault(READY_S - 0.5, "crash", rng.choice(others), lasts=taken - 1.0))
    back = taken + rng.uniform(10.0, 13.0)
    plan.faults.append(Fault(taken, "rollback", old, lasts=back - taken, amount=1.0))
    for node in others:
        plan.faults.append(Fault(back - 0.1, "power", node, lasts=0.3))
        plan.faults.append(Fault(back - 0.1, "cut both", old, node, lasts=14.0))
    at = back + rng.uniform(1.0, 4.0)
    plan.faults += [Fault(at, "back up", asked), Fault(at + 11.0, "restore", asked)]
    return at + 12.0


def _rotten(rng: Random, plan: Plan, at: float) -> float:
    """All copies of some keys are damaged, then a backup begins: it tells which keys it lacks."""
    for _ in range(3):
        plan.faults.append(Fault(at, "rot", 0, amount=rng.random()))
        at += rng.uniform(0.0, 0.5)
    plan.faults.append(Fault(at, "back up", rng.randrange(plan.nodes)))
    return at + 3.0


KINDS = (
    _mixture, _alone, _alone, _after_an_absence, _one_after_the_other, _one_after_the_other,
    _mixed_versions, _mixed_versions, _old_copies, _old_copies, _rotten,
)  # fmt: skip
