"""Runs one history from its plan to its verdict: faults, then healing, then the judge.

Two phases as in TigerBeetle's VOPR. A run that is safe only because nothing works fails in the
second phase: there everything is healed, all nodes must agree within bounded virtual time, every
node must answer every read, and an idle time must show no repair (C4).
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from hashlib import blake2b
from itertools import product

import msgspec

from dynamo_core.causality.codec import body_of
from dynamo_core.keys import DATA, partition_of, store_key
from dynamo_core.node import Node
from dynamo_core.replica.hint_target import spelled
from dynamo_core.ring.document import JOINING, LEAVING, LEFT
from dynamo_core.testing import canaries
from dynamo_core.testing.administrator import mend_target, moving
from dynamo_core.testing.beginning import begin
from dynamo_core.testing.checker import Violation, check
from dynamo_core.testing.clients import Clients
from dynamo_core.testing.copies import OF_COPIES, First, Second, world_of
from dynamo_core.testing.faults import strike
from dynamo_core.testing.history import UNKNOWN, Attempt, Copy, Event, Trouble
from dynamo_core.testing.ladder import Ladder
from dynamo_core.testing.looking import agreed
from dynamo_core.testing.mixes import MIXES
from dynamo_core.testing.plan import Plan
from dynamo_core.testing.process import Process
from dynamo_core.testing.world import World

CONVERGED_S_MAX = 30.0
LOOK_S = 0.5
IDLES_MAX, REVIVED_MAX = 8, 3
"""Idle times to check at most; idle times after the last round in which it may still repair."""
REPAIRS = ("stored_by_repair", "stored_by_exchange", "exchange_differences")


class Result(msgspec.Struct):
    """The result of one plan."""

    seed: int
    violations: list[Violation]
    counters: Counter[str]
    trail: int
    """Equal for two runs of one plan."""
    steps: int
    events: list[Event]
    ladder: str = ""


def run(plan: Plan, draw: bool = False) -> Result:
    """Run the plan and judge it; `draw` keeps the ladder."""
    world = world_of(plan, Ladder(plan.names) if draw else None)
    clients = Clients(world)
    if isinstance(world, First):
        world.known_contexts = clients.known_contexts
        world.begin_second = partial(_begin_second, clients)
        world.meanwhile = partial(_meanwhile, world, clients)
    begin(world)
    world.counters.update("mix " + f for f in plan.families if f in MIXES)
    canaries.begin_asking(world)
    clients.begin(plan.steps)
    for fault in plan.faults:
        world.later(fault.at, lambda fault=fault: strike(world, fault))  # type: ignore[misc]
    world.run_until(plan.ends_at + world.steps_after)
    heal(world, clients)
    finish(world, clients)
    second = _finish_second(world) if isinstance(world, First) else []
    _judge_counters(world)
    _count_outcomes(world)
    canaries.judge(world)
    world.counters["switch that only removed nodes had"] += world.switches.excused()
    ladder = world.ladder.text() if world.ladder is not None else ""
    violations = check(world.events) + check(second)
    events = world.events + second
    return Result(plan.seed, violations, world.counters, world.trail, world.steps, events, ladder)


def _judge_counters(world: World) -> None:
    """What the counters of the nodes show."""
    for process in world.processes:
        if process.node is not None:
            world.counters.update(process.node.counters)
    if world.counters["leaves_mended"]:
        # A simulated disk reports lost rows, so the tree itself is wrong.
        world.events.append(Trouble("S-AE-1", "a leaf was not the sum of its records"))
    if refused := _refused_for_nothing(world):
        world.events.append(Trouble("S-IN-2", refused))


def _meanwhile(first: First, clients: Clients) -> None:
    """What happens in the first ring while its disks are copied."""
    clients.later(first.plan.copied.steps_meanwhile, 0.0)
    for fault in first.plan.copied.faults_meanwhile:
        first.later(fault.at, partial(strike, first, fault))


def _begin_second(clients: Clients, second: Second) -> None:
    """The ring of the copies, with its own clients and faults."""
    copied = second.first.plan.copied
    second.start_copies()
    second.clients = Clients(second)
    second.clients.go_on_from(clients, second.contexts, copied.one_secret)
    second.clients.begin(copied.steps)
    for fault in copied.faults:
        second.later(fault.at, partial(strike, second, fault))


def _finish_second(first: First) -> list[Event]:
    """The history of the second ring after its healing, if any. The first ring must not change."""
    second = first.second
    if second is None:
        return []
    first.run_until(first.now + first.plan.copied.begins_s)
    assert second.clients is not None
    first.run_until(max(first.now, second.ends_at + second.steps_after))
    heal(second, second.clients)
    finish(second, second.clients)
    if first.converged and (why := not_converged(first)):
        first.events.append(Trouble("S-BAK-4", f"the first ring was disturbed: {why}"))
    second.judge()
    _judge_counters(second)
    first.counters.update({name: second.counters[name] for name in OF_COPIES})
    first.counters["ring of copies converged"] += second.converged
    return second.history()


def _refused_for_nothing(world: World) -> str:
    """Messages of correct nodes must make sense during every fault (C17). Messages of a node with
    a bad memory need not."""
    bad = {"senseless", "bad memory"}.intersection(fault.kind for fault in world.plan.faults)
    refused = world.counters["senseless_input_refused"] + world.counters["rings_refused"]
    if not refused or bad or "senseless" in world.plan.families:
        return ""
    why = [f for p in world.processes if p.node is not None for f in p.node.refusals.untold]
    return f"{refused} times what a correct node said made no sense: {why}"


def heal(world: World, clients: Clients) -> None:
    """The last fault has ended: links, disks, fsync times, processes."""
    world.note("--- everything is healed")
    canaries.end(world)
    world.healed, world.healed_at = True, world.now
    world.network.heal()
    for process in world.processes:
        if process.on_heal is not None:
            process.on_heal()
        process.disk.full = False
        process.disk.failing = 0.0
        process.sync_s = 0.0
        process.sync_fails = False
        process.flips = 0.0
        world.resume(process)
    for process in world.processes:
        world.start(process)
    if world.person is not None:
        world.person.insist()


def finish(world: World, clients: Clients) -> None:
    """Convergence, writes that nothing excuses, final reads, idle time."""
    if not converge(world, clients, world.plan.looks):
        return
    world.count("converged" if world.plan.looks else "converged without a read")
    world.converged = True
    commits = _rounds(world)
    clients.write_everywhere()
    clients.wait()
    if not converge(world, clients):
        return
    agreed(world)
    _copies(world)
    _read_all(world, clients, (1, world.plan.n))
    _idle(world, commits)
    for process in world.processes:
        if process.node is not None and (left := process.node.admission_control.in_flight):
            detail = f"{process.name} counts {left} operations under way although none is"
            world.events.append(Trouble("C16", detail))
    if world.plan.quiet and _repairs(world):
        world.events.append(Trouble("C4", f"{_repairs(world)} repairs although nothing failed"))


def _idle(world: World, commits: int) -> None:
    """Without requests, nothing is repaired (C4). There is one exception: a read that met one owner
    before the commit of a round and another owner after it brings the tombstone back to all owners.
    This costs repairs, and a later round forgets it; then the idle time after that round counts."""
    since = 0
    for _ in range(IDLES_MAX):
        before = _repairs(world)
        world.run_until(world.now + world.plan.idle_s)
        repairs = _repairs(world) - before
        if not repairs:
            return
        since = since + 1 if _rounds(world) == commits else 0
        commits = _rounds(world)
        if since == REVIVED_MAX:
            break
    world.events.append(Trouble("C4", f"{repairs} repairs while nothing was asked"))


def _rounds(world: World) -> int:
    """The number of rounds committed by running nodes."""
    nodes = [p.node for p in world.processes if p.node is not None]
    return sum(node.counters["rounds_committed"] for node in nodes)


def converge(world: World, clients: Clients, looks: int = 0) -> bool:
    """Let the nodes agree, which they must do without reads (C13); `looks` rounds of reads come in
    addition. False if they do not agree within the bound."""
    changes = not {"administrator", "bad memory"}.isdisjoint(world.plan.families)
    deadline = world.now + CONVERGED_S_MAX * (3 if changes else 1)
    while (why := not_converged(world) or clients.unanswered()) or looks > 0:
        if world.now >= deadline:
            detail = f"not converged at t={world.now:.0f}: {why}"
            world.events.append(Trouble("C4", detail))
            return False
        for process in world.processes:
            if process.node is not None and process.node.ring_state.emptied:
                _join_anew(world, process)
        members = [p for p in world.processes if p.node is not None and p.node.member]
        if members:
            mend_target(world, members[0])
        if looks > 0:
            looks -= 1
            clients.look()
        world.run_until(world.now + LOOK_S)
    return True


def _members(world: World) -> list[Node]:
    """The nodes that serve keys."""
    return [p.node for p in world.processes if p.node is not None and p.node.member]


def _join_anew(world: World, process: Process) -> None:
    """S-MEM-3: a replaced node has handed over everything and returns under a new id."""
    node = process.node
    assert node is not None
    if node.ring.members[process.name].state == LEFT:
        return
    world.count("emptied node joined under a new id")
    world.stop(process)
    world.new_disk(process)
    world.start(process)


def not_converged(world: World) -> str:
    """Why the nodes do not agree yet, "" if they do."""
    nodes = _members(world)
    for process in world.processes:
        node = process.node
        if node is None or not node.writable:
            return f"{process.name} cannot write"
        if process.syncing and process.synced_at > world.now + LOOK_S:
            return f"{process.name} still waits for an fsync that began before"
        if process.disk.corrupt:
            return f"{process.name} has damaged records"
        if node.ring_state.gone and not node.ring_state.emptied:
            return f"{process.name} is gone and has something to hand over"
    if not nodes:
        return "there is no member"
    if any(node.ring.digest != nodes[0].ring.digest for node in nodes):
        return "rings differ"
    for process in world.processes:
        if process.node in nodes and not _sees_all(world, process):
            return f"{process.name} does not see all members up"
        line = nodes[0].ring.members[process.name] if process.node in nodes else None
        if line and (line.address, line.client) != (process.address, process.client):
            return f"the ring has {process.name} at {line.address} and {line.client}"
    for node in nodes:
        if hints := _deliverable(node):
            return f"{node.name} has hints for {hints}"
        if node.replica.quarantined:
            return f"{node.name} has not compared {sorted(node.replica.quarantined)}"
        if node.hints.dirty:
            return f"{node.name} has dirty marks {sorted(node.hints.dirty)}"
    ring = nodes[0].ring
    by_name = {node.identity.name: node for node in nodes}
    if by_name.keys() != set(ring.live_names()):
        return f"{sorted(by_name)} serve, {ring.live_names()} are in the ring"
    waiting = {name for name, node in by_name.items() if node.hints.counts}
    changing = {m.name for m in ring.members.values() if m.state in (JOINING, LEAVING)}
    if moving(ring) or changing - waiting:
        return "the ring is changing"
    for partition, entry in enumerate(ring.entries):
        wanted = ring.live(ring.target.owners[partition]) if ring.target.owners else []
        if not set(wanted) <= set(entry.owners):
            return (
                f"partition {partition} is at {entry.owners}, not {ring.target.owners[partition]}"
            )
        owners = [by_name[o] for o in ring.live(entry.owners)]
        for node in nodes:
            waits = node in owners or node.hints.any_of(partition, ring.partition_bits)
            if not waits and partition in node.replica.forest.held():
                return f"{node.name} holds something of {partition} that is not its own"
        for owner in owners:
            if not owner.replica.complete(partition):
                return f"{owner.name} is not complete in {partition}"
        if len({owner.replica.forest.root(partition) for owner in owners}) > 1:
            return f"trees of {partition} differ"
    return _records_differ(world, nodes[0])


def _deliverable(node: Node) -> list[str]:
    """Names with deliverable hints here, without removed nodes whose place is empty (S-HINT-3)."""
    if not node.hints.counts:
        return []
    ring = node.ring
    return sorted(
        spelled(target)
        for partition, entry in enumerate(ring.entries)
        for target, _ in node.hints.some_of(partition, ring.partition_bits, 1 << 20)
        if not isinstance(target, str) or ring.live([target]) or target not in entry.owners
    )


def _sees_all(world: World, process: Process) -> bool:
    """Whether it sees all members up, by a heartbeat that went there and back since the healing. An
    earlier heartbeat is recent enough now, but too old for the echo of a frame one second later
    (S-NET-1)."""
    node = process.node
    assert node is not None
    healed_ms = (world.healed_at + process.monotonic_s) * 1000
    others = [name for name in node.preference.names if name != node.name]
    return all(node.up(name) and node.detector.peers[name].echo_ms >= healed_ms for name in others)


def _owners(world: World, node: Node, key: bytes) -> list[str]:
    partition = partition_of(store_key(key), node.ring.partition_bits)
    return node.ring.live(node.preference.owners(partition))


def _records_differ(world: World, node: Node) -> str:
    disks = {process.name: process.disk for process in world.processes}
    for key in world.plan.keys:
        bodies = set()
        stored = store_key(key)
        for owner in _owners(world, node, key):
            disk = disks[owner]
            row = None if (DATA, stored) in disk.corrupt else disk.rows[DATA].get(stored)
            bodies.add(body_of(row) if row is not None else None)
        if len(bodies) > 1:
            return f"an owner of {key!r} misses some of its records"
    return ""


def _copies(world: World) -> None:
    node = _members(world)[0]
    disks = {process.name: process.disk for process in world.processes}
    for key in world.plan.keys:
        for owner in _owners(world, node, key):
            row = disks[owner].rows[DATA].get(store_key(key), b"")
            digest = blake2b(body_of(row) if row else b"", digest_size=16).digest()
            world.events.append(Copy(key, owner, digest))


def _read_all(world: World, clients: Clients, rs: tuple[int, ...]) -> None:
    """Every key through every node."""
    used = [key for key in world.plan.keys if any(k == key for k, _ in world.value_of)]
    node = _members(world)[0]
    serving = [p for p in world.processes if p.node in _members(world)]
    for r, process, key in product(rs, serving, used):
        live = min(r, len(_owners(world, node, key)))
        clients.in_turn(partial(clients.get, process, key, live, strict=False, final=True))
    clients.wait()


def _repairs(world: World) -> int:
    return sum(
        process.node.counters[name]
        for process in world.processes
        if process.node is not None
        for name in REPAIRS
    )


def _count_outcomes(world: World) -> None:
    if world.plan.created:
        world.count("founded by command")
    finals = [e for e in world.events if isinstance(e, Attempt) and e.final]
    there = {data for event in finals for data in event.shown}
    for event in world.events:
        if isinstance(event, Attempt):
            world.count(f"{event.kind} {event.outcome or 'hung'}")
            if event.kind == "put" and event.outcome == UNKNOWN and event.sent in there:
                world.count("a put without an answer had happened")
            if event.kind == "get" and event.status == 404:
                world.counters["get found nothing"] += 1
            if event.problem == "too-many-siblings" and world.plan.siblings_max > len(
                world.written
            ):
                world.count("refused for the bytes of its siblings")
            if event.problem:
                world.counters["answered " + event.problem] += 1
