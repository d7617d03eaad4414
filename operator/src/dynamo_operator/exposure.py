"""Services for clients outside the cluster, and the names under which they reach the ring.

Names and addresses that a load balancer got are in the status of its Service, which another
program writes. They are checked before they come into a certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from dynamo_operator.owner import Object, Owner, owned
from dynamo_operator.snapshot import Document, Snapshot
from dynamo_operator.spec import GROUP, ClusterSpec
from dynamo_operator.spec_services import POD, Exposure, ServiceSpec

SERVICE = f"{GROUP}/service"
"""Label of the ring's Services: `nodes`, `clients`, or `pod` for one of a single pod."""
POD_LABEL = "statefulset.kubernetes.io/pod-name"
INGRESS_MAX = 16
"""Addresses of one load balancer that are used: a certificate must not grow without an end."""
_HOST = re.compile(r"[0-9a-z]([-0-9a-z.]{0,251}[0-9a-z])?")


def name_of(pod: str) -> str:
    """The Service of a pod."""
    return f"{pod}-client"


def pod_of(service: str) -> str:
    """The pod of such a Service; "" for another one."""
    head, _, tail = service.rpartition("-")
    return head if tail == "client" else ""


def outside(given: ServiceSpec | Exposure) -> Object:
    """The fields of a Service for clients outside."""
    ranges = list(given.load_balancer_source_ranges)
    balanced = given.load_balancer_class
    policy = given.external_traffic_policy
    return (
        ({"loadBalancerClass": balanced} if balanced else {})
        | ({"loadBalancerSourceRanges": ranges} if ranges else {})
        | ({"externalTrafficPolicy": policy} if policy else {})
    )


def services(owner: Owner, spec: ClusterSpec, replicas: int, https: bool) -> list[Object]:
    """One Service for each pod."""
    given = spec.exposure
    if given.type == "Disabled":
        return []
    made = []
    for ordinal in range(max(replicas, spec.size)):
        pod = owner.pod(ordinal)
        service = owned(owner, "v1", "Service", name_of(pod))
        service["metadata"]["labels"][SERVICE] = "pod"
        if given.annotations:
            notes = {name: text.replace(POD, pod) for name, text in given.annotations.items()}
            service["metadata"]["annotations"] = notes
        policy = spec.service.ip_family_policy
        port = {"name": "client", "port": given.port, "targetPort": "client", "protocol": "TCP"}
        service["spec"] = {
            "type": given.type,
            "selector": owner.selector | {POD_LABEL: pod},
            "ports": [port | {"appProtocol": "https" if https else "http"}],
            **({"ipFamilyPolicy": policy} if policy else {}),
            **outside(given),
        }
        made.append(service)
    return made


def hosts(owner: Owner, spec: ClusterSpec, count: int) -> list[str]:
    """The names of so many pods for clients outside."""
    given = spec.exposure
    if given.type == "Disabled" or given.hosts is None:
        return []
    return [given.hosts.replace(POD, owner.pod(ordinal)) for ordinal in range(count)]


def balanced(service: Document) -> tuple[str, ...]:
    """The names and addresses that a load balancer gave a Service."""
    status: Mapping[str, Object] = service.get("status") or {}
    entries = (status.get("loadBalancer") or {}).get("ingress") or ()
    found = (str(e.get("ip") or e.get("hostname") or "").lower() for e in entries[:INGRESS_MAX])
    return tuple(text for text in found if _known(text))


def _known(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return _HOST.fullmatch(text) is not None and not text.replace(".", "").isdecimal()


def names(objects: Iterable[Document]) -> tuple[str, ...]:
    """Names and addresses of load balancers of these objects, in a fixed order."""
    all_ = {name for each in objects if each["kind"] == "Service" for name in balanced(each)}
    return tuple(sorted(all_))


def address(o: Snapshot, pod: str) -> str:
    """host:port of a pod for clients outside; `:port` for a port of every machine; "" if there is
    none yet."""
    given, service = o.spec.exposure, o.objects.get(("Service", name_of(pod)))
    if given.type == "Disabled" or service is None:
        return ""
    host = given.hosts.replace(POD, pod) if given.hosts else next(iter(balanced(service)), "")
    if given.type == "LoadBalancer":
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{given.port}" if host else ""
    ports = service["spec"].get("ports") or [{}]
    port = ports[0].get("nodePort")
    return f"{host}:{port}" if port else ""


def is_address(host: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        return bool(ip_address(host))
    except ValueError:
        return False
