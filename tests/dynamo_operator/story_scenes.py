"""Scenes and wishes about volumes, machines and clients outside, for `stories`."""

from __future__ import annotations

from copy import deepcopy

from tests.dynamo_operator.world import NAMESPACE, World

EXPOSED = {"exposure": {"type": "LoadBalancer", "hosts": "$(pod).example", "advertise": True}}
PORTS = {"exposure": {"type": "NodePort"}}
HIDDEN = {"exposure": {"type": "Disabled", "advertise": False}}
FROM_MONDAY = {"claimTemplate": {"dataSource": {"name": "monday-$(ordinal)", "count": 4}}}
LABELLED = {"claimTemplate": {"labels": {"team": "carts", "tier": "one"}}}
RELABELLED = {"claimTemplate": {"labels": {"team": "shop"}, "annotations": {"backup": "daily"}}}


def snapshots_alone(w: World) -> None:
    """Each volume is copied; then the ring and its claims are deleted. The audit finds acked values
    in a copy until a claim of its pod is bound: from then on, only in what the claim holds."""
    for name, item in w.found("PersistentVolumeClaim").items():
        ordinal = name.rpartition("-")[2]
        disk = w.ring.disks[item["metadata"]["uid"]]
        w.kube.snapshots[f"monday-{ordinal}"] = deepcopy(disk)
        w.ring.disks[f"copy of {name}"] = deepcopy(disk)
    w.kube.remove("DynamoCluster", NAMESPACE, "cart")
    for name in w.found("PersistentVolumeClaim"):
        w.kube.remove("PersistentVolumeClaim", NAMESPACE, name)


def balance(w: World) -> None:
    """The load balancers of the Services get their addresses."""
    for ordinal, name in enumerate(w.found("Service")):
        status = {"loadBalancer": {"ingress": [{"ip": f"192.0.2.{ordinal}"}]}}
        w.kube.change("Service", NAMESPACE, name, status=status)


def make_on_local_disks(w: World) -> None:
    w.kube.local = True
    w.make(size=4, recovery={"autoReplace": "NodeGone", "nodeGoneAfter": "5s"})
