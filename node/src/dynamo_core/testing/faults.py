"""The faults of a history: when they happen, and what each does to the world.

Most disasters in practice need two or three faults in order, and most partition disasters come from
one isolated node. So plans are short, and isolation is the most frequent cut.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from dynamo_core.keys import DATA, HINTS, META, store_key
from dynamo_core.replica.hints import split_hint_key
from dynamo_core.testing import addresses
from dynamo_core.testing.administrator import COMMANDS, command
from dynamo_core.testing.copies import copy_disks
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.looking import look
from dynamo_core.testing.process import Process
from dynamo_core.testing.senseless import spoil, talk
from dynamo_core.testing.versions import update
from dynamo_core.testing.world import World

FAULTS_MAX = 7
RECOVERY_S = 0.6
"""A store that refused writes accepts them again this long after the cause has ended."""
HOUR_MS = 3_600_000
KEPT = 0.7
"""Share of disks that return after an old disk had replaced them; else the emptied node joins as a
new one."""


MOVES = ("move", "move", "move all", "swap addresses")
"""Nodes that return with their disk at another address."""

KINDS: dict[str, tuple[str, ...]] = {
    "cut": ("isolate", "isolate", "cut both", "cut one way", "split"),
    "crash": ("crash", "crash", "restart"),
    "power": ("power", "power all"),
    "wipe": ("wipe",),
    "rollback": ("rollback",),
    "old disk": ("old disk",),
    "corrupt": ("corrupt",),
    "full": ("full",),
    "failing": ("failing",),
    "slow fsync": ("slow fsync",),
    "fsync error": ("fsync error",),
    "pause": ("pause",),
    "clock": ("clock", "clock all"),
    "repair": ("repair",),
    "administrator": (
        "join",
        "join",
        "leave",
        "leave",
        "weights",
        "tokens",
        "cancel",
        "rebalance",
        "remove",
    ),
}
"""The faults of each family; the other families are rates or shapes of operations."""


def choose_faults(rng: Random, families: set[str], nodes: int, ends_at: float) -> list[Fault]:
    """A short plan from the chosen families."""
    kinds = [kind for family in KINDS if family in families for kind in KINDS[family]]
    if not kinds:
        return []
    count = rng.choice((1, 2, 2, 3, 3, 4, 5, FAULTS_MAX))
    victim = rng.randrange(nodes)
    faults = []
    for _ in range(count):
        node = victim if rng.random() < 0.4 else rng.randrange(nodes)
        faults.append(
            Fault(
                at=rng.uniform(0.3, ends_at),
                kind=rng.choice(kinds),
                node=node,
                peer=(node + rng.randrange(1, max(nodes, 2))) % nodes,
                lasts=rng.choice((0.05, 0.5, 2.0, 5.0)) * rng.uniform(0.5, 1.5),
                amount=rng.random(),
            )
        )
    if {"wipe", "old disk"} <= families and rng.random() < 0.5:
        # The order matters: a new life is admitted only if no member hears the old one.
        wiped = Fault(at=rng.uniform(0.3, 2.0), kind="wipe", node=victim, lasts=0.5)
        old = Fault(at=wiped.at + rng.uniform(4.5, 7.0), kind="old disk", node=victim)
        faults += [wiped, old] if old.at < ends_at else [wiped]
    if "administrator" in families and rng.random() < 0.4:
        faults += _rival(rng, faults, nodes)
    return sorted(faults, key=lambda f: f.at)


def _rival(rng: Random, faults: list[Fault], nodes: int) -> list[Fault]:
    """A second administrator at another node, at the same time or a moment later."""
    commands = [f for f in faults if f.kind in COMMANDS]
    return [
        Fault(
            at=f.at + rng.choice((0.0, 0.01, 0.3)),
            kind=rng.choice(KINDS["administrator"]),
            node=(f.node + rng.randrange(1, max(nodes, 2))) % nodes,
            peer=rng.randrange(nodes),
            amount=rng.random(),
        )
        for f in commands
    ]


def strike(world: World, fault: Fault) -> None:
    """Carry out the fault and schedule its end."""
    process = world.processes[fault.node % len(world.processes)]
    peer = world.processes[fault.peer % len(world.processes)]
    world.count("fault " + fault.kind)
    if fault.kind in CUTS:
        for sender, receiver in _links(world, fault, process, peer):
            world.cut(sender, receiver, fault)
    elif fault.kind == "full link":
        world.fill(process.name, peer.name, fault)
    elif fault.kind in ("crash", "restart", "power", "pause", "wipe", "rollback", "old disk"):
        STOPS[fault.kind](world, process, fault)
    elif fault.kind in MOVES:
        addresses.move(world, fault, process, peer)
    elif fault.kind in COMMANDS:
        command(world, process, fault)
    elif fault.kind in ("power all", "clock all"):
        for each in world.processes:
            (_power if fault.kind == "power all" else _clock)(world, each, fault)
    else:
        OTHERS[fault.kind](world, process, fault)


CUTS = ("isolate", "cut both", "cut one way", "split")


def _links(world: World, fault: Fault, one: Process, other: Process) -> list[tuple[str, str]]:
    names = [p.name for p in world.processes]
    if fault.kind == "cut one way":
        return [(one.name, other.name)]
    if fault.kind == "cut both":
        return [(one.name, other.name), (other.name, one.name)]
    apart = {one.name}
    if fault.kind == "split":
        apart |= {name for i, name in enumerate(names) if int(fault.amount * 64) >> i & 1}
    return [(a, b) for a in names for b in names if a != b and (a in apart) != (b in apart)]


def _crash(world: World, process: Process, fault: Fault) -> None:
    world.stop(process)
    world.later(fault.lasts, lambda: world.start(process))


def _restart(world: World, process: Process, fault: Fault) -> None:
    """A clean stop: everything written is synced, and the side file says so."""
    if process.node is not None and process.node.writable and not process.paused:
        world.stop(process)
        process.disk.synced(process.disk.written)
        process.disk.marks.clean = True
    world.later(0.2, lambda: world.start(process))


def _power(world: World, process: Process, fault: Fault) -> None:
    world.stop(process, silent=True)
    process.machine_boot += 1
    world.damage(process, lambda: process.disk.power_cut(world.rng))
    world.later(fault.lasts, lambda: world.start(process))


def _pause(world: World, process: Process, fault: Fault) -> None:
    process.paused = True
    process.disturb(world.now)
    world.later(fault.lasts, lambda: world.resume(process))


def _wipe(world: World, process: Process, fault: Fault) -> None:
    """A new disk with a new id under the old name (S-MEM-4); some member must stay to admit it.
    Leaving nodes will be LEFT, and their ids never return (S-MEM-3). If the last staying member
    lost its disk, the ring would be lost, and people could only create another ring."""
    others = [p for p in world.processes if p is not process]
    if process.on_heal is not None or not any(p.stays() for p in others):
        return
    world.stop(process)
    process.old_disks.append(process.disk)
    world.damage(process, lambda: world.new_disk(process))
    world.later(fault.lasts, lambda: world.start(process))


def _rollback(world: World, process: Process, fault: Fault) -> None:
    """A backup is taken now and put back later, with or without its side file."""
    backup = process.disk.copy()
    backup.put_back = True

    def put_back() -> None:
        if world.healed or process.disk.node_id != backup.node_id:
            return
        world.stop(process)
        marks = process.disk.marks

        def swap() -> None:
            process.disk = backup
            if fault.amount < 0.3:
                backup.marks = marks

        world.damage(process, swap, silent=True)
        world.count("disk rolled back")
        world.later(0.3, lambda: world.start(process))

    world.later(fault.lasts, put_back)


def _old_disk(world: World, process: Process, fault: Fault) -> None:
    """The disk of an earlier life returns, mostly for some time only (S-MEM-3)."""
    known = [disk for disk in process.old_disks if b"ring" in disk.rows[META]]
    if not known or not process.knows_ring() or process.on_heal is not None:
        return
    newer, old = process.disk, known[-1]
    old.put_back = True

    def swap(disk: object) -> None:
        process.on_heal = None
        world.stop(process)

        def change() -> None:
            process.disk = old if disk is old else newer

        world.damage(process, change)
        world.start(process)

    swap(old)
    world.count("old disk came back")
    if fault.amount < KEPT or world.plan.n == 1:
        # A sole owner can hand its records over only to its next life.
        process.on_heal = lambda: swap(newer)


def _corrupt(world: World, process: Process, fault: Fault) -> None:
    places = [(f, key) for f in (DATA, HINTS) for key in sorted(process.disk.rows[f])]
    if places:
        place = places[int(fault.amount * len(places))]
        world.damage(process, lambda: process.disk.corrupt.add(place), rot=True)
        world.count("record damaged" if place[0] == DATA else "hint damaged")


def _rot(world: World, process: Process, fault: Fault) -> None:
    """Every copy of one key is damaged, on all disks."""
    stored = store_key(world.plan.keys[int(fault.amount * len(world.plan.keys))])
    for each in world.processes:
        rows = each.disk.rows
        places = [(DATA, stored)] if stored in rows[DATA] else []
        places += [(HINTS, key) for key in rows[HINTS] if split_hint_key(key)[1] == stored]
        if places:
            world.damage(each, partial(each.disk.corrupt.update, places), rot=True)
            world.count("every copy damaged")


def _full(world: World, process: Process, fault: Fault) -> None:
    process.disk.full = True
    process.disturb(world.now + fault.lasts + RECOVERY_S)
    world.later(fault.lasts, _over(process, "full", False))


def _failing(world: World, process: Process, fault: Fault) -> None:
    process.disk.failing = max(fault.amount, 0.01)
    lasts = min(fault.lasts, 0.5)
    process.disturb(world.now + lasts + RECOVERY_S)
    world.later(lasts, _over(process, "failing", 0.0))


def _over(process: Process, name: str, value: object) -> Callable[[], None]:
    """Ends a fault of this disk, even if the machine has another disk by then."""
    disk = process.disk
    return lambda: setattr(disk, name, value)


def _slow_fsync(world: World, process: Process, fault: Fault) -> None:
    process.sync_s = 0.5 + 3 * fault.amount
    process.slow_until = max(process.slow_until, world.now + fault.lasts + process.sync_s)

    def over() -> None:
        process.sync_s = 0.0

    world.later(fault.lasts, over)


def _fsync_error(world: World, process: Process, fault: Fault) -> None:
    process.sync_fails = True


def _clock(world: World, process: Process, fault: Fault) -> None:
    world.set_wall_clock(process, int((2 * fault.amount - 1) * HOUR_MS))
    world.count("clock jumped back" if fault.amount < 0.5 else "clock jumped ahead")


def _bad_memory(world: World, process: Process, fault: Fault) -> None:
    process.flips = max(fault.amount, 0.01)
    process.disturb(world.now + fault.lasts)

    def over() -> None:
        process.flips = 0.0

    world.later(fault.lasts, over)


def _repair(world: World, process: Process, fault: Fault) -> None:
    """An administrator starts a repair of everything."""
    node = process.node
    if node is not None and not process.paused and node.member:
        world.enter(
            process, lambda: node.admin.repair("", [], [], False, lambda status, body: None)
        )


def _approve(world: World, process: Process, fault: Fault) -> None:
    """A person asks the peer to let an empty disk take the place of this node."""
    if world.person is not None:
        world.person.approve(process, world.processes[fault.peer % len(world.processes)])


def _back_up(world: World, process: Process, fault: Fault) -> None:
    world.backups.back_up(process)


def _restore(world: World, process: Process, fault: Fault) -> None:
    world.backups.restore(process)


def _forget_backup(world: World, process: Process, fault: Fault) -> None:
    world.backups.forget()


STOPS = {
    "crash": _crash, "restart": _restart, "power": _power, "pause": _pause, "wipe": _wipe,
    "rollback": _rollback, "old disk": _old_disk,
}  # fmt: skip
OTHERS = {
    "corrupt": _corrupt, "rot": _rot, "full": _full, "failing": _failing, "slow fsync": _slow_fsync,
    "fsync error": _fsync_error, "clock": _clock, "repair": _repair, "bad memory": _bad_memory,
    "senseless": talk, "spoilt ring": spoil, "approve": _approve,
    "back up": _back_up, "restore": _restore, "forget backup": _forget_backup, "update": update,
    "look": look, "copy disks": copy_disks,
}  # fmt: skip
