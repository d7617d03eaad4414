"""Administrators of a simulated ring: each plans and applies at any member and knows no other.

Their commands: a member leaves, joins or takes more; other defaults; a plan that is cancelled or
overtaken by another; a node that is removed by force because it seems dead, and may return with its
disk (S-MOVE-4, 6, 7). They use the planner of the admin listener, and a command ends when its node
dies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dynamo_core.node import Node
from dynamo_core.ring.document import LEAVING, LEFT, MEMBER, Ring
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import Damage
from dynamo_core.testing.process import Process
from dynamo_core.testing.world import World

RETURNS = 0.6
"""Share of nodes that return with their disk after a removal by force."""
THINKS_S = 0.3
"""How long an administrator looks at a plan before applying it, at most."""
AGAIN = 0.5
"""Share of administrators that plan again after the answer that their plan has changed."""
Body = dict[str, Any]


def command(world: World, process: Process, fault: Fault) -> None:
    """One command at the node of `process`; `peer` and `amount` choose its target."""
    node = process.node
    if node is None or process.paused or not node.member:
        return
    if fault.kind == "cancel":
        if moving(node.ring):
            world.count("cancelled while a partition moves")
        _enter(world, process, node, lambda: node.admin.planner.cancel({}, _answered(world, fault)))
    elif fault.kind == "remove":
        _remove(world, process, node, fault)
    else:
        body = WISHES[fault.kind](world, node, fault)
        if body is not None:
            _plan_and_apply(world, process, body, fault.kind)


def moving(ring: Ring) -> bool:
    """Whether a move is under way or a switch settles."""
    return any(entry.move or entry.old for entry in ring.entries)


def _enter(world: World, process: Process, node: Node, call: Callable[[], None]) -> None:
    """Calls it if this life of the node still runs."""
    if process.node is node and not process.paused:
        world.enter(process, call)


def _answered(world: World, fault: Fault) -> Callable[[int, Body], None]:
    return lambda status, document: world.count(f"{fault.kind} answered {status}")


def _plan_and_apply(world: World, process: Process, body: Body, kind: str) -> None:
    """Plans, waits, applies the plan; if the plan has changed, perhaps once more."""
    node = process.node
    assert node is not None
    operation = f"{world.rng.getrandbits(32):08x}"

    def planned(status: int, document: Body) -> None:
        world.count(f"plan answered {status}")
        if status != 200:
            return world.note(f"{process.name}: {kind}: {document.get('detail')}")
        quoted = body | {"hash": document["hash"], "operation_id": operation}
        apply = lambda: node.admin.planner.apply(quoted, applied)  # noqa: E731
        wait = THINKS_S * world.rng.random()
        return world.later(wait, lambda: _enter(world, process, node, apply))

    def applied(status: int, document: Body) -> None:
        world.count(f"{kind} answered {status} {document.get('problem', '')}".rstrip())
        world.note(f"an administrator at {process.name}: {kind} answered {status}")
        if status == 202 and kind == "defaults":
            world.count("defaults changed")
        if status == 202 and moving(node.ring):
            world.count("plan applied while another one moves")
        if status == 409 and not world.healed and world.rng.random() < AGAIN:
            world.later(0.0, lambda: _plan_and_apply(world, process, body, kind))

    _enter(world, process, node, lambda: node.admin.planner.plan(body, planned))


# ---------------------------------------------------------------- the requested changes


def _join(world: World, node: Node, fault: Fault) -> Body | None:
    empty = [
        p
        for p in world.processes
        if p.node is not None and not p.paused
        if p.node.ring_or_none is None and not p.node.write_batch.holds_data()
        if p.name not in node.ring.members or node.ring.members[p.name].state == LEFT
    ]
    count = 1 + (fault.amount < 0.4)
    joining = [{"name": p.name, "address": p.address} for p in empty[:count]]
    return {"join": joining} if joining else None


def _members(node: Node) -> list[str]:
    return sorted(m.name for m in node.ring.members.values() if m.state == MEMBER)


def _leave(world: World, node: Node, fault: Fault) -> Body | None:
    names = _members(node)
    return {"leave": [names[fault.peer % len(names)]]} if names else None


def _weights(world: World, node: Node, fault: Fault) -> Body | None:
    names = _members(node)
    weight = 1 + int(3 * fault.amount)
    return {"weights": {names[fault.peer % len(names)]: weight}} if names else None


def _tokens(world: World, node: Node, fault: Fault) -> Body | None:
    """A few manual moves of replicas from one owner to a node that does not own them."""
    ring = node.ring
    names = _members(node)
    moves = []
    for partition in range(int(fault.amount * 8), len(ring.entries), 5):
        owners = ring.entries[partition].owners
        others = [name for name in names if name not in owners]
        if others and not ring.entries[partition].move:
            out = owners[fault.peer % len(owners)]
            to = others[fault.peer % len(others)]
            moves.append({"partition": partition, "from": out, "to": to})
    return {"moves": moves} if moves else None


def _rebalance(world: World, node: Node, fault: Fault) -> Body | None:
    return {}


def _defaults(world: World, node: Node, fault: Fault) -> Body | None:
    """Quorums that meet, R+W>N, or W alone; and another value of sloppy."""
    n = node.ring.identity.n
    w = 1 + int(n * fault.amount)
    asked: Body = {"w": w, "dw": 1 + fault.peer % w, "sloppy": fault.peer % 2 > 0}
    if fault.amount * 16 % 1 < 0.7:
        asked["r"] = n - w + 1
    return {"defaults": asked}


WISHES: dict[str, Callable[[World, Node, Fault], Body | None]] = {
    "join": _join, "leave": _leave, "weights": _weights, "tokens": _tokens,
    "rebalance": _rebalance, "defaults": _defaults,
}  # fmt: skip
COMMANDS = (*WISHES, "cancel", "remove")


def _remove(world: World, process: Process, node: Node, fault: Fault) -> None:
    """Its process is stopped first, because the command asserts that it is dead."""
    ring = node.ring
    live = [p for p in world.processes if p.name in ring.live([p.name]) and p.node is not node]
    if len(live) < ring.identity.n or not live:
        return
    victim = live[fault.peer % len(live)]
    world.stop(victim)
    if any(entry.move and victim.name in entry.move for entry in ring.entries):
        world.count("removed during a move")
    for value in sorted(world.held(victim.disk)):
        world.damaged.setdefault(value, set()).add(victim.name)
        world.events.append(Damage(value, victim.name, True, True))
    world.removed.add(ring.members[victim.name].id)
    body = {"name": victim.name, "force": True}
    _enter(world, process, node, lambda: node.admin.planner.remove(body, _answered(world, fault)))
    if fault.amount < RETURNS:
        world.count("a removed node came back")
        world.later(fault.lasts, lambda: world.start(victim))


def mend_target(world: World, process: Process) -> None:
    """A target that lost against another one left some members unchanged: an administrator whose
    plan was superseded, or who gets no answer, makes the plan again."""
    node = process.node
    assert node is not None
    ring = node.ring
    wished = {name for owners in ring.target.owners for name in owners}
    owning = {name for entry in ring.entries for name in entry.owners}
    away = {m.name for m in ring.members.values() if m.state in (LEAVING, LEFT)}
    if moving(ring) or not (away & wished or away & owning):
        return
    staying = [m for m in ring.members.values() if m.state not in (LEAVING, LEFT)]
    world.count("superseded plan made again")
    if len(staying) >= ring.identity.n:
        _plan_and_apply(world, process, {}, "rebalance")
    else:  # too few would stay, so the leaving nodes stay
        _enter(world, process, node, lambda: node.admin.planner.cancel({}, lambda status, _: None))
