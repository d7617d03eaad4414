"""Machines of the simulated cluster, and the volumes that stay on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from tests.dynamo_operator.simulated_ring import SimulatedRing

Object = dict[str, Any]
Key = tuple[str, str, str]


class SimulatedMachines(ABC):
    """Machines in `dead` are off, and their pods stay, also deleted ones. Machines in `gone` have
    no Node object, and `local` volumes stay on their machines: `pinned`, by the claim's uid."""

    def __init__(self, ring: SimulatedRing) -> None:
        self.ring = ring
        self.objects: dict[Key, Object] = {}
        self.dead: set[str] = set()
        self.local = False
        self.gone: set[str] = set()
        self.pinned: dict[str, str] = {}

    @abstractmethod
    def _forget(self, key: Key) -> None:
        """An object is gone from the API server."""

    def _volume(self, name: str) -> Object | None:
        """The volume of a claim; a local one can be used on its machine only."""
        claims = (i for k, i in self.objects.items() if k[0] == "PersistentVolumeClaim")
        claim = next((i for i in claims if i["spec"].get("volumeName") == name), None)
        if claim is None:
            return None
        uid = claim["metadata"]["uid"]
        there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.pinned[uid]]}
        term = {"matchExpressions": [there]}
        affinity = {"required": {"nodeSelectorTerms": [term]}}
        return {
            "spec": {"claimRef": {"uid": uid}} | ({"nodeAffinity": affinity} if self.local else {})
        }

    def _place(self, claim: Object) -> None:
        """The machine on which the volume is made: one that is there, in the same zone."""
        ordinal = int(claim["metadata"]["name"].rpartition("-")[2])
        machine = next(m for i in (0, 30, 60) if (m := f"machine-{ordinal + i}") not in self.gone)
        self.pinned.setdefault(claim["metadata"]["uid"], machine)

    def delete_machine(self, name: str) -> None:
        """kubectl delete node: its pods are gone at once. A new one may have its place."""
        for key, item in list(self.objects.items()):
            if key[0] == "Pod" and item.get("spec", {}).get("nodeName") == name:
                self._forget(key)
        self.dead.discard(name)

    def lose_machine(self, name: str) -> None:
        """It is gone for good, with its disks, and has no Node object any more."""
        self.gone.add(name)
        for key, item in list(self.objects.items()):
            if key[0] == "Pod" and item.get("spec", {}).get("nodeName") == name:
                self.ring.stop(item["status"].get("podIP", ""))
        for uid, machine in self.pinned.items():
            if machine == name:
                self.ring.wipe(uid)
        self.delete_machine(name)


def machine_of(name: str) -> Object:
    """A Node object; its number gives its zone."""
    zone = "abc"[int(name.rpartition("-")[2]) % 3]
    return {"metadata": {"labels": {"topology.kubernetes.io/zone": f"zone-{zone}"}}}
