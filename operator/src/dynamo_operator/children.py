"""The objects of a ring, as pure functions of its spec: what the operator applies, whole.

Every object but the Secret and the claims is owned by the resource. The StatefulSet never touches
a claim by itself (Retain/Retain), is rolled by hand (OnDelete) and starts its pods at once
(Parallel): a pod needs neither its peers nor the operator to start.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from dynamo_operator.overlay import laid_over
from dynamo_operator.pod import PORTS, pod_template
from dynamo_operator.spec import API_VERSION, GROUP, ClusterSpec

Object = dict[str, Any]
CLAIM = "data"
SECRET_KEY = "secret"
OPERATOR_LABELS = {"app.kubernetes.io/name": "dynamo-ring-operator"}


class Owner(msgspec.Struct, frozen=True):
    """The DynamoCluster whose objects they are, and where its operator runs."""

    name: str
    namespace: str
    uid: str
    operator_namespace: str = ""
    """"": an operator in any namespace may reach the admin port."""

    @property
    def selector(self) -> dict[str, str]:
        """Labels that every object of this ring has, and no other pod."""
        return {
            "app.kubernetes.io/component": "node",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/name": "dynamo-ring",
        }

    @property
    def headless(self) -> str:
        """Name of the Service that gives each pod its own."""
        return f"{self.name}-nodes"

    def pod(self, ordinal: int) -> str:
        """Name of a node and of its pod."""
        return f"{self.name}-{ordinal}"

    def claim(self, ordinal: int) -> str:
        """Name of the claim of a node."""
        return f"{CLAIM}-{self.pod(ordinal)}"

    def host(self, pod: str) -> str:
        """What the name of a pod resolves by, in every namespace."""
        return f"{pod}.{self.headless}.{self.namespace}.svc"

    def reference(self, controller: bool = True) -> Object:
        """An ownerReference to the resource."""
        own = {"apiVersion": API_VERSION, "kind": "DynamoCluster", "name": self.name}
        return own | {"uid": self.uid} | ({"controller": True} if controller else {})


def selector_text(owner: Owner) -> str:
    """The label selector as one string, for status.selector and lists."""
    return ",".join(f"{label}={value}" for label, value in owner.selector.items())


def secret_name(owner: Owner, spec: ClusterSpec) -> str:
    """Of the cluster secret: the user's, or the one that is made."""
    return spec.auth.secret_name or f"{owner.name}-secret"


def labels_of(owner: Owner) -> dict[str, str]:
    """Labels that every object has which the operator makes."""
    return owner.selector | {"app.kubernetes.io/managed-by": "dynamo-operator"}


def _object(owner: Owner, api: str, kind: str, name: str, **more: Any) -> Object:
    metadata = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels_of(owner),
    }
    return {"apiVersion": api, "kind": kind, "metadata": metadata} | more


def _owned(owner: Owner, api: str, kind: str, name: str, **more: Any) -> Object:
    made = _object(owner, api, kind, name, **more)
    made["metadata"]["ownerReferences"] = [owner.reference()]
    return made


def secret(owner: Owner, spec: ClusterSpec, value: str) -> Object:
    """The cluster secret. Not owned: with the claims it outlives the resource."""
    data = {SECRET_KEY: base64.b64encode(value.encode()).decode()}
    return _object(owner, "v1", "Secret", secret_name(owner, spec), type="Opaque", data=data)


def headless_service(owner: Owner, spec: ClusterSpec) -> Object:
    """Gives each pod a name, ready or not: nodes find one another before they are members."""
    made = _owned(owner, "v1", "Service", owner.headless)
    made["metadata"]["labels"][f"{GROUP}/service"] = "nodes"
    made["spec"] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": owner.selector,
        "ports": [_port(which, port) for which, port in PORTS.items()],
    } | _families(spec)
    return made


def client_service(owner: Owner, spec: ClusterSpec) -> Object:
    """What clients call: any ready node answers for every key."""
    made = _owned(owner, "v1", "Service", owner.name)
    made["metadata"]["labels"][f"{GROUP}/service"] = "clients"
    if spec.service.annotations:
        made["metadata"]["annotations"] = spec.service.annotations
    made["spec"] = {
        "type": spec.service.type,
        "selector": owner.selector,
        "ports": [_port("client", spec.service.port)],
    } | _families(spec)
    return made


def _families(spec: ClusterSpec) -> Object:
    policy = spec.service.ip_family_policy
    return {"ipFamilyPolicy": policy} if policy else {}


def _port(which: str, port: int) -> Object:
    http = {} if which == "peer" else {"appProtocol": "http"}
    return {"name": which, "port": port, "targetPort": which, "protocol": "TCP"} | http


def disruption_budget(owner: Owner, spec: ClusterSpec) -> Object:
    """How many pods drains may take at once; one that is not ready never holds up a drain."""
    quorums = spec.replication
    spare = quorums.factor - max(quorums.read_quorum, quorums.write_quorum)
    wanted = spec.pod_disruption_budget.max_unavailable
    made = _owned(owner, "policy/v1", "PodDisruptionBudget", owner.name)
    made["spec"] = {
        "maxUnavailable": max(1, spare) if wanted is None else wanted,
        "selector": {"matchLabels": owner.selector},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return made


def network_policy(owner: Owner, spec: ClusterSpec) -> Object:
    """Peers and administrators only from the ring's pods and the operator."""
    ring = {"podSelector": {"matchLabels": owner.selector}}
    label = {"kubernetes.io/metadata.name": owner.operator_namespace}
    operator = {
        "namespaceSelector": {"matchLabels": label} if owner.operator_namespace else {},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }
    clients = list(spec.network_policy.clients)
    made = _owned(owner, "networking.k8s.io/v1", "NetworkPolicy", owner.name)
    made["spec"] = {
        "podSelector": {"matchLabels": owner.selector},
        "policyTypes": ["Ingress"],
        "ingress": [
            _ingress("client", [*clients, ring] if clients else []),
            _ingress("admin", [ring, operator, *spec.network_policy.monitoring]),
            _ingress("peer", [ring]),
        ],
    }
    return made


def _ingress(which: str, peers: list[Object]) -> Object:
    rule: Object = {"ports": [{"port": which, "protocol": "TCP"}]}
    return rule | ({"from": peers} if peers else {})


def service_monitor(owner: Owner, spec: ClusterSpec) -> Object:
    """Tells the Prometheus operator where the nodes' metrics are."""
    made = _owned(owner, "monitoring.coreos.com/v1", "ServiceMonitor", owner.name)
    made["metadata"]["labels"] |= spec.monitoring.labels
    made["spec"] = {
        "selector": {"matchLabels": owner.selector | {f"{GROUP}/service": "nodes"}},
        "endpoints": [{"port": "admin", "path": "/metrics", "interval": "15s"}],
    }
    return made


def stateful_set(
    owner: Owner, spec: ClusterSpec, replicas: int, first_size: str | None = None
) -> Object:
    """The pods and their claims. `replicas` is the planner's (theorem 1), 0 when stopped.

    `first_size` is the size in the template of the StatefulSet that is there: a template of claims
    cannot be changed, so it keeps its first size and the claims themselves grow.
    """
    template = laid_over(
        pod_template(
            spec,
            selector=owner.selector,
            secret=secret_name(owner, spec),
            cluster=f"{owner.namespace}/{owner.name}",
            nodes=f"{owner.headless}.{owner.namespace}.svc",
        ),
        {"metadata": spec.pod_template.metadata, "spec": spec.pod_template.spec},
    )
    template["metadata"]["labels"] |= owner.selector
    made = _owned(owner, "apps/v1", "StatefulSet", owner.name)
    made["spec"] = {
        "replicas": replicas,
        "serviceName": owner.headless,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "minReadySeconds": spec.update.min_ready_seconds,
        "revisionHistoryLimit": 5,
        "selector": {"matchLabels": owner.selector},
        "template": template,
        "volumeClaimTemplates": [_claim(owner, spec, first_size or spec.storage.size)],
    }
    return made


def _claim(owner: Owner, spec: ClusterSpec, size: str) -> Object:
    named = spec.storage.class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "labels": owner.selector},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        }
        | ({} if named is None else {"storageClassName": named}),
    }


def companions(owner: Owner, spec: ClusterSpec) -> list[Object]:
    """Every owned object beside the StatefulSet that the spec asks for."""
    made = [headless_service(owner, spec), client_service(owner, spec)]
    if spec.pod_disruption_budget.enabled:
        made.append(disruption_budget(owner, spec))
    if spec.network_policy.enabled:
        made.append(network_policy(owner, spec))
    if spec.monitoring.service_monitor:
        made.append(service_monitor(owner, spec))
    return made
