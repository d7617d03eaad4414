"""The operator's own loop in a simulated cluster, and the stories that run in it.

A story is a list of scenes; each changes the world and begins at its time: when all is as wanted,
or midway, some seconds after the scene before. The operator may be killed at any request, before or
after the request is carried out, and two operators may run at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dynamo_core.ring.document import JOINING
from dynamo_operator.act import Actor
from dynamo_operator.events import EventRecorder
from dynamo_operator.observe import Observer
from dynamo_operator.pod import PEER_PROTOCOL_MIN
from dynamo_operator.ports import Failed
from dynamo_operator.reconcile import RESYNC_S, Reconciler
from dynamo_operator.snapshot import NODE_STATE
from tests.dynamo_operator.policies import End, allowed
from tests.dynamo_operator.simulated_kube import Object, SimulatedKube, is_ready
from tests.dynamo_operator.simulated_node import SimNode
from tests.dynamo_operator.simulated_ring import SimulatedRing

SECONDS_MAX = 900
QUIET = 3
"""All is as wanted when this many last looks of each operator found nothing to do."""
NAMESPACE = "shop"
OPEN: dict[str, Any] = {"tls": {"mode": "Disabled"}, "access": {"mode": "Open"}}


class Killed(BaseException):
    """The operator's process ends at this point."""


@dataclass
class Scene:
    """`change` happens `after` this many seconds, or (None) when all is as wanted; or when the
    person who makes it sees what the person waits for."""

    change: Callable[[World], None]
    after: int | None = None
    sees: Callable[[World], bool] | None = None

    def due(self, world: World, calm: bool, since: int) -> bool:
        """Whether its time has come."""
        if self.sees is not None:
            return self.sees(world)
        return calm if self.after is None else since >= self.after


@dataclass
class World:
    """One cluster with one or two operators. `kills`: the points at which an operator dies."""

    kills: frozenset[int] = frozenset()
    names: tuple[str, ...] = ("cart",)
    points: int = 0
    log: list[str] = field(default_factory=list)
    seed: int | None = None
    ring: Any = None
    seconds_max: int = SECONDS_MAX

    def __post_init__(self) -> None:
        self.pauses = random.Random(self.seed) if self.seed is not None else None
        self.ring = self.ring or SimulatedRing(self._point)
        self.kube = SimulatedKube(self.ring, self._point, self._audit)
        if isinstance(self.ring, SimulatedRing):
            self.ring.archives.reached = self._reaches
        self.operators = [self._operator(), self._operator()]
        self.scene = 0
        self._unsettle()

    async def _point(self, what: str) -> None:
        """Before and after a request; one that changes something is a point to be killed at."""
        if self.pauses is not None:
            stalled = self.pauses.random() < 0.01
            for _ in range(self.pauses.randrange(400 if stalled else 6)):
                await asyncio.sleep(0)
        if what.startswith(("get", "list", "GET")):
            return
        self.log.append(what)
        self.points += 1
        if self.points in self.kills:
            raise Killed(what)

    def _audit(self, verb: str, item: Object) -> None:
        """The theorems, judged by the true state and not by a look."""
        if not isinstance(self.ring, SimulatedRing):
            return
        meta, wrong = item["metadata"], self.ring.wrong
        rings = self.ring.newest().values()
        if (verb, item["kind"]) == ("apply", "StatefulSet"):
            replicas = item["spec"]["replicas"]
            # One of two operators may let a newcomer join whose line the other has just seen as
            # LEFT: it owns nothing yet, and its pod returns with the next look.
            live = [
                n
                for ring in rings
                for n in ring.live_names()
                if ring.members[n].state != JOINING or any(n in e.owners for e in ring.entries)
            ]
            ours = [n for n in live if n.rpartition("-")[0] == meta["name"]]
            above = [n for n in ours if int(n.rpartition("-")[2]) >= replicas]
            text = str(item["spec"]["template"])
            if PEER_PROTOCOL_MIN in text and self.ring.first:
                wrong.append(f"{self.ring.first} do not speak the protocol of {meta['name']}")
            if above and replicas:  # 0: it is asked to stop
                wrong.append(f"{replicas} replicas while {above} have not left")
        elif (verb, item["kind"]) == ("delete", "PersistentVolumeClaim"):
            disk = self.ring.disks.get(meta["uid"])
            gone = self.kube.pinned.get(meta["uid"]) in self.kube.gone
            if (
                item["status"]["phase"] != "Lost"
                and not gone
                and disk
                and disk.ring
                and not disk.left
            ):
                wrong.append(f"{meta['name']} is deleted, its node has not left")
        elif verb == "evict":
            known = [ring for ring in rings if meta["name"] in ring.members]
            if few := [p for ring in known for p in self._few(ring, meta["name"])]:
                wrong.append(f"{meta['name']} is evicted, partitions {few} have too few then")

    def _reaches(self, node: SimNode, archive: str) -> bool:
        """Whether the NetworkPolicies let a node connect to the object store of an archive."""
        if archive.startswith("file://"):
            return True
        pods = self.found("Pod").values()
        pod = next(p for p in pods if p["status"].get("podIP") == node.address)
        here = End(node.address, NAMESPACE, pod["metadata"]["labels"])
        return allowed(self.found("NetworkPolicy").values(), here, End(), 443)

    def _few(self, ring: Any, name: str) -> list[int]:
        """Partitions that would fall below their quorum if a serving node were evicted."""
        serving = {n.name: n.disk.complete for n in self.ring.nodes.values() if n.member}
        spare = max(1, ring.identity.n - max(ring.target.r, ring.target.w))
        found = []
        for p, entry in enumerate(ring.entries):
            down = [o for o in entry.owners if p not in serving.get(o, ())]
            if name in entry.owners and name not in down and len(down) + 1 > spare:
                found.append(p)
        return found

    def _operator(self) -> Reconciler:
        """With an empty memory."""
        observer = Observer(self.kube, self.ring, "dynamo-system", lambda: self.kube.now)
        recorder = EventRecorder(self.kube, "test", lambda: self.kube.now)
        actor = Actor(self.kube, self.ring, recorder)
        return Reconciler(observer, actor, clock=lambda: self.kube.now)

    # ------------------------------------------------------------ what people do

    def make(self, name: str = "cart", **spec: Any) -> None:
        """kubectl apply of a DynamoCluster; plain and open unless the spec has these parts: most
        stories are of other things, and certificates cost time."""
        wanted = {"ring": {"partitions": 16}, "storage": {"size": "1Gi"}} | OPEN | spec
        self.kube.put(
            {
                "apiVersion": "dynamo-ring.dev/v1alpha1",
                "kind": "DynamoCluster",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": wanted,
            }
        )

    def edit(self, name: str = "cart", **spec: Any) -> None:
        """kubectl patch of its spec."""
        self.kube.change("DynamoCluster", NAMESPACE, name, spec=spec)

    def repair(self) -> None:
        """kubectl apply of a DynamoRepair."""
        meta = {"name": "now", "namespace": NAMESPACE}
        self.kube.put({"kind": "DynamoRepair", "metadata": meta, "spec": {"clusterName": "cart"}})

    def run(self, kind: str, name: str, **spec: Any) -> None:
        """kubectl apply of a DynamoBackup or DynamoRestore."""
        meta = {"name": name, "namespace": NAMESPACE}
        self.kube.put({"kind": kind, "metadata": meta, "spec": {"clusterName": "cart"} | spec})

    def object(self, kind: str, name: str) -> Object | None:
        """One object of the namespace."""
        return self.kube.objects.get((kind, NAMESPACE, name))

    def found(self, kind: str) -> dict[str, Object]:
        """All objects of a kind, by name."""
        items = self.kube.objects.items()
        return {k[2]: item for k, item in sorted(items, key=lambda p: p[0]) if k[0] == kind}

    # ------------------------------------------------------------ time

    def step(self) -> None:
        """One second of the cluster and of the nodes."""
        self.kube.step()
        self.ring.step()

    async def play(self, story: list[Scene]) -> int:
        """The whole story; returns how many seconds it took. With a seed two operators run at
        once, each at its own pace. Raises AssertionError when the story does not end."""
        both = self.pauses is not None
        tasks = [asyncio.create_task(self._operate(which)) for which in (0, 1) if both]
        telling = asyncio.create_task(self._tell(list(story)))
        await asyncio.wait([telling, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (telling, *tasks):
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return telling.result()

    async def _tell(self, waiting: list[Scene]) -> int:
        since = 0
        for second in range(self.seconds_max):
            calm = min(self.quiet.values()) >= QUIET
            if not waiting and calm:
                return second
            if waiting and waiting[0].due(self, calm, since):
                waiting.pop(0).change(self)
                since = 0
                self._unsettle()
            since += 1
            if self.pauses is None:
                for name in self.names:
                    await self._pass(0, name)
            else:
                for _ in range(self.pauses.randrange(20, 120)):
                    await asyncio.sleep(0)
            self.step()
        raise AssertionError(f"not settled: {self.told()}")

    async def _operate(self, which: int) -> None:
        while True:
            for name in self.names:
                await self._pass(which, name)
            await asyncio.sleep(0)

    async def _pass(self, which: int, name: str) -> None:
        scene, quiet = self.scene, self.quiet.get((which, name), 0)
        again: float | None = 0.0
        try:
            again = await self.operators[which].reconcile(NAMESPACE, name)
        except Killed:
            self.operators[which] = self._operator()
        except Failed as failed:
            self.log.append(f"failed: {failed}")
        if scene == self.scene:
            self.quiet[which, name] = quiet + 1 if again in (None, RESYNC_S) else 0

    def _unsettle(self) -> None:
        """Looks from before a scene do not count as calm after it."""
        self.scene += 1
        both = (0, 1) if self.pauses is not None else (0,)
        self.quiet = {(which, name): 0 for which in both for name in self.names}

    def told(self) -> list[tuple[str, str, str]]:
        """What the operator reports, for people who debug a test."""
        return [
            (c["type"], c["reason"], c["message"])
            for item in self.found("DynamoCluster").values()
            for c in item.get("status", {}).get("conditions", ())
        ]

    def end(self) -> dict[str, Any]:
        """The state in which a story must end, whichever operator was killed. Traces of the number
        of tries (versions, uids, lines of nodes that have left) do not count. The places of
        partitions follow from who was there when. A node that was scaled away midway may have been
        a member or not; its claim shows it."""
        rings = {
            cluster: {
                "members": {
                    line.name: (line.state, line.zone, line.weight)
                    for line in ring.members.values()
                    if line.state != "LEFT"
                },
                "held": sum(len(entry.owners) for entry in ring.entries),
                "defaults": (ring.target.r, ring.target.w, ring.target.dw, ring.target.sloppy),
                "quiet": all(e.move is None and e.old is None for e in ring.entries),
            }
            for cluster, ring in sorted(self.ring.newest().items())
        }
        sets = self.found("StatefulSet")
        revision = {
            pod: item["metadata"]["labels"]["controller-revision-hash"]
            for pod, item in self.found("Pod").items()
        }
        return {
            "rings": list(rings.values()),
            "sets": {name: item["spec"] for name, item in sets.items()},
            "pods": {
                pod: (is_ready(item), revision[pod]) for pod, item in self.found("Pod").items()
            },
            "claims": {
                name: (
                    item["spec"],
                    item["metadata"].get("annotations", {}).get(NODE_STATE),
                    bool(item["metadata"].get("ownerReferences")),
                )
                for name, item in self.found("PersistentVolumeClaim").items()
                if name.removeprefix("data-") in self.found("Pod")
            },
            "objects": sorted(
                key[0] + "/" + key[2]
                for key in self.kube.objects
                if key[0] not in ("Event", "Pod", "PersistentVolumeClaim")
            ),
            "archives": self.ring.archives.names() if hasattr(self.ring, "archives") else {},
            "runs": {
                name: item["status"]["state"]
                for kind in ("DynamoBackup", "DynamoRestore")
                for name, item in self.found(kind).items()
            },
            "conditions": {
                name: {
                    c["type"]: c["status"]
                    for c in item.get("status", {}).get("conditions", ())
                    if c["type"] not in ("QuorumSafe",)
                }
                for name, item in self.found("DynamoCluster").items()
            },
        }
