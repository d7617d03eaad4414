"""Makes plans from seeds.

Each fault family is on with p = 0.5. A tenth of all seeds have no faults, and there every write
knows all earlier ones. One seed in six is a mix: a few faults in an order that matters.
"""

from __future__ import annotations

from random import Random

from dynamo_core.testing import (
    backup_mixes,
    canaries,
    copy_mixes,
    looking,
    memory_mixes,
    rotation,
    stalls,
)
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.faults import MOVES, choose_faults
from dynamo_core.testing.mixes import MIXES
from dynamo_core.testing.network import Weather
from dynamo_core.testing.plan import KEYS, READY_S, Limits, Plan, Step
from dynamo_core.testing.reuse import add_to as reuse_ids
from dynamo_core.testing.wire import choose_wire

OPERATIONS_MIN, OPERATIONS_MAX = 20, 60
RETRY_S_MAX = 3.0
MIXES_IN_TURN = (*sorted(MIXES), "stale")
"""A stale disk needs many steps in a row, so its mix comes twice as often."""
MIX_EVERY = 6
"""One seed in this number has a mix."""
AFTERMATH_S = {"wipe": 6.0, "old disk": 4.0, "join": 6.0, "leave": 6.0, "remove": 6.0}
"""Time after a fault in which its effects matter: a lost node is admitted this late."""


def make_plan(seed: int, mix: str = "") -> Plan:
    """The plan of a seed; with the named one of `MIXES`, or with the next one in turn."""
    rng = Random(seed)
    if not mix and seed % MIX_EVERY == MIX_EVERY - 1:
        mix = MIXES_IN_TURN[seed // MIX_EVERY % len(MIXES_IN_TURN)]
    quiet = not mix and rng.random() < 0.1
    nodes = rng.choice((3, 3, 3, 4, 4, 5, 5, 6))
    few = Random(f"{seed} few").random() < FEW
    if few:
        nodes = Random(f"{seed} nodes").choice((2, 2, 3) if mix else (1, 2, 2, 3))
    n = min(nodes, rng.choice((1, 2, 3, 3, 3, 3, 3)))
    r, w = rng.randint(1, n), rng.randint(1, n)
    if quiet or rng.random() < 0.6:
        r = max(r, n - w + 1)
    dw = rng.randint(1, w)
    ends_at = rng.uniform(4.0, 12.0)
    families = [f for f in FAMILIES if rng.random() < 0.5]
    families += [f for f in RARE_FAMILIES if rng.random() < 0.05]
    families = [] if quiet else families
    if not quiet and not mix and rng.random() < FORGET:
        families.append("forget")
        ends_at = rng.uniform(10.0, 18.0)
    if mix:
        families = [mix, *(f for f in families if f in MILD)]
    founders = rng.randint(n if few else max(n, 2), nodes) if "administrator" in families else 0
    plan = Plan(
        seed=seed,
        nodes=nodes,
        n=n,
        r=r,
        w=w,
        dw=dw,
        lossy=not quiet and not mix and rng.random() < 0.05,
        quiet=quiet,
        created=rng.random() < 0.1,
        weather=_weather(rng, families),
        lag_s=0.004 if "lag" in families else 0.0,
        hint_bytes_max=rng.choice((1, 200)) if "hints full" in families else 1 << 20,
        ends_at=ends_at,
        idle_s=60.0 if rng.random() < 0.02 else 4.0,
        steps=[],
        faults=[],
        families=families,
        siblings_max=rng.choice((2, 4)) if "few siblings" in families else 100,
        in_flight_max=rng.choice((1, 3)) if "overload" in families else 4096,
        founders=founders,
        looks=0 if quiet else rng.choice((0, 0, 4, 12)),
        tombstone_age_s=6.0 if "forget" in families else rng.choice((6.0, 12.0)),
    )
    _fill(rng, plan, mix)
    if plan.families and CHANGING & set(plan.families):
        _other_defaults(Random(f"{seed} defaults"), plan)
    _add_moves(Random(f"{seed} addresses"), plan)
    _shape(Random(f"{seed} shape"), plan)
    _to_times(Random(f"{seed} expiry"), plan)
    _spoil(Random(f"{seed} wire"), plan)
    reuse_ids(Random(f"{seed} reused"), plan)
    rotation.add_to(Random(f"{seed} secret"), plan)
    backup_mixes.add_to(Random(f"{seed} backups"), plan)
    looking.add_to(Random(f"{seed} looks"), plan)
    canaries.add_to(Random(f"{seed} canaries"), plan)
    if not mix:
        memory_mixes.add_to(Random(f"{seed} memory"), plan)
        stalls.slow_fsyncs(Random(f"{seed} slow disks"), plan)
        stalls.full_links(Random(f"{seed} full links"), plan)
    copy_mixes.add_to(Random(f"{seed} copies"), plan)
    return plan


def _fill(rng: Random, plan: Plan, mix: str) -> None:
    """The steps of the clients, and the faults."""
    if plan.quiet:
        plan.steps = _quiet_steps(rng, plan)
        plan.ends_at = plan.steps[-1].at + 0.5
    elif mix:
        steps = MIXES[mix](rng, plan)
        plan.faults.sort(key=lambda f: f.at)
        plan.steps = sorted(steps + _steps(rng, plan), key=lambda s: s.at)
    else:
        plan.faults = choose_faults(rng, set(plan.families), plan.nodes, plan.ends_at)
        plan.steps = _steps(rng, plan)


def _spoil(rng: Random, plan: Plan) -> None:
    """In few histories frames are corrupted on their way; such links lose no other frames."""
    if rng.random() < BAD_WIRE and not plan.quiet:
        plan.wire = choose_wire(rng, plan.nodes)
        plan.weather.loss = plan.weather.duplicate = plan.weather.late = 0.0


def _shape(rng: Random, plan: Plan) -> None:
    """In few histories values are large and limits of a turn small, or several operations enter one
    node in one turn."""
    if rng.random() < LIMITED or "narrow" in plan.families:
        plan.together = True
        plan.limits = Limits(
            frame_bytes=rng.choice((800, 2000)),
            fetch_bytes=rng.choice((150, 500)),
            siblings_bytes=rng.choice((700, 2000)),
            rows=rng.choice((1, 2, 3)),
            keys=rng.choice((1, 2, 3)),
        )
        for step in plan.steps:
            step.bytes = rng.choice((0, 60, 200, 200, 500))
    if rng.random() < (0.5 if "overload" in plan.families else JOINED):
        _join(rng, plan)


def _to_times(rng: Random, plan: Plan) -> None:
    """Some expiries are times instead of seconds; some of these have passed (S-TTL-1)."""
    for step in plan.steps:
        if step.expires_s and rng.random() < TIMES:
            step.until_s = -1.0 if rng.random() < PASSED else float(step.expires_s)
            step.expires_s = 0


def _join(rng: Random, plan: Plan) -> None:
    """Some steps enter a node together with the step before, often for the same key. If every write
    knows all earlier ones, a key occurs once in a turn."""
    turn: list[Step] = []
    for step in plan.steps:
        first = turn[0] if turn else step
        again = plan.quiet and any(step.key == other.key for other in turn)
        if not turn or again or len(turn) == TURN_MAX or rng.random() < 0.5:
            turn = [step]
            continue
        turn.append(step)
        step.joined, step.at, step.node = True, first.at, first.node
        if not plan.quiet and rng.random() < 0.4:
            step.key = first.key


def _add_moves(rng: Random, plan: Plan) -> None:
    """A few nodes return at another address, in addition to other faults (S-MEM-5)."""
    if plan.quiet or rng.random() >= MOVED:
        return
    for _ in range(rng.choice((1, 1, 2))):
        node = rng.randrange(plan.nodes)
        peer = (node + rng.randrange(1, max(plan.nodes, 2))) % plan.nodes
        at, kind = rng.uniform(0.3, plan.ends_at), rng.choice(MOVES)
        plan.faults.append(Fault(at, kind, node, peer, rng.choice((0.2, 1.0, 4.0))))
    plan.faults.sort(key=lambda f: f.at)


def _other_defaults(rng: Random, plan: Plan) -> None:
    """If there are administrators: the ring is strict, or becomes strict or sloppy midway. Few
    requests ask for sloppy all the same."""
    plan.sloppy = rng.random() < 0.5
    for step in plan.steps:
        if step.strict is None and rng.random() < 0.2:
            step.strict = False
    if rng.random() < 0.5:
        return
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, node = rng.uniform(0.3, READY_S + plan.ends_at), rng.randrange(plan.nodes)
        peer = rng.randrange(plan.nodes)
        plan.faults.append(Fault(at, "defaults", node, peer, amount=rng.random()))
    plan.faults.sort(key=lambda f: f.at)


FAMILIES = (
    "loss", "duplicate", "late", "slow links", "lag", "cut", "crash", "power", "wipe", "rollback",
    "old disk", "corrupt", "full", "failing", "slow fsync", "fsync error", "pause", "clock",
    "expiry", "named", "retry", "strict", "levels", "bursts", "hints full", "repair",
    "administrator",
)  # fmt: skip
CHANGING = {"administrator", "moves", "narrow", "no room", "small"}
MILD = ("loss", "duplicate", "lag", "expiry", "named", "retry", "strict", "bursts", "repair")
"""Families that may be added to a mix."""
RARE_FAMILIES = ("few siblings", "overload")
"""These refuse most operations, so few histories have them."""
MOVED = 0.06
"""Share of histories with nodes that return at another address."""
FEW, LIMITED, JOINED, BAD_WIRE = 0.06, 0.06, 0.08, 0.06
"""Shares of histories with a ring of few nodes, small limits, turns of several steps, or a network
card that corrupts frames."""
TIMES, PASSED = 0.4, 0.15
"""Share of expiries that are times, and share of these that have passed."""
TURN_MAX = 6
FORGET = 0.15
"""Share of histories that are long enough, with enough deletes, for collections midway."""


def _weather(rng: Random, families: list[str]) -> Weather:
    weather = Weather(latency_s=rng.choice((0.0005, 0.002)), spread_s=rng.choice((0.001, 0.01)))
    if "slow links" in families:
        weather.slow_tail = rng.choice((0.01, 0.1))
    if "loss" in families:
        weather.loss = rng.choice((0.02, 0.1))
    if "duplicate" in families:
        weather.duplicate = rng.choice((0.02, 0.1))
    if "late" in families:
        weather.late = rng.choice((0.02, 0.05))
        weather.late_s_max = rng.choice((1.0, 5.0, 20.0, 120.0))
    return weather


def _quiet_steps(rng: Random, plan: Plan) -> list[Step]:
    """One step after another, every write an update."""
    keys = rng.sample(range(KEYS), rng.randint(2, KEYS))
    count = rng.randint(OPERATIONS_MIN, OPERATIONS_MAX) // 2
    return [
        Step(
            at=0.5 + 0.25 * i,
            kind=rng.choice(("update", "update", "remove", "get")),
            key=rng.choice(keys),
            node=rng.randrange(plan.nodes),
        )
        for i in range(count)
    ]


def _steps(rng: Random, plan: Plan) -> list[Step]:
    families = set(plan.families)
    keys = rng.sample(range(KEYS), rng.randint(2, KEYS))
    count = rng.randint(OPERATIONS_MIN, OPERATIONS_MAX)
    kinds = FORGETFUL if "forget" in families else rng.choice((MIXED, MIXED, WRITES, CAUSAL))
    deletes = rng.random() < 0.4
    steps = []
    at, key = 0.5, keys[0]
    for _ in range(count):
        if "bursts" not in families or rng.random() < 0.4:
            at = _moment(rng, plan)
            key = rng.choice(keys)
        else:
            at += rng.uniform(0.0, 0.01)
        kind = rng.choice(kinds)
        step = Step(at=at, kind=kind, key=key, node=rng.randrange(plan.nodes))
        _details(rng, step, families, plan.n)
        if kind == "delete" and not (deletes and rng.random() < 0.3):
            step.context = max(step.context, rng.random())
        steps.append(step)
    return sorted(steps, key=lambda s: s.at)


def _moment(rng: Random, plan: Plan) -> float:
    """Half of the steps during a fault or soon after it, because there they matter most."""
    if plan.faults and rng.random() < 0.5:
        fault = rng.choice(plan.faults)
        over = fault.lasts + AFTERMATH_S.get(fault.kind, 1.0)
        return min(max(0.5, fault.at - READY_S + over * rng.random()), plan.ends_at)
    return rng.uniform(0.5, plan.ends_at)


MIXED = ("put", "put", "update", "update", "update", "get", "get", "delete", "remove")
WRITES = ("put", "put", "put", "update", "delete", "get")
CAUSAL = ("update", "update", "update", "remove", "get")
FORGETFUL = ("put", "update", "remove", "remove", "delete", "get")


def _details(rng: Random, step: Step, families: set[str], n: int) -> None:
    if step.kind == "put" and rng.random() < 0.5:
        step.context = 1.0 if rng.random() < 0.5 else rng.random()
    if "levels" in families:
        step.r, step.w = rng.randint(0, n), rng.randint(0, n)
    step.strict = ("strict" in families and rng.random() < 0.5) or None
    step.named = "named" in families and rng.random() < 0.6
    if "retry" in families and rng.random() < 0.7:
        step.named = True
        step.retry = rng.randrange(8)
        step.retry_s = rng.uniform(0.01, RETRY_S_MAX)
    if "expiry" in families and step.kind in ("put", "update") and rng.random() < 0.2:
        step.expires_s = rng.choice((1, 3, 3600))
    step.show = rng.random() < 0.1
