"""The fields that people set: `DynamoCluster.spec` and `DynamoRepair.spec`.

These structs, `spec_types`, `spec_access` and `spec_backup` are the one definition: `definition`
makes the CRDs' schemas from them (types, bounds, defaults, descriptions), and `cluster_spec` and
the like decode a resource with the defaults filled in. A resource has its fields in camelCase:
`read_quorum` is `readQuorum`.

No field and no word of an enum is a boolean in YAML 1.1 (`n`, `y`, `on`, `off`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from dynamo_operator.spec_access import AccessSpec, TlsSpec
from dynamo_operator.spec_backup import Backups, BackupSpec, Bootstrap, RestoreSpec
from dynamo_operator.spec_services import Exposure, ServiceSpec
from dynamo_operator.spec_storage import Storage
from dynamo_operator.spec_types import (
    DURATION,
    SET,
    SIZE_MAX,
    AntiEntropy,
    Auth,
    Background,
    DisruptionBudget,
    Monitoring,
    NetworkPolicySpec,
    Part,
    PodTemplate,
    Recovery,
    Replication,
    Resources,
    RingSpec,
    ScheduledRepair,
    Topology,
    Update,
)

GROUP = "dynamo-ring.dev"
API_VERSION = f"{GROUP}/v1alpha1"
VERSION = "0.1.0"
P = TypeVar("P", bound=Part)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadSpec(Exception):
    """A spec that the schema would have refused; names the field."""


def seconds(duration: str) -> float:
    """Seconds of a duration: `250ms`, `2s`, `10m`, `1h`. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h)", duration)
    if match is None:
        raise ValueError(f"{duration!r}: needs a number and ms, s, m or h")
    return int(match[1]) * _SECONDS[match[2]]


# fmt: off
class ClusterSpec(Part, frozen=True, kw_only=True):
    """One ring of nodes that together keep keys and values."""

    size: Annotated[int, Meta(
        description="Nodes of the ring. Raised: nodes join. Lowered: the nodes with the highest"
        " ordinals hand over their partitions and leave. You may reverse either before it is"
        " complete.",
        ge=1, le=SIZE_MAX)] = 3
    image: Annotated[
        str, Meta(description="Image of the nodes.", min_length=1, max_length=512)
    ] = f"dynamo-ring-node:{VERSION}"
    image_pull_policy: Annotated[
        Literal["IfNotPresent", "Always", "Never"], Meta(description="When the image is pulled.")
    ] = "IfNotPresent"
    image_pull_secrets: Annotated[tuple[Annotated[str, Meta(max_length=253)], ...], Meta(
        description="Names of Secrets for the image's registry.",
        max_length=16, extra_json_schema=SET)] = ()
    ring: Annotated[RingSpec, Meta(description="Partitions and their moves.")] = RingSpec()
    replication: Annotated[Replication, Meta(description="Copies and quorums.")] = Replication()
    conflicts: Annotated[Literal["Siblings", "LastWriteWins"], Meta(
        description="Result of concurrent writes. Siblings: all values, for the reader to"
        " merge. LastWriteWins: the newest value by the clock; loses writes. Fixed at"
        " creation.")] = "Siblings"
    topology: Annotated[Topology, Meta(description="Zones and machines.")] = Topology()
    storage: Annotated[Storage, Meta(description="Volumes of the nodes.")] = (
        msgspec.field(default_factory=Storage)
    )
    anti_entropy: Annotated[
        AntiEntropy, Meta(description="How nodes compare their copies.")
    ] = AntiEntropy()
    repair: Annotated[
        ScheduledRepair, Meta(description="Scheduled repairs of the whole ring.")
    ] = ScheduledRepair()
    backup: Annotated[Backups, Meta(
        description="Scheduled backups, and where backups lie.")] = Backups()
    bootstrap: Annotated[Bootstrap, Meta(
        description="What a new ring begins with. Only at creation.")] | None = None
    background: Annotated[
        Background, Meta(description="How background work yields to clients.")
    ] = Background()
    update: Annotated[Update, Meta(description="How pods get a new revision.")] = Update()
    resources: Annotated[
        Resources, Meta(description="CPU and memory of each node.")
    ] = msgspec.field(default_factory=Resources)
    run_as: Annotated[Literal["Fixed", "Assigned"], Meta(
        description="User and group of the nodes' processes and volumes. Fixed: 10001. Assigned:"
        " pods name no user, and the platform chooses one, as OpenShift does from the range of the"
        " namespace.")] = "Fixed"
    pod_template: Annotated[
        PodTemplate, Meta(description="Changes to the pod template.")
    ] = msgspec.field(default_factory=PodTemplate)
    service: Annotated[
        ServiceSpec, Meta(description="The Service for clients.")
    ] = msgspec.field(default_factory=ServiceSpec)
    exposure: Annotated[
        Exposure, Meta(description="Services of single pods, for clients outside the cluster.")
    ] = msgspec.field(default_factory=Exposure)
    auth: Annotated[Auth, Meta(description="The cluster secret.")] = Auth()
    tls: Annotated[TlsSpec, Meta(description="Encryption of all connections.")] = TlsSpec()
    access: Annotated[AccessSpec, Meta(
        description="Rights of clients and administrators.")] = AccessSpec()
    pod_disruption_budget: Annotated[
        DisruptionBudget, Meta(description="How many pods a drain may take at once.")
    ] = DisruptionBudget()
    network_policy: Annotated[NetworkPolicySpec, Meta(description="Who may connect.")] = (
        NetworkPolicySpec()
    )
    monitoring: Annotated[
        Monitoring, Meta(description="How Prometheus finds the nodes.")
    ] = msgspec.field(default_factory=Monitoring)
    recovery: Annotated[Recovery, Meta(
        description="What the operator repairs without a person.")] = Recovery()
    paused: Annotated[bool, Meta(
        description="The operator changes nothing and only reports.")] = False
    stopped: Annotated[bool, Meta(
        description="No pods run; the operator keeps the claims and all keys until this is"
        " false.")] = False


class RepairSpec(Part, frozen=True, kw_only=True):
    """One run of anti-entropy over chosen partitions, over chosen nodes or over the whole ring."""

    cluster_name: Annotated[
        str, Meta(description="DynamoCluster in the same namespace.", min_length=1, max_length=40)
    ]
    partitions: Annotated[tuple[Annotated[int, Meta(ge=0, le=4095)], ...], Meta(
        description="Only these partitions.",
        min_length=1, max_length=4096, extra_json_schema=SET)] | None = None
    nodes: Annotated[tuple[Annotated[str, Meta(max_length=63)], ...], Meta(
        description="Only partitions of these nodes (names of pods).",
        min_length=1, max_length=SIZE_MAX, extra_json_schema=SET)] | None = None
    mode: Annotated[Literal["Tree", "Full"], Meta(
        description="Tree: nodes compare hashes and repair records that differ. Full: each node"
        " also reads every record first and compares it with its hash, which finds damage on the"
        " disk.")] = "Tree"
    timeout: Annotated[str, Meta(
        description="The repair fails if it takes longer: a number and s, m or h.",
        pattern=DURATION, max_length=16)] = "1h"
    ttl_seconds_after_finished: Annotated[int, Meta(
        description="Seconds from its end until the operator deletes it.",
        ge=0, le=31_536_000)] = 86_400


# fmt: on
def cluster_spec(spec: Mapping[str, Any]) -> ClusterSpec:
    """`.spec` of a DynamoCluster, defaults filled in. Raises BadSpec."""
    return _decode(spec, ClusterSpec)


def repair_spec(spec: Mapping[str, Any]) -> RepairSpec:
    """`.spec` of a DynamoRepair, defaults filled in. Raises BadSpec."""
    return _decode(spec, RepairSpec)


def backup_spec(spec: Mapping[str, Any]) -> BackupSpec:
    """`.spec` of a DynamoBackup, defaults filled in. Raises BadSpec."""
    return _decode(spec, BackupSpec)


def restore_spec(spec: Mapping[str, Any]) -> RestoreSpec:
    """`.spec` of a DynamoRestore, defaults filled in. Raises BadSpec."""
    return _decode(spec, RestoreSpec)


def _decode(spec: Mapping[str, Any], kind: type[P]) -> P:
    try:
        return msgspec.convert(spec, kind)
    except msgspec.ValidationError as error:
        raise BadSpec(f"spec: {error}") from None
