"""What NetworkPolicies let through, as Kubernetes defines it.

A pod that no policy selects for a direction takes part in every connection of this direction. Else
one rule of one of its policies must allow the connection. A connection between two pods needs the
leave of both: egress of the one that begins it, ingress of the other. Rules are about the pod that
is reached, not about a Service before it. Answers need no rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = dict[str, Any]
NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod of a namespace, or (`namespace` "") an address outside."""

    address: str = "192.0.2.1"
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)


def allowed(
    policies: Iterable[Policy], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """Whether `source` may connect to this port of `target`."""
    known = list(policies)
    return _leave(known, "Egress", source, target, (target, port, protocol)) and _leave(
        known, "Ingress", target, source, (target, port, protocol)
    )


def _leave(
    policies: list[Policy], way: str, own: End, other: End, at: tuple[End, int, str]
) -> bool:
    mine = [p["spec"] for p in policies if _is_of(p, own) and way in p["spec"]["policyTypes"]]
    rules = [rule for spec in mine for rule in spec.get(way.lower()) or ()]
    side = "to" if way == "Egress" else "from"
    return not mine or any(
        _ports(rule, *at) and _peers(rule.get(side), other, own) for rule in rules
    )


def _is_of(policy: Policy, end: End) -> bool:
    same = policy["metadata"]["namespace"] == end.namespace
    return same and selects(policy["spec"]["podSelector"], end.labels)


def _ports(rule: Policy, target: End, port: int, protocol: str) -> bool:
    wanted = rule.get("ports")
    return not wanted or any(
        each.get("protocol", "TCP") == protocol
        and (
            "port" not in each
            or (target.ports.get(each["port"], each["port"])) == port
            or ("endPort" in each and each["port"] <= port <= each["endPort"])
        )
        for each in wanted
    )


def _peers(peers: list[Policy] | None, other: End, own: End) -> bool:
    return not peers or any(_is_peer(peer, other, own) for peer in peers)


def _is_peer(peer: Policy, other: End, own: End) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(other.address)
        inside = address in ip_network(block["cidr"])
        return inside and all(address not in ip_network(each) for each in block.get("except", ()))
    if not other.namespace:
        return False
    if (spaces := peer.get("namespaceSelector")) is None:
        near = other.namespace == own.namespace
    else:
        near = selects(spaces, {NAME: other.namespace, **other.namespace_labels})
    return near and selects(peer.get("podSelector") or {}, other.labels)


def selects(selector: Policy, labels: dict[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects all."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}, selector
    assert not selector.get("matchExpressions"), "no policy of ours has them"
    wanted: dict[str, str] = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items()
