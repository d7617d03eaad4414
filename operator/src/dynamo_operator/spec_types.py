"""The parts of a DynamoCluster's spec: one struct for each group of fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SIZE_MAX = 255
DURATION = r"^[1-9][0-9]*(ms|s|m|h)$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"
Free = dict[str, Any]
Words = dict[str, str]
Amounts = dict[str, str | int]

_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}
_QUANTITIES = {
    "additionalProperties": {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": QUANTITY,
        "x-kubernetes-int-or-string": True,
    },
    "maxProperties": 32,
}
WORDS = {"additionalProperties": {"type": "string", "maxLength": 4096}, "maxProperties": 64}
SET = {"x-kubernetes-list-type": "set"}


# fmt: off
class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """A part of a resource."""


class Move(Part, frozen=True, kw_only=True):
    """A manual token move: either partitions or tokens, not both."""

    partitions: Annotated[tuple[Annotated[int, Meta(ge=0, le=4095)], ...], Meta(
        description="Partitions whose replica moves from one node to the other.",
        min_length=1, max_length=256, extra_json_schema=SET)] | None = None
    tokens: Annotated[int, Meta(
        description="Number of partitions that move; the nodes choose them.",
        ge=1, le=4096)] | None = None
    zone: Annotated[str, Meta(
        description="With tokens: take them from nodes of this zone.",
        max_length=253)] | None = None
    giver: Annotated[str, Meta(
        description="Name of the node (its pod) that gives replicas. Optional with tokens.",
        max_length=63, pattern=_LABEL)] | None = msgspec.field(name="from", default=None)
    taker: Annotated[str, Meta(
        description="Name of the node (its pod) that receives replicas.",
        max_length=63, pattern=_LABEL)] = msgspec.field(name="to")


class RingSpec(Part, frozen=True, kw_only=True):
    """The number of partitions, and who may change their owners."""

    partitions: Annotated[Literal[16, 32, 64, 128, 256, 512, 1024, 2048, 4096], Meta(
        description="Q, the number of equal partitions of the ring. A power of two; fixed at"
        " creation. At least ten for each node that the ring will ever have.")] = 256
    max_concurrent_moves: Annotated[int, Meta(
        description="Partitions that one node receives at once. Higher: changes end sooner and"
        " cost clients more.",
        ge=1, le=64)] = 2
    policy: Annotated[Literal["Auto", "Preview"], Meta(
        description="Auto: the operator applies a change of owners as soon as it is planned."
        " Preview: the plan waits in status.plan until spec.ring.approvedPlan is its"
        " hash.")] = "Auto"
    approved_plan: Annotated[str, Meta(
        description="Hash of the plan in status.plan that the operator may carry out. Only with"
        " policy Preview; it has no effect after the ring has changed.",
        max_length=128)] | None = None
    moves: Annotated[tuple[Move, ...], Meta(
        description="Manual token moves. The operator makes each once; a move whose partitions are"
        " already on the named node is complete.",
        max_length=32, extra_json_schema={"x-kubernetes-list-type": "atomic"})] = ()


class Replication(Part, frozen=True, kw_only=True):
    """How many copies there are and how many answers a request waits for (N, R, W)."""

    factor: Annotated[int, Meta(
        description="N, copies of each key, on different nodes. Fixed at creation.",
        ge=1, le=16)] = 3
    read_quorum: Annotated[int, Meta(
        description="R, answers that a read waits for, unless the request gives its own.",
        ge=1, le=16)] = 2
    write_quorum: Annotated[int, Meta(
        description="W, acknowledgements that a write waits for, unless the request gives its own.",
        ge=1, le=16)] = 2
    durable_writes: Annotated[int, Meta(
        description="DW, how many of these are fsynced, unless the request gives its own.",
        ge=1, le=16)] = 1
    sloppy_quorum: Annotated[bool, Meta(
        description="Whether stand-ins count for owners that cannot be reached, unless a request"
        " says otherwise. False: only owners count; reads with R+W>N are fresh, writes may fail."),
    ] = True


class Topology(Part, frozen=True, kw_only=True):
    """Failure domains."""

    zone_key: Annotated[str, Meta(
        description="Label of the machine that names its failure domain. Copies of a key are"
        " kept in different zones where there are enough.",
        min_length=1, max_length=253)] = "topology.kubernetes.io/zone"
    spread: Annotated[Literal["Preferred", "Required", "Disabled"], Meta(
        description="Pods over zones and machines. Required: a pod that would break the spread"
        " over zones stays Pending. Disabled: the scheduler places them as it"
        " likes.")] = "Preferred"


class AntiEntropy(Part, frozen=True, kw_only=True):
    """How nodes compare their copies all the time, without the operator."""

    interval: Annotated[str, Meta(
        description="Time between two comparisons of a node with one other node: a number and ms,"
        " s, m or h.",
        pattern=DURATION, max_length=16)] = "2s"
    max_concurrent_partitions: Annotated[int, Meta(
        description="Partitions that a node exchanges at once.", ge=1, le=64)] = 4


class ScheduledRepair(Part, frozen=True, kw_only=True):
    """Repairs of the whole ring at scheduled times, as DynamoRepair objects."""

    schedule: Annotated[str, Meta(
        description="Times of repairs, as five fields of cron, in UTC. Unset: no such repairs.",
        max_length=100)] | None = None
    suspend: Annotated[bool, Meta(description="No new repairs while this is true.")] = False


class Background(Part, frozen=True, kw_only=True):
    """How background work (moves, hints, exchanges) yields to clients."""

    latency_threshold_ms: Annotated[int, Meta(
        description="A node slows background work down while the 99th percentile of its reads in"
        " the last minute is above this number of milliseconds.",
        ge=1, le=60000)] = 75


class Update(Part, frozen=True, kw_only=True):
    """How pods get a new revision: one at a time, highest ordinal first."""

    canary: Annotated[int, Meta(
        description="The update stops when this number of pods has the new revision, until this is"
        " unset or raised. 0: no pod is updated.",
        ge=0, le=SIZE_MAX)] | None = None
    min_ready_seconds: Annotated[int, Meta(
        description="Seconds that every other pod must have been Ready before the operator updates"
        " the next one.",
        ge=0, le=3600)] = 5
    template: Annotated[Literal["WhenSpecChanges", "WithOperator"], Meta(
        description="When pods get the template of another version of the operator."
        " WhenSpecChanges: with the next change of a field of the pods. WithOperator:"
        " when the operator is updated, one ring after another.")] = "WhenSpecChanges"
    peer_protocol_min: Annotated[int, Meta(
        description="The oldest protocol between nodes. 2: when every node speaks it, the operator"
        " restarts the pods one by one, and then they refuse nodes of 0.1.0: spec.image cannot go"
        " back to 0.1.0. Unset: 2 where tls.mode is Required, because no node of 0.1.0 knows TLS;"
        " else 1.",
        ge=1, le=2)] | None = None


NODE_MEMORY = "1272Mi"
"""Maximum memory of a node with the default settings: the formula of docs/operations.md."""
NODE_MEMORY_TLS = "1636Mi"
"""The same with TLS: a pod whose limit is the default has this one then."""


class Resources(Part, frozen=True, kw_only=True):
    """Resources of the node's container."""

    requests: Annotated[
        Amounts, Meta(description="What the scheduler reserves.", extra_json_schema=_QUANTITIES)
    ] = msgspec.field(default_factory=lambda: {"cpu": "250m", "memory": "512Mi"})
    limits: Annotated[Amounts, Meta(
        description="Maximum that a node may use. A CPU limit makes the slowest requests"
        " slower; prefer none.",
        extra_json_schema=_QUANTITIES)] = msgspec.field(
            default_factory=lambda: {"memory": NODE_MEMORY})


class PodTemplate(Part, frozen=True, kw_only=True):
    """Merged into the pod template that the operator makes: objects are merged, lists of named
    objects by name; other objects are added to their list; everything else is replaced."""

    metadata: Annotated[Free, Meta(
        description="Labels and annotations of pods. The operator's own labels take precedence.",
        extra_json_schema=_ANYTHING)] = msgspec.field(default_factory=dict)
    spec: Annotated[Free, Meta(
        description="Any field of a pod's spec: affinity, tolerations, more containers. The"
        " node's container is named node.",
        extra_json_schema=_ANYTHING)] = msgspec.field(default_factory=dict)


class Auth(Part, frozen=True, kw_only=True):
    """The cluster secret: contexts, links and the administrator's token use keys of it."""

    secret_name: Annotated[str, Meta(
        description="Secret with the key `secret`: lines of 32 to 4096 printable ASCII characters;"
        " nodes seal with the first and verify with each. Unset: the operator makes one, once,"
        " and keeps it when the resource is deleted.",
        max_length=253)] | None = None


class DisruptionBudget(Part, frozen=True, kw_only=True):
    """How many pods a drain may take at once."""

    enabled: Annotated[bool, Meta(description="Make a PodDisruptionBudget.")] = True
    max_unavailable: Annotated[int, Meta(
        description="Unset: factor minus the larger of readQuorum and writeQuorum, at least 1.",
        ge=0, le=SIZE_MAX)] | None = None


_PEERS = {
    "items": {"type": "object", **_ANYTHING},
    "x-kubernetes-list-type": "atomic",
}


class NetworkPolicySpec(Part, frozen=True, kw_only=True):
    """Who may connect to nodes, and where nodes may connect to. Only the ring's pods and the
    operator reach peer and admin ports."""

    enabled: Annotated[bool, Meta(description="Make a NetworkPolicy.")] = True
    clients: Annotated[tuple[Free, ...], Meta(
        description="NetworkPolicyPeers that may use the client port. By default the pods of the"
        " ring's namespace; empty: every pod.",
        max_length=32, extra_json_schema=_PEERS)] = ({"podSelector": {}},)
    monitoring: Annotated[tuple[Free, ...], Meta(
        description="NetworkPolicyPeers that may use the admin port as well, for metrics.",
        max_length=32, extra_json_schema=_PEERS)] = ()
    egress: Annotated[tuple[Free, ...], Meta(
        description="NetworkPolicyEgressRules: where nodes may connect to besides DNS and each"
        " other. Unset: the operator adds rules for what backups and traces need, as far as this"
        " resource, its backups and restores, and the Secret of backup.secretName name it. If set,"
        " it adds none: empty is nowhere else, [{}] is anywhere.",
        max_length=32, extra_json_schema=_PEERS)] | None = None


class Monitoring(Part, frozen=True, kw_only=True):
    """How Prometheus finds the nodes."""

    service_monitor: Annotated[
        bool, Meta(description="Make a ServiceMonitor; needs the Prometheus operator's CRDs.")
    ] = False
    labels: Annotated[Words, Meta(
        description="Labels of the ServiceMonitor, by which Prometheus selects it.",
        extra_json_schema=WORDS)] = msgspec.field(default_factory=dict)


class Recovery(Part, frozen=True, kw_only=True):
    """What the operator repairs without a person."""

    auto_replace: Annotated[Literal["Never", "VolumeLost", "NodeGone"], Meta(
        description="VolumeLost: when the volume of a node is certainly gone, the node starts empty"
        " under its name and copies its partitions from the others. NodeGone: also when the volume"
        " can only be used on a machine whose Node object is gone; never because a machine is"
        " NotReady. The operator then deletes the claim, and needs the chart's"
        " rbac.nodeGone.")] = "VolumeLost"
    node_gone_after: Annotated[str, Meta(
        description="With NodeGone: how long the Node object must be gone. A number and s, m or h.",
        pattern=DURATION, max_length=16)] = "10m"
