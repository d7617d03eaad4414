"""A machine whose Node object is gone: the proof, part by part, and who must not be believed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamo_operator.machines import machines_of
from dynamo_operator.ports import failure
from dynamo_operator.snapshot import Snapshot
from tests.dynamo_operator.stories import STORIES, make
from tests.dynamo_operator.test_troubles import passes, shown
from tests.dynamo_operator.world import NAMESPACE, World

CLAIMS = "PersistentVolumeClaim"
HOST = "kubernetes.io/hostname"


def waiting(**recovery: Any) -> World:
    """A ring on local disks; the pod of a machine that is gone waits for its disk."""
    world = World()
    world.kube.local = True
    asyncio.run(world.play([make(size=4, recovery={"autoReplace": "NodeGone"} | recovery)]))
    world.kube.lose_machine("machine-1")
    world.step()
    return world


def uid(world: World) -> str:
    return str(world.found(CLAIMS)["data-cart-1"]["metadata"]["uid"])


def look(world: World) -> Snapshot:
    o = asyncio.run(world.operators[0].observer.look(NAMESPACE, "cart", world.kube.now))
    assert o is not None
    return o


def test_the_node_starts_empty_elsewhere() -> None:
    world = World()
    asyncio.run(world.play(STORIES["machine gone with its disk"]))
    assert world.found("Pod")["cart-1"]["spec"]["nodeName"] == "machine-31"
    assert shown(world, "Ready")["status"] == "True"
    reasons = {item["reason"] for item in world.found("Event").values()}
    assert "MachineGone" in reasons
    assert not world.ring.wrong


def test_nothing_is_done_before_the_time() -> None:
    world = waiting(nodeGoneAfter="1m")
    before = uid(world)
    passes(world, 55)
    assert uid(world) == before
    world.operators[0] = world._operator()  # a new process counts anew
    passes(world, 55)
    assert uid(world) == before
    passes(world, 10)
    assert uid(world) != before


def test_a_node_object_that_comes_back_counts_anew() -> None:
    world = waiting(nodeGoneAfter="1m")
    before = uid(world)
    passes(world, 40)
    world.kube.gone.clear()
    passes(world, 1)
    world.kube.gone.add("machine-1")
    passes(world, 40)
    assert uid(world) == before


@pytest.mark.parametrize("choice", ["Never", "VolumeLost"])
def test_it_is_done_only_where_a_person_asks_for_it(choice: str) -> None:
    world = waiting(nodeGoneAfter="1s", autoReplace=choice)
    before = uid(world)
    passes(world, 30)
    assert uid(world) == before
    assert "PersistentVolume" not in {what.split()[-1] for what in world.log}


def test_a_machine_that_is_off_has_a_node_object() -> None:
    world = World()
    world.kube.local = True
    spec = {"autoReplace": "NodeGone", "nodeGoneAfter": "1s"}
    asyncio.run(world.play([make(size=4, recovery=spec)]))
    before = uid(world)
    world.kube.dead.add("machine-1")
    passes(world, 30)
    assert uid(world) == before
    assert look(world).gone == {}


def test_without_the_right_the_condition_says_so() -> None:
    world = waiting(nodeGoneAfter="1s")
    read = world.kube.get

    async def get(kind: str, namespace: str, name: str) -> Any:
        if kind == "PersistentVolume":
            raise failure(403, "persistentvolumes is forbidden")
        return await read(kind, namespace, name)

    world.kube.get = get  # type: ignore[method-assign]
    before = uid(world)
    passes(world, 10)
    assert uid(world) == before
    assert shown(world, "Degraded")["reason"] == "MachinesUnread"
    assert "set rbac.nodeGone of the chart" in shown(world, "Degraded")["message"]


def test_an_api_server_without_any_machine_is_not_believed() -> None:
    """It was put back from an old backup, or the operator sees another cluster."""
    world = waiting(nodeGoneAfter="1s")
    world.kube.gone |= {f"machine-{ordinal}" for ordinal in range(4)}
    before = uid(world)
    passes(world, 10)
    assert uid(world) == before


@pytest.mark.parametrize("change", ["another claim", "another machine of its claim", "no pin"])
def test_half_a_proof_is_none(change: str) -> None:
    world = waiting(nodeGoneAfter="1s")
    before = uid(world)
    volume = world.kube._volume
    if change == "another machine of its claim":
        notes = {"annotations": {"volume.kubernetes.io/selected-node": "machine-2"}}
        world.kube.change(CLAIMS, NAMESPACE, "data-cart-1", metadata=notes)

    def changed(name: str) -> Any:
        found = volume(name)
        assert found is not None
        if change == "another claim":
            return {"spec": found["spec"] | {"claimRef": {"uid": "of another"}}}
        return {"spec": {"claimRef": found["spec"]["claimRef"]}} if change == "no pin" else found

    world.kube._volume = changed  # type: ignore[method-assign]
    passes(world, 10)
    assert uid(world) == before


def term(*rules: tuple[str, str, list[str]], fields: bool = False) -> dict[str, Any]:
    made = [{"key": key, "operator": how, "values": values} for key, how, values in rules]
    return {"matchFields" if fields else "matchExpressions": made}


@pytest.mark.parametrize(
    ("terms", "machines"),
    [
        ([term((HOST, "In", ["m-1"]))], {"m-1"}),
        ([term((HOST, "In", ["m-1"]), ("topology.kubernetes.io/zone", "In", ["a"]))], {"m-1"}),
        ([term(("metadata.name", "In", ["m-1"]), fields=True)], {"m-1"}),
        ([term(("topology.topolvm.io/node", "In", ["m-1"]))], {"m-1"}),
        ([term((HOST, "In", ["m-1"])), term((HOST, "In", ["m-2"]))], {"m-1", "m-2"}),
        ([term(("topology.kubernetes.io/zone", "In", ["a"]))], set()),
        ([term((HOST, "In", ["m-1"])), term(("topology.kubernetes.io/zone", "In", ["a"]))], set()),
        ([term((HOST, "NotIn", ["m-1"]))], set()),
        ([term((HOST, "Exists", []))], set()),
        ([], set()),
    ],
)
def test_only_a_volume_of_single_machines_can_be_gone(
    terms: list[dict[str, Any]], machines: set[str]
) -> None:
    """A volume of a zone survives every machine of the zone."""
    volume = {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}}
    assert {machine for _, machine in machines_of(volume)} == machines
