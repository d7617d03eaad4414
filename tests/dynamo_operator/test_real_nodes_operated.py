"""The same loop over real nodes: founded, grown, moved by hand, repaired, shrunk, a disk lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from real_nodes import RealNodes
from world import NAMESPACE, World

from dynamo_operator.reconcile import RESYNC_S

SETTLED_S_MAX = 120.0
POLL_S = 0.1


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
    return await nodes.get(address, "/v1/ring", "")


def states(document: dict[str, Any]) -> dict[str, str]:
    """Members and their states."""
    return {member["name"]: member["state"] for member in document["members"]}


def lose_disk(world: World) -> None:
    """The claim of cart-1 and its pod are deleted."""
    world.kube.remove("PersistentVolumeClaim", NAMESPACE, "data-cart-1")
    world.kube.remove("Pod", NAMESPACE, "cart-1")


async def story(nodes: RealNodes) -> None:
    """One after another, each until all is as wanted."""
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


def test_real_nodes_are_operated(tmp_path: Path) -> None:
    async def run() -> None:
        nodes = RealNodes(tmp_path)
        try:
            await story(nodes)
        finally:
            await nodes.close()

    asyncio.run(run())
