"""What a person should look at, the worst first, each with the command that shows why.

A pod has one line: if it cannot be made, the line does not add that it does not answer. Pure;
computed from one snapshot and its step.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynamo_operator import trust_conditions
from dynamo_operator.actions import Step
from dynamo_operator.claims import noted
from dynamo_operator.outages import STARTING_S_MAX, down, way_out
from dynamo_operator.plan import secret
from dynamo_operator.plan.backups import bootstrap_run, unrestored
from dynamo_operator.quantity import amount
from dynamo_operator.snapshot import RING, Claim, Snapshot
from dynamo_operator.volumes import volume_lost

STEP = 2**20
"""Bytes: a claim can be lowered to its volume's size plus this, not further (`plan.storage`)."""
TERMINATING_S_MAX = 120.0
"""Seconds for a pod to end before a person should look."""
Trouble = tuple[str, str]
"""A reason and a sentence."""


def troubles(o: Snapshot, step: Step, refused: str = "") -> list[Trouble]:
    """All troubles. While the ring is being stopped: only a spec that cannot be carried out."""
    found: list[Trouble] = []
    if step.invalid:
        found.append((step.reason, step.message))
    if not o.spec.stopped:
        found += _disks(o)
        if (why := secret.fault(o)) and not step.invalid:
            found.append(("SecretUnusable", why))
        found += sorted(_of_pods(o), key=lambda trouble: PODS.index(trouble[0]))
        found += _ring(o)
        found += not_grown(o)
        found += _restore(o)
        found += _attributes(o)
        found += trust_conditions.troubles(o)
    if refused:
        found.append(("Refused", f"a part of the spec is refused: {refused}"))
    return found


def _disks(o: Snapshot) -> Iterator[Trouble]:
    if o.unasked:
        how = "set rbac.nodeGone of the chart"
        yield "MachinesUnread", f"recovery.autoReplace is NodeGone: {how} ({o.unasked})"
    for ordinal, pod in sorted(o.pods.items()):
        claim = o.claims.get(ordinal)
        if volume_lost(o, ordinal):
            how = "; set spec.recovery.autoReplace or delete claim and pod"
            never = o.spec.recovery.auto_replace == "Never"
            yield "VolumeLost", f"the volume of {pod.name} is gone{how if never else ''}"
        elif ordinal in o.gone:
            text = f"{o.gone[ordinal]} has no Node object, and had the local volume of {pod.name}"
            how = "the operator replaces it when the other owners of its partitions are up"
            yield "MachineGone", f"{text}; {how}"
        elif claim is not None and claim.deleting:
            text = f"{claim.name} is being deleted: when its pod stops, its disk is lost"
            yield "ClaimTerminating", f"{text}; the node then copies its data from the other owners"


PODS = ("PodTerminating", "PodNotMade", "PodNotRunning", "PodNotStarted", "NodeDown")


def _of_pods(o: Snapshot) -> Iterator[Trouble]:
    ordinals = set(range(o.replicas)) | o.pods.keys() | set(o.live_ordinals)
    for ordinal in sorted(ordinals):
        pod, name = o.pods.get(ordinal), o.pod_name(ordinal)
        late = o.waited.get(name, 0.0) >= STARTING_S_MAX
        if pod is None:
            if late:
                yield "PodNotMade", _not_made(o, name)
        elif pod.deleting_since is not None:
            if o.now - pod.deleting_since > TERMINATING_S_MAX:
                text = f"{name} does not end; its machine {pod.machine} may be cut off or gone"
                how = "bring it back, or delete the Node object if it is gone"
                yield "PodTerminating", f"{text}: {how} ({_show(o, 'node', pod.machine)})"
        elif volume_lost(o, ordinal) or ordinal in o.gone:
            continue
        elif pod.trouble:
            text = f"{pod.trouble}{_unbound(o, o.claims.get(ordinal))}"
            yield "PodNotRunning", f"{text} ({_show(o, 'pod', name)})"
        elif late:
            text = f"{name} has not started for {o.waited[name]:.0f} s"
            text += _unbound(o, o.claims.get(ordinal))
            why = "a Secret or a volume that is missing, a network that is not ready"
            yield "PodNotStarted", f"{text}; `{_show(o, 'pod', name)}` shows why: {why}"
        elif down(o, pod):
            where = f" on machine {pod.machine}" if pod.machine else ""
            text = f"{name}{where} is not Ready or does not answer: look at its pod and its log"
            yield "NodeDown", f"{text} ({_show(o, 'pod', name)}){way_out(o, name)}"


def _not_made(o: Snapshot, name: str) -> str:
    text = f"{name} has been missing for {o.waited[name]:.0f} s: the API server refuses it"
    why = "a quota, a pod security level, a webhook"
    return f"{text}; `{_show(o, 'statefulset', o.name)}` shows why: {why}"


def _unbound(o: Snapshot, claim: Claim | None) -> str:
    """The text that a pod has waited for its claim for a long time, or ""."""
    if claim is None or o.waited.get(claim.name, 0.0) < STARTING_S_MAX:
        return ""
    named = o.spec.storage.class_name
    which = f"of class {named} " if named else ""
    return f"; its claim {which}has no volume: {_show(o, 'pvc', claim.name)}"


def _ring(o: Snapshot) -> Iterator[Trouble]:
    if o.ring is None and o.waited.get(RING, 0.0) >= STARTING_S_MAX:
        text = o.unreadable or "no node shows the ring"
        yield "RingUnreadable", f"{text}; bring pods back ({_show(o, 'pods', '')})"
    for name in sorted(o.ring.live if o.ring else ()):
        if o.ordinal(name) is None:
            yield "ForeignMember", f"{name} is a member of the ring but has no pod here"


def _restore(o: Snapshot) -> Iterator[Trouble]:
    run = bootstrap_run(o)
    if run is not None and run.ended == "Failed":
        yield "RestoreFailed", unrestored(o)


def not_grown(o: Snapshot) -> Iterator[Trouble]:
    """Claims that are smaller than the spec, and volumes that are smaller than their claims by more
    than the smallest step. Such a step is normal: Kubernetes lets a claim that asked for too much
    shrink to just above its volume, and the volume then has the size of the spec."""
    wish = amount(o.spec.storage.size)
    for claim in o.claims.values():
        size, given = amount(claim.size), amount(claim.capacity)
        if claim.phase != "Bound" or not size:
            continue
        if wish and claim.ordinal < o.replicas and size < wish:
            text = f"{claim.name} has {claim.size}, spec.storage.size is {o.spec.storage.size}"
            how = f"its class may not allow growth ({_show(o, 'pvc', claim.name)})"
            yield "StorageNotGrown", f"{text}: {how}"
        elif given and given < size and not (wish and wish <= given and size - given <= STEP):
            text = f"{claim.name} waits to grow from {claim.capacity} to {claim.size}"
            how = "its class, or a restart of its pod, may delay it"
            yield "StorageNotGrown", f"{text}; {how} ({_show(o, 'pvc', claim.name)})"


def _attributes(o: Snapshot) -> Iterator[Trouble]:
    """Claims that do not get the class of attributes of the spec."""
    wish = o.spec.storage.claim_template.volume_attributes_class_name
    for claim in o.claims.values():
        if wish is None or claim.phase != "Bound" or claim.ordinal >= o.replicas:
            continue
        show = _show(o, "pvc", claim.name)
        if claim.attributes is None and noted(claim).get("attributes") == wish:
            text = f"{claim.name} has no class of attributes although it was asked for"
            yield "AttributesNotChanged", f"{text}: Kubernetes is older than 1.34 ({show})"
        elif claim.modifying == "Infeasible":
            text = f"the driver cannot give {claim.name} the attributes of class {wish}"
            yield "AttributesNotChanged", f"{text} ({show})"


def _show(o: Snapshot, kind: str, name: str) -> str:
    """The command that shows why."""
    if kind == "node":
        return f"kubectl describe node {name}"
    if kind == "pods":
        return f"kubectl get pods -n {o.namespace}"
    return f"kubectl describe {kind} {name} -n {o.namespace}"
