"""One look: it reads every object again, then asks every node, then finds one ring document.

A failed read of the API server ends the look, so the operator never decides on half of a snapshot.
A node that does not answer in time is a fact like any other.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any, TypeVar

import msgspec

from dynamo_operator import children
from dynamo_operator.drift import ours
from dynamo_operator.parse import claim_of, pod_of, repair_of, resource_of, workload_of
from dynamo_operator.ports import Failed, KubeApi, NodeApi, Refused
from dynamo_operator.snapshot import Claim, Node, Pod, Repair, Ring, Snapshot
from dynamo_operator.turns import Turns
from dynamo_operator.waits import Waits

T = TypeVar("T")
KINDS = ("StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor")


class Observer:
    """Looks at clusters through the two ports. Between looks it keeps three things: the zones of
    machines, which do not change (without the right to read machines, a pod may carry its zone);
    since when something has been missing; and the turns of clusters."""

    def __init__(
        self,
        kube: KubeApi,
        nodes: NodeApi,
        operator_namespace: str = "",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.kube = kube
        self.nodes = nodes
        self.operator_namespace = operator_namespace
        self.waits = Waits(clock)
        self.turns = Turns(clock)
        self._zones: dict[tuple[str, str], str] = {}

    async def look(self, namespace: str, name: str, now: float | None = None) -> Snapshot | None:
        """The whole of one cluster, None when the resource is gone. Raises Failed."""
        resource = await self.kube.get("DynamoCluster", namespace, name)
        if resource is None:
            self.waits.forget((namespace, name))
            self.turns.gone((namespace, name))
            return None
        seen = resource_of(resource, time() if now is None else now, self.operator_namespace)
        objects = await self._objects(seen)
        selector = children.selector_text(seen.owner)
        listed = await self.kube.find("Pod", namespace, selector)
        pods = {pod.ordinal: pod for item in listed if (pod := pod_of(seen, item)) is not None}
        claims = await self._claims(seen)
        token, there = await self._secret(seen)
        pods = await self._placed(seen, pods)
        statuses = await self._statuses(pods, token)
        seen = msgspec.structs.replace(
            seen,
            objects=objects,
            workload=workload_of(objects.get(("StatefulSet", name))),
            pods=pods,
            claims=claims,
            secret=there,
            token=token,
            nodes=statuses,
        )
        seen = await self._ring(seen, token)
        seen = msgspec.structs.replace(
            seen, waited=self.waits.seen(seen), turn=self.turns.seen(seen)
        )
        return msgspec.structs.replace(seen, repairs=await self._repairs(seen, token))

    async def _objects(self, seen: Snapshot) -> dict[tuple[str, str], Mapping[str, Any]]:
        wanted = {made["kind"] for made in children.companions(seen.owner, seen.spec)}
        wanted.add("StatefulSet")
        names = [("Service", seen.owner.headless), *((kind, seen.name) for kind in KINDS)]
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for kind, name in names:
            if kind == "ServiceMonitor" and not seen.spec.monitoring.service_monitor:
                continue
            item = await self.kube.get(kind, seen.namespace, name)
            if item is not None and (kind in wanted or ours(item, seen.owner)):
                found[kind, name] = item
        return found

    async def _claims(self, seen: Snapshot) -> dict[int, Claim]:
        """Claims are read after the pods: a claim is made before its pod, so a pod without a claim
        has lost it. They are read by name, not by label: a restored claim may have no labels."""
        listed = await self.kube.find("PersistentVolumeClaim", seen.namespace)
        claims = (claim_of(seen, item) for item in listed)
        return {claim.ordinal: claim for claim in claims if claim is not None}

    async def _secret(self, seen: Snapshot) -> tuple[str, bool]:
        name = children.secret_name(seen.owner, seen.spec)
        found = await self.kube.get("Secret", seen.namespace, name)
        if found is None:
            return "", False
        text = (found.get("data") or {}).get(children.SECRET_KEY, "")
        return base64.b64decode(text).decode().removesuffix("\n"), True

    async def _placed(self, seen: Snapshot, pods: dict[int, Pod]) -> dict[int, Pod]:
        """Pods with the zones of their machines, if the operator may read machines."""
        key = seen.spec.topology.zone_key
        for machine in {pod.machine for pod in pods.values() if pod.machine}:
            if (machine, key) not in self._zones:
                try:
                    found = await self.kube.get("Node", "", machine)
                except Refused:
                    return pods
                labels = found["metadata"].get("labels") or {} if found else {}
                if zone := labels.get(key):
                    self._zones[machine, key] = zone
        return {
            ordinal: msgspec.structs.replace(
                pod, zone=self._zones.get((pod.machine, key)) or pod.zone
            )
            for ordinal, pod in pods.items()
        }

    async def _statuses(self, pods: Mapping[int, Pod], token: str) -> dict[int, Node]:
        asked = [pod for pod in pods.values() if pod.address and pod.running]
        answers = await asyncio.gather(
            *(self._answer(pod.address, "/v1/status", token, Node) for pod in asked)
        )
        return {
            pod.ordinal: node
            for pod, node in zip(asked, answers, strict=True)
            if node is not None and node.name == pod.name
        }

    async def _answer(self, address: str, path: str, token: str, kind: type[T]) -> T | None:
        try:
            return msgspec.convert(await self.nodes.get(address, path, token), kind)
        except (Failed, msgspec.ValidationError):
            return None

    async def _ring(self, seen: Snapshot, token: str) -> Snapshot:
        """The ring document that a majority of its live members has.

        While partitions move, digests differ for as long as gossip takes. Then the operator
        compares only the lines of members, which change rarely. That is enough to wait or to
        cancel, and not enough for any other action.
        """
        members = {i: n for i, n in seen.nodes.items() if n.disk == "member" and n.digest}
        if not members:
            return seen
        counts = Counter(node.digest for node in members.values())
        digest, _ = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
        asked = sorted(members, key=lambda i: (members[i].digest != digest, i))
        first = await self._document(seen, asked[0], token)
        if first is not None and first.digest == digest and _majority(seen, first, digest):
            have = {seen.pod_name(i) for i, n in members.items() if n.digest == digest}
            unanimous = first.live.keys() <= have
            return msgspec.structs.replace(seen, ring=first, exact=True, unanimous=unanimous)
        rings = [ring for i in asked if (ring := await self._document(seen, i, token)) is not None]
        for ring in sorted(rings, key=lambda r: -r.epoch):
            same = sum(other.members == ring.members for other in rings)
            if same * 2 > len(ring.live):
                return msgspec.structs.replace(seen, ring=ring)
        told = f"{len(members)} members answer, but no majority shows the same ring"
        return msgspec.structs.replace(seen, unreadable=told)

    async def _document(self, seen: Snapshot, ordinal: int, token: str) -> Ring | None:
        return await self._answer(seen.pods[ordinal].address, "/v1/ring", token, Ring)

    async def _repairs(self, seen: Snapshot, token: str) -> tuple[Repair, ...]:
        listed = await self.kube.find("DynamoRepair", seen.namespace)
        ours = [r for item in listed if (r := repair_of(seen, item)) is not None]
        return tuple([await self._progress(seen, repair, token) for repair in ours])

    async def _progress(self, seen: Snapshot, repair: Repair, token: str) -> Repair:
        """The progress from the node that was asked to run the repair; only that node knows it."""
        if repair.ended:
            return repair
        for ordinal, node in sorted(seen.nodes.items()):
            if node.disk != "member":
                continue
            path = f"/v1/repairs/{repair.uid}"
            try:
                found = await self.nodes.get(seen.pods[ordinal].address, path, token)
            except Failed:
                continue
            return msgspec.structs.replace(
                repair,
                state=found["state"],
                total=found["partitions_total"],
                done=found["partitions_done"],
                repaired=found["keys_repaired"],
            )
        return repair


def _majority(seen: Snapshot, ring: Ring, digest: str) -> bool:
    have = {seen.pod_name(i) for i, n in seen.nodes.items() if n.digest == digest}
    return 2 * len(have & ring.live.keys()) > len(ring.live)
