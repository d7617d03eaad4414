"""Faults in an order that matters: states that random faults reach once in thousands of seeds.

Each mix changes a plan and returns additional steps. Each mix gets a share of the simulator's
seeds. A mutant that only such a state shows is tested with its mix.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from dynamo_core.testing.fault import Fault
from dynamo_core.testing.faults import MOVES
from dynamo_core.testing.greed import greedy
from dynamo_core.testing.memory_mixes import every_way
from dynamo_core.testing.person import approved
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step
from dynamo_core.testing.senseless_mix import senseless

ADMITTED_S = (2.5, 7.0)
"""This long after a wipe, the new life is admitted and rebuilds its data."""
TIMES_A_ROUND = 3


def _lives(rng: Random, plan: Plan) -> list[Step]:
    """One name loses its disk twice while all clocks jump: which life is the later one? An old disk
    may return in between (S-MEM-3, S-MEM-4, C15)."""
    victim = rng.randrange(plan.nodes)
    first = rng.uniform(0.3, 1.0)
    second = first + rng.uniform(5.0, 7.0)
    back = second + rng.uniform(5.0, 7.0)
    plan.faults = [
        Fault(at=0.2, kind="clock all", node=0, amount=rng.random()),
        Fault(at=first, kind="wipe", node=victim, lasts=0.2),
        Fault(at=second, kind="clock all", node=0, amount=rng.random()),
        Fault(at=second, kind="wipe", node=victim, lasts=0.2),
    ]
    plan.ends_at = second + 1.0
    if rng.random() < 0.3:
        old = Fault(at=back, kind="old disk", node=victim, amount=rng.random())
        plan.faults.append(old)
        plan.ends_at = back + 1.0
    return []


def _rebuild(rng: Random, plan: Plan) -> list[Step]:
    """A node has lost its disk, and one answer is enough for a read: a record that is not rebuilt
    yet must not read as "not found" (S-RW-4, S-RING-6)."""
    plan.n = min(3, plan.nodes)
    plan.r, plan.w, plan.dw = 1, plan.n, rng.randint(1, plan.n)
    victim = rng.randrange(plan.nodes)
    wiped = rng.uniform(3.0, 4.0)
    plan.faults = [Fault(at=wiped, kind="wipe", node=victim, lasts=0.2)]
    plan.ends_at = wiped + ADMITTED_S[1] - READY_S
    puts = [_put(rng, rng.uniform(0.2, 1.0), key, rng.randrange(plan.nodes)) for key in range(KEYS)]
    reads = [
        Step(at=wiped - READY_S + rng.uniform(*ADMITTED_S), kind="get", key=at % KEYS, node=victim)
        for at in range(40)
    ]
    return puts + reads


def _twins(rng: Random, plan: Plan) -> list[Step]:
    """Owners answer late: one gets the forwarded put, one syncs slowly, one is silent, and the
    fourth node makes the twin. The twin's hint is delivered before the put is answered (S-DOT-4,
    C7)."""
    plan.nodes, plan.n, plan.r, plan.w = 4, 3, 1, 3
    plan.dw = rng.choice((2, 3, 3))
    plan.ends_at = 4.0 * TIMES_A_ROUND
    steps = []
    for at in range(TIMES_A_ROUND):
        late, slow, silent, other = rng.sample(range(4), 4)
        now = READY_S + 1.0 + 4.0 * at + rng.random()
        plan.faults += [
            Fault(at=now - 0.1, kind="pause", node=late, lasts=rng.uniform(0.2, 0.5)),
            Fault(at=now - 0.1, kind="slow fsync", node=slow, lasts=0.3, amount=0.1 * rng.random()),
            Fault(at=now - 0.1, kind="pause", node=silent, lasts=2.0),
        ]
        steps += [_put(rng, now - READY_S + 0.01 * key, key, other) for key in range(KEYS)]
    return steps


def _busy(rng: Random, plan: Plan) -> list[Step]:
    """Clients read at every node and wait for the network, so the budget of background work stays
    at its minimum; a disk is lost, hints wait, and all must heal in time (S-BG-1)."""
    plan.n = min(3, plan.nodes)
    plan.r = max(2, plan.r)
    plan.latency_threshold_ms = 1.0
    victim, other = rng.sample(range(plan.nodes), 2)
    gone = rng.uniform(3.0, 4.0)
    plan.faults = [
        Fault(at=gone, kind="wipe", node=victim, lasts=0.5),
        Fault(at=gone + rng.uniform(5.0, 6.0), kind="crash", node=other, lasts=1.0),
    ]
    plan.ends_at = gone + 8.0 - READY_S
    reads = [
        Step(at=rng.uniform(0.5, plan.ends_at), kind="get", key=at % KEYS, node=at % plan.nodes)
        for at in range(40 * plan.nodes)
    ]
    return [_put(rng, rng.uniform(0.2, 1.0), key, victim) for key in range(KEYS)] + reads


def _stale(rng: Random, plan: Plan) -> list[Step]:
    """Keys are written, deleted, forgotten by all; then an older disk returns, of an owner, of a
    stand-in with its hints, or of an earlier life, while links are cut and clients write (S-DEL-2,
    3)."""
    plan.tombstone_age_s = 6.0
    victim = rng.randrange(plan.nodes)
    other = (victim + rng.randrange(1, plan.nodes)) % plan.nodes
    taken = rng.uniform(3.0, 3.5)
    back = taken + rng.uniform(10.0, 14.0)
    kind = rng.choice(("rollback", "rollback", "hints", "old disk"))
    if kind == "hints":
        plan.faults.append(Fault(at=READY_S - 0.5, kind="crash", node=other, lasts=taken - 1.0))
    if kind == "old disk":
        plan.faults += [
            Fault(at=taken, kind="wipe", node=victim, lasts=0.2),
            Fault(at=back, kind="old disk", node=victim, amount=rng.random()),
        ]
    else:
        plan.faults.append(
            Fault(at=taken, kind="rollback", node=victim, lasts=back - taken, amount=rng.random())
        )
    for _ in range(rng.choice((0, 1, 1, 2))):
        cut = rng.choice(("isolate", "cut both", "cut one way"))
        pair = (victim, other) if rng.random() < 0.5 else (other, victim)
        at, lasts = back + rng.uniform(-1.5, 1.0), rng.uniform(0.5, 4.0)
        plan.faults.append(Fault(at, cut, *pair, lasts=lasts, amount=rng.random()))
    if rng.random() < 0.3:
        at = back + rng.uniform(-4.0, 2.0)
        plan.faults.append(Fault(at, rng.choice(("crash", "power", "pause")), other, lasts=1.0))
    if rng.random() < 0.3:
        plan.weather.late, plan.weather.late_s_max = 0.03, rng.choice((5.0, 20.0))
    plan.ends_at = back + 6.0 - READY_S
    steps = []
    for key in range(KEYS):
        steps.append(_put(rng, rng.uniform(0.2, 1.0), key, rng.randrange(plan.nodes)))
        if rng.random() < 0.8:
            steps.append(Step(rng.uniform(2.2, 3.5), "remove", key, rng.randrange(plan.nodes)))
    for _ in range(12):
        node = victim if rng.random() < 0.6 else rng.randrange(plan.nodes)
        at = back - READY_S + rng.uniform(-2.0, 4.0)
        kind = rng.choice(("put", "put", "update", "get", "remove", "delete"))
        step = Step(at, kind, rng.randrange(KEYS), node, context=rng.choice((-1.0, 1.0)))
        step.w = rng.choice((0, 1, 1))
        steps.append(step)
    return steps


def _moves(rng: Random, plan: Plan) -> list[Step]:
    """Partitions move back and forth between failing owners, under strict reads and writes whose
    quorums meet (S-MOVE-1..5, C9, C10)."""
    plan.nodes = rng.choice((4, 4, 5))
    plan.n = rng.choice((2, 3, 3))
    _quorums(rng, plan)
    plan.founders = plan.nodes - rng.choice((0, 0, 1))
    now = READY_S + rng.uniform(0.3, 0.8)
    for kind in rng.choices(("tokens", "join", "leave", "weights", "rebalance", "cancel"), k=3):
        node = rng.randrange(plan.nodes)
        plan.faults.append(Fault(now, kind, node, rng.randrange(plan.nodes), 1.0, rng.random()))
        _trouble(rng, plan, now, rng.choice((0, 1, 2, 2, 3)))
        if rng.random() < 0.4:
            rival = Fault(now + rng.choice((0.0, 0.02, 0.2)), "rebalance", (node + 1) % plan.nodes)
            rival.kind = rng.choice(("tokens", "rebalance", "cancel", "leave"))
            plan.faults.append(rival)
        now += rng.uniform(0.4, 3.0)
    plan.ends_at = now - READY_S + 2.0
    return _strict_steps(rng, plan)


def _no_room(rng: Random, plan: Plan) -> list[Step]:
    """A node's disk is full while it hands its data over, because it leaves, was removed by force
    or has a later life, or while it receives data; other disks are full too (S-MOVE-5,
    S-DISK-4)."""
    plan.nodes = rng.choice((4, 4, 5))
    plan.n = rng.choice((1, 2, 3, 3))
    _quorums(rng, plan)
    victim, other = rng.sample(range(plan.nodes), 2)
    now = READY_S + rng.uniform(1.0, 1.5)
    way = rng.choice(("leave", "remove", "old disk", "join"))
    if way == "join":
        plan.founders = victim = plan.nodes - 1
        other %= plan.founders
    elif way == "old disk":
        plan.faults.append(Fault(now, "wipe", victim, lasts=0.2))
        now += rng.uniform(5.0, 7.0)
    # The target: the command counts all members, a removal all except its own node.
    peer = victim - (victim > other) if way == "remove" else victim
    at = other if way != "old disk" else victim
    plan.faults.append(Fault(now, way, at, peer, rng.choice((0.3, 1.5)), rng.random()))
    for _ in range(rng.choice((1, 2, 3, 4))):
        who = victim if rng.random() < 0.6 else rng.randrange(plan.nodes)
        lasts = rng.choice((0.1, 0.5, 2.0, 5.0))
        plan.faults.append(Fault(now + rng.uniform(-0.3, 4.0), "full", who, lasts=lasts))
    _trouble(rng, plan, now, rng.choice((0, 0, 1)))
    plan.ends_at = now - READY_S + 6.0
    puts = [_put(rng, rng.uniform(0.2, 1.0), key, rng.randrange(plan.nodes)) for key in range(KEYS)]
    return puts + _strict_steps(rng, plan)


def _narrow(rng: Random, plan: Plan) -> list[Step]:
    """A rebuild or a move takes many turns: the plan gets small limits and also large values
    (S-AE-3, S-MOVE-5)."""
    change = rng.choice((_rebuild, _no_room, _moves, _moves))
    steps = change(rng, plan)
    if change is _moves and rng.random() < 0.7:
        plan.n = 1  # no other pass brings what a pass over the only owner misses
        _quorums(rng, plan)
    return steps


def _small(rng: Random, plan: Plan) -> list[Step]:
    """A ring of one or two grows, and shrinks to that size again: no node stands in for an owner,
    and a node may hold the only copy."""
    plan.n = rng.choice((1, 1, 2))
    plan.founders = rng.randint(plan.n, 2)
    plan.nodes = plan.founders + rng.choice((1, 1, 2))
    _quorums(rng, plan)
    now = READY_S + rng.uniform(0.3, 0.8)
    for kind in ("join", rng.choice(("join", "tokens", "cancel")), "leave", "leave"):
        for _ in range(rng.choice((1, 1, 2))):
            one = rng.randrange(plan.nodes if kind == "leave" else plan.founders)
            at, peer = now + rng.choice((0.0, 0.02, 0.2)), rng.randrange(plan.nodes)
            plan.faults.append(Fault(at, kind, one, peer, 1.0, rng.random()))
        _trouble(rng, plan, now, rng.choice((0, 0, 1, 2)))
        now += rng.choice((0.5, 3.0, 5.0)) * rng.uniform(0.5, 1.5)
    plan.ends_at = now - READY_S + 2.0
    return _strict_steps(rng, plan)


def _quorums(rng: Random, plan: Plan) -> None:
    """Quorums with which a strict read meets every strict put."""
    plan.w = rng.randint(1, plan.n)
    plan.r = plan.n - plan.w + 1
    plan.dw = rng.randint(1, plan.w)


def _trouble(rng: Random, plan: Plan, now: float, count: int) -> None:
    for _ in range(count):
        bad = rng.choice(TROUBLE)
        at, lasts = now + rng.uniform(-0.3, 1.5), rng.choice((0.05, 0.5, 1.5))
        one = rng.randrange(plan.nodes)
        other = (one + rng.randrange(1, plan.nodes)) % plan.nodes
        plan.faults.append(Fault(at, bad, one, other, lasts, rng.random()))


def _strict_steps(rng: Random, plan: Plan) -> list[Step]:
    steps = []
    for _ in range(60):
        kind = rng.choice(("put", "put", "update", "get", "get", "remove"))
        step = Step(rng.uniform(0.1, plan.ends_at), kind, rng.randrange(KEYS), 0)
        step.node, step.context = rng.randrange(plan.nodes), rng.choice((-1.0, 1.0))
        step.strict = rng.random() < 0.7 or None
        steps.append(step)
    return steps


TROUBLE = ("cut both", "cut one way", "isolate", "crash", "crash", "pause", "power", "wipe")


def _addresses(rng: Random, plan: Plan) -> list[Step]:
    """Disks return at other addresses, one, all at once or two at each other's, while the ring
    changes, links are cut and an old disk returns too (S-MEM-5, S-MEM-3)."""
    plan.nodes = rng.choice((2, 3, 3, 4))
    plan.n = min(plan.n, plan.nodes)
    plan.r, plan.w = min(plan.r, plan.n), min(plan.w, plan.n)
    plan.dw = min(plan.dw, plan.w)
    now = READY_S + rng.uniform(0.3, 1.0)
    for _ in range(rng.choice((1, 2, 3))):
        node, other = rng.sample(range(plan.nodes), 2)
        kind, lasts = rng.choice(MOVES), rng.choice((0.1, 0.5, 2.0))
        plan.faults.append(Fault(now, kind, node, other, lasts))
        if rng.random() < 0.5:
            at = now + lasts + rng.uniform(-0.5, 3.5)
            change = rng.choice(("leave", "weights", "cancel", "isolate", "crash", "cut one way"))
            about = Fault(at, change, other, node, rng.choice((0.5, 3.0, 6.0)), rng.random())
            plan.faults.append(about)
        now += rng.uniform(1.0, 7.0)
    if rng.random() < 0.3:
        victim = rng.randrange(plan.nodes)
        plan.faults.append(Fault(now, "wipe", victim, lasts=0.2))
        now += rng.uniform(5.0, 7.0)
        plan.faults.append(Fault(now, "move", victim, lasts=0.2))
        plan.faults.append(Fault(now + 1.0, "old disk", victim, amount=rng.random()))
    elif rng.random() < 0.3:
        plan.faults.append(
            Fault(plan.faults[0].at - 0.2, "rollback", plan.faults[0].node, lasts=6.0)
        )
    plan.ends_at = now + 4.0 - READY_S
    return []


def _put(rng: Random, at: float, key: int, node: int) -> Step:
    return Step(
        at=at, kind="put", key=key, node=node, context=1.0, strict=rng.random() < 0.7 or None
    )


MIXES: dict[str, Callable[[Random, Plan], list[Step]]] = {
    "addresses": _addresses,
    "approved": approved,
    "bad memory": every_way,
    "busy": _busy,
    "greedy": greedy,
    "lives": _lives,
    "moves": _moves,
    "narrow": _narrow,
    "no room": _no_room,
    "rebuild": _rebuild,
    "senseless": senseless,
    "small": _small,
    "stale": _stale,
    "twins": _twins,
}
