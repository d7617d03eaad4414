"""The objects of a ring, as pure functions of its spec: the operator applies each as a whole.

The resource owns every object except the Secrets and the claims. The StatefulSet never changes a
claim (Retain/Retain), the operator deletes pods to update them (OnDelete), and all pods start at
once (Parallel): a pod starts without its peers and without the operator.
"""

from __future__ import annotations

import base64

from dynamo_operator import exposure, protection
from dynamo_operator.claims import claim_template
from dynamo_operator.egress import Outward, rules
from dynamo_operator.overlay import laid_over
from dynamo_operator.owner import Object, Owner, kept, owned
from dynamo_operator.pod import PORTS, Mounts, pod_template
from dynamo_operator.snapshot import Document
from dynamo_operator.spec import ClusterSpec
from dynamo_operator.trust import PLAIN, Security

SECRET_KEY = "secret"
NOWHERE = Outward()
OPERATOR_LABELS = {"app.kubernetes.io/name": "dynamo-ring-operator"}


def selector_text(owner: Owner) -> str:
    """The label selector as one string, for status.selector and lists."""
    return ",".join(f"{label}={value}" for label, value in owner.selector.items())


def secret_name(owner: Owner, spec: ClusterSpec) -> str:
    """The name of the cluster secret: the user's, or the one that the operator makes."""
    return spec.auth.secret_name or f"{owner.name}-secret"


def secret(owner: Owner, spec: ClusterSpec, value: str) -> Object:
    """The cluster secret. It has no owner: like the claims, it stays after the resource."""
    data = {SECRET_KEY: base64.b64encode(value.encode()).decode()}
    return kept(owner, "v1", "Secret", secret_name(owner, spec), type="Opaque", data=data)


def headless_service(owner: Owner, spec: ClusterSpec, https: bool = False) -> Object:
    """Gives each pod a name, ready or not: nodes find each other before they are members."""
    made = owned(owner, "v1", "Service", owner.headless)
    made["metadata"]["labels"][exposure.SERVICE] = "nodes"
    made["spec"] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": owner.selector,
        "ports": [_port(which, port, https) for which, port in PORTS.items()],
    } | _families(spec)
    return made


def client_service(owner: Owner, spec: ClusterSpec, https: bool = False) -> Object:
    """The Service for clients: any ready node answers for every key."""
    made = owned(owner, "v1", "Service", owner.name)
    made["metadata"]["labels"][exposure.SERVICE] = "clients"
    if spec.service.annotations:
        made["metadata"]["annotations"] = spec.service.annotations
    made["spec"] = {
        "type": spec.service.type,
        "selector": owner.selector,
        "ports": [_port("client", spec.service.port, https)],
        **_families(spec),
        **exposure.outside(spec.service),
    }
    return made


def _families(spec: ClusterSpec) -> Object:
    policy = spec.service.ip_family_policy
    return {"ipFamilyPolicy": policy} if policy else {}


def _port(which: str, port: int, https: bool) -> Object:
    http = {} if which == "peer" else {"appProtocol": "https" if https else "http"}
    return {"name": which, "port": port, "targetPort": which, "protocol": "TCP"} | http


def disruption_budget(owner: Owner, spec: ClusterSpec) -> Object:
    """How many pods drains may take at once; a pod that is not ready never stops a drain."""
    quorums = spec.replication
    spare = quorums.factor - max(quorums.read_quorum, quorums.write_quorum)
    wanted = spec.pod_disruption_budget.max_unavailable
    made = owned(owner, "policy/v1", "PodDisruptionBudget", owner.name)
    made["spec"] = {
        "maxUnavailable": max(1, spare) if wanted is None else wanted,
        "selector": {"matchLabels": owner.selector},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return made


def network_policy(owner: Owner, spec: ClusterSpec, outward: Outward = NOWHERE) -> Object:
    """Only the ring's pods and the operator may be peers and administrators. Nodes may connect to
    DNS, to each other, and to what backups and traces need."""
    ring = {"podSelector": {"matchLabels": owner.selector}}
    label = {"kubernetes.io/metadata.name": owner.operator_namespace}
    operator = {
        "namespaceSelector": {"matchLabels": label} if owner.operator_namespace else {},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }
    clients = list(spec.network_policy.clients)
    made = owned(owner, "networking.k8s.io/v1", "NetworkPolicy", owner.name)
    made["spec"] = {
        "podSelector": {"matchLabels": owner.selector},
        "policyTypes": ["Ingress"],
        "ingress": [
            _ingress("client", [*clients, ring] if clients else []),
            _ingress("admin", [ring, operator, *spec.network_policy.monitoring]),
            _ingress("peer", [ring]),
        ],
    }
    given = spec.network_policy.egress
    egress = rules(owner, None if given is None else list(given), outward)
    if egress is not None:
        made["spec"]["policyTypes"].append("Egress")
        made["spec"]["egress"] = egress
    return made


def _ingress(which: str, peers: list[Object]) -> Object:
    rule: Object = {"ports": [{"port": which, "protocol": "TCP"}]}
    return rule | ({"from": peers} if peers else {})


def service_monitor(owner: Owner, spec: ClusterSpec, https: bool = False) -> Object:
    """Tells the Prometheus operator where the nodes' metrics are."""
    made = owned(owner, "monitoring.coreos.com/v1", "ServiceMonitor", owner.name)
    made["metadata"]["labels"] |= spec.monitoring.labels
    endpoint = {"port": "admin", "path": "/metrics", "interval": "15s"}
    made["spec"] = {
        "selector": {"matchLabels": owner.selector | {exposure.SERVICE: "nodes"}},
        "endpoints": [endpoint | (protection.scraped(owner, spec) if https else {})],
    }
    return made


def mounts_of(owner: Owner, spec: ClusterSpec, security: Security = PLAIN) -> Mounts:
    """What pods have from Secrets and ConfigMaps."""
    return Mounts(
        secret=secret_name(owner, spec),
        tls=security.tls,
        certificate=protection.certificate_secret(owner, spec) if security.tls != "off" else "",
        access=protection.access_name(owner) if spec.access.required else "",
        audience=spec.access.audience if spec.access.required else "",
        backup_secret=spec.backup.secret_name or "",
        backup_claim=spec.backup.volume_claim or "",
        copy_of=security.copy_of,
    )


def stateful_set(
    owner: Owner,
    spec: ClusterSpec,
    replicas: int,
    first: Document | None = None,
    security: Security = PLAIN,
) -> Object:
    """The pods and their claims. `replicas` is the planner's (theorem 1), 0 when stopped.

    `first` is the template of the claims in the StatefulSet that is there: it cannot be changed, so
    it keeps what it has, and the claims themselves change.
    """
    template = laid_over(
        pod_template(
            spec,
            selector=owner.selector,
            mounts=mounts_of(owner, spec, security),
            cluster=f"{owner.namespace}/{owner.name}",
            nodes=f"{owner.headless}.{owner.namespace}.svc",
        ),
        {"metadata": spec.pod_template.metadata, "spec": spec.pod_template.spec},
    )
    template["metadata"]["labels"] |= owner.selector
    made = owned(owner, "apps/v1", "StatefulSet", owner.name)
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
        "volumeClaimTemplates": [claim_template(owner, spec, first)],
    }
    return made


def companions(
    owner: Owner, spec: ClusterSpec, security: Security = PLAIN, outward: Outward = NOWHERE
) -> list[Object]:
    """Every owned object of the spec except the StatefulSet."""
    https = security.https
    made = [headless_service(owner, spec, https), client_service(owner, spec, https)]
    made += exposure.services(owner, spec, security.replicas, https)
    if spec.pod_disruption_budget.enabled:
        made.append(disruption_budget(owner, spec))
    if spec.network_policy.enabled:
        made.append(network_policy(owner, spec, outward))
    if spec.monitoring.service_monitor:
        made.append(service_monitor(owner, spec, https))
    return made + protection.companions(owner, spec, security)
