"""The pod of one node: the restricted pod security standard, probes that ask no peer.

A node needs nothing of Kubernetes while it runs: no token of a service account, no environment of
services. Its name is its pod's, its disk its claim's; where it runs may change at will.
"""

from __future__ import annotations

from typing import Any

from dynamo_operator.spec import ClusterSpec, seconds
from dynamo_operator.spec_types import Topology

Object = dict[str, Any]
CONTAINER = "node"
PORTS = {"client": 8080, "admin": 8081, "peer": 8082}
USER = 10001
FIXED = {"fsGroup": USER, "runAsGroup": USER, "runAsUser": USER}
DATA = "/var/lib/dynamo"
SECRET_DIR = "/etc/dynamo"
GRACE_SECONDS = 30
"""A node is done 10 s after SIGTERM."""


def pod_template(
    spec: ClusterSpec, *, selector: dict[str, str], secret: str, cluster: str, nodes: str
) -> Object:
    """Before `spec.podTemplate` is laid over it. `nodes` is the headless Service's name."""
    pulls = [{"name": name} for name in spec.image_pull_secrets]
    return {
        "metadata": {"labels": dict(selector)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "fsGroupChangePolicy": "OnRootMismatch",
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            | (FIXED if spec.run_as == "Fixed" else {}),
            "containers": [_container(spec, cluster, nodes)],
            "tolerations": [_toleration("not-ready"), _toleration("unreachable")],
            "volumes": [
                {"name": "secret", "secret": {"secretName": secret, "defaultMode": 0o440}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
        }
        | _spread(spec.topology, selector)
        | ({"imagePullSecrets": pulls} if pulls else {}),
    }


def _container(spec: ClusterSpec, cluster: str, nodes: str) -> Object:
    amounts = {"requests": spec.resources.requests, "limits": spec.resources.limits}
    return {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "env": _environment(spec, cluster, nodes),
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        "resources": {which: amount for which, amount in amounts.items() if amount},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "startupProbe": _probe("/livez", periodSeconds=1, failureThreshold=300),
        "livenessProbe": _probe("/livez", periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
        "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=2, timeoutSeconds=2),
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            {"name": "secret", "mountPath": SECRET_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _environment(spec: ClusterSpec, cluster: str, nodes: str) -> list[Object]:
    """DYNAMO_ZONE is the pod's own label where Kubernetes gives it one (1.35), else "". Listeners
    have no host: they take IPv4 and IPv6, as the cluster gives addresses."""
    zone = f"metadata.labels['{spec.topology.zone_key}']"
    replace = spec.recovery.auto_replace == "VolumeLost"
    plain = {
        "DYNAMO_DATA_DIR": f"{DATA}/node",
        "DYNAMO_CLIENT_LISTEN": f":{PORTS['client']}",
        "DYNAMO_ADMIN_LISTEN": f":{PORTS['admin']}",
        "DYNAMO_PEER_LISTEN": f":{PORTS['peer']}",
        "DYNAMO_ADVERTISE": f"$(DYNAMO_NAME).{nodes}:{PORTS['peer']}",
        "DYNAMO_SEEDS": f"{nodes}:{PORTS['peer']}",
        "DYNAMO_CLUSTER": cluster,
        "DYNAMO_CLUSTER_SECRET_FILE": f"{SECRET_DIR}/secret",
        "DYNAMO_REPLACE_LOST": "true" if replace else "false",
        "DYNAMO_EXCHANGE_MS": str(max(10, round(seconds(spec.anti_entropy.interval) * 1000))),
        "DYNAMO_EXCHANGES_MAX": str(spec.anti_entropy.max_concurrent_partitions),
        "DYNAMO_LATENCY_THRESHOLD_MS": str(spec.background.latency_threshold_ms),
        "DYNAMO_MOVES_MAX": str(spec.ring.max_concurrent_moves),
    }
    return [
        {"name": "DYNAMO_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "DYNAMO_ZONE", "valueFrom": {"fieldRef": {"fieldPath": zone}}},
        *({"name": name, "value": value} for name, value in plain.items()),
    ]


def _probe(path: str, **more: int) -> Object:
    return {"httpGet": {"path": path, "port": "admin"}} | more


def _toleration(condition: str) -> Object:
    """No limit: a pod on a machine that is cut off keeps its disk and serves who reaches it."""
    key = f"node.kubernetes.io/{condition}"
    return {"key": key, "operator": "Exists", "effect": "NoExecute"}


def _spread(topology: Topology, selector: dict[str, str]) -> Object:
    if topology.spread == "Disabled":
        return {}
    firm = "DoNotSchedule" if topology.spread == "Required" else "ScheduleAnyway"
    return {
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": how,
                "labelSelector": {"matchLabels": dict(selector)},
            }
            for key, how in (
                (topology.zone_key, firm),
                ("kubernetes.io/hostname", "ScheduleAnyway"),
            )
        ]
    }
