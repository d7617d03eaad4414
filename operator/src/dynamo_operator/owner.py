"""The DynamoCluster as the owner of objects: their names, labels and references."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_operator.spec import API_VERSION

Object = dict[str, Any]
CLAIM = "data"


class Owner(msgspec.Struct, frozen=True):
    """The DynamoCluster that owns the objects, and the operator's namespace."""

    name: str
    namespace: str
    uid: str
    operator_namespace: str = ""
    """"": an operator in any namespace may reach the admin port."""

    @property
    def selector(self) -> dict[str, str]:
        """Labels of every object of this ring, which no other pod has."""
        return {
            "app.kubernetes.io/component": "node",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/name": "dynamo-ring",
        }

    @property
    def headless(self) -> str:
        """Name of the Service that gives each pod a name."""
        return f"{self.name}-nodes"

    def pod(self, ordinal: int) -> str:
        """Name of a node and of its pod."""
        return f"{self.name}-{ordinal}"

    def claim(self, ordinal: int) -> str:
        """Name of a node's claim."""
        return f"{CLAIM}-{self.pod(ordinal)}"

    def host(self, pod: str) -> str:
        """The pod's DNS name, valid in every namespace."""
        return f"{pod}.{self.headless}.{self.namespace}.svc"

    def reference(self, controller: bool = True) -> Object:
        """An ownerReference to the resource."""
        own = {"apiVersion": API_VERSION, "kind": "DynamoCluster", "name": self.name}
        return own | {"uid": self.uid} | ({"controller": True} if controller else {})


def labels_of(owner: Owner) -> dict[str, str]:
    """Labels of every object that the operator makes."""
    return owner.selector | {"app.kubernetes.io/managed-by": "dynamo-operator"}


def kept(owner: Owner, api: str, kind: str, name: str, **more: Any) -> Object:
    """An object of the ring that outlives the resource."""
    metadata = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels_of(owner),
    }
    return {"apiVersion": api, "kind": kind, "metadata": metadata} | more


def owned(owner: Owner, api: str, kind: str, name: str, **more: Any) -> Object:
    """An object that goes with the resource."""
    made = kept(owner, api, kind, name, **more)
    made["metadata"]["ownerReferences"] = [owner.reference()]
    return made
