"""The operator's own loop in a simulated cluster, and the stories that are told in it.

A story is a list of scenes; each changes the world and begins when its time has come: when all is
as wanted, or midway, so many seconds after the scene before. The operator may be killed at any
request, before or after it has been carried out, and two of them may run at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulated_kube import Object, SimulatedKube, is_ready
from simulated_ring import SimulatedRing

from dynamo_operator.act import Actor
from dynamo_operator.doors import Failed
from dynamo_operator.events import Teller
from dynamo_operator.observe import Observer
from dynamo_operator.reconcile import Reconciler

SECONDS_MAX = 900
CALM_S = 2
"""A look that began before a scene may still tell that all is as wanted."""
NAMESPACE = "shop"


class Killed(BaseException):
    """The operator's process ends, wherever it is."""


@dataclass
class Scene:
    """`change` happens `after` so many seconds, or (None) when all has been as wanted."""

    change: Callable[[World], None]
    after: int | None = None


@dataclass
class World:
    """One cluster with one or two operators. `kills`: the points at which an operator dies."""

    kills: frozenset[int] = frozenset()
    names: tuple[str, ...] = ("cart",)
    points: int = 0
    log: list[str] = field(default_factory=list)
    seed: int | None = None

    def __post_init__(self) -> None:
        self.pauses = random.Random(self.seed) if self.seed is not None else None
        self.ring = SimulatedRing(self._point)
        self.kube = SimulatedKube(self.ring, self._point)
        self.operators = [self._operator(), self._operator()]

    async def _point(self, what: str) -> None:
        """Before and after a request; one that changes something is a point to be killed at."""
        if self.pauses is not None:
            stalled = self.pauses.random() < 0.01
            for _ in range(self.pauses.randrange(400 if stalled else 6)):
                await asyncio.sleep(0)
        if what.startswith(("get", "list", "GET")):
            return
        self._audit(what)
        self.log.append(what)
        self.points += 1
        if self.points in self.kills:
            raise Killed(what)

    def _audit(self, what: str) -> None:
        """The theorems, by what is true and not by what was looked at."""
        verb, _, about = what.partition(" ")
        kind, _, name = about.partition(" ")
        rings = self.ring.newest().values()
        if what == "done" and self.log[-1].startswith("apply StatefulSet"):
            name = self.log[-1].rpartition(" ")[2]
            live = [n for ring in rings for n in ring.live_names() if n.startswith(f"{name}-")]
            replicas = self.found("StatefulSet")[name]["spec"]["replicas"]
            stopped = self.found("DynamoCluster").get(name, {}).get("spec", {}).get("stopped")
            above = [n for n in live if int(n.rpartition("-")[2]) >= replicas]
            if above and not stopped:
                self.ring.wrong.append(f"{replicas} replicas while {above} have not left")
        elif verb == "delete" and kind == "PersistentVolumeClaim":
            claim = self.found(kind)[name]
            disk = self.ring.disks.get(claim["metadata"]["uid"])
            if claim["status"]["phase"] != "Lost" and disk and disk.ring and not disk.left:
                self.ring.wrong.append(f"{name} is deleted, its node has not left")
        elif verb == "evict":
            few = [p for ring in rings if about in ring.members for p in self._few(ring, about)]
            if few:
                self.ring.wrong.append(f"{about} is evicted, partitions {few} have too few then")

    def _few(self, ring: Any, name: str) -> list[int]:
        """Partitions that the eviction of a node that serves would put below their quorum."""
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
        observer = Observer(self.kube, self.ring, "dynamo-system")
        teller = Teller(self.kube, "test", lambda: self.kube.now)
        actor = Actor(self.kube, self.ring, teller)
        return Reconciler(observer, actor, clock=lambda: self.kube.now)

    # ------------------------------------------------------------ what people do

    def make(self, name: str = "cart", **spec: Any) -> None:
        """kubectl apply of a DynamoCluster."""
        wanted = {"ring": {"partitions": 16}, "storage": {"size": "1Gi"}} | spec
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

    def object(self, kind: str, name: str) -> Object | None:
        """One object of the namespace."""
        return self.kube.objects.get((kind, NAMESPACE, name))

    def found(self, kind: str) -> dict[str, Object]:
        """All objects of a kind, by name."""
        items = self.kube.objects.items()
        return {k[2]: item for k, item in sorted(items, key=lambda p: p[0]) if k[0] == kind}

    def condition(self, which: str, name: str = "cart") -> str:
        """Its status; empty when nothing has been told yet."""
        item = self.object("DynamoCluster", name)
        told = (item or {}).get("status", {}).get("conditions", ())
        return next((str(c["status"]) for c in told if c["type"] == which), "")

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
        try:
            return await self._tell(list(story))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, waiting: list[Scene]) -> int:
        since = 0
        for second in range(SECONDS_MAX):
            calm = since > CALM_S and all(self.calm(name) for name in self.names)
            if not waiting and calm:
                return second
            if waiting and (calm if waiting[0].after is None else since >= waiting[0].after):
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
        try:
            await self.operators[which].reconcile(NAMESPACE, name)
        except Killed:
            self.operators[which] = self._operator()
        except Failed as failed:
            self.log.append(f"failed: {failed}")

    def _unsettle(self) -> None:
        """What was told before a scene does not count as calm after it."""
        for item in self.found("DynamoCluster").values():
            item.setdefault("status", {}).pop("conditions", None)

    def calm(self, name: str) -> bool:
        """Nothing is to be done any more, by the operator's word and by the world's."""
        if self.object("DynamoCluster", name) is None:
            return not any(n.startswith(f"{name}-") for n in self.found("Pod"))
        return self.condition("Progressing", name) == "False"

    def told(self) -> list[tuple[str, str, str]]:
        """What the operator says, for people who debug a test."""
        return [
            (c["type"], c["reason"], c["message"])
            for item in self.found("DynamoCluster").values()
            for c in item.get("status", {}).get("conditions", ())
        ]

    def end(self) -> dict[str, Any]:
        """The state that a story must end in, whoever was killed on the way. How often something
        was tried leaves traces (versions, uids, lines of nodes that have left), which do not count;
        where partitions lie is a consequence of who was there when."""
        rings = {
            cluster: {
                "members": {
                    line.name: (line.state, line.zone, line.weight)
                    for line in ring.members.values()
                    if line.state != "LEFT"
                },
                "held": sum(len(entry.owners) for entry in ring.entries),
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
                    item["metadata"].get("annotations", {}).get("dynamo-ring.dev/node-state"),
                    bool(item["metadata"].get("ownerReferences")),
                )
                for name, item in self.found("PersistentVolumeClaim").items()
            },
            "objects": sorted(
                key[0] + "/" + key[2]
                for key in self.kube.objects
                if key[0] not in ("Event", "Pod", "PersistentVolumeClaim")
            ),
            "conditions": {
                name: {
                    c["type"]: c["status"]
                    for c in item.get("status", {}).get("conditions", ())
                    if c["type"] not in ("QuorumSafe",)
                }
                for name, item in self.found("DynamoCluster").items()
            },
        }
