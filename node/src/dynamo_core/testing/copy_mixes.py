"""When the disks of a simulated ring are copied, and what happens around that (`copies`)."""

from __future__ import annotations

from random import Random

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.plan import COPIED, KEYS, READY_S, Copied, Plan, Step

HISTORIES = 0.05
"""Share of histories with copies."""
NAMES = ("again", "again", COPIED)
"""The second ring may have the name of the first one, in another place."""
MEANWHILE = (
    "crash",
    "restart",
    "power",
    "isolate",
    "isolate",
    "cut both",
    "cut one way",
    "pause",
    "corrupt",
)
LATER = (*MEANWHILE, "split", "clock", "corrupt", "wipe", "repair")


def add_to(rng: Random, plan: Plan) -> None:
    """In few histories a second ring starts on copies of all disks."""
    if plan.quiet or rng.random() >= HISTORIES:
        return
    plan.families.append("copies")
    begins_s, ends_at = rng.choice((0.5, 3.0)), rng.uniform(8.0, 12.0)
    plan.copied = Copied(
        name=rng.choice(NAMES),
        one_secret=rng.random() < 0.5,
        begins_s=begins_s,
        ends_at=ends_at,
        steps=_steps(rng, plan, 40, 1.5, ends_at),
        faults=_faults(rng, plan, rng.randint(0, 4), LATER, (1.5, ends_at)),
        steps_meanwhile=_steps(rng, plan, 15, 0.02, 3.0),
    )
    at = READY_S + rng.uniform(2.0, max(plan.ends_at, 2.5))
    at = max(at, rng.choice(AROUND)(rng, plan))
    plan.faults.append(Fault(at, "copy disks", 0))
    plan.steps += _steps(rng, plan, 15, max(0.5, at - READY_S - 2.0), at - READY_S + 1.0)
    plan.steps.sort(key=lambda step: step.at)
    plan.faults.sort(key=lambda fault: fault.at)
    plan.ends_at = max(plan.ends_at, at + 10.0 - READY_S)


def _any(rng: Random, plan: Plan) -> float:
    """Any faults. Like the others it returns when the administrator comes at the earliest."""
    plan.copied.faults_meanwhile = _faults(rng, plan, rng.choice((0, 1, 2)), MEANWHILE, (0.0, 3.0))
    return 0.0


def _hints(rng: Random, plan: Plan) -> float:
    """A node is cut off. The copies of the others have hints for it, and some are damaged."""
    away = rng.randrange(plan.nodes)
    damage = _faults(rng, plan, 8, ("rot",), (0.2, 3.0))
    plan.copied.faults_meanwhile = [Fault(0.01, "isolate", away, lasts=5.0), *damage]
    for step in plan.copied.steps_meanwhile:
        step.kind, step.w, step.strict, step.at = "put", 1, None, step.at / 3.0
    return 0.0


def _forgotten(rng: Random, plan: Plan) -> float:
    """Keys are deleted, and the owners forget them while the disks are copied."""
    plan.tombstone_age_s = 6.0
    for key in range(KEYS):
        plan.steps.append(Step(rng.uniform(0.2, 1.0), "put", key, rng.randrange(plan.nodes)))
        plan.steps.append(Step(rng.uniform(1.8, 3.0), "remove", key, rng.randrange(plan.nodes)))
    return READY_S + rng.uniform(7.5, 10.5)


def _moved(rng: Random, plan: Plan) -> float:
    """Partitions move, and fsyncs are slow: as soon as the ring looks at rest, a copy may still
    have the document from before."""
    plan.nodes = max(plan.nodes, plan.n + 1)
    at = READY_S + rng.uniform(1.0, 3.0)
    for node in range(plan.nodes):
        plan.faults.append(Fault(at, "slow fsync", node, lasts=16.0, amount=0.1 * rng.random()))
    node, peer = rng.randrange(plan.nodes), rng.randrange(plan.nodes)
    plan.faults.append(Fault(at + 0.2, "tokens", node, peer, amount=rng.random()))
    plan.ends_at = max(plan.ends_at, at + 16.0 - READY_S)
    return at + 1.0


AROUND = (_any, _hints, _hints, _forgotten, _moved)


def _steps(rng: Random, plan: Plan, count: int, begins: float, ends: float) -> list[Step]:
    some = [_step(rng, plan, rng.uniform(begins, ends)) for _ in range(count)]
    return sorted(some, key=lambda step: step.at)


def _faults(
    rng: Random, plan: Plan, count: int, kinds: tuple[str, ...], when: tuple[float, float]
) -> list[Fault]:
    some = [_fault(rng, plan, rng.uniform(*when), kinds) for _ in range(count)]
    return sorted(some, key=lambda fault: fault.at)


def _step(rng: Random, plan: Plan, at: float) -> Step:
    kind = rng.choice(("put", "put", "update", "update", "get", "remove", "delete"))
    context = rng.choice((-1.0, 1.0, rng.random()))
    if kind == "delete":
        context = rng.random()
    step = Step(at, kind, rng.randrange(KEYS), rng.randrange(plan.nodes), context)
    step.strict = rng.random() < 0.3 or None
    step.named = rng.random() < 0.3
    return step


def _fault(rng: Random, plan: Plan, at: float, kinds: tuple[str, ...]) -> Fault:
    node = rng.randrange(plan.nodes)
    peer = (node + rng.randrange(1, max(plan.nodes, 2))) % plan.nodes
    lasts = rng.choice((0.3, 1.0, 3.0))
    return Fault(at, rng.choice(kinds), node, peer, lasts, rng.random())
