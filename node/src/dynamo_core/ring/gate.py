"""The gate: this node takes no part of a ring document that does not make sense (S-IN-2, T-3).

A document that decodes may still make no sense. Once, an entry with a version of 2**33 ended three
nodes, again at every start: the number made from that version could not be encoded. So this gate
checks everything before it becomes this node's document: documents of peers and of the disk, parts,
entries, promises, changes that administrators ask for, and what this node itself writes.

    integers   versions, terms, incarnations within bounds; ids not zero
    lines      well-formed names, addresses, weights; not more than `MEMBERS_MAX`
    entries    N owners, distinct, each with a line; `out` an owner, `in` none; `old` N owners of
               which all but one are owners still; never both
    target     nothing, or Q lists like that; 1 <= r, w, dw <= N

A fault is a sentence; "" means that there is none. The gate checks the whole document that would
result, before anything changes, so this node never takes a part of a refused one. The gate must
accept everything that a correct node of any version writes (C17). So it does not ask for what is
only usual: owners may have LEFT, a target may name them, a line may be of a later life.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dynamo_core.bounds import (
    MEMBERS_MAX,
    OWNERS_MAX,
    TEXT_MAX,
    VERSION_MAX,
    address_fault,
    name_fault,
)
from dynamo_core.ring.document import Entry, Identity, Member, Owners, Ring, RingTarget

WEIGHT_MAX = 1 << 20
"""Far above the limit for administrators."""
OPERATIONS_MAX = 256
MOVES_MAX = 1 << 20


def ring_fault(ring: Ring) -> str:
    """What is wrong with a whole document."""
    return (
        ring.fault()
        or _identity_fault(ring.identity)
        or _members_fault(ring.members.values(), len(ring.members))
        or target_fault(ring.target, ring.identity, ring.members)
        or _entries_fault(enumerate(ring.entries), ring)
    )


def step_fault(before: Ring, after: Ring) -> str:
    """What is wrong with the parts of `after` that are not in `before`. `before` has passed."""
    if after.identity != before.identity:
        return "another identity"
    known = before.members
    lines = [line for name, line in after.members.items() if known.get(name) is not line]
    fault = after.fault() or _members_fault(lines, len(after.members))
    if not fault and after.target is not before.target:
        fault = target_fault(after.target, after.identity, after.members)
    if not fault and after.entries is not before.entries:
        pairs = zip(before.entries, after.entries, strict=True)
        changed = ((p, entry) for p, (old, entry) in enumerate(pairs) if entry is not old)
        fault = _entries_fault(changed, after)
    return fault


def knows_all(ring: Ring) -> bool:
    """Whether every name in the target and the entries has a line."""
    rows: set[tuple[str, ...]] = set(ring.target.owners)
    for entry in ring.entries:
        rows.update((entry.owners, entry.after, entry.old or ()))
    return not any(_unknown_names(row, ring.members) for row in rows)


def entry_fault(entry: Entry, n: int) -> str:
    """What is wrong with an entry; whether its names are members is not checked here."""
    if not (0 <= entry.term <= VERSION_MAX and 0 <= entry.version <= VERSION_MAX and entry.by >= 0):
        return f"term {entry.term}, version {entry.version}, by {entry.by}"
    if fault := _owners_fault(entry.owners, n):
        return fault
    if entry.move is not None:
        out, receiver = entry.move
        if out not in entry.owners or receiver in entry.owners or name_fault(receiver):
            return f"{_short(entry.move)} is no move among {_short(entry.owners)}"
        if entry.old is not None:
            return "moves before its last switch has settled"
    if entry.old is not None:
        if fault := _owners_fault(entry.old, n):
            return f"old: {fault}"
        if len(set(entry.old) - set(entry.owners)) != 1:
            return f"{_short(entry.old)} became {_short(entry.owners)} in one switch"
    return ""


def target_fault(target: RingTarget, identity: Identity, known: Collection[str]) -> str:
    """What is wrong with a target of this ring; `known` has the names of the ring's members."""
    n = identity.n
    if not (0 <= target.version <= VERSION_MAX and 0 <= target.moves <= MOVES_MAX):
        return f"target: version {target.version}, {target.moves} moves"
    if not all(1 <= value <= n for value in (target.r, target.w, target.dw)):
        return f"target: r={target.r}, w={target.w}, dw={target.dw} with n={n}"
    if len(target.owners) not in (0, identity.partitions):
        return f"target: {len(target.owners)} rows for {identity.partitions} partitions"
    kept = target.operations
    if len(kept) > OPERATIONS_MAX or any(len(one) > TEXT_MAX for one in kept):
        return "target: the list of operations is too long"
    for row in set(target.owners):
        if fault := _owners_fault(row, n) or _unknown_names(row, known):
            return f"target: {fault}"
    return ""


def line_fault(line: Member) -> str:
    """What is wrong with one member's line."""
    if fault := name_fault(line.name):
        return fault
    if not (0 <= line.incarnation <= VERSION_MAX and 0 <= line.version <= VERSION_MAX):
        return f"{line.name}: incarnation {line.incarnation}, version {line.version}"
    if line.id <= 0 or not 1 <= line.weight <= WEIGHT_MAX:
        return f"{line.name}: id {line.id:x}, weight {line.weight}"
    if len(line.zone) > TEXT_MAX:
        return f"{line.name}: a zone of {len(line.zone)} characters"
    fault = address_fault(line.address) or (address_fault(line.client) if line.client else "")
    return f"{line.name}: {fault}" if fault else ""


def _identity_fault(identity: Identity) -> str:
    if not 1 <= identity.n <= OWNERS_MAX:
        return f"n={identity.n}"
    return "" if 0 < len(identity.cluster_id) <= TEXT_MAX else "the cluster id is empty or too long"


def _members_fault(lines: Iterable[Member], count: int) -> str:
    if not 0 < count <= MEMBERS_MAX:
        return f"{count} members, at most {MEMBERS_MAX}"
    return next(filter(None, map(line_fault, lines)), "")


def _entries_fault(entries: Iterable[tuple[int, Entry]], ring: Ring) -> str:
    n, members = ring.identity.n, ring.members
    for partition, entry in entries:
        names = (*entry.owners, *(entry.move or ()), *(entry.old or ()))
        if fault := entry_fault(entry, n) or _unknown_names(names, members):
            return f"partition {partition}: {fault}"
    return ""


def _owners_fault(owners: Owners, n: int) -> str:
    if len(owners) != n or len(set(owners)) != n:
        return f"{_short(owners)} are not {n} owners"
    return ""


def _unknown_names(names: Iterable[str], known: Collection[str]) -> str:
    unknown = next((name for name in names if name not in known), None)
    return "" if unknown is None else f"{unknown[:TEXT_MAX]!r} is no member"


def _short(names: Iterable[str]) -> str:
    return ", ".join(name[:40] for name in list(names)[:8])
