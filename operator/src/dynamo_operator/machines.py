"""Which volumes are gone for certain together with their machines, for `autoReplace: NodeGone`.

The operator trusts only the API server, and only if it has no Node object any more: a machine that
is off, cut off or NotReady still has one. The proof has these parts, all of one look:

1. the pod has no machine, and its claim is bound to a volume that names the claim in return;
2. the volume can be used on single machines only, by its node affinity (`machines_of`);
3. no Node has the name or the label of one of them, nor the name that the claim was placed by;
4. another pod of the ring runs on a machine that has a Node object, so the API server does list
   machines;
5. this process has seen all this for `recovery.nodeGoneAfter`. A new process counts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from dynamo_operator.ports import KubeApi, Refused
from dynamo_operator.snapshot import Claim, Snapshot
from dynamo_operator.spec import seconds

KEYS = ("kubernetes.io/hostname", "topology.hostpath.csi/node", "topology.topolvm.io/node")
"""Labels that only one machine has; local volumes and drivers for local disks use them."""
NAME = "metadata.name"
PLACED = "volume.kubernetes.io/selected-node"
"""Annotation of a claim: the machine for which its volume was made."""
Cluster = tuple[str, str]
GoneMachines = tuple[dict[int, str], str]
"""Machines that are gone, by ordinal; and why this could not be looked up, or ""."""


class Machines:
    """For every cluster: claims whose machine is missing, and since when."""

    def __init__(self, kube: KubeApi, clock: Callable[[], float] = monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._since: dict[Cluster, dict[str, float]] = {}

    def forget(self, cluster: Cluster) -> None:
        """The resource is deleted."""
        self._since.pop(cluster, None)

    async def gone(self, o: Snapshot) -> GoneMachines:
        """The machines that are gone for certain. Raises Failed, but for a missing right."""
        key, now = (o.namespace, o.name), self._clock()
        before = self._since.pop(key, {})
        asked = candidates(o)
        if not asked:
            return {}, ""
        missing: dict[int, tuple[str, str]] = {}
        try:
            for claim in asked:
                if machine := await self._missing(claim):
                    missing[claim.ordinal] = claim.uid, machine
            if missing and not await self._lists_machines(o):
                missing = {}
        except Refused as error:
            return {}, str(error)
        since = {uid: before.get(uid, now) for uid, _ in missing.values()}
        self._since[key] = since
        wait_s = seconds(o.spec.recovery.node_gone_after)
        return {
            ordinal: machine
            for ordinal, (uid, machine) in missing.items()
            if now - since[uid] >= wait_s
        }, ""

    async def _missing(self, claim: Claim) -> str:
        """The machine of its volume, if it has no Node object; else ""."""
        volume = await self._kube.get("PersistentVolume", "", claim.volume)
        if volume is None or (volume["spec"].get("claimRef") or {}).get("uid") != claim.uid:
            return ""
        pinned = machines_of(volume)
        placed = claim.annotations.get(PLACED)
        for key, machine in sorted(pinned | ({(NAME, placed)} if placed else set())):
            if key != NAME and await self._kube.find("Node", "", f"{key}={machine}"):
                return ""
            if await self._kube.get("Node", "", machine) is not None:
                return ""
        return ", ".join(sorted({machine for _, machine in pinned}))

    async def _lists_machines(self, o: Snapshot) -> bool:
        for machine in sorted({p.machine for p in o.pods.values() if p.machine and p.running}):
            if await self._kube.get("Node", "", machine) is not None:
                return True
        return False


def candidates(o: Snapshot) -> list[Claim]:
    """Bound claims of pods that have no machine."""
    if o.spec.recovery.auto_replace != "NodeGone" or o.spec.stopped:
        return []
    waiting = (i for i, p in o.pods.items() if not p.machine and not p.running)
    claims = (o.claims.get(ordinal) for ordinal in sorted(waiting))
    return [
        c for c in claims if c is not None and c.phase == "Bound" and c.volume and not c.deleting
    ]


def machines_of(volume: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Labels and values, or names, of the only machines that can use the volume; nothing if it may
    be used on others, such as every machine of a zone."""
    affinity = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    found: set[tuple[str, str]] = set()
    for term in affinity.get("nodeSelectorTerms") or ():
        rules = [*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
        pins = {
            (rule["key"], value)
            for rule in rules
            if rule.get("operator") == "In" and rule["key"] in (*KEYS, NAME)
            for value in rule.get("values") or ()
        }
        if not pins:
            return set()
        found |= pins
    return found
