"""Copies of the disks of a running ring become another ring beside it (S-BAK-4)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import Node, create_ring, until

from dynamo_client import AdminClient, DynamoClient
from dynamo_client.tokens import token_of_secret_file

QUICK = ("--heartbeat-ms=200", "--suspect-ms=1000", "--exchange-ms=200")
RING_ID = "ring-of-the-copies"
COUNT = 3
HEALED_S_MAX = 60.0


@contextmanager
def nodes_of(name: str, place: Path, *flags: str) -> Iterator[list[Node]]:
    """Three nodes that know each other as seeds and share one secret with every ring here."""
    secret = place / "secret"
    secret.write_text("a secret that both rings have in common")
    secret.chmod(0o600)
    nodes = [Node(f"{name}-{index}", place / f"{name}-{index}") for index in range(COUNT)]
    more = (f"--cluster=shop/{name}", f"--cluster-secret-file={secret}", *QUICK, *flags)
    try:
        for node in nodes:
            node.seeds = [other.advertise for other in nodes]
            node.start(*more)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def client_of(nodes: list[Node]) -> DynamoClient:
    return DynamoClient(*(node.endpoint for node in nodes))


def told(node: Node, what: str, place: Path) -> dict[str, Any]:
    with AdminClient(node.admin, token_of_secret_file(place / "secret")) as admin:
        return admin.ring() if what == "ring" else admin.status()


def whole(nodes: list[Node], place: Path) -> bool:
    """Every node hears each other one, and has all that it owns."""
    for node in nodes:
        if not (node.lives() and node.ready()):
            return False
        status = told(node, "status", place)
        held = status["partitions"]
        if set(status["peers"].values()) != {"up"} or held["complete"] < held["owned"]:
            return False
    return True


def copy(node: Node, place: Path, *flags: str) -> None:
    """The disk as a crash leaves it; the node comes back."""
    node.kill()
    target = place / node.name.replace("cart", "again")
    shutil.copytree(node.directory, target)
    node.start(*flags)
    until(node.ready, f"{node.name} is not back", HEALED_S_MAX)


def test_copies_of_three_moments_become_a_ring_that_never_meets_the_first(tmp_path: Path) -> None:
    started = (
        "--cluster=shop/cart",
        f"--cluster-secret-file={tmp_path}/secret",
        *QUICK,
    )
    with nodes_of("cart", tmp_path) as cart:
        token = token_of_secret_file
        for node in cart:
            until(node.lives, f"{node.name} does not answer")
        create_ring(cart, token(tmp_path / "secret"), n=3, r=2, w=2, partitions=16)
        with client_of(cart) as client:
            for index in range(100):
                client.put(f"key {index}", b"before %d" % index)
            client.delete("key 99")
            context = client.get("key 1").context
            for index, node in enumerate(cart):
                copy(node, tmp_path, *started)
                client.put(f"between {index}", b"x")
        until(lambda: whole(cart, tmp_path), "the first ring is not whole", HEALED_S_MAX)
        before = told(cart[0], "ring", tmp_path)
        with nodes_of("again", tmp_path, f"--copy-of=shop/cart {RING_ID}") as again:
            until(lambda: whole(again, tmp_path), "the copies are no ring", HEALED_S_MAX)
            ring = told(again[0], "ring", tmp_path)
            assert ring["cluster_id"] == RING_ID != before["cluster_id"]
            lines = {m["name"]: m["address"] for m in ring["members"]}
            assert lines == {node.name: node.advertise for node in again}
            assert not {m["id"] for m in ring["members"]} & {m["id"] for m in before["members"]}
            with client_of(again) as client:
                for index in range(99):
                    assert client.get(f"key {index}").value == b"before %d" % index
                assert not client.get("key 99").exists
                client.put("key 1", b"here only", context=context)
                assert client.get("key 1").value == b"here only"
            with client_of(cart) as client:
                assert client.get("key 1").value == b"before 1"
                assert client.get("between 2").value == b"x"
            after = told(cart[0], "ring", tmp_path)
            assert after["members"] == before["members"]
            ids = {m["name"]: m["id"] for m in ring["members"]}
        with nodes_of("again", tmp_path, f"--copy-of=shop/cart {RING_ID}") as again:
            until(lambda: whole(again, tmp_path), "the ring does not come back", HEALED_S_MAX)
            ring = told(again[0], "ring", tmp_path)
            assert ids == {m["name"]: m["id"] for m in ring["members"]}
            with client_of(again) as client:
                assert client.get("key 1").value == b"here only"
