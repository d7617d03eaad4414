"""The fields of the status of each kind.

The operator writes them in each pass and never reads them back: they follow from the objects and
the ring. Large or quickly changing facts are metrics of the nodes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dynamo_operator.spec_types import Part

_WHEN = {"format": "date-time"}
_COUNTS = {"additionalProperties": {"type": "integer"}}


# fmt: off
class Told(Part, frozen=True, kw_only=True):
    """A part of a status. It is written as a whole, so the schema has no defaults for it."""


class Condition(Told, frozen=True, kw_only=True):
    """One fact with a reason, as in metav1.Condition."""

    type: Annotated[str, Meta(description="Name of the condition.", max_length=316)]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="Whether it is true.")]
    reason: Annotated[str, Meta(
        description="Why, as one CamelCase word.", min_length=1, max_length=1024)]
    message: Annotated[str, Meta(
        description="What is happening, why it waits, and what to do.", max_length=32768)]
    last_transition_time: Annotated[str, Meta(
        description="When status last changed.", extra_json_schema=_WHEN)]
    observed_generation: Annotated[int, Meta(
        description="Generation of the resource that this was true for.", ge=0)] | None = None


class RingStatus(Told, frozen=True, kw_only=True):
    """The ring document of a majority of the nodes."""

    epoch: Annotated[int, Meta(description="How often the ring has changed; it never falls.")]
    digest: Annotated[str, Meta(description="Equal for nodes with the same ring.")]
    agreed: Annotated[bool, Meta(description="Every node that answers has this digest.")]
    partitions: Annotated[int, Meta(description="Q.")]
    moves_pending: Annotated[int, Meta(
        description="Replicas that are not yet on the nodes of the target.")]
    under_replicated: Annotated[int, Meta(
        description="Partitions with an owner that is down.")]


class NodeStatus(Told, frozen=True, kw_only=True):
    """One node, from the ring and from its own answer."""

    name: Annotated[str, Meta(description="Name of the node and of its pod.")]
    node_id: Annotated[str, Meta(description="Id of its disk; a new disk has a new one.")] = ""
    state: Annotated[str, Meta(
        description="UNJOINED, JOINING, MEMBER, LEAVING, LEFT or UNKNOWN.")] = "UNKNOWN"
    zone: Annotated[str, Meta(description="Its failure domain.")] = ""
    tokens: Annotated[int, Meta(description="Partitions that it owns.")] = 0
    outside: Annotated[str, Meta(
        description="host:port for clients outside the cluster, with spec.exposure; without a host:"
        " a port of every machine.")] = ""


class PlanStatus(Told, frozen=True, kw_only=True):
    """The next change of owners; with policy Preview it waits for approval."""

    hash: Annotated[str, Meta(description="Hash for spec.ring.approvedPlan.")]
    moves: Annotated[int, Meta(description="Replicas that would move.")]
    before: Annotated[dict[str, int], Meta(
        description="Partitions of each node now.", extra_json_schema=_COUNTS)]
    after: Annotated[dict[str, int], Meta(
        description="Partitions of each node after the change.", extra_json_schema=_COUNTS)]
    violations: Annotated[tuple[str, ...], Meta(
        description="Rules that the plan cannot keep, such as copies in different zones.")] = ()
    bytes: Annotated[int, Meta(
        description="Bytes that would be copied; absent while owners cannot tell.")] | None = None


class OperationStatus(Told, frozen=True, kw_only=True):
    """The one change that is under way."""

    id: Annotated[str, Meta(description="Id of the operation in the ring.")]
    type: Annotated[str, Meta(description="Found, Join, Leave, Move, Update, Replace or Repair.")]
    target: Annotated[str, Meta(description="What the operation changes, such as the names of"
        " nodes.")] = ""
    started_at: Annotated[str, Meta(
        description="When the operator first saw it.", extra_json_schema=_WHEN)] | None = None
    progress_percent: Annotated[int, Meta(description="0 to 100.", ge=0, le=100)] = 0
    message: Annotated[str, Meta(description="What it does now.")] = ""


class LastRepair(Told, frozen=True, kw_only=True):
    """The last repair of the whole ring that ended."""

    name: Annotated[str, Meta(description="Name of the DynamoRepair.")]
    completed_at: Annotated[str, Meta(description="When it ended.", extra_json_schema=_WHEN)]
    result: Annotated[str, Meta(description="Complete or Failed.")]


class StalenessStatus(Told, frozen=True, kw_only=True):
    """How fresh reads are by the last reports of the nodes, rounded so that it changes rarely."""

    fresh_at_once_percent: Annotated[int, Meta(
        description="Predicted share of reads through another node that see a write at once.",
        ge=0, le=100)]
    fresh_999_ms: Annotated[int, Meta(
        description="Predicted time until 99.9% of such reads see a write, rounded up to 1, 2 or 5"
        " times a power of ten; absent: longer than the samples tell.",
        ge=0)] | None = None
    measured_percent: Annotated[int, Meta(
        description="Share of canary reads that saw their write; absent without canaries.",
        ge=0, le=100)] | None = None


class LastBackup(Told, frozen=True, kw_only=True):
    """The last complete backup of the ring."""

    name: Annotated[str, Meta(description="Name of the DynamoBackup.")]
    backup_id: Annotated[str, Meta(
        description="Its id in the archive; empty for volume snapshots.")]
    target: Annotated[str, Meta(
        description="URL of the archive; empty for volume snapshots.")]
    started_at: Annotated[str, Meta(
        description="Every write that was acknowledged before this time is in it.",
        extra_json_schema=_WHEN)]
    completed_at: Annotated[str, Meta(description="When it ended.", extra_json_schema=_WHEN)]
    records: Annotated[int, Meta(description="Keys with their histories, and hints.")] = 0
    bytes: Annotated[int, Meta(description="Bytes of these records.")] = 0
    missed: Annotated[tuple[str, ...], Meta(
        description="Nodes that were down: writes that only these nodes held are not in"
        " it.")] = ()
    damaged: Annotated[int, Meta(
        description="Keys that it lacks, because their records were damaged on all nodes.")] = 0


_CONDITIONS = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
_NODES = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class ClusterStatus(Told, frozen=True, kw_only=True):
    """The state of a ring at the last look."""

    observed_generation: Annotated[int, Meta(
        description="Generation of the spec that this status describes.")] | None = None
    replicas: Annotated[int, Meta(
        description="Pods of the StatefulSet, those of leaving nodes too.")] = 0
    ready_replicas: Annotated[int, Meta(description="Pods that are Ready.")] = 0
    members: Annotated[int, Meta(description="Nodes that are MEMBER in the ring.")] = 0
    ready: Annotated[str, Meta(description="Number of Ready pods, of the wanted number.")] = ""
    selector: Annotated[str, Meta(description="Selector of the pods, for autoscalers.")] = ""
    cluster_id: Annotated[str, Meta(description="Id of the ring; its disks have it too.")] = ""
    ring: Annotated[RingStatus, Meta(description="The ring document.")] | None = None
    nodes: Annotated[tuple[NodeStatus, ...], Meta(
        description="One for each node that is not LEFT, and each pod.",
        extra_json_schema=_NODES)] = ()
    rendered_by: Annotated[str, Meta(
        description="Version of the operator that made the pod template; empty: an older version"
        " that did not write it.")] = ""
    plan: Annotated[PlanStatus, Meta(description="The change that waits.")] | None = None
    operation: Annotated[OperationStatus, Meta(
        description="The change in progress.")] | None = None
    last_repair: Annotated[LastRepair, Meta(
        description="The last repair of the whole ring.")] | None = None
    staleness: Annotated[StalenessStatus, Meta(
        description="How fresh reads are; absent before the nodes have samples.")] | None = None
    last_backup: Annotated[LastBackup, Meta(
        description="The last complete backup of the ring.")] | None = None
    conditions: Annotated[tuple[Condition, ...], Meta(
        description="Available, Progressing, Degraded, Ready, RingStable, QuorumSafe, Converged,"
        " RepairUpToDate, BackupUpToDate, SpecValid, CertificatesReady, AccessReady, Paused.",
        extra_json_schema=_CONDITIONS)] = ()


class RepairStatus(Told, frozen=True, kw_only=True):
    """The progress of a repair."""

    start_time: Annotated[str, Meta(
        description="When the nodes began.", extra_json_schema=_WHEN)] | None = None
    completion_time: Annotated[str, Meta(
        description="When it ended.", extra_json_schema=_WHEN)] | None = None
    partitions_total: Annotated[int, Meta(description="Partitions to compare.")] = 0
    partitions_done: Annotated[int, Meta(description="Partitions that are compared.")] = 0
    keys_repaired: Annotated[int, Meta(description="Records that a copy lacked.")] = 0
    conditions: Annotated[tuple[Condition, ...], Meta(
        description="Complete or Failed, after it has ended.", extra_json_schema=_CONDITIONS)] = ()


class RunStatus(Told, frozen=True, kw_only=True):
    """What backups and restores have in common."""

    state: Annotated[str, Meta(description="Waiting, Running, Complete or Failed.")] = "Waiting"
    message: Annotated[str, Meta(
        description="What it does or waits for, in one sentence.", max_length=4096)] = ""
    target: Annotated[str, Meta(description="URL of the archive.")] = ""
    backup_id: Annotated[str, Meta(description="Id of the backup in the archive.")] = ""
    start_time: Annotated[str, Meta(
        description="When the nodes began.", extra_json_schema=_WHEN)] | None = None
    completion_time: Annotated[str, Meta(
        description="When it ended.", extra_json_schema=_WHEN)] | None = None
    duration_seconds: Annotated[int, Meta(
        description="From its start to its end, or until now.")] = 0
    failures: Annotated[int, Meta(
        description="How often the nodes have given up; see spec.retries.")] = 0
    retry_time: Annotated[str, Meta(
        description="The operator asks the nodes again after this time.",
        extra_json_schema=_WHEN)] | None = None
    records: Annotated[int, Meta(description="Records that were saved or merged so far.")] = 0
    conditions: Annotated[tuple[Condition, ...], Meta(
        description="Complete or Failed, after it has ended.", extra_json_schema=_CONDITIONS)] = ()


class SnapshotStatus(Told, frozen=True, kw_only=True):
    """One snapshot of a backup by volume snapshots."""

    name: Annotated[str, Meta(description="Name of the VolumeSnapshot.")]
    ordinal: Annotated[int, Meta(description="Number of the pod whose claim it is of.", ge=0)]
    ready: Annotated[bool, Meta(description="A claim can be made from it.")] = False
    size: Annotated[str, Meta(description="The smallest claim that can have its data.")] = ""


class SavedRing(Told, frozen=True, kw_only=True):
    """The ring that volume snapshots are of. A ring that begins with them has the same fields."""

    cluster: Annotated[str, Meta(description="NAMESPACE/NAME of its DynamoCluster.")]
    cluster_id: Annotated[str, Meta(description="Its id.")]
    epoch: Annotated[int, Meta(description="How often it had changed.")]
    partitions: Annotated[int, Meta(description="Q.")]
    factor: Annotated[int, Meta(description="Copies of each key.")]
    conflicts: Annotated[str, Meta(description="Siblings or LastWriteWins.")]


class BackupStatus(RunStatus, frozen=True, kw_only=True):
    """The progress of a backup."""

    base: Annotated[str, Meta(
        description="Id of the earlier backup that it refers to where nothing changed.")] = ""
    partitions_total: Annotated[int, Meta(description="Partitions of the ring.")] = 0
    partitions_done: Annotated[int, Meta(description="Partitions that are saved.")] = 0
    bytes: Annotated[int, Meta(description="Bytes of the records.")] = 0
    stored_bytes: Annotated[int, Meta(
        description="Bytes of the parts in the archive, compressed.")] = 0
    new_bytes: Annotated[int, Meta(
        description="Bytes of the parts that this backup has added to the archive.")] = 0
    missed: Annotated[tuple[str, ...], Meta(
        description="Nodes that were down: writes that only these nodes held are not in"
        " it.")] = ()
    damaged: Annotated[int, Meta(
        description="Keys that it lacks, because their records were damaged on all nodes;"
        " `dynamoctl backup show` lists them.")] = 0
    snapshots: Annotated[tuple[SnapshotStatus, ...], Meta(
        description="The volume snapshots, one for each node.",
        extra_json_schema=_NODES)] = ()
    snapshots_ready: Annotated[str, Meta(
        description="Number of snapshots that are ready, of the wanted number.")] = ""
    cut_time: Annotated[str, Meta(
        description="When all volume snapshots were cut and the ring had not changed meanwhile.",
        extra_json_schema=_WHEN)] | None = None
    secret_name: Annotated[str, Meta(
        description="Secret with a copy of the cluster secret; a new ring that names it in"
        " spec.auth.secretName takes contexts of the saved one.")] = ""
    ring: Annotated[SavedRing, Meta(
        description="The ring that the volume snapshots are of.")] | None = None


class RestoreStatus(RunStatus, frozen=True, kw_only=True):
    """The progress of a restore."""

    parts_total: Annotated[int, Meta(description="Parts of the backup.")] = 0
    parts_done: Annotated[int, Meta(description="Parts that are merged.")] = 0
    skipped: Annotated[int, Meta(
        description="Records of other keys, or of keys that were as in the backup.")] = 0


AnyStatus = ClusterStatus | RepairStatus | RunStatus


# fmt: on
def written(status: AnyStatus) -> dict[str, object]:
    """The status in JSON: camelCase, without unknown fields."""
    body: dict[str, object] = msgspec.to_builtins(status)
    return {field: value for field, value in body.items() if value is not None}
