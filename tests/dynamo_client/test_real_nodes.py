"""The clients against three real nodes; then one of three is killed under load."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.processes import Node, create_ring, free_ports, until

import dynamo_client
from dynamo_client import (
    AdminClient,
    AsyncDynamoClient,
    BadContext,
    BadParameter,
    Conflict,
    DeleteOp,
    DynamoClient,
    Found,
    GetOp,
    NotAMember,
    NotFound,
    NotMergeable,
    PutOp,
    SiblingsFound,
    TooManySiblings,
    ValueTooLarge,
    cart_union,
    counter,
    counter_value,
    set_union,
)

PARALLEL = 100
JOIN_S = 60.0


@contextmanager
def ring_of_three(directory: Path) -> Iterator[list[Node]]:
    nodes = [Node(f"n{index}", directory / f"n{index}") for index in range(3)]
    try:
        for node in nodes:
            node.seeds = [other.advertise for other in nodes if other is not node]
            node.start("--engine=memory", "--heartbeat-ms=100", "--suspect-ms=700")
        create_ring(nodes, n=3, r=2, w=2, partitions=16)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with ring_of_three(tmp_path_factory.mktemp("ring")) as nodes:
        yield nodes


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


def test_an_encoding_is_kept_through_every_door(client: DynamoClient) -> None:
    packed = gzip.compress(b"tea")
    said = client.put("packed", packed, content_encoding="gzip", return_values=True).values
    assert [(one.data, one.content_encoding) for one in said] == [(packed, "gzip")]
    read = client.get("packed")
    assert (read.value, read.values[0].content_encoding) == (packed, "gzip")
    put, get = client.batch([PutOp("more", packed, content_encoding="gzip"), GetOp("packed")])
    assert put.stored and get.found and get.found.values == read.values
    assert client.get("more").values[0].content_encoding == "gzip"
    client.update("packed", lambda values: gzip.compress(b"two teas"))
    assert client.get("packed").values[0].content_encoding == "gzip"
    client.update("packed", lambda values: b"plain", content_encoding="")
    assert client.get("packed").values[0].content_encoding == ""
    client.put("packed", packed, content_encoding="gzip")
    with pytest.raises(NotMergeable):
        client.update("packed", lambda values: max(values))
    with pytest.raises(BadParameter) as caught:
        client.put("packed", packed, content_encoding="g zip")
    assert caught.value.field == "content-encoding"


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


def test_what_the_cluster_refuses(client: DynamoClient) -> None:
    with pytest.raises(ValueTooLarge):
        client.put("k", bytes(1024 * 1024 + 1))
    with pytest.raises(BadParameter) as caught:
        client.get("k", r=9)
    assert caught.value.field == "r"
    for _ in range(100):
        client.put("many", "x")
    with pytest.raises(TooManySiblings) as full:
        client.put("many", "x")
    assert full.value.context
    client.update("many", lambda values: b"one")
    assert client.get("many").value == b"one"


def test_a_request_id_makes_two_puts_one_event(client: DynamoClient) -> None:
    for _ in range(2):
        client.put("once", "v", request_id="the same")
    assert client.get("once").value == b"v"


def test_an_expiry_and_a_strict_quorum_are_passed_on(client: DynamoClient) -> None:
    stored = client.put("short", "v", expires_in_s=3600, w="all", dw=2, strict=True)
    assert (stored.acks.owners, stored.acks.hinted) == (3, 0)
    assert client.get("short", r="all", strict=True).value == b"v"


async def update_in_asyncio(endpoints: tuple[str, ...]) -> Found:
    async with AsyncDynamoClient(*endpoints) as client:
        await client.update("session", cart_union(add={"3": {}}))
        return await client.get("session", r="all")


def test_an_update_keeps_the_expiry_and_the_read_shows_it(client: DynamoClient) -> None:
    """S-TTL-2, through both clients."""
    stored = client.put("session", "{}", expires_in_s=3600, return_values=True)
    (end,) = {version.expires_at for version in stored.values}
    assert end is not None
    client.update("session", cart_union(add={"2": {}}))
    assert [version.expires_at for version in client.get("session").values] == [end]
    found = asyncio.run(update_in_asyncio(client.endpoints))
    assert [(version.data, version.expires_at) for version in found.values] == [
        (b'{"2":{},"3":{}}', end)
    ]
    client.update("session", cart_union(), expires_in_s="never")
    assert [version.expires_at for version in client.get("session").values] == [None]
    client.update("session", cart_union(), expires_at=end)
    assert [version.expires_at for version in client.get("session").values] == [end]


def test_batch(client: DynamoClient) -> None:
    context = client.put("batch/1", "old").context
    results = client.batch(
        [
            PutOp("batch/1", "new", context=context, content_type="text/plain"),
            PutOp("batch/2", b"\xff\x00"),
            PutOp("", "no such key"),
            PutOp("batch/3", "x", context="forged"),
            DeleteOp("batch/4"),
        ],
        w=3,
    )
    assert [result.status for result in results] == [204, 204, 400, 400, 204]
    assert [type(result.error).__name__ for result in results[2:4]] == ["BadKey", "BadContext"]
    assert results[0].stored is not None and results[0].stored.acks.total == 3
    one, two, none = client.batch([GetOp("batch/1"), GetOp(b"batch/2"), GetOp("batch/3")], r=1)
    assert one.found is not None and two.found is not None and none.found is not None
    assert one.found.value == b"new" and one.found.values[0].content_type == "text/plain"
    assert two.found.value == b"\xff\x00"
    assert none.status == 404 and not none.found.exists
    client.put("batch/1", "newest", context=one.found.context)
    assert client.get("batch/1").value == b"newest"
    with pytest.raises(BadParameter):
        client.batch([GetOp("batch/1")], r=9)


def test_update(client: DynamoClient) -> None:
    client.update("cart", cart_union(add={"1": {"n": 1}}))
    client.update("cart", cart_union(add={"2": {"n": 1}}, remove=["1"]))
    assert client.get("cart").value == b'{"2":{"n":1}}'


def test_updates_of_many_threads(client: DynamoClient) -> None:
    def work(number: int) -> None:
        for each in range(5):
            client.update("threads", set_union(add=[number * 10 + each]))

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive(), f"an update did not return in {JOIN_S:g} s"
    client.update("threads", set_union())
    assert len(json.loads(client.get("threads").value)) == 40


async def updates(endpoints: list[str]) -> None:
    async with AsyncDynamoClient(*endpoints, timeout_s=10) as client:
        carts = (client.update("all", cart_union(add={f"{n}": n})) for n in range(PARALLEL))
        tills = (client.update("sold", counter(1, f"till-{n}")) for n in range(PARALLEL))
        for stored in await asyncio.gather(*carts, *tills):
            assert stored.acks.total >= 2
        await client.update("all", cart_union())
        await client.update("sold", counter(by=0, actor="nobody"))
        cart = await client.get("all")
        assert set(json.loads(cart.value)) == {f"{n}" for n in range(PARALLEL)}
        assert counter_value((await client.get("sold")).value) == PARALLEL
        await client.delete("all", context=cart.context)
        (gone,) = await client.batch([GetOp("all")])
        assert gone.found is not None and not gone.found.exists
        assert (await client.put("other", "v")).node in (await client.ring()).members


def test_a_hundred_updates_at_once_lose_nothing(nodes: list[Node]) -> None:
    asyncio.run(updates([node.endpoint for node in nodes]))


def test_the_owner_coordinates(nodes: list[Node], client: DynamoClient) -> None:
    ring = client.ring()
    assert set(ring.members) == {"n0", "n1", "n2"}
    routes = client._operations.attempts.routes
    for index in range(20):
        key = b"routed-%d" % index
        assert client.put(key, "v").node == routes.owners(key)[0]


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
        until(lambda: admin.repair_status(repair)["state"] == "done", "the repair does not end")
        with pytest.raises(NotFound):
            admin.repair_status("no such/repair")
        for index in range(5):
            client.put(f"page-{index}", "x")
        assert len(list(admin.keys(limit=3))) == 3
        everything = list(admin.keys())
        assert len(everything) == len(set(everything)) >= 6
        by_partition = [key for partition in range(16) for key in admin.keys(partition)]
        assert sorted(by_partition) == sorted(everything)
        body = {"cluster_id": "another", "members": [{"name": "n0", "address": "h:1"}]}
        with pytest.raises(Conflict):
            admin.create_ring(body)


def test_a_node_in_no_ring(tmp_path: Path) -> None:
    node = Node("alone", tmp_path / "alone")
    node.start("--engine=memory")
    try:
        until(node.lives, "it does not start")
        with DynamoClient(node.endpoint, attempts_max=1) as client:
            with pytest.raises(NotAMember) as caught:
                client.put("k", "v")
            assert caught.value.applied == "no" and caught.value.retry_after_s == 1
        with AdminClient(node.admin) as admin:
            assert admin.livez() and not admin.readyz()
            with pytest.raises(NotAMember):
                admin.ring()
    finally:
        node.stop()


def test_one_of_three_freezes_then_is_killed_and_no_client_fails(tmp_path: Path) -> None:
    """Every write succeeds, although an endpoint in the list is unreachable all the time."""
    with ring_of_three(tmp_path) as nodes:
        nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
        with DynamoClient(nowhere, *(node.endpoint for node in nodes), timeout_s=1) as client:
            names = [client.put(f"key-{index}", "before").node for index in range(9)]
            frozen = next(node for node in nodes if node.name == names[0])
            assert frozen.process is not None
            frozen.process.send(signal.SIGSTOP)
            try:
                again = client.put("key-0", "during")
            finally:
                frozen.process.send(signal.SIGCONT)
            # It may still do what it was asked first: that is the same event.
            assert again.node != frozen.name
            until(frozen.ready, "it does not wake up")
            for _ in range(20):
                values = [version.data for version in client.get("key-0", r="all").values]
                assert sorted(values) == [b"before", b"during"]
            for index in range(60):
                if index == 20:
                    nodes[random.randrange(3)].kill()
                client.update(f"cart-{index % 4}", cart_union(add={f"{index}": 1}))
            for at in range(4):
                client.update(f"cart-{at}", cart_union())
                lines = set(json.loads(client.get(f"cart-{at}").value))
                assert lines == {f"{index}" for index in range(at, 60, 4)}


def test_the_example_of_the_package_runs(nodes: list[Node]) -> None:
    lines = str(dynamo_client.__doc__).splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    for port, node in zip(("7101", "7102"), nodes, strict=False):
        example = example.replace(f"http://127.0.0.1:{port}", node.endpoint)
    told: dict[str, object] = {}
    exec(example, told)
    assert b"tea" in told["found"].value  # type: ignore[attr-defined]
