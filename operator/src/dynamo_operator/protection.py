"""The objects of a ring about certificates and rights, as pure functions of its spec.

The Secrets outlive the resource, as the cluster secret does: a ring that is made again from its
claims has the authority that its clients trust. ConfigMaps go with the resource, and no earlier: a
pod of an older revision may still mount one.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from dynamo_operator import exposure
from dynamo_operator.owner import Object, Owner, kept, owned
from dynamo_operator.rights_file import access_toml
from dynamo_operator.spec import ClusterSpec
from dynamo_operator.trust import PLAIN, Security

NAMES_STEP = 16
"""The certificate also names this many further pods: a ring that grows by a few pods needs no other
certificate."""
LOCAL = ("localhost", "127.0.0.1", "::1")
"""The host that people dial with `kubectl port-forward`."""


def own_authority(spec: ClusterSpec) -> bool:
    """Whether certificates are of the ring's own authority."""
    return spec.tls.issuer_ref is None and spec.tls.secret_name is None


def authority_name(owner: Owner) -> str:
    """The name of the authority's Secret, and of the ConfigMap for clients."""
    return f"{owner.name}-ca"


def access_name(owner: Owner) -> str:
    """The name of the ConfigMap of rights."""
    return f"{owner.name}-access"


def certificate_secret(owner: Owner, spec: ClusterSpec) -> str:
    """The name of the Secret that is mounted into pods."""
    if spec.tls.secret_name is not None:
        return spec.tls.secret_name
    return f"{owner.name}-{'cert-manager' if spec.tls.issuer_ref else 'tls'}"


def names_of(
    owner: Owner, spec: ClusterSpec, replicas: int, outside: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Whom the certificate names: each pod, as peers ask for that, and what clients dial;
    `outside`: names and addresses of load balancers."""
    count = -(-max(replicas, spec.size, 1) // NAMES_STEP) * NAMES_STEP
    inside, nodes = f"{owner.namespace}.svc", f"{owner.headless}.{owner.namespace}.svc"
    hosts = [
        *(f"{head}{nodes}{tail}" for head in ("*.", "") for tail in ("", ".cluster.local")),
        owner.name,
        f"{owner.name}.{owner.namespace}",
        *(f"{owner.name}.{inside}{tail}" for tail in ("", ".cluster.local")),
    ]
    pods = [owner.pod(ordinal) for ordinal in range(count)]
    further = (*exposure.hosts(owner, spec, count), *spec.tls.names, *outside)
    return tuple(dict.fromkeys((*hosts, *pods, *LOCAL, *map(_spelt, further))))


def secret(owner: Owner, name: str, data: dict[str, str | None], tls: bool) -> Object:
    """A Secret of certificates, as it is created."""
    kind = "kubernetes.io/tls" if tls else "Opaque"
    return kept(owner, "v1", "Secret", name, type=kind, data=data)


def companions(owner: Owner, spec: ClusterSpec, security: Security = PLAIN) -> list[Object]:
    """Every owned object about certificates and rights that the spec asks for."""
    made = []
    if security.believed:
        made.append(_config_map(owner, authority_name(owner), {"ca.crt": security.believed}))
    if spec.access.required:
        made.append(access(owner, spec, security))
    if spec.tls.issuer_ref is not None and (spec.tls.mode != "Disabled" or security.tls != "off"):
        made.append(certificate(owner, spec, security))
    return made


def access(owner: Owner, spec: ClusterSpec, security: Security) -> Object:
    """Rights, and the public keys by which nodes verify tokens of ServiceAccounts."""
    rights = {"access.toml": access_toml(spec.access)}
    keys = {"jwks.json": security.keys, "issuer": security.issuer}
    return _config_map(owner, access_name(owner), rights | keys)


def certificate(owner: Owner, spec: ClusterSpec, security: Security) -> Object:
    """The Certificate that cert-manager should make."""
    issuer = spec.tls.issuer_ref
    assert issuer is not None
    names = names_of(owner, spec, security.replicas, security.outside)
    addresses = [name for name in names if exposure.is_address(name)]
    made = owned(owner, "cert-manager.io/v1", "Certificate", owner.name)
    made["spec"] = {
        "secretName": certificate_secret(owner, spec),
        "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
        "commonName": "dynamo-ring node",
        "dnsNames": [name for name in names if name not in addresses],
        "ipAddresses": addresses,
        "usages": ["digital signature", "server auth", "client auth"],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
    }
    return made


def scraped(owner: Owner, spec: ClusterSpec) -> dict[str, Any]:
    """How Prometheus reads metrics in TLS."""
    if own_authority(spec):
        source = {"configMap": {"name": authority_name(owner), "key": "ca.crt"}}
    else:
        source = {"secret": {"name": certificate_secret(owner, spec), "key": "ca.crt"}}
    named = f"{owner.name}.{owner.namespace}.svc"
    return {"scheme": "https", "tlsConfig": {"ca": source, "serverName": named}}


def _spelt(name: str) -> str:
    """As a certificate that was made gives it back: an address has many spellings."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def _config_map(owner: Owner, name: str, data: dict[str, str]) -> Object:
    return owned(owner, "v1", "ConfigMap", name, data=data)
