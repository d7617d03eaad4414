"""The conditions of a DynamoCluster: each has a fact, a word for programs, a sentence for people.

A sentence says what is happening, why it waits, and what to do. Pure; computed from one snapshot.
"""

from __future__ import annotations

from msgspec import Struct

from dynamo_operator import backup_conditions, trust_conditions
from dynamo_operator.actions import Step
from dynamo_operator.plan.backups import unrestored
from dynamo_operator.plan.going_over import hindrance
from dynamo_operator.quantity import amount
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.troubles import not_grown, troubles


class Fact(Struct, frozen=True):
    """A condition without its times."""

    type: str
    holds: bool | None
    reason: str
    message: str


def facts(o: Snapshot, step: Step, said: str = "", refused: str = "") -> tuple[Fact, ...]:
    """All conditions, in the order in which people read them. `said`: why the step waits;
    `refused`: what the API server or the nodes refuse."""
    told = f"{step.message}: {said}" if said else step.message
    return (
        _ready(o, step, told, refused),
        _available(o),
        Fact("Progressing", step.progressing, step.reason, told),
        _degraded(o, step, refused),
        _stable(o),
        _quorum_safe(o),
        _converged(o),
        _repaired(o),
        _about("BackupUpToDate", backup_conditions.backed_up(o)),
        _valid(o, step, refused),
        _about("CertificatesReady", trust_conditions.certificates(o)),
        _about("AccessReady", trust_conditions.access(o)),
        Fact("Paused", o.spec.paused, "Asked" if o.spec.paused else "NotAsked", _paused(o)),
    )


def _about(kind: str, found: trust_conditions.Protected | backup_conditions.Kept) -> Fact:
    return Fact(kind, found.holds, found.reason, found.message)


def _paused(o: Snapshot) -> str:
    return (
        "no changes until spec.paused is false" if o.spec.paused else "the operator makes changes"
    )


def _unknown(o: Snapshot, kind: str) -> Fact:
    """A condition about the ring while no ring can be read. It is False only if that is certain: a
    ring that cannot be read may be well."""
    if o.spec.stopped:
        return Fact(kind, False, "Stopped", "no pods run: spec.stopped is true")
    if not o.recorded and all(node.disk == "empty" for node in o.nodes.values()):
        text = "the operator makes the ring when its first nodes answer"
        return Fact(kind, False, "NotFounded", text)
    text = o.unreadable or "no node shows the ring; look at the pods"
    return Fact(kind, None, "RingUnreadable", text)


def _ready(o: Snapshot, step: Step, told: str, refused: str) -> Fact:
    """Other programs wait for this condition, so it is False while any part of the spec is not
    true yet."""
    size = o.spec.size
    members = [m for m in (o.ring.members if o.ring else ()) if m.state == "MEMBER"]
    up = sum(pod.ready for pod in o.pods.values())
    if step.progressing or step.invalid:
        return Fact("Ready", False, step.reason, told)
    if up < size or len(members) < size:
        text = f"{up} of {size} pods are Ready, {len(members)} are members of the ring"
        return Fact("Ready", False, "NotAllReady", text)
    if why := unrestored(o):
        return Fact("Ready", False, "NotRestored", why)
    if refused:
        return Fact("Ready", False, "Refused", f"a part of the spec is refused: {refused}")
    if why := hindrance(o):
        return Fact("Ready", False, "CertificateUnusable", why)
    for reason, text in not_grown(o):
        return Fact("Ready", False, reason, text)
    return Fact("Ready", True, "Ready", f"{size} nodes serve and no change is due")


def below_quorum(o: Snapshot) -> int:
    """The number of partitions with fewer owners up than a default read or write needs."""
    if o.ring is None:
        return 0
    wanted = max(o.ring.r, o.ring.w)
    up = {name for name in o.ring.live if o.is_up(name)}
    return sum(len(up.intersection(entry.owners)) < wanted for entry in o.ring.entries)


def _available(o: Snapshot) -> Fact:
    if o.ring is None:
        return _unknown(o, "Available")
    few = below_quorum(o)
    if few:
        down = ", ".join(name for name in sorted(o.ring.live) if not o.is_up(name))
        text = (
            f"{few} of {o.ring.partitions} partitions have fewer complete owners up than R and W"
            f" need; down or rebuilding: {down}. Stand-ins take writes meanwhile"
        )
        return Fact("Available", False, "BelowQuorum", text)
    if not o.endpoints:
        there = ("Service", o.name) in o.objects
        why = "selects none of the pods that are Ready" if there else "does not exist"
        text = f"the Service {o.name} {why}: clients reach no node through it"
        return Fact("Available", False, "NoEndpoints", text)
    return Fact("Available", True, "QuorumUp", "every partition has its quorums of owners up")


def _degraded(o: Snapshot, step: Step, refused: str) -> Fact:
    found = troubles(o, step, refused)
    if not found:
        if o.ring is None and _unknown(o, "Degraded").holds is None:
            return _unknown(o, "Degraded")
        return Fact("Degraded", False, "AllWell", "no person needs to act")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Fact("Degraded", True, found[0][0], found[0][1] + more)


def _stable(o: Snapshot) -> Fact:
    if o.ring is None:
        return _unknown(o, "RingStable")
    if o.ring.changing:
        text = f"{o.ring.pending} replicas still have to move; the ring serves clients meanwhile"
        return Fact("RingStable", False, "Changing", text)
    if not o.unanimous:
        silent = sorted(name for name in o.ring.live if not o.is_up(name))
        text = f"members do not all show the same ring; not up: {', '.join(silent) or 'none'}"
        return Fact("RingStable", False, "NotAgreed", text)
    return Fact("RingStable", True, "Agreed", f"all members have the ring of epoch {o.ring.epoch}")


def _quorum_safe(o: Snapshot) -> Fact:
    if o.ring is None:
        return _unknown(o, "QuorumSafe")
    fragile = max((o.too_few(ordinal) for ordinal in o.live_ordinals), default=0)
    if fragile:
        text = f"{fragile} partitions would lose their quorum with one more node: drain no node"
        return Fact("QuorumSafe", False, "NoSpareNode", text)
    return Fact("QuorumSafe", True, "SpareNode", "if any one node goes down, all quorums hold")


def _converged(o: Snapshot) -> Fact:
    if o.ring is None:
        return _unknown(o, "Converged")
    live = o.ring.live
    partial = [n.name for n in o.nodes.values() if n.name in live and not n.whole]
    hints = sum(backlog.count for node in o.nodes.values() for backlog in node.hints.values())
    silent = sorted(live.keys() - {node.name for node in o.nodes.values()})
    for found, reason, text in (
        (silent, "NodeSilent", f"{', '.join(silent)} does not answer"),
        (partial, "Rebuilding", f"{', '.join(partial)} is still comparing with its peers"),
        (hints, "HintsWaiting", f"{hints} hints wait for delivery"),
        (o.ring.changing, "Changing", f"{o.ring.pending} replicas still have to move"),
    ):
        if found:
            return Fact("Converged", False, reason, text)
    return Fact("Converged", True, "NothingMissing", "all owners are complete, no hint waits")


def _repaired(o: Snapshot) -> Fact:
    ended = sorted((r for r in o.repairs if r.ended), key=lambda r: r.created)
    if not ended:
        plan = o.spec.repair.schedule
        text = "no repair has ended yet" if plan else "no repair is scheduled; nodes compare anyway"
        return Fact("RepairUpToDate", None, "NoneYet" if plan else "NotScheduled", text)
    last = ended[-1]
    if last.ended == "Complete":
        when = last.status.get("completionTime")
        return Fact("RepairUpToDate", True, "Complete", f"{last.name} was complete at {when}")
    text = f"{last.name} failed: look at its conditions, and make another DynamoRepair"
    return Fact("RepairUpToDate", False, "Failed", text)


def _larger(o: Snapshot) -> str:
    """Volumes that are larger than the spec says: a volume cannot shrink."""
    wish = amount(o.spec.storage.size)
    sizes = ((c.name, c.capacity, amount(c.capacity)) for c in o.claims.values())
    for name, text, given in sizes:
        if wish is not None and given is not None and given > wish:
            asked = f"spec.storage.size is {o.spec.storage.size}"
            return f"{name} has {text}, {asked}: a volume never shrinks, so it keeps its size"
    return ""


def _valid(o: Snapshot, step: Step, refused: str) -> Fact:
    if step.invalid:
        return Fact("SpecValid", False, step.reason, step.message)
    if refused:
        return Fact("SpecValid", False, "Refused", f"a part of the spec is refused: {refused}")
    if larger := _larger(o):
        return Fact("SpecValid", True, "VolumesLarger", larger)
    return Fact("SpecValid", True, "Valid", "the operator can carry out the spec")
