"""The operator's loop over real nodes: backups, one that is not kept, a new ring from a backup, and
values of a backup written again; every key is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from dynamo_client import DynamoClient, GetOp, PutOp
from dynamo_operator.archive_runs import SCHEDULED
from dynamo_operator.spec import API_VERSION
from tests.dynamo_operator.real_nodes import RealNodes
from tests.dynamo_operator.test_real_nodes_operated import TWO, settle
from tests.dynamo_operator.world import NAMESPACE, World

KEYS = [f"key {index}" for index in range(200)]
VALUES = {key: [f"v {key}".encode()] for key in KEYS}
STEPS_MAX = 10
LOST = {"retention": {"whenDeleted": "Delete"}}


def client(nodes: RealNodes) -> DynamoClient:
    """Of all nodes that run."""
    return DynamoClient(*(node.endpoint for node in nodes.running.values()))


def values(nodes: RealNodes) -> dict[str, list[bytes]]:
    """What every key reads as."""
    with client(nodes) as reader:
        found = zip(KEYS, reader.batch([GetOp(key) for key in KEYS]), strict=True)
        return {key: [v.data for v in r.found.values] if r.found else [] for key, r in found}


def scheduled(world: World, name: str) -> None:
    """A DynamoBackup as the clock makes it."""
    meta = {"name": name, "namespace": NAMESPACE, "labels": {SCHEDULED: "cart"}}
    spec = {"clusterName": "cart"}
    body = {"apiVersion": API_VERSION, "kind": "DynamoBackup", "metadata": meta, "spec": spec}
    world.kube.put(body)


def status(world: World, kind: str, name: str) -> dict[str, Any]:
    """Of a run that is complete. Raises AssertionError."""
    found: dict[str, Any] = world.found(kind)[name]["status"]
    assert found["state"] == "Complete", found
    return found


async def story(nodes: RealNodes, archive: str) -> None:
    """One ring after another."""
    world = World(ring=nodes)
    kept = {"backup": {"target": archive, "retention": {"count": 1}}, "storage": LOST}
    plain = {"size": 2, "replication": TWO, "update": {"minReadySeconds": 0}}
    world.make(**plain, **kept)
    await settle(world, "founded")
    with client(nodes) as writer:
        done = writer.batch([PutOp(key, VALUES[key][0]) for key in KEYS])
        assert not [r.error for r in done if r.error]
    scheduled(world, "first")
    await settle(world, "saved")
    first = status(world, "DynamoBackup", "first")
    assert first["records"] >= len(KEYS)  # a busy machine may leave hints
    scheduled(world, "second")
    await settle(world, "saved again, and the first one deleted")
    assert list(world.found("DynamoBackup")) == ["second"]
    second = status(world, "DynamoBackup", "second")
    assert second["base"] == first["backupId"]
    assert second["newBytes"] < second["storedBytes"]
    world.kube.remove("DynamoCluster", NAMESPACE, "cart")
    for _ in range(STEPS_MAX):
        world.kube.step()
    assert not nodes.running
    world.make(
        **{**plain, "size": 3},
        ring={"partitions": 32},
        backup=kept["backup"],
        bootstrap={"fromBackup": {"target": archive}},
    )
    await settle(world, "begun from the backup")
    restored = status(world, "DynamoRestore", "cart-bootstrap")
    assert restored["backupId"] == second["backupId"]
    assert values(nodes) == VALUES
    with client(nodes) as writer:
        writer.update(KEYS[0], lambda values: b"mistaken")
    world.run("DynamoRestore", "undo", **{"from": {"name": "second"}, "mode": "IntoPast"})
    await settle(world, "undone")
    undone = status(world, "DynamoRestore", "undo")
    assert (undone["records"], undone["skipped"]) == (1, len(KEYS) - 1)
    assert values(nodes) == VALUES


def test_real_nodes_are_backed_up_and_restored(tmp_path: Path) -> None:
    async def run() -> None:
        nodes = RealNodes(tmp_path)
        archive = (tmp_path / "archive").as_uri()
        nodes.more = [f"--backup-targets={archive}"]
        try:
            await story(nodes, archive)
        finally:
            await nodes.close()

    asyncio.run(run())
