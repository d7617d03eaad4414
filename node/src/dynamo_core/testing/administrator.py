"""Administrators of a simulated ring: they plan and apply at any member, and know no other.

A member who leaves, joins, or takes more; a plan that is cancelled or overtaken by another one; a
node that is taken for dead and removed by force, and may come back with its disk (S-MOVE-4, 6, 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dynamo_core.change import applied, cancelled, plan, removed
from dynamo_core.errors import BadParameter
from dynamo_core.node import Node
from dynamo_core.ring import LEAVING, LEFT, MEMBER, Ring
from dynamo_core.testing.history import Damage
from dynamo_core.testing.process import Process
from dynamo_core.wishes import parse_wishes

if TYPE_CHECKING:
    from dynamo_core.testing.faults import Fault
    from dynamo_core.testing.world import World

RETURNS = 0.6
"""Of the nodes that were removed by force so many come back with their disk."""


def command(world: World, process: Process, fault: Fault) -> None:
    """One command at the node of `process`; `peer` and `amount` choose what it is about."""
    node = process.node
    if node is None or process.paused or not node.member or not node.writable:
        return
    made: Ring | None
    try:
        made = COMMANDS[fault.kind](world, node, fault)
    except BadParameter as error:
        world.note(f"{process.name}: {fault.kind}: {error}")
        world.count(f"command refused: {fault.kind}")
        return
    if made is not None and made is not node.ring:
        world.count(f"command applied: {fault.kind}")
        world.note(f"an administrator at {process.name}: {fault.kind}")
        if fault.kind != "cancel" and moving(node.ring):
            world.count("plan applied while another one moves")
        world.enter(process, lambda: node.membership.take(made))


def moving(ring: Ring) -> bool:
    """Whether a move is under way or a switch settles."""
    return any(entry.move or entry.old for entry in ring.entries)


def _operation(world: World) -> str:
    return f"{world.rng.getrandbits(32):08x}"


def _apply(world: World, node: Node, **body: Any) -> Ring:
    wishes = parse_wishes(body)
    made = plan(node.ring, wishes)
    ids = {
        p.name: (p.disk.node_id, p.name + ":2")
        for p in world.processes
        if p.name in {member.name for member in wishes.join}
    }
    return applied(node.ring, made, wishes, ids, _operation(world))


def _join(world: World, node: Node, fault: Fault) -> Ring | None:
    empty = [
        p
        for p in world.processes
        if p.node is not None and not p.paused
        if p.node.ring_or_none is None and not p.node.holds_data()
        if p.name not in node.ring.members or node.ring.members[p.name].state == LEFT
    ]
    if not empty:
        return None
    count = 1 + (fault.amount < 0.4)
    joining = [{"name": p.name, "address": p.address} for p in empty[:count]]
    return _apply(world, node, join=joining)


def _leave(world: World, node: Node, fault: Fault) -> Ring | None:
    names = [m.name for m in node.ring.members.values() if m.state == MEMBER]
    name = sorted(names)[fault.peer % len(names)] if names else ""
    return _apply(world, node, leave=[name]) if name else None


def _weights(world: World, node: Node, fault: Fault) -> Ring | None:
    names = sorted(m.name for m in node.ring.members.values() if m.state == MEMBER)
    if not names:
        return None
    return _apply(world, node, weights={names[fault.peer % len(names)]: 1 + int(3 * fault.amount)})


def _tokens(world: World, node: Node, fault: Fault) -> Ring | None:
    """A few replicas by hand, from one owner to a node that is none."""
    ring = node.ring
    names = sorted(m.name for m in ring.members.values() if m.state == MEMBER)
    moves = []
    for partition in range(int(fault.amount * 8), len(ring.entries), 5):
        owners = ring.entries[partition].owners
        others = [name for name in names if name not in owners]
        if others and not ring.entries[partition].move:
            out = owners[fault.peer % len(owners)]
            to = others[fault.peer % len(others)]
            moves.append({"partition": partition, "from": out, "to": to})
    return _apply(world, node, moves=moves) if moves else None


def _cancel(world: World, node: Node, fault: Fault) -> Ring | None:
    if moving(node.ring):
        world.count("cancelled while a partition moves")
    return cancelled(node.ring)


def _rebalance(world: World, node: Node, fault: Fault) -> Ring | None:
    return _apply(world, node)


def _remove(world: World, node: Node, fault: Fault) -> Ring | None:
    """Taken for dead: its process is stopped first, for that is what the command asserts."""
    ring = node.ring
    live = [p for p in world.processes if p.name in ring.live([p.name]) and p.node is not node]
    if len(live) < ring.identity.n or not live:
        return None
    victim = live[fault.peer % len(live)]
    made, _, _ = removed(ring, victim.name, False, _operation(world))
    world.stop(victim)
    if any(entry.move and victim.name in entry.move for entry in ring.entries):
        world.count("removed in the midst of a move")
    for value in sorted(world.held(victim.disk)):
        world.damaged.setdefault(value, set()).add(victim.name)
        world.events.append(Damage(value, victim.name, True, True))
    victim.removed = True
    if fault.amount < RETURNS:
        world.count("a removed node came back")
        world.later(fault.lasts, lambda: world.start(victim))
    return made


COMMANDS = {
    "join": _join, "leave": _leave, "weights": _weights, "tokens": _tokens, "cancel": _cancel,
    "rebalance": _rebalance, "remove": _remove,
}  # fmt: skip


def mend_target(world: World, nodes: Iterable[Node]) -> None:
    """A target that lost against another one left members as they were: whoever is told that its
    plan was superseded makes it again."""
    node = next(iter(nodes))
    ring = node.ring
    wished = {name for owners in ring.target.owners for name in owners}
    owning = {name for entry in ring.entries for name in entry.owners}
    away = {m.name for m in ring.members.values() if m.state in (LEAVING, LEFT)}
    stuck = away & wished or any(ring.members[name].state == LEFT for name in owning)
    if stuck and not moving(ring):
        try:
            made = _apply(world, node)
        except BadParameter:  # too few would stay: whoever leaves is to stay
            made = cancelled(ring)
        if made is ring or (
            made.target.owners == ring.target.owners and made.members == ring.members
        ):
            return
        world.count("superseded plan made again")
        process = next(p for p in world.processes if p.node is node)
        world.enter(process, lambda: node.membership.take(made))
