"""Rows about pods and their claims: the record, a lost volume, updates.

The operator never deletes a pod. It evicts it by uid, under its budget, and never while its claim
is being deleted, because the disk would go with the pod. A missing machine does not prove that a
volume is lost: once, a pod came back on its old volume together with its machine. So the operator
believes it only where a person has asked for that (`machines`).
"""

from __future__ import annotations

from typing import Any

from dynamo_operator.actions import Delete, Evict, Note, PatchClaim, Step
from dynamo_operator.node_answers import LEFT
from dynamo_operator.snapshot import (
    ASKS,
    CLUSTER_ID,
    NODE_ID,
    NODE_STATE,
    RESTARTS,
    RESTORED,
    TLS,
    Claim,
    Pod,
    Snapshot,
)
from dynamo_operator.volumes import volume_lost

CLAIM = "PersistentVolumeClaim"
WAITING_S = 10.0
"""Seconds between two looks while a node may be down for long; events of its pod come sooner."""


def record(o: Snapshot) -> Step | None:
    """Note on each claim the node of its disk, as the running node says, and the owner object with
    which Kubernetes deletes it."""
    actions = []
    for claim in o.claims.values():
        meta: dict[str, Any] = {}
        notes = _notes(o, claim)
        if any(claim.annotations.get(name) != value for name, value in notes.items()):
            meta["annotations"] = notes
        owners = _owners(o, claim)
        if owners is not None:
            meta["ownerReferences"] = owners
        if meta and not claim.deleting:
            actions.append(patch(claim, {"metadata": meta}))
    if not actions:
        return None
    return Step("RecordingClaims", "recording on each claim its ring and its node", tuple(actions))


def _notes(o: Snapshot, claim: Claim) -> dict[str, str | None]:
    """Annotations of the claim of a running node. A node that has left keeps its old id there: its
    next id is not on the disk yet. For a member, the notes about restarts are removed."""
    node, pod = o.nodes.get(claim.ordinal), o.pods.get(claim.ordinal)
    if node is None or pod is None or pod.deleting_since is not None:
        return {}
    if node.disk == "member" and node.cluster_id:
        return {
            CLUSTER_ID: node.cluster_id,
            NODE_ID: node.id,
            NODE_STATE: node.state or "MEMBER",
            RESTARTS: None,
            TLS: pod.tls if pod.tls != "off" else None,
            ASKS: "true" if pod.asks else None,
            **({RESTORED: o.uid} if o.restored else {}),
        }
    if node.disk == "left" and NODE_ID in claim.annotations:
        return {NODE_STATE: LEFT}
    return {}


def _owners(o: Snapshot, claim: Claim) -> list[dict[str, Any]] | None:
    """Theorem: `whenDeleted: Delete` is an owner reference of the claim and nothing else, so that
    a deleted StatefulSet never takes a volume with it. None: it is as it should be."""
    kept = [dict(owner) for owner in claim.owners if owner["uid"] != o.uid]
    owned = len(kept) < len(claim.owners)
    if owned == (o.spec.storage.retention.when_deleted == "Delete"):
        return None
    if owned:
        return kept
    return [*kept, o.owner.reference(controller=False)]


def patch(claim: Claim, body: dict[str, Any], note: Note | None = None) -> PatchClaim:
    """A patch of the claim if it is unchanged since the snapshot."""
    version = claim.resource_version
    return PatchClaim(
        name=claim.name, uid=claim.uid, resource_version=version, body=body, note=note
    )


def lost_volume(o: Snapshot) -> Step | None:
    """A claim is Lost or absent and its pod does not run: the node starts empty under its name and
    is rebuilt (S-MEM-4). For a member this needs enough other nodes; else the rows below go on,
    because they may bring the others back. A claim whose machine is gone is bound: it is deleted
    only while the ring is known and can spare its node, so one after the other."""
    if o.spec.recovery.auto_replace == "Never":
        return None
    for ordinal, pod in sorted(o.pods.items()):
        if pod.deleting_since is not None:
            continue
        claim = o.claims.get(ordinal)
        if ordinal in o.gone and claim is not None:
            if o.ring is not None and not o.too_few(ordinal):
                text = (
                    f"{o.gone[ordinal]} has no Node object, and had the local volume of {pod.name}"
                )
                text += "; the node starts empty and copies its partitions back"
                note = Note("MachineGone", text, True)
                return Step("ReplacingVolume", text, (delete(claim, note),))
            continue
        if not volume_lost(o, ordinal):
            continue
        text = f"the volume of {pod.name} is gone; it starts empty and copies its partitions back"
        if claim is None or claim.deleting:
            return Step("ReplacingVolume", text, (evict(pod, Note("VolumeReplaced", text, True)),))
        if not claim.member or (o.ring is not None and not o.too_few(ordinal)):
            return Step("ReplacingVolume", text, (delete(claim),))
    return None


def delete(claim: Claim, note: Note | None = None) -> Delete:
    """A deletion of the claim if it is unchanged since the snapshot."""
    version = claim.resource_version
    return Delete(kind=CLAIM, name=claim.name, uid=claim.uid, resource_version=version, note=note)


def evict(pod: Pod, note: Note | None = None) -> Evict:
    """An eviction of the pod if it is unchanged since the snapshot."""
    return Evict(name=pod.name, uid=pod.uid, resource_version=pod.resource_version, note=note)


def to_roll(o: Snapshot) -> list[Pod]:
    """Pods that should get the new revision, the highest first. A pod beyond `size` keeps its
    revision until it leaves, so that it needs no further eviction."""
    return [pod for pod in o.unrolled() if pod.ordinal < o.spec.size]


def held_back(o: Snapshot) -> bool:
    """Whether as many pods as the canary allows have the new revision."""
    canary = o.spec.update.canary
    stay = sum(ordinal < o.spec.size for ordinal in o.pods)
    return canary is not None and stay - len(to_roll(o)) >= canary


def _keeps_its_disk(o: Snapshot, pod: Pod) -> bool:
    """Whether the pod's claim is not being deleted, so that the pod comes back on it."""
    claim = o.claims.get(pod.ordinal)
    return pod.deleting_since is None and claim is not None and not claim.deleting


def _out(o: Snapshot, pod: Pod) -> bool:
    """Whether the ring is known, and the pod is beyond `size` and not in the ring."""
    return o.ring is not None and pod.ordinal >= o.spec.size and not o.is_live(pod.ordinal)


def unstick(o: Snapshot) -> Step | None:
    """A pod that does not serve is updated first; otherwise a bad image would stay for ever. Pods
    go one by one, because the new revision may be no better. A pod that should leave must serve, to
    hand over its partitions. A pod that has left is stopped (`plan.ring.shrink`), not restarted."""
    if o.workload is None or not o.workload.caught_up or held_back(o):
        return None
    unrolled = {pod.ordinal for pod in o.unrolled()}
    if any(i not in unrolled and i not in o.nodes and not p.ready for i, p in o.pods.items()):
        return None
    for pod in o.unrolled():
        if not pod.ready and _keeps_its_disk(o, pod) and not _out(o, pod):
            text = f"{pod.name} is not Ready, and at an old revision"
            return Step("RollingUpdate", text, (evict(pod, Note("PodUpdated", text)),))
    return None


def roll(o: Snapshot) -> Step | None:
    """Evict the highest pod at an old revision if no gate is closed; `rollout` tells a closed
    gate."""
    pod = next((p for p in to_roll(o) if p.ready), None)
    if pod is None or held_back(o) or gate(o, pod):
        return None
    text = f"updating {pod.name}; {_left(o)}"
    return Step("RollingUpdate", text, (evict(pod, Note("PodUpdated", f"updating {pod.name}")),))


def _left(o: Snapshot) -> str:
    stay = sum(ordinal < o.spec.size for ordinal in o.pods)
    return f"{len(to_roll(o))} of {stay} pods are at an old revision"


def rollout(o: Snapshot) -> Step | None:
    """Wait, and say why. Meanwhile no node leaves and nothing moves."""
    pod = next(iter(to_roll(o)), None)
    if pod is None:
        return None
    left = _left(o)
    if held_back(o):
        text = f"{left}; spec.update.canary holds the others back: unset or raise it to go on"
        return Step("CanaryReached", text, again_s=WAITING_S)
    return Step("RollingUpdate", f"{left}; {gate(o, pod)}")


def gate(o: Snapshot, pod: Pod) -> str:
    """The reason why a serving pod cannot be evicted now; empty: it can."""
    if o.workload is None or not o.workload.caught_up:
        return "the StatefulSet controller has not seen the last change yet"
    if not _keeps_its_disk(o, pod):
        return f"the claim of {pod.name} is being deleted: its disk would go with the pod"
    for ordinal in range(o.replicas):
        other = o.pods.get(ordinal)
        if not o.is_live(ordinal):
            return f"{o.pod_name(ordinal)} is in no ring yet, or no longer"
        if other is None or not other.ready:
            return f"{o.pod_name(ordinal)} is not Ready"
        calm_s = o.now - (other.ready_since or o.now)
        if other is not pod and calm_s < o.spec.update.min_ready_seconds:
            return f"{other.name} has been Ready for {calm_s:.0f} s only"
    if o.ring is None or not o.unanimous:
        return "the nodes do not show one ring document yet"
    if o.ring.changing:
        return "a change of the ring is under way"
    if owed := _owed(o):
        return owed
    if few := o.too_few(pod.ordinal):
        return f"{few} partitions would be below their quorum without {pod.name}"
    return ""


def _owed(o: Snapshot) -> str:
    """A text about hints for pods that are back; or "". All pods count, not only the last one: the
    clocks of several machines cannot tell which one was the last."""
    for other in o.pods.values():
        counts = (
            node.hints[other.name].count for node in o.nodes.values() if other.name in node.hints
        )
        if hints := sum(counts):
            return f"{hints} hints for {other.name} are still to be delivered"
    return ""


def settling(o: Snapshot) -> Step | None:
    """Wait for nodes that start, compare, or are down; there is nothing else to do."""
    for ordinal in range(o.replicas):
        pod, node = o.pods.get(ordinal), o.nodes.get(ordinal)
        name = o.pod_name(ordinal)
        if pod is None or not pod.ready:
            why = f": {pod.trouble}" if pod is not None and pod.trouble else ""
            return Step("WaitingForNodes", f"{name} is not Ready{why}", again_s=WAITING_S)
        if node is None or not node.whole:
            how = "is comparing with its peers" if node else "does not answer"
            return Step("WaitingForNodes", f"{name} {how}", again_s=WAITING_S)
    if not o.unanimous:
        text = "the nodes are agreeing on the ring"
        return Step("WaitingForNodes", text, again_s=WAITING_S)
    return None
