"""What the operator tells: the fields of `DynamoCluster.status` and `DynamoRepair.status`.

Written each pass and never read back: all of it follows from the objects and the ring. Large or
fast-moving facts are metrics of the nodes.
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
    """A part of a status: written whole, so its defaults are none of the schema's."""


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
    """The ring document as a majority of the nodes has it."""

    epoch: Annotated[int, Meta(description="How often the ring has changed; it never falls.")]
    digest: Annotated[str, Meta(description="Equal for nodes with the same ring.")]
    agreed: Annotated[bool, Meta(description="Every node that answers has this digest.")]
    partitions: Annotated[int, Meta(description="Q.")]
    moves_pending: Annotated[int, Meta(
        description="Replicas that are not yet on the nodes of the target.")]
    under_replicated: Annotated[int, Meta(
        description="Partitions with an owner that is down.")]


class NodeStatus(Told, frozen=True, kw_only=True):
    """One node, by the ring and by its own word."""

    name: Annotated[str, Meta(description="Name of the node and of its pod.")]
    node_id: Annotated[str, Meta(description="Id of its disk; a new disk has a new one.")] = ""
    state: Annotated[str, Meta(
        description="UNJOINED, JOINING, MEMBER, LEAVING, LEFT or UNKNOWN.")] = "UNKNOWN"
    zone: Annotated[str, Meta(description="Its failure domain.")] = ""
    tokens: Annotated[int, Meta(description="Partitions that it owns.")] = 0


class PlanStatus(Told, frozen=True, kw_only=True):
    """The change of owners that would be made next; with policy Preview it waits."""

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


_CONDITIONS = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
_NODES = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class ClusterStatus(Told, frozen=True, kw_only=True):
    """What was seen of a ring at the last look."""

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
    conditions: Annotated[tuple[Condition, ...], Meta(
        description="Available, Progressing, Degraded, Ready, RingStable, QuorumSafe, Converged,"
        " RepairUpToDate, SpecValid, Paused.", extra_json_schema=_CONDITIONS)] = ()


class RepairStatus(Told, frozen=True, kw_only=True):
    """How far a repair is."""

    start_time: Annotated[str, Meta(
        description="When the nodes began.", extra_json_schema=_WHEN)] | None = None
    completion_time: Annotated[str, Meta(
        description="When it ended.", extra_json_schema=_WHEN)] | None = None
    partitions_total: Annotated[int, Meta(description="Partitions to compare.")] = 0
    partitions_done: Annotated[int, Meta(description="Partitions that are compared.")] = 0
    keys_repaired: Annotated[int, Meta(description="Records that a copy lacked.")] = 0
    conditions: Annotated[tuple[Condition, ...], Meta(
        description="Complete or Failed, after it has ended.", extra_json_schema=_CONDITIONS)] = ()


# fmt: on
def written(status: ClusterStatus | RepairStatus) -> dict[str, object]:
    """The status as JSON has it: camelCase, without what is not known."""
    body: dict[str, object] = msgspec.to_builtins(status)
    return {field: value for field, value in body.items() if value is not None}
