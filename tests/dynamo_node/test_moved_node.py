"""Real nodes that return with their disks at other addresses (S-MEM-5)."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from benchmarks.processes import Node, create_ring, free_ports, until

from dynamo_client import AdminClient, DynamoClient
from dynamo_client.local_nodes import LISTENERS

FLAGS = ("--heartbeat-ms=200", "--suspect-ms=1000")
HEALED_S_MAX = 60.0


@contextmanager
def ring_of_three(directory: Path) -> Iterator[list[Node]]:
    nodes = [Node(name, directory / name) for name in ("n1", "n2", "n3")]
    try:
        for node in nodes:
            node.start(*FLAGS)
        create_ring(nodes, n=3, r=2, w=2, partitions=16)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def move(node: Node) -> None:
    """It will start on three other ports."""
    node.stop()
    node.ports = dict(zip(LISTENERS, free_ports(3), strict=True))
    node.advertise = f"127.0.0.1:{node.ports['peer']}"


def ring(node: Node) -> dict[str, Any]:
    with AdminClient(node.admin) as admin:
        return admin.ring()


def served(node: Node) -> float:
    """Operations of clients that came to it."""
    rows = httpx.get(f"{node.admin}/metrics").text.splitlines()
    return sum(float(row.split()[-1]) for row in rows if row.startswith("dynamo_requests_total{"))


def healed(nodes: list[Node]) -> bool:
    """All nodes hear each other, at their present addresses."""
    for node in nodes:
        if not (node.lives() and node.ready()):
            return False
        with AdminClient(node.admin) as admin:
            status = admin.status()
        if set(status["peers"].values()) != {"up"} or status["address_trouble"]:
            return False
        lines = {m["name"]: (m["address"], m["client"]) for m in ring(node)["members"]}
        if lines != {n.name: (n.advertise, f"127.0.0.1:{n.ports['client']}") for n in nodes}:
            return False
    return True


def wait_healed(nodes: list[Node]) -> None:
    until(lambda: healed(nodes), "they do not all hear each other", HEALED_S_MAX)


def test_one_moved_is_found_again_and_clients_follow(tmp_path: Path) -> None:
    """Without seeds: it dials the others where they were."""
    with ring_of_three(tmp_path) as nodes:
        moved, *others = nodes
        endpoints = [node.endpoint for node in others]
        with DynamoClient(*endpoints) as client:
            client.put("cart", b"milk")
            move(moved)
            moved.start(*FLAGS)
            wait_healed(nodes)

            def asked() -> bool:
                """By the client, which was never told the node's present address."""
                for index in range(10):
                    client.put(f"cart-{index}", b"tea", context=None)
                return served(moved) > 0

            until(asked, "no request comes to the node that has moved")
            assert client.get("cart", r=3).value == b"milk"


def test_three_moved_at_once_find_each_other_by_their_seeds(tmp_path: Path) -> None:
    with ring_of_three(tmp_path) as nodes:
        assert httpx.put(f"{nodes[0].endpoint}/v1/kv/cart?w=3", content=b"milk").status_code == 204
        for node in nodes:
            move(node)
        for node in nodes:
            node.seeds = [other.advertise for other in nodes]
            node.start(*FLAGS)
        wait_healed(nodes)
        for node in nodes:
            assert httpx.get(f"{node.endpoint}/v1/kv/cart?r=3").content == b"milk"


def test_three_moved_at_once_without_seeds_say_what_to_do(tmp_path: Path) -> None:
    with ring_of_three(tmp_path) as nodes:
        for node in nodes:
            move(node)
        nodes[0].start(*FLAGS)

        def said() -> bool:
            words = nodes[0].log.read_text()
            return "no other member answers" in words and "members that do not answer" in words

        until(said, "it does not say that it is alone", HEALED_S_MAX)
        (line,) = (x for x in nodes[0].log.read_text().splitlines() if "no other member" in x)
        assert "--seeds" in line and "n2 at 127.0.0.1:" in line
        (line,) = (x for x in nodes[0].log.read_text().splitlines() if "do not answer" in x)
        assert "n3 at 127.0.0.1:" in line and "onnect" in line  # connection refused


def test_the_old_address_is_taken_by_another_node(tmp_path: Path) -> None:
    """A node in no ring answers the handshake there, and takes no member's place."""
    with ring_of_three(tmp_path) as nodes:
        moved = nodes[0]
        assert httpx.put(f"{moved.endpoint}/v1/kv/cart?w=3", content=b"milk").status_code == 204
        old = moved.ports
        move(moved)
        stranger = Node("n4", tmp_path / "n4", ports=old)
        try:
            stranger.start(*FLAGS)
            until(stranger.lives, "the stranger does not answer")
            moved.start(*FLAGS)
            wait_healed(nodes)
            assert httpx.get(f"{moved.endpoint}/v1/kv/cart?r=3").content == b"milk"
            with AdminClient(stranger.admin) as admin:
                assert admin.status()["disk"] == "empty"
        finally:
            stranger.stop()


def test_the_old_address_is_taken_by_something_else(tmp_path: Path) -> None:
    """A listener that accepts links and never sends a byte."""
    with ring_of_three(tmp_path) as nodes:
        moved = nodes[0]
        old = moved.ports["peer"]
        move(moved)
        with socket.create_server(("127.0.0.1", old)):
            moved.start(*FLAGS)
            wait_healed(nodes)


def test_a_copy_of_a_disk_serves_no_client_while_the_original_runs(tmp_path: Path) -> None:
    with ring_of_three(tmp_path) as nodes:
        original = nodes[0]
        original.stop()
        copy = Node("n1", tmp_path / "copy")
        shutil.copytree(original.directory, copy.directory)
        original.start(*FLAGS)
        wait_healed(nodes)
        try:
            copy.start(*FLAGS)

            def waits() -> bool:
                answer = httpx.get(f"{copy.admin}/readyz")
                return "stop one of them" in answer.json().get("reason", "")

            until(copy.lives, "the copy does not answer")
            until(waits, "the copy does not say that it waits")
            assert httpx.put(f"{copy.endpoint}/v1/kv/cart?w=1", content=b"milk").status_code == 503
            with AdminClient(original.admin) as admin:
                until(
                    lambda: copy.advertise in admin.status()["address_trouble"],
                    "the original does not say that there is a copy",
                )
            assert httpx.put(f"{original.endpoint}/v1/kv/cart?w=3", content=b"milk").is_success
            original.stop()
            wait_healed([copy, *nodes[1:]])
            assert httpx.get(f"{copy.endpoint}/v1/kv/cart?r=3").content == b"milk"
        finally:
            copy.stop()


def test_seeds_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    """With the reason of each; a node in no ring waits for them."""
    node = Node("n1", tmp_path / "n1")
    (port,) = free_ports(1)
    node.seeds = [f"127.0.0.1:{port}", "nowhere.invalid:1"]
    try:
        node.start(*FLAGS)
        until(
            lambda: "seeds that do not answer" in node.log.read_text(), "not a word of them", 30.0
        )
        words = node.log.read_text()
        assert f"127.0.0.1:{port}: " in words and "nowhere.invalid:1: " in words
    finally:
        node.stop()
