"""Clients outside the cluster: Services of single pods, and certificates with their names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamo_operator import authority
from dynamo_operator.exposure import balanced
from dynamo_operator.owner import Owner
from dynamo_operator.protection import certificate
from dynamo_operator.spec import cluster_spec
from dynamo_operator.trust import Security
from tests.dynamo_operator.stories import STORIES, edit, make
from tests.dynamo_operator.story_scenes import EXPOSED, HIDDEN
from tests.dynamo_operator.test_troubles import passes, shown
from tests.dynamo_operator.world import NAMESPACE, World


def services(world: World) -> list[str]:
    return [name for name in world.found("Service") if name.endswith("-client")]


def outside(world: World) -> list[str]:
    return [node["outside"] for node in world.found("DynamoCluster")["cart"]["status"]["nodes"]]


def test_services_follow_the_pods_and_go_with_the_wish() -> None:
    world = World()
    asyncio.run(world.play([make(), edit(size=4, **EXPOSED)]))
    assert services(world) == [f"cart-{ordinal}-client" for ordinal in range(4)]
    assert outside(world) == [f"cart-{ordinal}.example:8080" for ordinal in range(4)]
    for name, item in world.found("Service").items():
        pod = item["spec"]["selector"].get("statefulset.kubernetes.io/pod-name")
        assert pod == (name.removesuffix("-client") if name in services(world) else None)
    asyncio.run(world.play([edit(0, size=3)]))
    assert services(world) == [f"cart-{ordinal}-client" for ordinal in range(3)]
    asyncio.run(world.play([edit(0, **HIDDEN)]))
    assert services(world) == []
    assert outside(world) == ["", "", ""]


def test_nodes_tell_clients_their_names_outside() -> None:
    world = World()
    asyncio.run(world.play([make(), edit(**EXPOSED)]))
    (container,) = world.found("StatefulSet")["cart"]["spec"]["template"]["spec"]["containers"]
    env = {line["name"]: line.get("value") for line in container["env"]}
    assert env["DYNAMO_CLIENT_ADVERTISE"] == "$(DYNAMO_NAME).example:8080"
    names = [line["name"] for line in container["env"]]  # Kubernetes knows what stands before
    assert names.index("DYNAMO_NAME") < names.index("DYNAMO_CLIENT_ADVERTISE")


def test_the_service_of_another_owner_is_not_touched() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    theirs = {"kind": "Service", "metadata": {"name": "cart-1-client", "namespace": NAMESPACE}}
    world.kube.put(theirs | {"spec": {"selector": {"app": "theirs"}}})
    world.edit(**EXPOSED)
    passes(world, 5)
    assert shown(world, "SpecValid")["reason"] == "NameTaken"
    assert world.found("Service")["cart-1-client"]["spec"] == {"selector": {"app": "theirs"}}
    world.edit(**HIDDEN)
    passes(world, 5)
    assert "cart-1-client" in world.found("Service")
    assert shown(world, "SpecValid")["status"] == "True"


def test_the_certificate_names_what_clients_outside_dial() -> None:
    world = World()
    asyncio.run(world.play(STORIES["exposed, secure"]))
    secret = world.found("Secret")["cart-tls"]
    found = authority.trust_of(secret, None).certificate
    assert found is not None
    addresses = {f"192.0.2.{ordinal}" for ordinal in range(len(world.found("Service")))}
    assert {"cart-0.example", "cart-2.example"} | addresses <= set(found.names)
    assert not world.ring.wrong


def test_a_machines_port_is_told() -> None:
    world = World()
    asyncio.run(world.play([make(exposure={"type": "NodePort"})]))
    for ordinal, name in enumerate(services(world)):
        (port,) = world.found("Service")[name]["spec"]["ports"]
        ports = [port | {"nodePort": 30_000 + ordinal}]
        world.kube.change("Service", NAMESPACE, name, spec={"ports": ports})
    passes(world, 2)
    assert outside(world) == [":30000", ":30001", ":30002"]


@pytest.mark.parametrize(
    ("ingress", "used"),
    [
        (
            [{"ip": "192.0.2.7"}, {"hostname": "LB-1.example.com"}],
            ("192.0.2.7", "lb-1.example.com"),
        ),
        ([{"ip": "2001:db8::1"}], ("2001:db8::1",)),
        ([{"hostname": "*.example"}, {"hostname": "a b"}, {"hostname": "-x"}, {}], ()),
        ([{"ip": "192.0.2.777"}, {"hostname": "x" * 254}], ()),
        ([{"ip": f"192.0.2.{n}"} for n in range(40)], tuple(f"192.0.2.{n}" for n in range(16))),
    ],
)
def test_only_names_and_addresses_come_into_a_certificate(
    ingress: list[Any], used: tuple[str, ...]
) -> None:
    """The status of a Service is written by other programs."""
    assert balanced({"status": {"loadBalancer": {"ingress": ingress}}}) == used


def test_cert_manager_is_asked_for_the_same_names() -> None:
    spec = cluster_spec({"tls": {"mode": "Required", "issuerRef": {"name": "ours"}}} | EXPOSED)
    security = Security("require", True, 3, outside=("192.0.2.7", "lb.example.com"))
    made = certificate(Owner("cart", "shop", "uid"), spec, security)["spec"]
    assert {"cart-0.example", "lb.example.com"} <= set(made["dnsNames"])
    assert "192.0.2.7" in made["ipAddresses"]
