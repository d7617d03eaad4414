"""One look: it reads every object again, then asks every node, then finds one ring document.

A failed read of the API server ends the look, so the operator never decides on half of a snapshot.
A node that does not answer in time is a fact like any other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any, TypeVar

import msgspec

from dynamo_operator import authority, children, exposure, protection
from dynamo_operator.account_keys import AccountKeys
from dynamo_operator.archive_runs import BACKUP, RESTORE, STATES, Run
from dynamo_operator.drift import ours
from dynamo_operator.machines import Machines
from dynamo_operator.node_answers import Node, Ring
from dynamo_operator.origins import Origin, origin_of
from dynamo_operator.owner import labels_of
from dynamo_operator.parse import (
    claim_of,
    pod_of,
    read_by_others,
    repair_of,
    resource_of,
    runs_of,
    workload_of,
)
from dynamo_operator.plan.going_over import completed, secured
from dynamo_operator.ports import Failed, Gone, KubeApi, NodeApi, Refused, Way
from dynamo_operator.snapshot import Claim, Pod, Repair, Snapshot
from dynamo_operator.trust import Trust
from dynamo_operator.turns import Turns
from dynamo_operator.variables import Variables, of_values
from dynamo_operator.volume_snapshots import NOT_INSTALLED, SNAPSHOT, backup_of, taken_of
from dynamo_operator.waits import Waits

T = TypeVar("T")
Objects = dict[tuple[str, str], Mapping[str, Any]]
KINDS = (
    "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor",
    "Certificate",
)  # fmt: skip
INSTANCE = "app.kubernetes.io/instance"
CONFIG_MAPS = (protection.authority_name, protection.access_name)


class Observer:
    """Looks at clusters through the two ports. Between looks it keeps five things: the zones of
    machines, which do not change (without the right to read machines, a pod may carry its zone);
    since when something has been missing; since when machines are gone; the turns of clusters; and
    for some minutes the public keys of ServiceAccounts."""

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
        self.machines = Machines(kube, clock)
        self.accounts = AccountKeys(kube, clock)
        self._zones: dict[tuple[str, str], str] = {}

    async def look(self, namespace: str, name: str, now: float | None = None) -> Snapshot | None:
        """The whole of one cluster, None when the resource is gone. Raises Failed."""
        resource = await self.kube.get("DynamoCluster", namespace, name)
        if resource is None:
            self.waits.forget((namespace, name))
            self.turns.gone((namespace, name))
            self.machines.forget((namespace, name))
            return None
        o = resource_of(resource, time() if now is None else now, self.operator_namespace)
        objects = await self._objects(o)
        selector = children.selector_text(o.owner)
        listed = await self.kube.find("Pod", namespace, selector)
        pods = {pod.ordinal: pod for item in listed if (pod := pod_of(o, item)) is not None}
        claims = await self._claims(o)
        secrets = await self._secret(o)
        pods = await self._placed(o, pods)
        o = msgspec.structs.replace(
            o,
            workload=workload_of(objects.get(("StatefulSet", name)), o.spec.backup.secret_name),
            pods=pods,
            claims=claims,
            **secrets,
        )
        o = msgspec.structs.replace(o, spec=completed(o))
        o = msgspec.structs.replace(o, objects=_concerning(o, objects))
        gone, unasked = await self.machines.gone(o)
        o = msgspec.structs.replace(o, gone=gone, unasked=unasked)
        told = await self._archive_variables(o)
        o = msgspec.structs.replace(o, archive_variables=told)
        keys, issuer = await self._keys(o)
        trust = await self._trust(o)
        o = msgspec.structs.replace(o, trust=trust, keys=keys, issuer=issuer)
        o = msgspec.structs.replace(o, nodes=await self._statuses(o))
        o = await self._ring(o)
        o = msgspec.structs.replace(o, waited=self.waits.update(o), turn=self.turns.update(o))
        return await self._runs(msgspec.structs.replace(o, repairs=await self._repairs(o)))

    async def _objects(self, o: Snapshot) -> Objects:
        """All with our names."""
        names = [("Service", o.owner.headless), *((kind, o.name) for kind in KINDS)]
        names += [("ConfigMap", name(o.owner)) for name in CONFIG_MAPS]
        found: Objects = {}
        for kind, name in names:
            if kind == "ServiceMonitor" and not o.spec.monitoring.service_monitor:
                continue
            tls = o.spec.tls
            if kind == "Certificate" and tls.mode == "Disabled" and tls.issuer_ref is None:
                continue  # an API server need not know it
            item = await self.kube.get(kind, o.namespace, name)
            if item is not None:
                found[kind, name] = item
        return found | await self._pod_services(o)

    async def _pod_services(self, o: Snapshot) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Services of single pods. While the spec asks for them, also those of other owners that
        have their names; else only our own that are left."""
        wanted = o.spec.exposure.type != "Disabled"
        selector = "" if wanted else f"{INSTANCE}={o.name},{exposure.SERVICE}=pod"
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for item in await self.kube.find("Service", o.namespace, selector):
            name = item["metadata"]["name"]
            if o.ordinal(exposure.pod_of(name)) is None:
                continue
            if wanted or ours(item, o.owner):
                found["Service", name] = item | {"kind": "Service"}
        return found

    async def _claims(self, o: Snapshot) -> dict[int, Claim]:
        """Claims are read after the pods: a claim is made before its pod, so a pod without a claim
        has lost it. They are read by name, not by label: a restored claim may have no labels."""
        listed = await self.kube.find("PersistentVolumeClaim", o.namespace)
        claims = (claim_of(o, item) for item in listed)
        return {claim.ordinal: claim for claim in claims if claim is not None}

    async def _secret(self, o: Snapshot) -> dict[str, Any]:
        """Whether it is there, and its text."""
        name = children.secret_name(o.owner, o.spec)
        found = await self.kube.get("Secret", o.namespace, name)
        text = authority.data_of(found).get(children.SECRET_KEY, b"")
        return {"secret": found is not None, "secret_text": text.decode("latin-1")}

    async def _archive_variables(self, o: Snapshot) -> Variables:
        """Where the Secret of backups leads nodes: its credentials are forgotten at once. It is
        read only for a policy whose rules follow from it."""
        name, policy = o.spec.backup.secret_name, o.spec.network_policy
        if name is None or not policy.enabled or policy.egress is not None:
            return Variables()
        try:
            found = await self.kube.get("Secret", o.namespace, name)
        except Refused:
            return Variables(unread=frozenset({f"Secret {name}"}))
        data = authority.data_of(found)
        return of_values((key, value.decode("latin-1")) for key, value in data.items())

    async def _trust(self, o: Snapshot) -> Trust:
        """Certificates, also of a ring that is to be plain: its nodes may not be yet. A Secret of
        our names that is not of this ring is a fault, where we would write it."""
        if not secured(o):
            return Trust()
        mounted = protection.certificate_secret(o.owner, o.spec)
        if not protection.own_authority(o.spec):
            return authority.trust_of(await self.kube.get("Secret", o.namespace, mounted), None)
        found = []
        for name in (mounted, protection.authority_name(o.owner)):
            secret = await self.kube.get("Secret", o.namespace, name)
            labels = secret["metadata"].get("labels") or {} if secret else {}
            if secret is not None and not labels_of(o.owner).items() <= labels.items():
                return Trust(fault=f"Secret {name} exists but is not of this ring; rename one")
            found.append(secret)
        return authority.trust_of(*found)

    async def _keys(self, o: Snapshot) -> tuple[str, str]:
        """The public keys of ServiceAccount tokens, and who issues them: as the API server says, or
        as the ConfigMap has it."""
        if not o.spec.access.required:
            return "", ""
        keys, issuer = await self.accounts.read()
        last = o.objects.get(("ConfigMap", protection.access_name(o.owner)), {})
        data = last.get("data") or {}
        return keys or data.get("jwks.json", ""), issuer or data.get("issuer", "")

    async def _placed(self, o: Snapshot, pods: dict[int, Pod]) -> dict[int, Pod]:
        """Pods with the zones of their machines, if the operator may read machines."""
        key = o.spec.topology.zone_key
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

    async def _statuses(self, o: Snapshot) -> dict[int, Node]:
        asked = [pod for pod in o.pods.values() if pod.address and pod.running]
        answers = await asyncio.gather(
            *(self._answer(o.way(pod.ordinal), "/v1/status", Node) for pod in asked)
        )
        return {
            pod.ordinal: node
            for pod, node in zip(asked, answers, strict=True)
            if node is not None and node.name == pod.name
        }

    async def _answer(self, way: Way, path: str, kind: type[T]) -> T | None:
        try:
            return msgspec.convert(await self.nodes.get(way, path), kind)
        except (Failed, msgspec.ValidationError):
            return None

    async def _ring(self, o: Snapshot) -> Snapshot:
        """The ring document that a majority of its live members has.

        While partitions move, digests differ for as long as gossip takes. Then the operator
        compares only the lines of members, which change rarely. That is enough to wait or to
        cancel, and not enough for any other action.
        """
        members = {i: n for i, n in o.nodes.items() if n.disk == "member" and n.digest}
        if not members:
            return o
        counts = Counter(node.digest for node in members.values())
        digest, _ = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
        asked = sorted(members, key=lambda i: (members[i].digest != digest, i))
        first = await self._document(o, asked[0])
        if first is not None and first.digest == digest and _majority(o, first, digest):
            have = {o.pod_name(i) for i, n in members.items() if n.digest == digest}
            unanimous = first.live.keys() <= have
            return msgspec.structs.replace(o, ring=first, exact=True, unanimous=unanimous)
        rings = [ring for i in asked if (ring := await self._document(o, i)) is not None]
        for ring in sorted(rings, key=lambda r: -r.epoch):
            same = sum(other.members == ring.members for other in rings)
            if same * 2 > len(ring.live):
                return msgspec.structs.replace(o, ring=ring)
        told = f"{len(members)} members answer, but no majority shows the same ring"
        return msgspec.structs.replace(o, unreadable=told)

    async def _document(self, o: Snapshot, ordinal: int) -> Ring | None:
        return await self._answer(o.way(ordinal), "/v1/ring", Ring)

    async def _repairs(self, o: Snapshot) -> tuple[Repair, ...]:
        listed = await self.kube.find("DynamoRepair", o.namespace)
        ours = [r for item in listed if (r := repair_of(o, item)) is not None]
        return tuple([await self._progress(o, repair) for repair in ours])

    async def _progress(self, o: Snapshot, repair: Repair) -> Repair:
        """The progress from the node that was asked to run the repair; only that node knows it."""
        if repair.ended:
            return repair
        for ordinal, node in sorted(o.nodes.items()):
            if node.disk != "member":
                continue
            path = f"/v1/repairs/{repair.uid}"
            try:
                found = await self.nodes.get(o.way(ordinal), path)
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

    async def _runs(self, o: Snapshot) -> Snapshot:
        """With backups and restores. CRDs or rights may be older than the operator."""
        try:
            listed = [await self.kube.find(kind, o.namespace) for kind in (BACKUP, RESTORE)]
        except (Gone, Refused) as error:
            named = _named(o)
            origin = Origin(named, missing=str(error)) if named is not None else None
            return msgspec.structs.replace(o, runs_fault=str(error), origin=origin)
        runs = [await self._led(o, run) for run in runs_of(o, *listed)]
        runs = await self._snapshots(o, runs)
        origin = origin_of(_named(o), listed[0])
        others = read_by_others(o, *listed)
        return msgspec.structs.replace(o, runs=tuple(runs), origin=origin, read_by_others=others)

    async def _snapshots(self, o: Snapshot, runs: list[Run]) -> list[Run]:
        """Backups by volume snapshots that have not ended, with their snapshots. An API server need
        not know these: it is asked only for such a backup."""
        if not any(run.by_snapshots and not run.ended for run in runs):
            return runs
        fault, found = "", []
        try:
            found = await self.kube.find(SNAPSHOT, o.namespace, f"{INSTANCE}={o.name}")
        except Gone:
            fault = NOT_INSTALLED
        except Refused as error:
            fault = f"the operator may not list VolumeSnapshots: {error}; upgrade the chart"
        made = []
        for run in runs:
            if run.by_snapshots and not run.ended:
                taken = (taken_of(item) for item in found if backup_of(item) == run.uid)
                known = tuple(sorted(filter(None, taken), key=lambda each: each.ordinal))
                copy = await self.kube.get("Secret", o.namespace, run.secret_copy)
                run = msgspec.structs.replace(
                    run, taken=known, fault=fault, copied=copy is not None
                )
            made.append(run)
        return made

    async def _led(self, o: Snapshot, run: Run) -> Run:
        """With the report of the node that leads it. A node that led it before may know it too."""
        if run.ended or run.by_snapshots:
            return run
        path = f"{run.path}/{run.id}"
        members = [i for i, node in sorted(o.nodes.items()) if node.disk == "member"]
        reports = await asyncio.gather(*(self._report(o.way(i), path) for i in members))
        found = [report for report in reports if report is not None]
        if not found:
            return run
        report = max(found, key=lambda r: STATES.index(r["state"]))
        return msgspec.structs.replace(run, state=report["state"], report=report)

    async def _report(self, way: Way, path: str) -> dict[str, Any] | None:
        try:
            found = await self.nodes.get(way, path)
        except Failed:
            return None
        return found if found.get("state") in STATES else None


def _named(o: Snapshot) -> str | None:
    """The DynamoBackup that the ring is to begin with."""
    wish = o.spec.bootstrap
    return wish.from_backup.name if wish is not None else None


def _concerning(o: Snapshot, found: Objects) -> Objects:
    """The objects that are ours, and those of others of a kind that the spec asks for."""
    wanted = {made["kind"] for made in children.companions(o.owner, o.spec)}
    wanted |= {"StatefulSet", *(["ConfigMap"] if o.spec.tls.mode != "Disabled" else [])}
    return {
        (kind, name): item
        for (kind, name), item in found.items()
        if kind in wanted or ours(item, o.owner)
    }


def _majority(o: Snapshot, ring: Ring, digest: str) -> bool:
    have = {o.pod_name(i) for i, n in o.nodes.items() if n.digest == digest}
    return 2 * len(have & ring.live.keys()) > len(ring.live)
