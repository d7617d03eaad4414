"""The clients against three real nodes; one of them is killed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.processes import Node, found, until

from dynamo_client import (
    AdminClient,
    BadContext,
    DynamoClient,
    SiblingsFound,
    cart_union,
)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    directory: Path = tmp_path_factory.mktemp("ring")
    nodes = [Node(f"n{number}", directory / f"n{number}") for number in range(3)]
    try:
        for node in nodes:
            node.seeds = [other.advertise for other in nodes if other is not node]
            node.start("--engine=memory", "--heartbeat-ms=100", "--suspect-ms=700")
        found(nodes, n=3, r=2, w=2, partitions=16)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@pytest.fixture
def client(nodes: list[Node]) -> Iterator[DynamoClient]:
    with DynamoClient(*(node.endpoint for node in nodes), timeout_s=5) as client:
        yield client


def test_put_get_delete(client: DynamoClient) -> None:
    assert not client.get("a/b").exists
    stored = client.put("a/b", "tea", content_type="text/plain")
    assert stored.acks.total >= 2 and stored.node
    read = client.get(b"a/b")
    assert (read.value, read.values[0].content_type) == (b"tea", "text/plain")
    client.delete("a/b", context=read.context)
    gone = client.get("a/b")
    assert not gone.exists and gone.context


@pytest.mark.parametrize("key", [b".", b"..", b"/", b"a/../b", b"%2e", b"+ ?#", b"\x00\xff\xfe"])
def test_any_bytes_are_a_key(client: DynamoClient, key: bytes) -> None:
    client.put(key, key + b"!")
    assert client.get(key).value == key + b"!"


def test_siblings_are_values(client: DynamoClient) -> None:
    client.put("twice", "1")
    client.put("twice", "2")
    read = client.get("twice")
    assert {version.data for version in read.values} == {b"1", b"2"}
    with pytest.raises(SiblingsFound):
        assert read.value
    with pytest.raises(BadContext):
        client.put("another", "3", context=read.context)
    after = client.put("twice", "3", context=read.context, return_values=True)
    assert [version.data for version in after.values] == [b"3"]


def test_update(client: DynamoClient) -> None:
    client.update("cart", cart_union(add={"1": {"n": 1}}))
    client.update("cart", cart_union(add={"2": {"n": 1}}, remove=["1"]))
    assert client.get("cart").value == b'{"2":{"n":1}}'


def test_admin(nodes: list[Node], client: DynamoClient) -> None:
    client.put("listed", "x")
    with AdminClient(nodes[0].admin) as admin:
        assert admin.livez() and admin.readyz()
        assert admin.status()["name"] == "n0"
        assert admin.ring()["partitions"] == 16
        assert len(admin.preference_list("listed")["owners"]) == 3
        assert b"listed" in set(admin.keys())
        assert "dynamo_requests_total" in admin.metrics()
        repair = admin.repair()
        until(lambda: admin.repair_status(repair)["state"] != "running", "the repair does not end")
