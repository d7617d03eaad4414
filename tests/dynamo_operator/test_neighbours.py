"""Several rings side by side, and objects of other people under our names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from dynamo_operator.conditions import facts
from dynamo_operator.drift import covers
from dynamo_operator.observe import Observer
from dynamo_operator.plan.table import plan
from dynamo_operator.ports import Failed, failure
from dynamo_operator.spec_types import NODE_MEMORY
from tests.dynamo_operator.looks import pod, settled
from tests.dynamo_operator.stories import ARCHIVE, SELECTORS, SLOW, edit, make
from tests.dynamo_operator.world import NAMESPACE, Scene, World


def service(name: str) -> dict[str, Any]:
    """Another user's Service."""
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "theirs"}},
        "spec": {"type": "ClusterIP", "selector": {"app": "theirs"}},
    }


def told(world: World, which: str) -> tuple[str, str]:
    """Status and reason of a condition of cart."""
    conditions = world.found("DynamoCluster")["cart"]["status"]["conditions"]
    (found,) = [c for c in conditions if c["type"] == which]
    return found["status"], found["reason"]


def test_two_rings_in_a_namespace_never_mix() -> None:
    """Names of one begin with the name of the other, and both change at once."""
    world = World(names=("cart", "cart-1"))
    both = [
        make(update=SLOW),
        Scene(lambda w: w.make("cart-1", size=4, update=SLOW), 0),
        edit(size=4),
        Scene(lambda w: w.edit("cart-1", size=3, image="node:2"), 0),
    ]
    asyncio.run(world.play(both))
    assert not world.ring.wrong
    rings = world.ring.newest()
    assert len(rings) == 2
    wanted = {"cart": 4, "cart-1": 3}
    for name, size in wanted.items():
        ring = rings[world.found("DynamoCluster")[name]["metadata"]["uid"]]
        assert sorted(ring.live_names()) == [f"{name}-{ordinal}" for ordinal in range(size)]
    images = {
        name: item["spec"]["template"]["spec"]["containers"][0]["image"]
        for name, item in world.found("StatefulSet").items()
    }
    assert images["cart-1"] == "node:2" != images["cart"]


def test_each_ring_carries_out_its_own_repairs_backups_and_restores() -> None:
    world = World(names=("cart", "cart-1"))
    asyncio.run(world.play([make(), Scene(lambda w: w.make("cart-1"), 0)]))
    source: dict[str, Any] = {"from": {"target": ARCHIVE}}
    runs: dict[str, dict[str, Any]] = {"DynamoBackup": {}, "DynamoRestore": source}
    for kind, spec in {"DynamoRepair": {}, **runs}.items():
        world.run(kind, "one", clusterName="cart-1", **spec)
    observer = world.operators[0].observer
    for name, wanted in (("cart", 0), ("cart-1", 1)):
        o = asyncio.run(observer.look(NAMESPACE, name, world.kube.now))
        assert o is not None
        assert len(o.repairs) == wanted, name
        assert [run.kind for run in o.runs] == list(runs) * wanted, name


def test_a_name_that_is_taken_is_left_alone_until_it_is_free() -> None:
    world = World()
    theirs = service("cart")
    world.kube.put(theirs)
    world.make()
    for _ in range(5):
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        world.step()
    assert told(world, "SpecValid") == ("False", "NameTaken")
    assert world.found("Service")["cart"]["spec"] == theirs["spec"]
    assert not world.found("StatefulSet")
    world.kube.remove("Service", NAMESPACE, "cart")
    asyncio.run(world.play([Scene(lambda w: None, 0)]))
    assert told(world, "Ready") == ("True", "Ready")


@pytest.mark.parametrize(("kind", "name"), SELECTORS)
def test_a_key_that_is_added_to_a_selector_is_taken_out_again(kind: str, name: str) -> None:
    """With one key more it selects nothing: no endpoints, no budget, no policy, no names."""
    world = World()
    asyncio.run(world.play([make()]))
    before = world.found(kind)[name]["spec"]
    world.kube.change(kind, NAMESPACE, name, spec=SELECTORS[kind, name])
    assert world.found(kind)[name]["spec"] != before
    asyncio.run(world.play([Scene(lambda w: None, 0)]))
    assert world.found(kind)[name]["spec"] == before
    assert "EditReverted" in [event["reason"] for event in world.found("Event").values()]


INGRESS = {"ingress": [{"ports": [{"port": "client"}]}]}


@pytest.mark.parametrize(
    ("wanted", "existing", "same"),
    [
        ({"selector": {"a": "b"}}, {"selector": {"a": "b"}, "more": 1}, True),
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "x": "y"}}, False),
        ({"labels": {"a": "b"}}, {"labels": {"a": "b", "x": "y"}}, True),
        ({"podSelector": {}}, {"podSelector": {"matchLabels": {"x": "y"}}}, False),
        (
            {"selector": {"matchLabels": {"a": "b"}}},
            {"selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "x"}]}},
            False,
        ),
        (
            {"selector": {"matchLabels": {"a": "b"}}},
            {"selector": {"matchLabels": {"a": "b"}, "matchExpressions": None}},
            True,
        ),
        ({"nodeSelector": {}}, {}, True),
        (INGRESS, {"ingress": [{"ports": [{"port": "client"}], "from": []}]}, True),
        (INGRESS, {"ingress": [{"ports": [{"port": "client"}], "from": [{}]}]}, False),
        ({"from": [{"namespaceSelector": {}}]}, {"from": [{"namespaceSelector": {}}]}, True),
        (
            {"ingress": [{"from": [{"namespaceSelector": {}}]}]},
            {"ingress": [{"from": [{}]}]},
            False,
        ),
    ],
)
def test_what_selects_is_compared_exactly(wanted: Any, existing: Any, same: bool) -> None:
    assert covers(wanted, existing) is same


def test_a_service_without_endpoints_is_not_available() -> None:
    """Reported while it is not put back: `paused`, or a pod whose label was removed."""
    o = settled()
    good = {f.type: f for f in facts(o, plan(o))}["Available"]
    assert good.holds is True
    key = "Service", o.name
    service_now = o.objects[key]
    spec = {**service_now["spec"], "selector": {**o.owner.selector, "x": "y"}}
    other = structs.replace(o, objects={**o.objects, key: {**service_now, "spec": spec}})
    gone = structs.replace(o, objects={k: v for k, v in o.objects.items() if k != key})
    for look in (other, gone):
        told_now = {f.type: f for f in facts(look, plan(look))}["Available"]
        assert (told_now.holds, told_now.reason) == (False, "NoEndpoints"), told_now
    labels = {**o.pods[0].labels, "x": "y"}
    one = {f.type: f for f in facts(pod(other, 0, labels=labels), plan(other))}["Available"]
    assert one.holds is True


def test_what_an_orphaned_resource_left_is_taken_up_again() -> None:
    """`kubectl delete --cascade=orphan`, and the same resource applied: nothing restarts."""
    world = World()
    asyncio.run(world.play([make()]))
    pods = {name: item["metadata"]["uid"] for name, item in world.found("Pod").items()}
    world.kube.orphan("DynamoCluster", NAMESPACE, "cart")
    world.make()
    asyncio.run(world.play([Scene(lambda w: None, 0)]))
    assert told(world, "Ready") == ("True", "Ready")
    assert {n: item["metadata"]["uid"] for n, item in world.found("Pod").items()} == pods
    uid = world.found("DynamoCluster")["cart"]["metadata"]["uid"]
    for kind in ("Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"):
        (owner,) = world.found(kind)["cart"]["metadata"]["ownerReferences"]
        assert owner["uid"] == uid


@pytest.mark.parametrize("lacks", ["labels", "annotations", "managedFields", "freedom"])
def test_what_lacks_a_mark_of_ours_is_not_taken_up(lacks: str) -> None:
    world = World()
    asyncio.run(world.play([make()]))
    world.kube.orphan("DynamoCluster", NAMESPACE, "cart")
    if lacks == "freedom":
        theirs = [{"uid": "another", "controller": True}]
        world.kube.change("Service", NAMESPACE, "cart", metadata={"ownerReferences": theirs})
    else:
        world.kube.change("Service", NAMESPACE, "cart", metadata={lacks: None})
    world.make()
    asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
    assert told(world, "SpecValid") == ("False", "NameTaken")


def test_an_edit_that_only_spells_differently_is_no_edit() -> None:
    """A mutating server rewrites quantities: one apply that changes nothing, and no loop."""
    world = World()
    asyncio.run(world.play([make(resources={"requests": {"cpu": "1000m", "memory": "1024Mi"}})]))
    found = world.found("StatefulSet")["cart"]
    container = found["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"memory": NODE_MEMORY},
    }
    world.log.clear()
    assert asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart")) == 300.0
    assert world.log == []


def test_an_apply_that_changes_nothing_does_not_stop_the_pass() -> None:
    """An edit for both the comparison and the server is settled in one pass."""
    world = World()
    asyncio.run(world.play([make()]))
    service_now = world.found("Service")["cart-nodes"]
    ports = service_now["spec"].pop("ports")
    world.log.clear()

    async def apply(body: Any) -> Any:
        world.log.append("apply")
        return service_now

    world.kube.apply = apply  # type: ignore[method-assign]
    assert asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart")) == 300.0
    assert world.log == ["apply"]
    assert ports


def test_a_namespaced_operator_takes_the_zones_that_pods_tell() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    real = world.kube.get

    async def get(kind: str, namespace: str, name: str) -> Any:
        if kind == "Node":
            raise failure(403, "nodes is forbidden")
        return await real(kind, namespace, name)

    world.kube.get = get  # type: ignore[method-assign]
    key = "topology.kubernetes.io/zone"
    world.kube.change("Pod", NAMESPACE, "cart-0", metadata={"labels": {key: "zone-x"}})
    look = Observer(world.kube, world.ring).look(NAMESPACE, "cart", world.kube.now)
    o = asyncio.run(look)
    assert o is not None
    assert {pod.zone for pod in o.pods.values()} == {"zone-x", ""}


def test_an_api_server_that_fails_changes_nothing() -> None:
    """If one read fails, the operator does nothing; when reads work again, it goes on."""
    world = World()
    asyncio.run(world.play([make(size=4)]))
    world.edit(size=3)
    real = world.kube.find

    async def find(kind: str, namespace: str, selector: str = "") -> Any:
        if kind == "PersistentVolumeClaim":
            raise Failed("503")
        return await real(kind, namespace, selector)

    world.kube.find = find  # type: ignore[method-assign]
    world.log.clear()
    for _ in range(5):
        try:
            asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        except Failed:
            world.step()
    assert world.log == []
    world.kube.find = real  # type: ignore[method-assign]
    asyncio.run(world.play([edit(0, size=3)]))
    assert len(world.found("Pod")) == 3


def test_what_the_api_server_refuses_is_reported_and_delays_nothing() -> None:
    """A class that does not let volumes grow, and a kind that is not installed."""
    world = World()
    asyncio.run(world.play([make()]))
    real_patch, real_apply = world.kube.patch, world.kube.apply

    async def patch(kind: str, namespace: str, name: str, body: Any, sub: str = "") -> Any:
        if kind == "PersistentVolumeClaim" and "spec" in body:
            raise failure(403, "only dynamically provisioned pvc can be resized")
        return await real_patch(kind, namespace, name, body, sub)

    async def apply(body: Any) -> Any:
        if body["kind"] == "ServiceMonitor":
            raise failure(404, "the server could not find the requested resource")
        return await real_apply(body)

    world.kube.patch, world.kube.apply = patch, apply  # type: ignore[method-assign]
    wishes = {"storage": {"size": "2Gi"}, "monitoring": {"serviceMonitor": True}, "size": 4}
    asyncio.run(world.play([edit(0, **wishes)]))
    assert len(world.found("Pod")) == 4
    assert told(world, "SpecValid") == ("False", "Refused")
    assert told(world, "Degraded") == ("True", "StorageNotGrown")
    assert told(world, "Ready") == ("False", "Refused")
    assert told(world, "Progressing") == ("False", "AsWanted")
