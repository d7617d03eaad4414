"""Turns objects of the API server into the values of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from dynamo_operator.archive_runs import BACKUP, RESTORE, Run, end_in
from dynamo_operator.origins import by_snapshots, not_whole
from dynamo_operator.owner import CLAIM
from dynamo_operator.pod import ACCESS_FILE, ADMIN_TLS, CONTAINER, PEER_TLS
from dynamo_operator.quantity import instant
from dynamo_operator.snapshot import WEIGHT, Claim, Document, Pod, Repair, Snapshot, Workload
from dynamo_operator.spec import (
    BadSpec,
    ClusterSpec,
    backup_spec,
    cluster_spec,
    repair_spec,
    restore_spec,
)
from dynamo_operator.spec_backup import BackupSpec, RestoreSpec
from dynamo_operator.variables import of_pod

WEIGHT_MAX = 1000
ONLY_NEW = (
    "is of volume snapshots: they only begin a new ring, so make a DynamoCluster with"
    " spec.bootstrap.fromBackup.name, or restore a backup of method Records"
)
SOURCES = ("dataSource", "dataSourceRef", "volumeName", "selector")


def resource_of(resource: Document, now: float, operator_namespace: str) -> Snapshot:
    """The resource alone; if its spec cannot be read, this is a fault and the look ends."""
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


def workload_of(item: Document | None, secret: str | None = None) -> Workload | None:
    """The facts of the StatefulSet. `secret`: the one of `spec.backup.secretName`."""
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
        asks=ACCESS_FILE in _environment(item["spec"].get("template") or {}),
        variables=of_pod((item["spec"].get("template") or {}).get("spec") or {}, secret),
    )


def pod_of(o: Snapshot, item: Document) -> Pod | None:
    """A pod of the ring, None if its name does not belong to this StatefulSet."""
    meta, status = item["metadata"], item.get("status") or {}
    ordinal = o.ordinal(meta["name"])
    if ordinal is None:
        return None
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    containers = {c["name"]: c for c in status.get("containerStatuses") or ()}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    is_ready, turned = ready.get("status") == "True", instant(ready.get("lastTransitionTime"))
    told = _environment(item)
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
        zone=labels.get(o.spec.topology.zone_key, ""),
        weight=_weight(notes.get(WEIGHT, "1")),
        trouble=_trouble(meta["name"], containers.get(CONTAINER, {}), conditions),
        labels=dict(labels),
        tls=told.get(PEER_TLS, "off"),
        https=told.get(ADMIN_TLS, "off") != "off",
        asks=ACCESS_FILE in told,
        variables=of_pod(item.get("spec") or {}, o.spec.backup.secret_name),
    )


def _environment(item: Document) -> dict[str, str]:
    containers = (item.get("spec") or {}).get("containers") or ()
    nothing: Document = {}
    node = next((each for each in containers if each["name"] == CONTAINER), nothing)
    return {line["name"]: line.get("value", "") for line in node.get("env") or ()}


def _weight(text: str) -> int:
    return min(max(1, int(text)), WEIGHT_MAX) if text.isdecimal() else 1


def _trouble(name: str, container: Document, conditions: dict[str, Any]) -> str:
    """Why a pod does not run, in the words of the scheduler or the kubelet."""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{name} is not scheduled: {scheduled.get('message', '')}"
    waiting = (container.get("state") or {}).get("waiting")
    if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return f"{name}: {waiting['reason']} {waiting.get('message', '')}".rstrip()
    return ""


def claim_of(o: Snapshot, item: Document) -> Claim | None:
    """A claim of the ring, None if its name does not belong to this StatefulSet."""
    meta, status = item["metadata"], item.get("status") or {}
    ordinal = o.ordinal(meta["name"].removeprefix(f"{CLAIM}-"))
    if ordinal is None or meta["name"] != o.owner.claim(ordinal):
        return None
    labels = meta.get("labels") or {}
    ours = o.owner.selector.items() <= labels.items()
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
        labels=dict(labels),
        access_modes=tuple(item["spec"].get("accessModes") or ()),
        attributes=item["spec"].get("volumeAttributesClassName"),
        modifying=(status.get("modifyVolumeStatus") or {}).get("status", ""),
        volume=item["spec"].get("volumeName", ""),
    )


def repair_of(o: Snapshot, item: Document) -> Repair | None:
    """A DynamoRepair of this cluster; the API server has checked it against the schema."""
    meta = item["metadata"]
    try:
        spec = repair_spec(item.get("spec") or {})
    except BadSpec:
        return None
    if spec.cluster_name != o.name or "deletionTimestamp" in meta:
        return None
    return Repair(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=instant(meta["creationTimestamp"]) or 0.0,
        spec=spec,
        status=dict(item.get("status") or {}),
    )


def runs_of(o: Snapshot, backups: list[Any], restores: list[Any]) -> tuple[Run, ...]:
    """The DynamoBackups and DynamoRestores of this cluster, among all of the namespace: a restore
    may be of another ring's backup."""
    made = [run for item in backups if (run := _run(o, item, BACKUP)) is not None]
    made += _restores(o, backups, restores)
    return tuple(run for run in made if run.spec.cluster_name == o.name)


def read_by_others(o: Snapshot, backups: list[Any], restores: list[Any]) -> frozenset[str]:
    """The archives from which DynamoRestores of other rings of the namespace read, or will."""
    return frozenset(
        run.archive
        for run in _restores(o, backups, restores)
        if run.spec.cluster_name != o.name and not run.ended and run.archive
    )


def _restores(o: Snapshot, backups: list[Any], restores: list[Any]) -> list[Run]:
    named = {item["metadata"]["name"]: item for item in backups}
    made = []
    for item in restores:
        run = _run(o, item, RESTORE)
        if run is not None and isinstance(run.spec, RestoreSpec):
            made.append(_with_source(run, run.spec, named))
    return made


def _run(o: Snapshot, item: Document, kind: Any) -> Run | None:
    meta, status = item["metadata"], dict(item.get("status") or {})
    decode = backup_spec if kind == BACKUP else restore_spec
    try:
        spec = decode(item.get("spec") or {})
    except BadSpec:
        return None
    if "deletionTimestamp" in meta:
        return None
    archive, missing = "", ""
    if isinstance(spec, BackupSpec) and spec.method == "Records":
        archive = spec.target or status.get("target") or o.spec.backup.target or ""
        missing = "" if archive else "spec.target is not set, nor spec.backup.target of the ring"
    return Run(
        kind=kind,
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=instant(meta["creationTimestamp"]) or 0.0,
        spec=spec,
        labels=dict(meta.get("labels") or {}),
        status=status,
        archive=archive,
        missing=missing,
    )


def _with_source(run: Run, spec: RestoreSpec, backups: Mapping[str, Document]) -> Run:
    """Where a restore reads: what its status says, once it has begun."""
    source = spec.source
    if run.status.get("target"):
        place = run.status["target"], run.status.get("backupId", "")
        return structs.replace(run, archive=place[0], backup=place[1])
    if source.name is None:
        return structs.replace(run, archive=source.target or "", backup=source.backup_id or "")
    item = backups.get(source.name)
    if item is None:
        return structs.replace(run, missing=f"there is no DynamoBackup {source.name}")
    status, named = item.get("status") or {}, f"DynamoBackup {source.name}"
    if by_snapshots(item):
        return structs.replace(run, hopeless=f"{named} {ONLY_NEW}")
    if (wait := not_whole(item)) is not None:
        hopeless = end_in(status) == "Failed"
        return structs.replace(run, **{"hopeless" if hopeless else "missing": wait})
    return structs.replace(run, archive=status["target"], backup=status["backupId"])
