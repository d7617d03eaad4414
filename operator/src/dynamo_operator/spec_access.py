"""The parts of a DynamoCluster's spec about who may speak: TLS, clients and administrators."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from dynamo_operator.spec_types import DURATION, SET, Part
from dynamo_operator.trust import Mode

ACCOUNT = r"^[a-z0-9][a-z0-9.-]{0,252}/[a-z0-9][a-z0-9.-]{0,252}$"
HOST = r"^[*0-9A-Za-z][0-9A-Za-z.:-]*$"
_ATOMIC = {"x-kubernetes-list-type": "atomic"}


# fmt: off
class IssuerRef(Part, frozen=True, kw_only=True):
    """An issuer of cert-manager."""

    name: Annotated[str, Meta(description="Name of the issuer.", min_length=1, max_length=253)]
    kind: Annotated[str, Meta(
        description="Issuer, ClusterIssuer, or the kind of another issuer.",
        min_length=1, max_length=63)] = "Issuer"
    group: Annotated[str, Meta(
        description="API group of the issuer.", min_length=1, max_length=253)] = "cert-manager.io"


class TlsSpec(Part, frozen=True, kw_only=True):
    """What connections to and between nodes are encrypted. Certificates are of the ring's own
    authority, unless issuerRef or secretName names others."""

    mode: Annotated[Mode, Meta(
        description="Disabled: all connections are plain. Allowed: nodes take TLS and plain"
        " connections, and use TLS among each other. Required: TLS only. The operator goes from"
        " Disabled to Required, and back, by way of Allowed, each in a rolling update. Unset: a new"
        " ring is Required, and a ring that exists stays as it is.")] | None = None
    issuer_ref: Annotated[IssuerRef, Meta(
        description="Issuer of cert-manager that signs the certificate.")] | None = None
    secret_name: Annotated[str, Meta(
        description="Secret with tls.crt, tls.key and ca.crt that you keep. Its certificate has the"
        " name of each pod, and the uses server auth and client auth.",
        min_length=1, max_length=253)] | None = None
    names: Annotated[tuple[Annotated[str, Meta(pattern=HOST, max_length=253)], ...], Meta(
        description="Further DNS names and IP addresses of the certificate, such as that of a load"
        " balancer.",
        max_length=32, extra_json_schema=SET)] = ()
    overlap: Annotated[str, Meta(
        description="How long a new authority of the ring is believed before it signs: in this time"
        " clients have to read it. A number and s, m or h.",
        pattern=DURATION, max_length=16)] = "24h"


Prefix = Annotated[str, Meta(max_length=256)]
"""A key has at most 1,024 bytes, and a letter at most four."""


class AccessRule(Part, frozen=True, kw_only=True):
    """What one client may do. Exactly one of serviceAccount, certificate and tokenSha256."""

    service_account: Annotated[str, Meta(
        description="Namespace and name of a ServiceAccount, as shop/checkout.",
        pattern=ACCOUNT, max_length=507)] | None = None
    certificate: Annotated[str, Meta(
        description="A name of the subjectAltName of a client certificate.",
        min_length=1, max_length=512)] | None = None
    token_sha256: Annotated[str, Meta(
        description="SHA-256 of a bearer token, in lower case hex.",
        pattern=r"^[0-9a-f]{64}$", max_length=64)] | None = None
    name: Annotated[str, Meta(
        description="What audit lines call the token. Only with tokenSha256.",
        min_length=1, max_length=63, pattern=r"^[!-~]+$")] | None = None
    prefixes: Annotated[tuple[Prefix, ...], Meta(
        description="Beginnings of the keys; an empty one stands for every key.",
        min_length=1, max_length=64, extra_json_schema=_ATOMIC)]
    verbs: Annotated[tuple[Literal["get", "put", "delete", "list"], ...], Meta(
        description="What it may do with these keys.",
        min_length=1, max_length=4, extra_json_schema=SET)]


class AccessSpec(Part, frozen=True, kw_only=True):
    """Who may read and write which keys, and who may change the ring."""

    mode: Annotated[Literal["Open", "Required"], Meta(
        description="Open: each client that reaches the client port may read, write and delete"
        " every key. Required: a client shows who it is, and may do what a rule allows. Unset: a"
        " new ring is Required, and a ring that exists stays as it is.")] | None = None
    rules: Annotated[tuple[AccessRule, ...], Meta(
        description="What clients may do. What no rule allows is refused.",
        max_length=256, extra_json_schema=_ATOMIC)] = ()
    administrators: Annotated[tuple[
        Annotated[str, Meta(pattern=ACCOUNT, max_length=507)], ...], Meta(
        description="ServiceAccounts, as namespace/name, that may use the admin port of the nodes.",
        max_length=32, extra_json_schema=SET)] = ()
    audience: Annotated[str, Meta(
        description="Audience (aud) that tokens of ServiceAccounts must have.",
        min_length=1, max_length=253)] = "dynamo-ring"

    @property
    def required(self) -> bool:
        """Whether clients are asked who they are. Then nodes have the cluster's public keys, also
        before the first ServiceAccount is named, so that naming it restarts no pod."""
        return self.mode == "Required"
# fmt: on
