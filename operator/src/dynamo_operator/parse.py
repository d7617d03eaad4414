"""Objects of the API server as the values of a look."""

from __future__ import annotations

from typing import Any

from dynamo_operator.children import CLAIM
from dynamo_operator.pod import CONTAINER
from dynamo_operator.quantity import instant
from dynamo_operator.snapshot import WEIGHT, Claim, Document, Pod, Repair, Snapshot, Workload
from dynamo_operator.spec import BadSpec, ClusterSpec, cluster_spec, repair_spec

WEIGHT_MAX = 1000
SOURCES = ("dataSource", "dataSourceRef", "volumeName", "selector")


def resource_of(resource: Document, now: float, operator_namespace: str) -> Snapshot:
    """The resource alone; a spec that cannot be read is a fault, and nothing else is looked at."""
    meta = resource["metadata"]
    fault = ""
    try:
        spec = cluster_spec(resource.get("spec") or {})
    except BadSpec as error:
        spec, fault = ClusterSpec(), str(error)
    return Snapshot(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        created=instant(meta["creationTimestamp"]) or 0.0,
        now=now,
        spec=spec,
        resource=resource,
        deleting="deletionTimestamp" in meta,
        fault=fault,
        operator_namespace=operator_namespace,
    )


def workload_of(item: Document | None) -> Workload | None:
    """The StatefulSet's facts."""
    if item is None:
        return None
    meta, status = item["metadata"], item.get("status") or {}
    return Workload(
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        replicas=item["spec"].get("replicas", 1),
        revision=status.get("updateRevision", ""),
        caught_up=status.get("observedGeneration", 0) >= meta.get("generation", 0),
        annotations=dict(meta.get("annotations") or {}),
    )


def pod_of(seen: Snapshot, item: Document) -> Pod | None:
    """A pod of ours, None when its name is not of this StatefulSet."""
    meta, status = item["metadata"], item.get("status") or {}
    ordinal = seen.ordinal(meta["name"])
    if ordinal is None:
        return None
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    containers = {c["name"]: c for c in status.get("containerStatuses") or ()}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    is_ready, turned = ready.get("status") == "True", instant(ready.get("lastTransitionTime"))
    running = (containers.get(CONTAINER, {}).get("state") or {}).get("running")
    return Pod(
        name=meta["name"],
        ordinal=ordinal,
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=instant(meta["creationTimestamp"]) or 0.0,
        running=running is not None,
        started=instant((running or {}).get("startedAt")),
        ready_since=turned if is_ready else None,
        unready_since=None if is_ready else turned,
        deleting_since=instant(meta.get("deletionTimestamp")),
        revision=labels.get("controller-revision-hash", ""),
        address=status.get("podIP", ""),
        machine=(item.get("spec") or {}).get("nodeName", ""),
        zone=labels.get(seen.spec.topology.zone_key, ""),
        weight=_weight(notes.get(WEIGHT, "1")),
        trouble=_trouble(meta["name"], containers.get(CONTAINER, {}), conditions),
        labels=dict(labels),
    )


def _weight(text: str) -> int:
    return min(max(1, int(text)), WEIGHT_MAX) if text.isdecimal() else 1


def _trouble(name: str, container: Document, conditions: dict[str, Any]) -> str:
    """Why a pod does not run, as the scheduler or the kubelet says."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{name} is not scheduled: {scheduled.get('message', '')}"
    waiting = (container.get("state") or {}).get("waiting")
    if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return f"{name}: {waiting['reason']} {waiting.get('message', '')}".rstrip()
    return ""


def claim_of(seen: Snapshot, item: Document) -> Claim | None:
    """A claim of ours, None when its name is not of this StatefulSet."""
    meta, status = item["metadata"], item.get("status") or {}
    ordinal = seen.ordinal(meta["name"].removeprefix(f"{CLAIM}-"))
    if ordinal is None or meta["name"] != seen.owner.claim(ordinal):
        return None
    labels = meta.get("labels") or {}
    ours = seen.owner.selector.items() <= labels.items()
    return Claim(
        name=meta["name"],
        ordinal=ordinal,
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=instant(meta["creationTimestamp"]) or 0.0,
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in meta,
        annotations=dict(meta.get("annotations") or {}),
        owners=tuple(meta.get("ownerReferences") or ()),
        size=str(item["spec"]["resources"]["requests"]["storage"]),
        class_name=item["spec"].get("storageClassName"),
        sourced=not ours or any(item["spec"].get(field) for field in SOURCES),
        capacity=str((status.get("capacity") or {}).get("storage", "")),
    )


def repair_of(seen: Snapshot, item: Document) -> Repair | None:
    """A DynamoRepair of this cluster; its schema has been checked by the API server."""
    meta = item["metadata"]
    try:
        spec = repair_spec(item.get("spec") or {})
    except BadSpec:
        return None
    if spec.cluster_name != seen.name or "deletionTimestamp" in meta:
        return None
    return Repair(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=instant(meta["creationTimestamp"]) or 0.0,
        spec=spec,
        status=dict(item.get("status") or {}),
    )
