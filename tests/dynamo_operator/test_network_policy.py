"""Who reaches which port of a node: the rendered NetworkPolicy, judged as Kubernetes defines it."""

from __future__ import annotations

from typing import Any

import pytest

from dynamo_operator import children
from dynamo_operator.children import OPERATOR_LABELS
from dynamo_operator.owner import Owner
from dynamo_operator.pod import PORTS
from dynamo_operator.spec import cluster_spec
from tests.dynamo_operator.policies import End, allowed

OWNER = Owner("shop", "rings", "uid", "dynamo-system")
NODE = End("10.0.0.1", "rings", OWNER.selector, ports=PORTS)
CLIENT = {"role": "client"}
ENDS = {
    "node": End("10.0.0.2", "rings", OWNER.selector, ports=PORTS),
    "client": End("10.0.0.3", "rings", CLIENT),
    "neighbour": End("10.0.0.4", "rings", {"app": "other"}),
    "other ring": End("10.0.0.5", "rings", OWNER.selector | {"app.kubernetes.io/instance": "b"}),
    "far client": End("10.1.0.1", "shoppers", CLIENT, {"team": "carts"}),
    "namesake": End("10.1.0.2", "shoppers", OWNER.selector),
    "operator": End("10.2.0.1", "dynamo-system", OPERATOR_LABELS),
    "its neighbour": End("10.2.0.2", "dynamo-system", {"app": "other"}),
    "false operator": End("10.1.0.3", "shoppers", OPERATOR_LABELS),
    "prometheus": End("10.3.0.1", "watch", {"app": "prometheus"}, {"team": "watchers"}),
    "outside": End("203.0.113.9"),
}
HERE = {"node", "client", "neighbour", "other ring"}
LABELLED = {"clients": [{"podSelector": {"matchLabels": CLIENT}}]}
TEAMS = {
    "clients": [{"namespaceSelector": {"matchLabels": {"team": "carts"}}}],
    "monitoring": [{"namespaceSelector": {"matchLabels": {"team": "watchers"}}}],
}


def let_in(port: str, owner: Owner = OWNER, **spec: Any) -> set[str]:
    policy = children.network_policy(owner, cluster_spec({"networkPolicy": spec}))
    return {name for name, end in ENDS.items() if allowed([policy], end, NODE, PORTS[port])}


@pytest.mark.parametrize(
    ("spec", "clients"),
    [
        ({}, HERE),
        ({"clients": []}, set(ENDS)),
        (LABELLED, {"node", "client"}),
        (TEAMS, {"node", "far client"}),
        ({"clients": [{"namespaceSelector": {}}]}, set(ENDS) - {"outside"}),
    ],
)
def test_who_uses_the_client_port(spec: dict[str, Any], clients: set[str]) -> None:
    assert let_in("client", **spec) == clients


@pytest.mark.parametrize("spec", [{}, {"clients": []}, LABELLED, TEAMS, {"egress": [{}]}])
def test_who_uses_the_other_ports(spec: dict[str, Any]) -> None:
    assert let_in("peer", **spec) == {"node"}
    watching = {"prometheus"} if "monitoring" in spec else set()
    assert let_in("admin", **spec) == {"node", "operator"} | watching


def test_an_operator_that_does_not_know_its_namespace() -> None:
    anywhere = Owner("shop", "rings", "uid")
    assert let_in("admin", anywhere) == {"node", "operator", "false operator"}


def test_a_node_reaches_the_nodes_of_its_ring_and_no_other_pod() -> None:
    policy = children.network_policy(OWNER, cluster_spec({}))
    for port in PORTS.values():
        assert {n for n, e in ENDS.items() if allowed([policy], NODE, e, port)} == {"node"}
    assert not any(allowed([policy], NODE, end, 443) for end in ENDS.values())
