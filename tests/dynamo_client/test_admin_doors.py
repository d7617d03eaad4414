"""`dynamoctl status` and `top` find the admin listener of each member, wherever its port is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from benchmarks.processes import until

from dynamo_client.local_nodes import LISTENERS, LocalNode, free_ports
from tests.dynamoctl.command_line import QUICK, document, ok


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[LocalNode]]:
    """The ports of each lie in another order."""
    orders = ((0, 1, 2), (2, 0, 1), (1, 2, 0))
    made = []
    for index, order in enumerate(orders, 1):
        free = free_ports(3)
        ports = dict(zip(LISTENERS, (free[at] for at in order), strict=True))
        made.append(LocalNode(f"n{index}", tmp_path / f"n{index}", ports=ports))
    try:
        for node in made:
            node.start(*QUICK, "--engine=memory")
        for node in made:
            until(node.lives, f"{node.name} does not live")
        yield made
    finally:
        for node in made:
            node.stop()


def test_nodes_that_live_are_not_called_down(nodes: list[LocalNode]) -> None:
    first = ["--admin", nodes[0].admin, "--endpoint", nodes[0].endpoint]
    members = [f"{node.name}={node.advertise}" for node in nodes]
    ok("create", *members, "--partitions", "16", *first)
    admins = {node.name: node.admin.removeprefix("http://") for node in nodes}

    def told() -> bool:
        return {m["name"]: m["admin"] for m in document("ring", *first)["members"]} == admins

    until(told, "the members have not told their admin addresses")
    status = document("status", *first)
    assert [(row["name"], row["up"]) for row in status] == [
        ("n1", True),
        ("n2", True),
        ("n3", True),
    ]
    assert len({row["id"] for row in status}) == 3, "each row is of another node"
    top = document("top", "--once", *first)
    assert all(row["up"] for row in top)
    ring = httpx.get(nodes[1].endpoint + "/v1/ring").json()
    assert {m["name"]: m["admin"] for m in ring["members"]} == admins, "at the client listener"
