"""The content of one look: the resource, its objects, every node's answer, and one ring.

Frozen values, and questions that these values alone can answer. `observe` makes them, `plan` and
`status` read them; a pass keeps none after its end. Times are seconds since 1970 as the API server
writes them; `now` is the time of the look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

from dynamo_operator.archive_runs import BOOTSTRAPS, Run, end_in
from dynamo_operator.node_answers import LEFT, Member, Node, Operation, Ring
from dynamo_operator.origins import Origin
from dynamo_operator.owner import Owner
from dynamo_operator.ports import Way
from dynamo_operator.spec import ClusterSpec, RepairSpec
from dynamo_operator.tokens import tokens_of
from dynamo_operator.trust import Trust
from dynamo_operator.variables import Variables

CLUSTER_ID = "dynamo-ring.dev/cluster-id"
NODE_ID = "dynamo-ring.dev/node-id"
NODE_STATE = "dynamo-ring.dev/node-state"
WEIGHT = "dynamo-ring.dev/weight"
"""Annotations: of a claim, its member; of a pod, the relative capacity of its node."""
APPLIED = "dynamo-ring.dev/applied"
REPLICAS = "dynamo-ring.dev/replicas"
MOVED = "dynamo-ring.dev/moved"
RESTARTS = "dynamo-ring.dev/restarts"
SIZE = "dynamo-ring.dev/size"
GIVEN = "dynamo-ring.dev/given"
TEMPLATE = "dynamo-ring.dev/template"
"""Annotations of the operator's objects: the digest of the applied content; of the StatefulSet, the
applied replicas and the keys of completed token moves; of a claim, how often and when its pod was
last evicted to start as a new node, the size that the operator gave it, and the labels,
annotations and class of attributes (`claims.given`)."""
COPY_OF = "dynamo-ring.dev/copy-of"
"""Annotation of a claim from a snapshot of another ring: NAMESPACE/NAME of that ring, a space, and
the id of the ring that the copies become."""
RESTORED = "dynamo-ring.dev/restored"
"""Annotation of a claim: the uid of the resource whose ring has merged the backup that it begins
with."""
TLS = "dynamo-ring.dev/tls"
ASKS = "dynamo-ring.dev/asks-clients"
"""Annotations: of the StatefulSet, the phase of TLS of its template; of a claim,
that of its node, and whether it asks clients who they are. Absent: `off`, and it does not."""
RING = "ring"
STATEFUL_SET = "StatefulSet"
Document = Mapping[str, Any]


class Claim(Struct, frozen=True):
    """A persistent volume claim of an ordinal."""

    name: str
    ordinal: int
    uid: str
    resource_version: str
    created: float
    phase: str
    deleting: bool = False
    annotations: dict[str, str] = {}
    owners: tuple[Document, ...] = ()
    size: str = ""
    capacity: str = ""
    class_name: str | None = None
    sourced: bool = False
    labels: dict[str, str] = {}
    access_modes: tuple[str, ...] = ()
    attributes: str | None = None
    modifying: str = ""
    volume: str = ""
    """`sourced`: a person made the claim or chose its data: a snapshot, another claim, a volume.
    `attributes`: its VolumeAttributesClass, and `modifying`: how far a change of it is. `volume`:
    the name of its PersistentVolume."""

    @property
    def member(self) -> bool:
        """Whether it is recorded as the disk of a member that had not left."""
        recorded = NODE_ID in self.annotations
        return recorded and self.annotations.get(NODE_STATE) != LEFT

    @property
    def blank(self) -> bool:
        """Whether it certainly has no data: no volume yet, and no data that a person chose."""
        return self.phase == "Pending" and not self.sourced


class Pod(Struct, frozen=True):
    """A pod of an ordinal."""

    name: str
    ordinal: int
    uid: str
    resource_version: str
    created: float
    running: bool = False
    started: float | None = None
    ready_since: float | None = None
    unready_since: float | None = None
    deleting_since: float | None = None
    revision: str = ""
    address: str = ""
    machine: str = ""
    zone: str = ""
    weight: int = 1
    trouble: str = ""
    labels: dict[str, str] = {}
    tls: str = "off"
    https: bool = False
    asks: bool = False
    variables: Variables = Variables()
    """`tls`: how its node was told to speak with others when it began; `https`: whether it answers
    administrators so; `asks`: whether clients have to show it who they are."""

    @property
    def ready(self) -> bool:
        """Ready, and not being deleted."""
        return self.ready_since is not None and self.deleting_since is None


class Workload(Struct, frozen=True):
    """The StatefulSet's own facts."""

    uid: str
    resource_version: str
    replicas: int
    revision: str = ""
    caught_up: bool = True
    annotations: dict[str, str] = {}
    asks: bool = False
    variables: Variables = Variables()
    """`asks`: whether pods are made that ask clients who they are."""


class Repair(Struct, frozen=True):
    """A DynamoRepair of this cluster, and the report of the node that runs it."""

    name: str
    uid: str
    resource_version: str
    created: float
    spec: RepairSpec
    status: dict[str, Any] = {}
    state: Literal["unknown", "running", "done", "failed"] = "unknown"
    total: int = 0
    done: int = 0
    repaired: int = 0

    @property
    def ended(self) -> str | None:
        """`Complete` or `Failed`."""
        return end_in(self.status)


class Snapshot(Struct, frozen=True, dict=True):
    """One look at one DynamoCluster."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: float
    now: float
    spec: ClusterSpec
    resource: Document
    deleting: bool = False
    fault: str = ""
    operator_namespace: str = ""
    objects: dict[tuple[str, str], Document] = {}
    secret: bool = True
    secret_text: str = ""
    trust: Trust = Trust()
    keys: str = ""
    issuer: str = ""
    workload: Workload | None = None
    pods: dict[int, Pod] = {}
    claims: dict[int, Claim] = {}
    nodes: dict[int, Node] = {}
    ring: Ring | None = None
    exact: bool = False
    unanimous: bool = False
    unreadable: str = ""
    repairs: tuple[Repair, ...] = ()
    runs: tuple[Run, ...] = ()
    runs_fault: str = ""
    read_by_others: frozenset[str] = frozenset()
    origin: Origin | None = None
    settled: frozenset[str] = frozenset()
    waited: dict[str, float] = {}
    turn: bool = True
    gone: dict[int, str] = {}
    unasked: str = ""
    archive_variables: Variables = Variables()
    """`objects` are those with our names, by kind and name, with the StatefulSet. `keys` and
    `issuer` verify tokens of ServiceAccounts; "" where neither the API server nor the ConfigMap has
    them. `ring` is the document of a majority of its live members; `exact`: with one digest, else
    only their member lines are equal while entries change (moves); `unanimous`: every live member
    has it. `settled`: actions that this pass has tried and that needed no change. `waited`: for how
    many seconds a pod or a claim of that name, or the ring (`RING`), has been missing (see
    `waits`). `runs_fault`: why backups and restores cannot be listed. `read_by_others`: the
    archives from which restores of other rings read. `origin`: the volume snapshots that the ring
    is to begin with. `turn`: whether the ring may take the pod template of
    another version of the operator. `gone`: by ordinal, the machine that took the volume with it
    (see `machines`); `unasked`: why this could not be looked up.
    `archive_variables`: what the Secret of `spec.backup.secretName` says of places."""

    @cached_property
    def owner(self) -> Owner:
        """The resource in the form that `children` uses."""
        return Owner(self.name, self.namespace, self.uid, self.operator_namespace)

    def pod_name(self, ordinal: int) -> str:
        """Name of a pod, and of the node in it."""
        return self.owner.pod(ordinal)

    def way(self, ordinal: int) -> Way:
        """How the node of a pod is asked; without a token where it cannot be checked, and where
        every node takes TLS only: there a pod of that name that speaks plain is not the ring's."""
        pod, tokens = self.pods[ordinal], tokens_of(self.secret_text)
        strict = self.workload is not None and self.workload.annotations.get(TLS) == "require"
        if not pod.https and not strict:
            return Way(pod.address, tokens)
        if not pod.https or not self.trust.believed:
            return Way(pod.address)
        # The secret itself, for nodes of 0.1.0, is the last: those have no TLS.
        return Way(pod.address, tokens[:-1], self.trust.believed, pod.name)

    def ordinal(self, name: str) -> int | None:
        """The ordinal of a node's name; None if it does not belong to this StatefulSet."""
        head, _, tail = name.rpartition("-")
        ours = head == self.name and tail.isdecimal() and str(int(tail)) == tail
        return int(tail) if ours else None

    @property
    def replicas(self) -> int:
        """The present number of replicas of the StatefulSet."""
        return self.workload.replicas if self.workload else 0

    def line(self, ordinal: int) -> Member | None:
        """The ring's line of a pod."""
        return self.ring.lines.get(self.pod_name(ordinal)) if self.ring else None

    def is_live(self, ordinal: int) -> bool:
        """Whether the pod's node is a member of the ring that has not LEFT."""
        line = self.line(ordinal)
        return line is not None and line.state != LEFT

    @cached_property
    def live_ordinals(self) -> tuple[int, ...]:
        """Ordinals whose member has not LEFT."""
        found = (self.ordinal(name) for name in (self.ring.live if self.ring else ()))
        return tuple(sorted(ordinal for ordinal in found if ordinal is not None))

    @cached_property
    def recorded(self) -> tuple[Claim, ...]:
        """Claims that are recorded as a member's."""
        return tuple(claim for claim in self.claims.values() if claim.member)

    @cached_property
    def cluster_ids(self) -> tuple[str, ...]:
        """Every id on a disk or in a claim's annotation; with more than one, disks are mixed up."""
        told = {node.cluster_id for node in self.nodes.values() if node.cluster_id}
        noted = {claim.annotations.get(CLUSTER_ID, "") for claim in self.recorded}
        return tuple(sorted((told | noted) - {""}))

    @property
    def copy_of(self) -> str:
        """The note on the claims of a ring that began with snapshots of another one, or ""."""
        notes = (claim.annotations.get(COPY_OF, "") for _, claim in sorted(self.claims.items()))
        return next(filter(None, notes), "")

    @property
    def restored(self) -> bool:
        """Whether the ring has merged the backup that it begins with. The claims remember it: a
        person may delete the DynamoRestore."""
        if any(claim.annotations.get(RESTORED) == self.uid for claim in self.claims.values()):
            return True
        first = (run for run in self.runs if run.labels.get(BOOTSTRAPS) == self.uid)
        return any(run.state == "done" or run.ended == "Complete" for run in first)

    @property
    def operation(self) -> Operation | None:
        """Progress of the last ring change, from the node with the most progress."""
        known = [n for n in self.nodes.values() if n.operation and n.operation.id]
        return max(known, key=lambda n: n.epoch).operation if known else None

    def is_up(self, name: str) -> bool:
        """Whether a member answered in this look, is Ready and complete: reads can count on it."""
        ordinal = self.ordinal(name)
        node = self.nodes.get(ordinal) if ordinal is not None else None
        pod = self.pods.get(ordinal) if ordinal is not None else None
        return node is not None and node.whole and pod is not None and pod.ready

    @property
    def endpoints(self) -> list[str]:
        """Pods behind the client Service: Ready, and with every label of its selector."""
        service = self.objects.get(("Service", self.name))
        if service is None:
            return []
        selector = service["spec"].get("selector") or {}
        ready = (pod for pod in self.pods.values() if pod.ready)
        return [pod.name for pod in ready if selector.items() <= pod.labels.items()]

    def too_few(self, without: int | None = None) -> int:
        """Partitions that lack more owners than the quorums allow if this ordinal is also down.

        One owner may always be missing, as in the disruption budget: otherwise nothing could be
        updated where factor and quorum are equal.
        """
        if self.ring is None:
            return 0
        gone = self.pod_name(without) if without is not None else None
        down = {name for name in self.ring.lines if name == gone or not self.is_up(name)}
        down_max = max(1, self.ring.n - max(self.ring.r, self.ring.w))
        return sum(len(down & set(entry.owners)) > down_max for entry in self.ring.entries)

    def ran_s(self, pod: Pod) -> float:
        """How long its process has run, by the node's own clock; by Kubernetes if the node does not
        say or does not answer yet."""
        node = self.nodes.get(pod.ordinal)
        if node is not None and node.uptime_s is not None:
            return node.uptime_s
        return self.now - max(pod.created, pod.started or 0.0)

    def unrolled(self) -> Iterator[Pod]:
        """Pods at an old revision, the highest ordinal first."""
        if self.workload is None or not self.workload.revision:
            return
        for ordinal in sorted(self.pods, reverse=True):
            if self.pods[ordinal].revision != self.workload.revision:
                yield self.pods[ordinal]
