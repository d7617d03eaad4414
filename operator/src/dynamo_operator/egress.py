"""Where nodes may connect to: the egress rules of a ring's NetworkPolicy.

Always DNS and the ring. Further, unless `spec.networkPolicy.egress` says where, what backups and
traces need. A NetworkPolicy cannot name hosts, so for the name of a host its port is open to any
address. A rule is about the pod that is reached, not about the Service before it, which may have
another port: so for the name of a Service the pods of its namespace are open too, on every port.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from msgspec import Struct

from dynamo_operator import exposure
from dynamo_operator.owner import Object, Owner
from dynamo_operator.pod import PORTS
from dynamo_operator.variables import OTEL, Place, Variables, store_of

DNS: list[Object] = [
    {"port": port, "protocol": how} for how in ("UDP", "TCP") for port in (53, 5353)
]
"""The ports of DNS, at any address, because a resolver may run on each machine. Pods of OpenShift
use 5353."""
STORES = ("az", "gs", "s3")
ENDPOINTS = {
    "s3": {"AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"},
    "gs": {"GOOGLE_BASE_URL"},
    "az": {"AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"},
}
"""Variables that name the store itself."""
CREDENTIALS = {
    "s3": {"AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"},
    "gs": {
        "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_SERVICE_ACCOUNT_PATH", "GOOGLE_SKIP_SIGNATURE",
    },
    "az": {
        "AZURE_CLIENT_SECRET", "AZURE_SKIP_SIGNATURE", "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CLIENT_SECRET", "AZURE_STORAGE_MASTER_KEY",
        "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN",
    },
}  # fmt: skip
"""Variables that are credentials: with one of them a node asks no cloud for its own."""
METADATA: Object = {
    "to": [{"ipBlock": {"cidr": cidr}} for cidr in ("169.254.0.0/16", "fd00:ec2::/32")],
    "ports": [{"port": port, "protocol": "TCP"} for port in (80, 988)],
}
"""Where clouds give credentials to pods: the metadata servers of AWS, Azure and Google (GKE: port
988), and the agent of EKS Pod Identity."""
HTTPS = 443
NAMESPACE = "kubernetes.io/metadata.name"


class Outward(Struct, frozen=True):
    """What nodes need besides DNS and each other. `stores`: schemes of the object stores in which
    archives are; `variables`: what all pods that run or will run are given."""

    stores: frozenset[str] = frozenset()
    variables: Variables = Variables()


def rules(owner: Owner, given: list[Object] | None, outward: Outward) -> list[Object] | None:
    """The egress rules; `given` are those of the spec, None if it has none. Returns None if nodes
    may connect to anywhere, because it cannot be known where their pods need to."""
    if given is None and outward.variables.unread:
        return None
    peers = {
        "to": [{"podSelector": {"matchLabels": owner.selector}}],
        "ports": [_tcp(port) for port in PORTS.values()],
    }
    further = list(_needed(owner, outward)) if given is None else list(map(_complete, given))
    return [{"ports": DNS}, peers, *further]


def _needed(owner: Owner, outward: Outward) -> Iterator[Object]:
    names = outward.variables.names
    stores = {*outward.stores, *map(store_of, names)}
    alone = {store for store in stores if not names & CREDENTIALS[store]}
    places = set(_places(stores, outward.variables))
    ports = {place.port for place in places if not exposure.is_address(place.host)}
    if any(_needs_https(store, alone, outward.variables) for store in stores):
        ports.add(HTTPS)
    if ports:
        yield {"ports": [_tcp(port) for port in sorted(ports)]}
    for place in sorted(places):
        if exposure.is_address(place.host):
            address = ip_address(place.host)
            block = {"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}
            yield {"to": [block], "ports": [_tcp(place.port)]}
    for namespace in sorted({_namespace(place.host, owner) for place in places} - {""}):
        pods = {"namespaceSelector": {"matchLabels": {NAMESPACE: namespace}}}
        yield {"to": [pods], "ports": [{"protocol": "TCP"}]}
    if alone:
        yield METADATA


def _places(stores: set[str], variables: Variables) -> Iterator[Place]:
    """The places that nodes use: archives, receivers of traces, and proxies to them."""
    traced = any(name == OTEL for name, _ in variables.places)
    for name, place in variables.places:
        used = store_of(name) in stores or name == OTEL
        if name.endswith("_PROXY"):
            used = bool(stores) or traced
        if used and not _is_here(place.host):
            yield place


def _needs_https(store: str, alone: set[str], variables: Variables) -> bool:
    """Whether a node connects to the usual port: of the store, or of what gives it a token."""
    elsewhere = any(name in ENDPOINTS[store] for name, _ in variables.places)
    return not elsewhere or store in alone or store == "gs"


def _namespace(host: str, owner: Owner) -> str:
    """The namespace of the Service that may have this name, "" if none may: `minio`,
    `minio.storage`, `minio.storage.svc`, `minio.storage.svc.cluster.local`."""
    if exposure.is_address(host) or "$" in host:
        return ""
    labels = host.rstrip(".").split(".")
    if "svc" in labels[2:]:
        return labels[labels.index("svc", 2) - 1]
    return owner.namespace if len(labels) == 1 else labels[1] if len(labels) == 2 else ""


def _is_here(host: str) -> bool:
    return host == "localhost" or (exposure.is_address(host) and ip_address(host).is_loopback)


def _complete(rule: Object) -> Object:
    """With the protocol that the API server fills in: the operator compares rules exactly."""
    ports = rule.get("ports")
    if not isinstance(ports, list):
        return rule
    return rule | {"ports": [{"protocol": "TCP", **each} for each in ports]}


def _tcp(port: int) -> Object:
    return {"port": port, "protocol": "TCP"}
