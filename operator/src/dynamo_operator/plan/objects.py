"""Rows about the resource and the objects that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import structs

from dynamo_operator import children, protection
from dynamo_operator.actions import Apply, Delete, MakeSecret, Note, Step
from dynamo_operator.drift import differs, ours, sealed
from dynamo_operator.plan import claims
from dynamo_operator.plan.going_over import security
from dynamo_operator.plan.moves import moved
from dynamo_operator.plan.outward import outward
from dynamo_operator.plan.running import carried_out, chosen
from dynamo_operator.plan.schedule import last_due
from dynamo_operator.plan.storage import other_class, template_of
from dynamo_operator.snapshot import (
    MOVED,
    REPLICAS,
    STATEFUL_SET,
    TEMPLATE,
    TLS,
    Document,
    Snapshot,
)

INVALID_S = 15.0
"""Seconds until the next look. An obstacle may disappear by itself, such as the objects of a
deleted resource with the same name."""
KEPT = (STATEFUL_SET, "ConfigMap")
"""What is never deleted here; ConfigMaps go with the resource."""


def hands_off(o: Snapshot) -> Step | None:
    """The operator does nothing to a resource that is being deleted or paused."""
    if o.deleting:
        return Step("Deleting", "the resource is being deleted", progressing=False)
    if o.spec.paused:
        message = "spec.paused is true: nothing is changed until it is false"
        return Step("Paused", message, progressing=False)
    return None


def invalid(o: Snapshot) -> Step | None:
    """What a person must change first; the operator does nothing else meanwhile."""
    for reason, message in _faults(o):
        return Step(reason, message, progressing=False, invalid=True, again_s=INVALID_S)
    return None


def _faults(o: Snapshot) -> Iterator[tuple[str, str]]:
    if o.fault:
        yield "SpecInvalid", o.fault
    schedules = {"repair": o.spec.repair.schedule, "backup": o.spec.backup.schedule}
    for part, schedule in schedules.items():
        try:
            last_due(schedule or "0 0 * * *", o.now)
        except ValueError as error:
            yield "SpecInvalid", f"spec.{part}.{error}"
    for (kind, name), existing in o.objects.items():
        if not ours(existing, o.owner):
            yield (
                "NameTaken",
                f"{kind} {name} exists but is not of this resource; rename one, or delete it",
            )
    ids = o.cluster_ids
    if len(ids) > 1:
        yield (
            "DisksOfSeveralRings",
            f"the disks are of several rings, {', '.join(ids)}: delete the claims of all but one;"
            " until then the operator changes nothing",
        )
    ring = o.ring
    if ring is not None:
        for path, wish, fact in (
            ("spec.ring.partitions", o.spec.ring.partitions, ring.partitions),
            ("spec.replication.factor", o.spec.replication.factor, ring.n),
            ("spec.conflicts", o.spec.conflicts, ring.conflicts),
        ):
            if wish != fact:
                yield "FixedAtCreation", f"{path} is {wish}, the ring was made with {fact}"
    yield from claims.faults(o)
    if path := other_class(o):
        yield "FixedAtCreation", path
    if o.trust.fault and protection.own_authority(o.spec):
        yield "SecretUnusable", o.trust.fault
    if o.spec.access.required and not (o.keys and o.issuer):
        yield (
            "KeysUnknown",
            "clients are asked who they are, and the API server does not let the operator read"
            " /openid/v1/jwks: bind the role system:service-account-issuer-discovery, or set"
            " spec.access.mode to Open",
        )
    if not o.secret and (o.recorded or o.spec.auth.secret_name):
        named = o.spec.auth.secret_name
        why = f"spec.auth.secretName: no Secret {named}" if named else "the cluster secret is gone"
        yield "SecretMissing", f"{why}; restore it: another one would shut the nodes out"


def secret(o: Snapshot) -> Step | None:
    """The secret is made once, while no claim is recorded: nodes with old disks would not accept a
    new secret."""
    if o.secret:
        return None
    return Step("MakingObjects", "making the cluster secret", (MakeSecret(),))


def belongings(o: Snapshot) -> Step | None:
    """Services, budget, policy, rights: applied whole if they are absent or differ, deleted if the
    spec no longer asks for them, but for what pods mount."""
    made = children.companions(o.owner, o.spec, security(o), outward(o))
    wanted = [sealed(each) for each in made]
    names = {(each["kind"], each["metadata"]["name"]) for each in wanted}
    actions: list[Apply | Delete] = [a for each in wanted if (a := _apply(o, each)) is not None]
    for (kind, name), existing in o.objects.items():
        if (kind, name) not in names and kind not in KEPT:
            meta = existing["metadata"]
            version = meta["resourceVersion"]
            actions.append(Delete(kind=kind, name=name, uid=meta["uid"], resource_version=version))
    if not actions:
        return None
    return Step("MakingObjects", "bringing the Services and policies up to date", tuple(actions))


def _apply(o: Snapshot, wanted: Document, resource_version: str | None = None) -> Apply | None:
    """None: the object is as wanted, or this pass has found that applying it changes nothing."""
    key = wanted["kind"], wanted["metadata"]["name"]
    existing = o.objects.get(key)
    action = Apply(object=wanted, resource_version=resource_version)
    if action.key in o.settled:
        return None
    if existing is None:
        return action
    why = differs(wanted, existing)
    if why == "edit":
        note = Note("EditReverted", f"{key[0]} {key[1]} was edited; the operator put it back", True)
        return structs.replace(action, note=note)
    return action if why else None


def floor(o: Snapshot) -> int:
    """Theorem 1: the smallest number of replicas that stops no pod before its node has left."""
    size = o.spec.size
    live = max(o.live_ordinals, default=-1)
    if o.exact:
        return max(size, 1 + live)
    recorded = max((claim.ordinal for claim in o.recorded), default=-1)
    return max(size, o.replicas, 1 + recorded, 1 + live)


def stateful_set(o: Snapshot, replicas: int) -> dict[str, Any]:
    """The wanted StatefulSet, with the facts that later looks need."""
    secure = security(o)
    wanted = children.stateful_set(o.owner, carried_out(o), replicas, template_of(o), secure)
    notes = wanted["metadata"].setdefault("annotations", {})
    notes[REPLICAS] = str(replicas)
    if secure.tls != "off":
        notes[TLS] = secure.tls
    rendered = chosen(o, wanted["spec"]["template"])
    wanted["spec"]["template"] = rendered.template
    if (note := rendered.note()) is not None:
        notes[TEMPLATE] = note
    if done := moved(o):
        notes[MOVED] = ",".join(done)
    return sealed(wanted)


def workload(o: Snapshot) -> Step | None:
    """The StatefulSet: never with fewer replicas than it has, but to stop (`ring.shrink`
    lowers them); always the very one that was seen, as a late request could lower it too."""
    existing = o.workload
    if o.spec.stopped:
        wanted = stateful_set(o, 0)
        version = existing.resource_version if existing else None
        action = _apply(o, wanted, version)
        return Step("Stopping", "stopping all pods, claims are kept", (action,)) if action else None
    replicas = max(floor(o), o.replicas)
    wanted = stateful_set(o, replicas)
    action = _apply(o, wanted, existing.resource_version if existing else None)
    if action is None:
        return None
    if existing is not None and existing.annotations.get(REPLICAS, str(existing.replicas)) != str(
        existing.replicas
    ):
        note = Note(
            "ForeignScaleReverted",
            f"the StatefulSet was scaled from {existing.annotations[REPLICAS]} to"
            f" {existing.replicas} pods; the operator puts it back: change spec.size of the"
            " DynamoCluster instead",
            True,
        )
        action = structs.replace(action, note=note)
    return Step("MakingObjects", f"bringing the StatefulSet to {replicas} pods", (action,))


def stopped(o: Snapshot) -> Step | None:
    """The operator does nothing else while no pod should run."""
    if not o.spec.stopped:
        return None
    if o.pods:
        return Step("Stopping", f"{len(o.pods)} pods are stopping, claims are kept")
    message = "spec.stopped is true: no pods run, claims and keys are kept"
    return Step("Stopped", message, progressing=False)
