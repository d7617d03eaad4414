"""The same loop over real nodes: create, grow, move, repair, shrink, lose a disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from dynamo_operator.authority import ASKED, trust_of
from dynamo_operator.reconcile import RESYNC_S
from dynamo_operator.trust import Trust
from tests.dynamo_operator.real_nodes import RealNodes
from tests.dynamo_operator.world import NAMESPACE, World

SETTLED_S_MAX = 240.0
POLL_S = 0.1
TWO = {"factor": 2, "readQuorum": 1, "writeQuorum": 1}


async def settle(world: World, what: str) -> None:
    """Looks and steps until there is nothing to do; kubelets and operator have the clock of the
    nodes. Raises AssertionError after the time."""
    now, quiet = time.monotonic(), 0
    end = now + SETTLED_S_MAX
    while quiet < 2:
        assert time.monotonic() < end, f"{what}: {world.told()} {world.log[-8:]}"
        before, now = now, time.monotonic()
        world.kube.step(now - before)
        again: float | None = 0.0
        try:
            again = await world.operators[0].reconcile(NAMESPACE, "cart")
        except Exception as failed:  # noqa: BLE001 - told when it does not end well
            world.log.append(f"failed: {failed}")
        quiet = quiet + 1 if again == RESYNC_S else 0
        await asyncio.sleep(POLL_S)


async def ring(nodes: RealNodes) -> dict[str, Any]:
    """The document as the first node has it."""
    address = next(a for a, node in nodes.running.items() if node.name == "cart-0")
    way = nodes.way(address)
    return await nodes.get(way, "/v1/ring")


def states(document: dict[str, Any]) -> dict[str, str]:
    """Members and their states."""
    return {member["name"]: member["state"] for member in document["members"]}


def lose_disk(world: World) -> None:
    """The claim of cart-1 and its pod are deleted."""
    world.kube.remove("PersistentVolumeClaim", NAMESPACE, "data-cart-1")
    world.kube.remove("Pod", NAMESPACE, "cart-1")


async def story(nodes: RealNodes) -> None:
    """One after another, each until the ring is as wanted."""
    world = World(ring=nodes)
    moves = [{"partitions": [3], "from": "cart-0", "to": "cart-3"}]
    scenes: list[tuple[str, Callable[[], None]]] = [
        ("found", lambda: world.make(update={"minReadySeconds": 0})),
        ("grown", lambda: world.edit(size=4)),
        ("repaired", lambda: world.repair()),
        ("shrunk", lambda: world.edit(size=3)),
        ("disk lost", lambda: lose_disk(world)),
        ("grown again", lambda: world.edit(size=4)),
        ("moved by hand", lambda: world.edit(ring={"moves": moves})),
    ]
    for what, change in scenes:
        change()
        await settle(world, what)
        document = await ring(nodes)
        four = what in ("grown", "repaired", "grown again", "moved by hand")
        wanted = {f"cart-{i}": "MEMBER" for i in range(4 if four else 3)}
        live = {name: state for name, state in states(document).items() if state != "LEFT"}
        assert live == wanted, what
        assert document["cluster_id"] == world.found("DynamoCluster")["cart"]["metadata"]["uid"]
        if what == "moved by hand" and "cart-0" not in document["entries"][3]["owners"]:
            assert "cart-3" in document["entries"][3]["owners"]
    (repair,) = world.found("DynamoRepair").values()
    assert repair["status"]["conditions"][0]["type"] == "Complete"


async def secure_story(nodes: RealNodes) -> None:
    """Plain, TLS and rights, another authority, plain again: by real handshakes between nodes."""
    world = World(ring=nodes)
    world.kube.now = time.time()  # the operator signs by this clock
    notes = {"annotations": {ASKED: "now"}}
    secure = {"tls": {"mode": "Required", "overlap": "1s"}, "access": {"mode": "Required"}}
    plain = {"size": 2, "replication": TWO, "update": {"minReadySeconds": 0}}
    open_ = {"tls": {"mode": "Disabled"}, "access": {"mode": "Open"}}
    scenes: list[tuple[str, str, Callable[[], None]]] = [
        ("founded", "Plain", lambda: world.make(**plain)),
        ("secure", "Encrypted", lambda: world.edit(**secure)),
        (
            "another authority",
            "Encrypted",
            lambda: world.kube.change("DynamoCluster", NAMESPACE, "cart", metadata=notes),
        ),
        ("plain", "Plain", lambda: world.edit(**open_)),
    ]
    certificates = []
    for what, reason, change in scenes:
        change()
        await settle(world, what)
        told = {kind: (why, text) for kind, why, text in world.told()}
        assert told["CertificatesReady"][0] == reason, told
        assert told["AccessReady"][0] == ("Open" if reason == "Plain" else "Required"), told
        assert set(states(await ring(nodes)).values()) == {"MEMBER"}
        if reason == "Encrypted":
            certificates.append(await read_by_all(world, nodes))
    before, after = certificates
    assert before.certificate != after.certificate
    assert len(before.marks) == len(after.marks) == 1 and before.marks != after.marks


async def read_by_all(world: World, nodes: RealNodes) -> Trust:
    """Waits until every node says that it has what the Secret has now. Raises AssertionError."""
    found = trust_of(world.found("Secret")["cart-tls"], None)
    assert found.certificate is not None
    end = time.monotonic() + SETTLED_S_MAX
    for address in nodes.running:
        word: dict[str, Any] = {}
        while (word.get("certificate"), word.get("authorities")) != (
            found.certificate.mark,
            list(found.marks),
        ):
            assert time.monotonic() < end, (address, word, found.marks)
            world.kube.step(0.1)
            await asyncio.sleep(POLL_S)
            word = (await nodes.get(nodes.way(address), "/v1/status"))["tls"]
        assert word["peers"] == "require"
    return found


@pytest.mark.parametrize("told", [story, secure_story])
def test_real_nodes_are_operated(
    told: Callable[[RealNodes], Coroutine[Any, Any, None]], tmp_path: Path
) -> None:
    async def run() -> None:
        nodes = RealNodes(tmp_path)
        try:
            await told(nodes)
        finally:
            await nodes.close()

    asyncio.run(run())
