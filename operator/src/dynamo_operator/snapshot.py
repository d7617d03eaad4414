"""What one look contains: the resource, its objects, every node's own word, and one ring.

Frozen values, and questions that can be answered from them alone. `observe` fills them in, `plan`
and `status` read them; nobody keeps one longer than a pass. Times are seconds since 1970 as the API
server writes them; `now` is when the look was taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct, field

from dynamo_operator.children import Owner
from dynamo_operator.spec import ClusterSpec, RepairSpec

CLUSTER_ID = "dynamo-ring.dev/cluster-id"
NODE_ID = "dynamo-ring.dev/node-id"
NODE_STATE = "dynamo-ring.dev/node-state"
WEIGHT = "dynamo-ring.dev/weight"
"""Annotations: of a claim, whose disk it is; of a pod, the relative capacity of its node."""
APPLIED = "dynamo-ring.dev/applied"
REPLICAS = "dynamo-ring.dev/replicas"
MOVED = "dynamo-ring.dev/moved"
RESTARTS = "dynamo-ring.dev/restarts"
SIZE = "dynamo-ring.dev/size"
TEMPLATE = "dynamo-ring.dev/template"
"""Annotations of our objects: digest of what was applied; of the StatefulSet, the replicas that
were applied, and the keys of token moves that have been; of a claim, how often its pod was evicted
to start as a new node, and when last, and the size that it was brought to."""
LEFT = "LEFT"
RING = "ring"
STATEFUL_SET = "StatefulSet"
Document = Mapping[str, Any]


class Member(Struct, frozen=True):
    """One line of the ring document."""

    name: str
    id: str
    state: Literal["JOINING", "MEMBER", "LEAVING", "LEFT"]
    zone: str = ""
    weight: int = 1


class Move(Struct, frozen=True):
    """A switch of one owner that is under way."""

    out: str
    into: str = field(name="in")


class Entry(Struct, frozen=True):
    """Who owns one partition, and what changes there."""

    owners: tuple[str, ...]
    move: Move | None = None
    old: tuple[str, ...] | None = None


class Ring(Struct, frozen=True, dict=True):
    """The ring document (docs/http-api.md) as the nodes gave it."""

    cluster_id: str
    epoch: int
    digest: str
    partitions: int
    n: int
    r: int
    w: int
    conflicts: str
    members: tuple[Member, ...]
    entries: tuple[Entry, ...]
    target: tuple[tuple[str, ...], ...] | None = None
    dw: int = 1
    sloppy: bool = True  # an older node does not tell

    @cached_property
    def lines(self) -> dict[str, Member]:
        """Members by name, LEFT ones too."""
        return {member.name: member for member in self.members}

    @cached_property
    def live(self) -> dict[str, Member]:
        """Members that have not LEFT."""
        return {m.name: m for m in self.members if m.state != LEFT}

    @cached_property
    def pending(self) -> int:
        """Replicas that are not where the target wants them, and switches that still settle."""
        wanted = self.target or tuple(entry.owners for entry in self.entries)
        return sum(
            len(set(owners) - set(entry.owners)) or bool(entry.move or entry.old)
            for owners, entry in zip(wanted, self.entries, strict=True)
        )

    @property
    def changing(self) -> bool:
        """Whether moves, joins or leaves are under way."""
        passing = any(m.state in ("JOINING", "LEAVING") for m in self.members)
        return passing or self.pending > 0

    @cached_property
    def owned(self) -> dict[str, int]:
        """How many replicas each live member holds."""
        counts = dict.fromkeys(self.live, 0)
        for entry in self.entries:
            for name in entry.owners:
                counts[name] = counts.get(name, 0) + 1
        return counts


class Backlog(Struct, frozen=True):
    """Hints that a node keeps for another."""

    count: int = 0


class Operation(Struct, frozen=True):
    """What a node knows of the ring change that was asked for last."""

    id: str | None = None
    moves_total: int = 0
    moves_done: int = 0
    state: str = "none"
    earlier: tuple[str, ...] = ()


class Owned(Struct, frozen=True):
    """Partitions of one node."""

    owned: int = 0
    complete: int = 0


class Node(Struct, frozen=True):
    """`GET /v1/status` of one node."""

    name: str
    id: str
    disk: Literal["empty", "member", "left", "foreign"]
    cluster_id: str | None = None
    state: str | None = None
    epoch: int = 0
    digest: str = ""
    partitions: Owned = Owned()
    hints: dict[str, Backlog] = {}
    operation: Operation | None = None
    emptied: bool | None = None
    uptime_s: float | None = None
    """`emptied`: the disk of an id that has left holds nothing any more (S-MEM-3); `uptime_s`: by
    the node's own clock. None: an older node does not say."""

    @property
    def whole(self) -> bool:
        """A member that misses nothing of what it owns."""
        return self.disk == "member" and self.partitions.complete >= self.partitions.owned

    @property
    def unjoined(self) -> bool:
        """Whether it says itself that it belongs to no ring (any more)."""
        return self.disk in ("empty", "left")


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
    """`sourced`: a person made it, or said what is on it: a snapshot, another claim, a volume."""

    @property
    def member(self) -> bool:
        """Whether it is recorded as the disk of a member that had not left."""
        recorded = NODE_ID in self.annotations
        return recorded and self.annotations.get(NODE_STATE) != LEFT

    @property
    def blank(self) -> bool:
        """Whether it is certain that it has no data: there is no volume yet, and no person has said
        what is to be on it."""
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

    @property
    def ready(self) -> bool:
        """Ready, and not on its way out."""
        return self.ready_since is not None and self.deleting_since is None


class Workload(Struct, frozen=True):
    """The StatefulSet's own facts."""

    uid: str
    resource_version: str
    replicas: int
    revision: str = ""
    caught_up: bool = True
    annotations: dict[str, str] = {}


class Repair(Struct, frozen=True):
    """A DynamoRepair of this cluster, and what the node that runs it says."""

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
        """`Complete` or `Failed`, as its status has it: like a Job's, an end is kept there."""
        for condition in self.status.get("conditions", ()):
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                return str(condition["type"])
        return None


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
    token: str = ""
    workload: Workload | None = None
    pods: dict[int, Pod] = {}
    claims: dict[int, Claim] = {}
    nodes: dict[int, Node] = {}
    ring: Ring | None = None
    exact: bool = False
    unanimous: bool = False
    unreadable: str = ""
    repairs: tuple[Repair, ...] = ()
    settled: frozenset[str] = frozenset()
    waited: dict[str, float] = {}
    turn: bool = True
    """`objects` are those that have our names, by kind and name, the StatefulSet included. `ring`
    is the document that a majority of its live members has; `exact`: under one digest, else only
    their lines are the same while entries change (moves); `unanimous`: every live member has it.
    `settled`: what this pass has tried already and found to need no change. `waited`: for how many
    seconds a pod or a claim of that name, or the ring (`RING`), has been missing (see `waits`).
    `turn`: whether the ring may take the pod template of another version of the operator."""

    @cached_property
    def owner(self) -> Owner:
        """The resource as `children` make objects for it."""
        return Owner(self.name, self.namespace, self.uid, self.operator_namespace)

    def pod_name(self, ordinal: int) -> str:
        """Name of a pod, and of the node in it."""
        return self.owner.pod(ordinal)

    def ordinal(self, name: str) -> int | None:
        """The ordinal of a node's name; None: not one of this StatefulSet."""
        head, _, tail = name.rpartition("-")
        ours = head == self.name and tail.isdecimal() and str(int(tail)) == tail
        return int(tail) if ours else None

    @property
    def replicas(self) -> int:
        """Replicas that the StatefulSet has now."""
        return self.workload.replicas if self.workload else 0

    def line(self, ordinal: int) -> Member | None:
        """The ring's line of a pod."""
        return self.ring.lines.get(self.pod_name(ordinal)) if self.ring else None

    def is_live(self, ordinal: int) -> bool:
        """Whether the ring has the pod's node as a member that has not LEFT."""
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
        """Every id that a disk or a claim's annotation names; more than one is a mix-up."""
        told = {node.cluster_id for node in self.nodes.values() if node.cluster_id}
        noted = {claim.annotations.get(CLUSTER_ID, "") for claim in self.recorded}
        return tuple(sorted((told | noted) - {""}))

    @property
    def operation(self) -> Operation | None:
        """Progress of the last ring change, from the node that has seen most."""
        known = [n for n in self.nodes.values() if n.operation and n.operation.id]
        return max(known, key=lambda n: n.epoch).operation if known else None

    def is_up(self, name: str) -> bool:
        """Whether a member answered in this look, is Ready and complete: a read can count on it."""
        ordinal = self.ordinal(name)
        node = self.nodes.get(ordinal) if ordinal is not None else None
        pod = self.pods.get(ordinal) if ordinal is not None else None
        return node is not None and node.whole and pod is not None and pod.ready

    @property
    def endpoints(self) -> list[str]:
        """Pods that the client Service leads to: Ready, and with every label it selects by."""
        service = self.objects.get(("Service", self.name))
        if service is None:
            return []
        selector = service["spec"].get("selector") or {}
        ready = (pod for pod in self.pods.values() if pod.ready)
        return [pod.name for pod in ready if selector.items() <= pod.labels.items()]

    def too_few(self, without: int | None = None) -> int:
        """Partitions that more owners miss than quorums bear, were this ordinal down as well.

        One owner may always be missing, as in the disruption budget: where factor and quorum are
        equal nothing could ever be updated else.
        """
        if self.ring is None:
            return 0
        gone = self.pod_name(without) if without is not None else None
        down = {name for name in self.ring.lines if name == gone or not self.is_up(name)}
        down_max = max(1, self.ring.n - max(self.ring.r, self.ring.w))
        return sum(len(down & set(entry.owners)) > down_max for entry in self.ring.entries)

    def ran_s(self, pod: Pod) -> float:
        """How long its process has run, as its node says by its own clock; as Kubernetes says where
        the node does not, or does not answer yet."""
        node = self.nodes.get(pod.ordinal)
        if node is not None and node.uptime_s is not None:
            return node.uptime_s
        return self.now - max(pod.created, pod.started or 0.0)

    def unrolled(self) -> Iterator[Pod]:
        """Pods at an old revision, the highest first."""
        if self.workload is None or not self.workload.revision:
            return
        for ordinal in sorted(self.pods, reverse=True):
            if self.pods[ordinal].revision != self.workload.revision:
                yield self.pods[ordinal]
