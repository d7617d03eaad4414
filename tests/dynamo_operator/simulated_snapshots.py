"""The snapshot controller and the storage driver of the simulated cluster, and nodes on copies."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from dynamo_core.ring.renaming import Renaming, renamed
from dynamo_operator.ports import failure
from dynamo_operator.quantity import instant, stamp
from tests.dynamo_operator.simulated_node import Disk

SNAPSHOT = "VolumeSnapshot"
Object = dict[str, Any]
Key = tuple[str, str, str]


@dataclass
class SnapshotDriver:
    """`installed`: the API server knows VolumeSnapshots; `forbidden`: an admission webhook refuses
    them. A snapshot is cut `cut_s` after it was asked for (or as `late` says for a claim) and is
    ready `ready_s` later. `classes`: those that exist, with the default, "". `broken`: what the
    driver says instead; `tells`: whether it tells when a snapshot was cut."""

    installed: bool = True
    forbidden: str = ""
    classes: set[str] = field(default_factory=lambda: {""})
    cut_s: float = 1.0
    ready_s: float = 2.0
    late: dict[str, float] = field(default_factory=dict)
    tells: bool = True
    broken: str = ""
    disks: dict[str, Disk] = field(default_factory=dict)
    """Copies, by the name of the snapshot."""

    def check(self, kind: str, verb: str) -> None:
        """What the API server does with a request."""
        if kind == SNAPSHOT and not self.installed:
            raise failure(404, "the server could not find the requested resource")
        if kind == SNAPSHOT and verb == "create" and self.forbidden:
            raise failure(403, self.forbidden)

    def state(self, item: Object, claim: Object | None, now: float) -> Object:
        """The status of a snapshot now."""
        named = item["spec"].get("volumeSnapshotClassName", "")
        if named not in self.classes:
            text = f"volumesnapshotclass.snapshot.storage.k8s.io {named!r} not found"
            return {"readyToUse": False, "error": {"message": text}}
        if claim is None:
            return {"readyToUse": False, "error": {"message": "the claim does not exist"}}
        if self.broken:
            return {"readyToUse": False, "error": {"message": self.broken}}
        age = now - (instant(item["metadata"]["creationTimestamp"]) or 0.0)
        after = self.late.get(claim["metadata"]["name"], self.cut_s)
        if age < after:
            return {}
        cut = item.get("status", {}).get("creationTime") or stamp(now)
        size = claim["spec"]["resources"]["requests"]["storage"]
        ready = age >= after + self.ready_s
        told = {"creationTime": cut} if self.tells else {}
        return told | {"restoreSize": size, "readyToUse": ready, "error": None}

    def step(self, objects: Mapping[Key, Object], ring: Any, now: float) -> dict[Key, Object]:
        """One second; returns the new status by key. A disk is copied at the time of the cut."""
        made: dict[Key, Object] = {}
        for key, item in objects.items():
            if key[0] != SNAPSHOT:
                continue
            source = item["spec"]["source"]["persistentVolumeClaimName"]
            claim = objects.get(("PersistentVolumeClaim", key[1], source))
            made[key] = self.state(item, claim, now)
            if claim is not None and "restoreSize" in made[key] and key[2] not in self.disks:
                self.disks[key[2]] = deepcopy(ring.disks[claim["metadata"]["uid"]])
        return made


def started(ring: Any, uid: str, pod: str, env: Mapping[str, str]) -> None:
    """What a node does with its disk before it starts (decision 20). It must not start on a disk of
    another ring."""
    disk: Disk | None = getattr(ring, "disks", {}).get(uid)
    if disk is None or disk.ring is None or disk.emptied:
        return
    before, _, ring_id = env.get("DYNAMO_COPY_OF", "").partition(" ")
    if ring_id and pod not in disk.ring.members:
        old, new = (each.rpartition("/")[2] for each in (before, env["DYNAMO_CLUSTER"]))
        address = env["DYNAMO_ADVERTISE"].replace("$(DYNAMO_NAME)", pod)
        names = Renaming(old, new, ring_id, pod, address)
        disk.ring, disk.id = renamed(disk.ring, names), names.node_id(disk.id)
        disk.complete.clear()
    if pod not in disk.ring.members and not disk.left:
        ring.wrong.append(f"{pod} would start on a disk of {disk.ring.identity.cluster_id}")
