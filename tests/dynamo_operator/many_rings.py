"""What many rings ask of the API server, in simulated time.

`python -m tests.dynamo_operator.many_rings [rings [nodes of each]]`: one operator looks at all its
rings as its workqueue does: after an event of one of its objects, and after the time that its last
look gave. Requests are counted at rest, and while all rings get another image at once. Nodes answer
at once, so this counts what the operator asks, not how long a machine takes.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

from tests.dynamo_operator.simulated_kube import is_ready
from tests.dynamo_operator.world import NAMESPACE, World

WATCHED = ("DynamoCluster", "Pod", "PersistentVolumeClaim", "StatefulSet", "Service",
           "PodDisruptionBudget", "NetworkPolicy")  # fmt: skip
RELIST_S = 30
"""Seconds between two listings of the resources, also when nothing changes."""
SETTLE_S_MAX, REST_S, UPDATE_S_MAX = 600, 300, 900


@dataclass
class Fleet:
    """Rings under one operator, and what it has asked."""

    rings: int
    nodes: int
    asked: Counter[str] = field(default_factory=Counter)
    due: dict[str, float] = field(default_factory=dict)
    looks: int = 0

    def __post_init__(self) -> None:
        self.names = tuple(f"ring{index}" for index in range(self.rings))
        self.world = World(names=self.names)
        self.world.kube.point = self._point
        self.versions: dict[tuple[str, str, str], str] = {}
        for name in self.names:
            self.world.make(name, size=self.nodes, update={"minReadySeconds": 5})

    async def _point(self, what: str) -> None:
        verb = what.split()[0]
        if verb != "done":
            self.asked["get" if verb == "get" else "list" if verb == "list" else "change"] += 1

    def second(self) -> None:
        """One second: looks that are due, then the cluster and its nodes."""
        now = self.world.kube.now
        if int(now) % RELIST_S == 0:
            self.asked["list"] += 1
        self._wake(now)
        for name in self.names:
            if self.due.get(name, 0.0) <= now:
                again = asyncio.run(self.world.operators[0].reconcile(NAMESPACE, name))
                self.looks += 1
                self.due[name] = now + (again or RELIST_S)
        self.world.step()

    def _wake(self, now: float) -> None:
        """An event of an object wakes its ring."""
        existing = {
            key: item["metadata"]["resourceVersion"]
            for key, item in self.world.kube.objects.items()
            if key[0] in WATCHED
        }
        for key in existing.keys() | self.versions.keys():
            if existing.get(key) != self.versions.get(key):
                name = next(part for part in key[2].split("-") if part.startswith("ring"))
                self.due[name] = now
        self.versions = existing

    def ready(self, image: str) -> int:
        """Rings whose every pod is Ready with this image."""
        pods: Counter[str] = Counter()
        for name, item in self.world.found("Pod").items():
            if is_ready(item) and item["spec"]["containers"][0]["image"] == image:
                pods[name.rpartition("-")[0]] += 1
        told = self.world.found("DynamoCluster")
        return sum(pods[name] == self.nodes and _said_ready(told[name]) for name in self.names)

    def until_ready(self, image: str, seconds_max: int) -> int:
        """Seconds until all rings are Ready with this image. Raises AssertionError."""
        for second in range(seconds_max):
            if second % 5 == 0 and self.ready(image) == self.rings:
                return second
            self.second()
        raise AssertionError(f"{self.ready(image)} of {self.rings} rings after {seconds_max} s")

    def counted(self, seconds: int) -> str:
        """Requests a minute since the last call."""
        kinds = ", ".join(
            f"{n * 60 / seconds:.0f} {kind}" for kind, n in sorted(self.asked.items())
        )
        text = f"{self.asked.total() * 60 / seconds:.0f} requests a minute ({kinds})"
        text += f", {self.looks * 60 / seconds:.0f} looks a minute"
        self.asked.clear()
        self.looks = 0
        return text


def _said_ready(resource: dict[str, Any]) -> bool:
    found = {c["type"]: c["status"] for c in resource.get("status", {}).get("conditions", ())}
    return found.get("Ready") == "True"


def main() -> None:
    """Prints both figures."""
    given = [int(word) for word in sys.argv[1:]]
    rings, nodes = (given + [100, 3][len(given) :])[:2]
    fleet, began = Fleet(rings, nodes), process_time()
    image = "dynamo-ring-node:0.1.0"
    took = fleet.until_ready(image, SETTLE_S_MAX)
    print(f"{rings} rings of {nodes} nodes made in {took} s: {fleet.counted(max(1, took))}")
    for _ in range(2 * RELIST_S):  # what still follows
        fleet.second()
    fleet.counted(1)
    for _ in range(REST_S):
        fleet.second()
    print(f"at rest for {REST_S} s: {fleet.counted(REST_S)}")
    for name in fleet.names:
        fleet.world.edit(name, image="node:2")
    took = fleet.until_ready("node:2", UPDATE_S_MAX)
    print(f"all updated at once in {took} s: {fleet.counted(took)}")
    assert not fleet.world.ring.wrong
    print(f"{process_time() - began:.0f} s of processor time")
    most = getrusage(RUSAGE_SELF).ru_maxrss / 1024
    print(f"{most:.0f} MiB of memory at most, the simulated cluster included")


if __name__ == "__main__":
    main()
