"""The pod of one node: restricted pod security standard, probes that ask no peer.

A node needs nothing of Kubernetes while it runs: no service account token, no environment of
services. Its name is its pod's name, its disk is its claim's volume; its machine may change.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from dynamo_operator.spec import ClusterSpec, seconds
from dynamo_operator.spec_services import POD
from dynamo_operator.spec_types import NODE_MEMORY, NODE_MEMORY_TLS, Topology
from dynamo_operator.trust import Phase

Object = dict[str, Any]
CONTAINER = "node"
PORTS = {"client": 8080, "admin": 8081, "peer": 8082}
USER = 10001
FIXED = {"fsGroup": USER, "runAsGroup": USER, "runAsUser": USER}
DATA = "/var/lib/dynamo"
SECRET_DIR, TLS_DIR, ACCESS_DIR = "/etc/dynamo", "/etc/dynamo-tls", "/etc/dynamo-access"
BACKUP_DIR, BACKUP_SECRET_DIR = "/backups", "/etc/dynamo-backup"
STORES = "s3://,gs://,az://"
"""What nodes may write backups to by default; a volume is named besides."""
PEER_TLS, ADMIN_TLS = "DYNAMO_PEER_TLS", "DYNAMO_ADMIN_TLS"
ACCESS_FILE = "DYNAMO_ACCESS_FILE"
PEER_PROTOCOL_MIN = "DYNAMO_PEER_PROTOCOL_MIN"
GRACE_SECONDS = 30
"""A node ends within 10 s after SIGTERM."""


class Mounts(msgspec.Struct, frozen=True):
    """Secrets and ConfigMaps of a pod by name, "" for none, and what follows for its node.
    `copy_of`: NAMESPACE/NAME of the ring that the first claims are snapshots of, a space, and the
    id of the ring that they become."""

    secret: str
    tls: Phase = "off"
    certificate: str = ""
    access: str = ""
    audience: str = ""
    backup_secret: str = ""
    backup_claim: str = ""
    copy_of: str = ""


def pod_template(
    spec: ClusterSpec, *, selector: dict[str, str], mounts: Mounts, cluster: str, nodes: str
) -> Object:
    """The template before `spec.podTemplate` is merged. `nodes` is the headless Service's name."""
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
            "containers": [_container(spec, mounts, cluster, nodes)],
            "tolerations": [_toleration("not-ready"), _toleration("unreachable")],
            "volumes": _volumes(mounts),
        }
        | _spread(spec.topology, selector)
        | ({"imagePullSecrets": pulls} if pulls else {}),
    }


def _volumes(mounts: Mounts) -> list[Object]:
    def of_secret(name: str, secret: str) -> Object:
        return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}}

    made = [of_secret("secret", mounts.secret), {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    if mounts.certificate:
        made.append(of_secret("tls", mounts.certificate))
    if mounts.access:
        made.append({"name": "access", "configMap": {"name": mounts.access, "defaultMode": 0o440}})
    if mounts.backup_secret:  # a node starts without it, and its backups say what is missing
        made.append(of_secret("backup-secret", mounts.backup_secret))
        made[-1]["secret"]["optional"] = True
    if mounts.backup_claim:
        claim = {"claimName": mounts.backup_claim}
        made.append({"name": "backups", "persistentVolumeClaim": claim})
    return made


def _container(spec: ClusterSpec, mounts: Mounts, cluster: str, nodes: str) -> Object:
    amounts = {"requests": spec.resources.requests, "limits": _limits(spec, mounts)}
    places = [("data", DATA), ("secret", SECRET_DIR), ("tmp", "/tmp")]
    places += [("tls", TLS_DIR)] if mounts.certificate else []
    places += [("access", ACCESS_DIR)] if mounts.access else []
    places += [("backup-secret", BACKUP_SECRET_DIR)] if mounts.backup_secret else []
    places += [("backups", BACKUP_DIR)] if mounts.backup_claim else []
    written = ("data", "tmp", "backups")
    secret = {"secretRef": {"name": mounts.backup_secret, "optional": True}}
    probe = partial(_probe, mounts.tls != "off")
    return {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "env": _environment(spec, mounts, cluster, nodes),
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        "resources": {which: amount for which, amount in amounts.items() if amount},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "startupProbe": probe("/livez", periodSeconds=1, failureThreshold=300),
        "livenessProbe": probe("/livez", periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
        "readinessProbe": probe("/readyz", periodSeconds=2, failureThreshold=2, timeoutSeconds=2),
        "volumeMounts": [
            {"name": name, "mountPath": place} | ({} if name in written else {"readOnly": True})
            for name, place in places
        ],
    } | ({"envFrom": [secret]} if mounts.backup_secret else {})


def _limits(spec: ClusterSpec, mounts: Mounts) -> dict[str, str | int]:
    """The default of memory is what a node takes at most, and TLS takes more."""
    limits = spec.resources.limits
    if mounts.tls != "off" and limits.get("memory") == NODE_MEMORY:
        return {**limits, "memory": NODE_MEMORY_TLS}
    return limits


def protocol_min(spec: ClusterSpec, mounts: Mounts) -> int:
    """The oldest protocol between nodes (T-2). A node that takes nothing but TLS meets no node of
    the first protocol."""
    return spec.update.peer_protocol_min or (2 if mounts.tls == "require" else 1)


def _environment(spec: ClusterSpec, mounts: Mounts, cluster: str, nodes: str) -> list[Object]:
    """DYNAMO_ZONE is the pod's label if Kubernetes adds one (1.35), else "". Listeners have no
    host: they accept IPv4 and IPv6, so both kinds of clusters work."""
    zone = f"metadata.labels['{spec.topology.zone_key}']"
    replace = spec.recovery.auto_replace != "Never"
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
    } | _secured(mounts)
    if told := spec.exposure.advertised:
        plain["DYNAMO_CLIENT_ADVERTISE"] = told.replace(POD, "$(DYNAMO_NAME)")
    least = protocol_min(spec, mounts)
    if least > 1:  # else the template stays that of the last version
        plain[PEER_PROTOCOL_MIN] = str(least)
    if mounts.backup_claim:
        plain["DYNAMO_BACKUP_TARGETS"] = f"{STORES},file://{BACKUP_DIR}"
    if mounts.copy_of:
        plain["DYNAMO_COPY_OF"] = mounts.copy_of
    # By reference, so that pods are the same in clusters of any domain.
    issuer = {"configMapKeyRef": {"name": mounts.access, "key": "issuer"}}
    named = [{"name": "DYNAMO_TOKEN_ISSUER", "valueFrom": issuer}] if mounts.access else []
    return [
        {"name": "DYNAMO_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "DYNAMO_ZONE", "valueFrom": {"fieldRef": {"fieldPath": zone}}},
        *({"name": name, "value": value} for name, value in plain.items()),
        *named,
    ]


def _secured(mounts: Mounts) -> dict[str, str]:
    """TLS and rights; without either a pod is as it was before there were any."""
    made = {}
    if mounts.tls != "off":
        listeners = "allow" if mounts.tls == "allow" else "on"
        made = {
            "DYNAMO_TLS_CERT_FILE": f"{TLS_DIR}/tls.crt",
            "DYNAMO_TLS_KEY_FILE": f"{TLS_DIR}/tls.key",
            "DYNAMO_TLS_CA_FILE": f"{TLS_DIR}/ca.crt",
            PEER_TLS: mounts.tls,
            "DYNAMO_CLIENT_TLS": listeners,
            ADMIN_TLS: listeners,
        }
    if mounts.access:
        made |= {
            ACCESS_FILE: f"{ACCESS_DIR}/access.toml",
            "DYNAMO_JWKS_FILE": f"{ACCESS_DIR}/jwks.json",
            "DYNAMO_TOKEN_AUDIENCE": mounts.audience,
        }
    return made


def _probe(https: bool, path: str, **more: int) -> Object:
    """The kubelet does not look at the certificate."""
    scheme = {"scheme": "HTTPS"} if https else {}
    return {"httpGet": {"path": path, "port": "admin"} | scheme} | more


def _toleration(condition: str) -> Object:
    """Without a time limit: a pod on a machine that is cut off keeps its disk and serves the
    clients that reach it."""
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
