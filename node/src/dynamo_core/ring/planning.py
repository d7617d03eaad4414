"""Changes of the ring: the plan for a change request, and the documents it makes (S-MOVE-6).

Theory of operation. A change is planned before it is made: `plan` is a pure function of a ring and
a change request, so every node shows the same plan with the same hash. Applying a plan only writes
members and target. Receivers then compare target with owners and do the rest (S-MOVE-1).

    join      a line JOINING; it becomes MEMBER when every partition targeted at it has switched
    leave     LEAVING; LEFT when no entry names it and it holds neither data nor hint (S-MOVE-7)
    weights   another number in a line
    moves     by hand: one replica of a partition, or some tokens; applied after all other changes
    defaults  other r, w, dw, sloppy in the target; a node uses them when it has heard that target

A move under way counts as done: its `in` is an owner, its `out` is not. With joins, leaves, weights
or an empty request, `place` balances again, with the fewest moves from there. A request with only
moves by hand makes only these moves. A request with only defaults moves nothing.

A target keeps the ids of the operations that led to it, the current one last. The same id twice is
one operation. If two operations made the same version, the id of the loser is missing (S-RING-3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import msgspec

from dynamo_core.errors import BadParameter
from dynamo_core.ring.change_request import ChangeRequest, ManualMove
from dynamo_core.ring.document import (
    JOINING,
    LEAVING,
    LEFT,
    MEMBER,
    Entry,
    Member,
    Owners,
    Ring,
    RingParts,
    RingTarget,
    digest_of,
    merge_parts,
)
from dynamo_core.ring.operation_ids import KeptOperation
from dynamo_core.ring.placement import place, scatter

OPERATIONS_KEPT_MAX = 16
FORCED = 1 << 16
"""S-MOVE-4: a forced removal adds this to a version, so that it wins over every version that a
receiver writes at the same time."""

_replace = msgspec.structs.replace


class Plan(msgspec.Struct, frozen=True):
    """What a change request means for one ring. `moves` has (partition, out, in) for each replica
    that moves. The counts are replicas, by node and by zone. `violations` are partitions with two
    owners in one zone. `defaults` has the values before and after, if the request changes any."""

    owners: tuple[Owners, ...]
    moves: tuple[tuple[int, str, str], ...]
    before: dict[str, int]
    after: dict[str, int]
    zones_before: dict[str, int]
    zones_after: dict[str, int]
    violations: tuple[str, ...]
    hash: str
    defaults: dict[str, dict[str, int]] = {}


# ---------------------------------------------------------------- plans


def plan(ring: Ring, request: ChangeRequest) -> Plan:
    """The plan for a change request. Raises BadParameter with the field that cannot be met."""
    staying = _staying(ring, request)
    if request.balances:
        field = "leave" if request.leave else "members"
        owners = _placed(staying, ring, _after(ring), field)
    else:
        owners = ring.target.owners or _after(ring)
    lines = ring.members | staying
    spread = len({line.zone for line in staying.values()}) >= ring.identity.n
    if request.moves:
        rows = [list(row) for row in owners]
        for move in request.moves:
            if move.to not in staying:
                raise BadParameter("moves", f"{move.to!r} is not a member, or it leaves")
            _move(rows, move, lines, spread)
        owners = tuple(map(tuple, rows))
    names = sorted(staying.keys() | set(ring.live_names()))
    now = tuple(entry.owners for entry in ring.entries)
    before, after = _counts(names, now), _counts(names, owners)
    return Plan(
        owners,
        tuple(_changes(now, owners)),
        before,
        after,
        _by_zone(before, lines),
        _by_zone(after, lines),
        tuple(_clashes(owners, lines)) if spread else (),
        digest_of((ring.digests(), request, owners)).hex(),
        _defaults(ring, request.defaults),
    )


def moves_left(ring: Ring) -> int:
    """The number of replicas in the target whose move has not switched yet."""
    return len(list(_changes([entry.owners for entry in ring.entries], ring.target.owners)))


def _defaults(ring: Ring, asked: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The defaults before and after; empty when the request has none. Raises BadParameter."""
    now = {field: getattr(ring.target, field) for field in ("r", "w", "dw", "sloppy")}
    then = now | dict(asked)
    for field, name, most in (
        ("r", "n", ring.identity.n),
        ("w", "n", ring.identity.n),
        ("dw", "w", then["w"]),
    ):
        if field in asked and not 1 <= asked[field] <= most:
            raise BadParameter(f"defaults.{field}", f"1 to {name} = {most}")
    if "w" in asked and then["w"] < then["dw"]:
        raise BadParameter("defaults.w", f"at least dw = {then['dw']}")
    return {"before": now, "after": then} if asked else {}


def _after(ring: Ring) -> tuple[Owners, ...]:
    """The owners of each partition once the moves under way have switched."""
    return tuple(entry.after for entry in ring.entries)


def _staying(ring: Ring, request: ChangeRequest) -> dict[str, Member]:
    """The members that may own partitions after the change. Raises BadParameter for a name that
    cannot join, leave or change."""
    live = {name: ring.members[name] for name in ring.live_names()}
    for new in request.join:
        line = live.get(new.name)
        if line is not None and (line.state != JOINING or line.address != new.address):
            raise BadParameter("join", f"{new.name} is {line.state} at {line.address}")
        for other in live.values():
            if other.address == new.address and other.name != new.name:
                raise BadParameter("join", f"at {new.address} is {other.name}")
    for field, names in (("leave", request.leave), ("weights", tuple(request.weights))):
        for name in names:
            if name not in live:
                raise BadParameter(field, f"no member {name!r}")
    live = {new.name: new for new in request.join} | live
    live |= {name: _replace(live[name], weight=w) for name, w in request.weights.items()}
    return {
        name: line
        for name, line in live.items()
        if line.state != LEAVING and name not in request.leave
    }


def _placed(
    staying: Mapping[str, Member], ring: Ring, previous: Sequence[Owners], field: str = "members"
) -> tuple[Owners, ...]:
    identity = ring.identity
    if len(staying) < identity.n:
        raise BadParameter(field, f"{len(staying)} nodes would stay, n = {identity.n}")
    members = {name: (line.zone, line.weight) for name, line in staying.items()}
    return place(members, identity.partitions, identity.n, previous)


def _changes(before: Sequence[Owners], after: Sequence[Owners]) -> Iterable[tuple[int, str, str]]:
    for partition, (old, new) in enumerate(zip(before, after, strict=False)):
        outs = [name for name in old if name not in new]
        ins = [name for name in new if name not in old]
        for out, into in zip(outs, ins, strict=True):
            yield partition, out, into


def _counts(names: Iterable[str], owners: Iterable[Owners]) -> dict[str, int]:
    held = Counter(name for row in owners for name in row)
    return {name: held[name] for name in names}


def _by_zone(counts: Mapping[str, int], lines: Mapping[str, Member]) -> dict[str, int]:
    zones: Counter[str] = Counter()
    for name, count in counts.items():
        zones[lines[name].zone] += count
    return dict(sorted(zones.items()))


# ---------------------------------------------------------------- moves by hand


def _move(
    rows: list[list[str]], move: ManualMove, lines: Mapping[str, Member], spread: bool
) -> None:
    if move.partition is None:
        _give(rows, move, lines, spread)
        return
    if not 0 <= move.partition < len(rows):
        raise BadParameter("moves", f"partition {move.partition} is not 0 to {len(rows) - 1}")
    row = rows[move.partition]
    if move.source not in row:
        raise BadParameter("moves", f"partition {move.partition} is not {move.source}'s")
    if move.to in row:
        raise BadParameter("moves", f"partition {move.partition} is {move.to}'s already")
    row[row.index(move.source)] = move.to


def _give(
    rows: list[list[str]], move: ManualMove, lines: Mapping[str, Member], spread: bool
) -> None:
    """Move the tokens one by one, each from the node that then holds most for its weight. Moves
    that put two owners into one zone come last. The partitions are scattered over the ring, so that
    neighbours stay with different nodes."""
    zone = lines[move.to].zone
    held = Counter(name for row in rows for name in row)
    offers: dict[str, list[tuple[bool, int, int]]] = {}
    for partition, row in enumerate(rows):
        if move.to in row:
            continue
        for name in row:
            if move.source in ("", name) and move.zone in (None, lines[name].zone):
                clash = spread and any(lines[o].zone == zone for o in row if o != name)
                offer = (clash, scatter(partition, 0), partition)
                offers.setdefault(name, []).append(offer)
    for waiting in offers.values():
        waiting.sort(reverse=True)
    for given in range(move.tokens):
        for waiting in offers.values():
            while waiting and move.to in rows[waiting[-1][2]]:
                waiting.pop()
        order = [
            (waiting[-1][0], Fraction(-held[name], lines[name].weight), name)
            for name, waiting in offers.items()
            if waiting
        ]
        if not order:
            raise BadParameter("moves", f"only {given} of {move.tokens} can go to {move.to}")
        giver = min(order)[2]
        row = rows[offers[giver].pop()[2]]
        row[row.index(giver)] = move.to
        held[giver] -= 1


def _clashes(owners: Sequence[Owners], lines: Mapping[str, Member]) -> Iterable[str]:
    for partition, row in enumerate(owners):
        zones: dict[str, list[str]] = {}
        for name in row:
            zones.setdefault(lines[name].zone, []).append(name)
        for zone, names in sorted(zones.items()):
            if len(names) > 1:
                yield f"partition {partition}: {' and '.join(names)} are in one zone, {zone!r}"


# ---------------------------------------------------------------- documents


def applied(
    ring: Ring,
    made: Plan,
    request: ChangeRequest,
    ids: Mapping[str, tuple[int, str]],
    operation_id: str,
) -> Ring:
    """The ring with the plan written into its members and target (S-MOVE-6). `ids` has the node id
    and the client address of each node that joins."""
    lines = ring.members
    changed = {new.name: _joining(lines.get(new.name), new, *ids[new.name]) for new in request.join}
    for name in request.leave:
        if lines[name].state != LEAVING:
            changed[name] = lines[name].changed(state=LEAVING)
    for name, weight in request.weights.items():
        changed[name] = lines[name].changed(weight=weight)
    target = _replace(ring.target, **request.defaults)
    target = _wished(target, made.owners, len(made.moves), operation_id)
    return merge_parts(ring, RingParts(members=changed, target=target))


def cancelled(ring: Ring) -> Ring:
    """Set the target back to the present owners; `ring` itself when there is nothing to cancel.

    LEAVING nodes that own a partition become members again. JOINING nodes that own no partition
    leave: only they know what they have begun, so they undo it themselves. A joining node that owns
    a partition stays and keeps it. Nodes that were removed by force are still replaced. Weights and
    defaults stay. Raises BadParameter when that replacement needs a joining node: without it fewer
    than N members would be left, and no node could take the places of the removed ones.
    """
    now = tuple(entry.owners for entry in ring.entries)
    held = {name for row in now for name in row}
    changed = {}
    for name in ring.live_names():
        line = ring.members[name]
        if line.state == LEAVING and name in held:
            changed[name] = line.changed(state=MEMBER)
        elif line.state == JOINING and name not in held:
            changed[name] = line.changed(state=LEAVING)
    leaving = [name for name, line in changed.items() if line.state == LEAVING]
    ring = merge_parts(ring, RingParts(members=changed))
    staying = _staying(ring, ChangeRequest())
    if leaving and len(staying) < ring.identity.n:
        raise BadParameter("cancel", _too_few(ring, leaving, staying, held))
    owners = now
    if not held <= staying.keys() and len(staying) >= ring.identity.n:
        owners = _placed(staying, ring, now)
    if owners == (ring.target.owners or now):
        return ring
    moves = len(list(_changes(now, owners)))
    last = ring.target.operations[-1] if ring.target.operations else ""
    mark = KeptOperation(last, cancelled=True).text
    return ring.with_target(_wished(ring.target, owners, moves, mark))


def _too_few(
    ring: Ring, leaving: Sequence[str], staying: Mapping[str, Member], held: set[str]
) -> str:
    """The reason why too few members would stay. Only removed nodes can cause it: without them the
    owners alone are N members."""
    gone = " and ".join(sorted(held - staying.keys()))
    joiners = " and ".join(sorted(leaving))
    return (
        f"without {joiners} {len(staying)} nodes would stay, n = {ring.identity.n}, and no node"
        f" would take the places of {gone}, removed by force. Let another node join first; a"
        " joining node that is dead is removed by force"
    )


def removed(
    ring: Ring, name: str, accept_loss: bool, operation_id: str
) -> tuple[Ring, list[int], list[int]]:
    """The ring without a node that will never come back (S-MOVE-4), and two lists of partitions.

    The first list has those that may lose acked writes: all W nodes that acked a write may be gone.
    The second has those with fewer than N owners until other nodes have taken its places. A node
    that is LEFT may still be in the target, when another change was applied at the same time; it is
    then taken out of the target. Raises BadParameter.
    """
    line = ring.members.get(name)
    if line is None or (line.state == LEFT and not any(name in row for row in ring.target.owners)):
        raise BadParameter("name", f"no member {name!r}")
    if line.state != LEFT:
        line = line.changed(state=LEFT)
    members = ring.members | {name: line}
    entries = tuple(
        without_receiver(entry) if entry.move and entry.move[1] == name else entry
        for entry in ring.entries
    )
    gone = {member.name for member in members.values() if member.state == LEFT}
    below = [p for p, entry in enumerate(entries) if name in entry.owners]
    orphans = [p for p in below if gone.issuperset(entries[p].owners)]
    if orphans and not accept_loss:
        some = ", ".join(map(str, orphans[:10])) + ", ..." * (len(orphans) > 10)
        raise BadParameter("accept_loss", f"no owner would be left of {len(orphans)}: {some}")
    w = ring.target.w
    lost = [p for p in below if p in orphans or len(gone.intersection(entries[p].owners)) >= w]
    left = Ring(ring.identity, members, ring.target, entries)
    staying = _staying(left, ChangeRequest())
    owners = _after(left)
    if len(staying) >= ring.identity.n:
        owners = _placed(staying, left, owners)
    moves = len(list(_changes([entry.owners for entry in entries], owners)))
    return left.with_target(_wished(ring.target, owners, moves, operation_id)), lost, below


def _joining(line: Member | None, new: Member, node_id: int, client: str) -> Member:
    """The line of a node that joins; its present line if it is joining already."""
    if line is not None and line.state != LEFT:
        return line
    incarnation = 1 if line is None else line.incarnation + 1
    return _replace(new, incarnation=incarnation, id=node_id, client=client)


def _wished(
    target: RingTarget, owners: tuple[Owners, ...], moves: int, operation_id: str
) -> RingTarget:
    operations = (*target.operations, operation_id)[-OPERATIONS_KEPT_MAX:]
    return _replace(
        target, version=target.version + 1, owners=owners, moves=moves, operations=operations
    )


def without_receiver(entry: Entry) -> Entry:
    """S-MOVE-4: the entry without a move whose receiver is gone. Every node that undoes the move
    writes the same bytes."""
    return _replace(entry, version=entry.version + FORCED, move=None)
