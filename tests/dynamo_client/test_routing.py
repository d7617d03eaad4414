"""Which node a client asks: owners by the ring, refreshed by age and on a miss [P 6.4]."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest

from dynamo_client import BadAnswer, ConnectionFailed
from dynamo_client.routing import ANSWERED_MAX, DOUBT_S, Routes
from dynamo_client.steps import Ask, Failure, Reply
from dynamo_core.keys import partition_of, store_key
from tests.dynamo_client.stepping import LOST, REFUSED, World, record, refused, ring, stored


class Cluster:
    """Answers for every node that is not in `down`."""

    def __init__(self) -> None:
        self.ring = ring()
        self.down: set[str] = set()
        self.nodes: dict[str, str] = {}

    def __call__(self, ask: Ask) -> Reply | Failure:
        host = ask.url.split("/")[2]
        if host in self.down:
            return REFUSED
        if ask.url.endswith("/v1/ring"):
            known = ask.headers.get("If-None-Match") == self.ring.headers["etag"]
            return Reply(304, {}, b"") if known else self.ring
        key = unquote_to_bytes(ask.url.split("/v1/kv/")[1].split("?")[0])
        return record(b"v", node=self.nodes.get(host, host.split(":")[0]), key=key)


def asks_for_ring(world: World) -> int:
    return sum(ask.url.endswith("/v1/ring") for ask in world.asked)


def test_the_ring_is_fetched_once_and_owners_are_asked() -> None:
    world, cluster = World(routing=True), Cluster()
    for _ in range(3):
        world.run(world.client.get("k"), cluster)
    assert world.hosts == ["e1", "b:1", "b:1", "b:1"]


def test_the_partition_is_that_of_the_node() -> None:
    world = World(routing=True)
    document = ring()
    world.routes.learn(document)
    assert world.routes.ring is not None
    assert len(world.routes.ring.entries) == 16
    assert partition_of(store_key(b"k"), world.routes.ring.partition_bits) < 16
    assert world.routes.owners(b"k") == ("b", "c", "d")


def test_an_old_ring_is_asked_for_again_with_its_etag() -> None:
    world, cluster = World(routing=True), Cluster()
    world.run(world.client.get("k"), cluster)
    world.now += 9.9
    world.run(world.client.get("k"), cluster)
    assert asks_for_ring(world) == 1
    world.now += 0.2
    world.run(world.client.get("k"), cluster)
    assert asks_for_ring(world) == 2
    assert world.asked[-2].headers == {"If-None-Match": '"1"'}
    cluster.ring = ring(("c", "d", "a"), epoch=2)
    world.now += 10
    world.run(world.client.get("new"), cluster)
    assert world.hosts[-1] == "c:1"


def test_an_owner_that_cannot_be_reached_is_a_miss() -> None:
    world, cluster = World(routing=True), Cluster()
    world.run(world.client.get("k"), cluster)
    world.now += 1.5
    cluster.down = {"b:1"}
    cluster.ring = ring(("d", "c", "a"), epoch=2)
    world.run(world.client.get("k"), cluster)
    assert asks_for_ring(world) == 2
    assert world.hosts[-3] == "b:1" and world.hosts[-1] == "d:1"


def test_a_node_that_is_no_owner_is_a_miss() -> None:
    world, cluster = World(routing=True), Cluster()
    cluster.nodes["b:1"] = "a"
    world.run(world.client.get("k"), cluster)
    world.now += 1.5
    world.run(world.client.get("k"), cluster)
    assert asks_for_ring(world) == 2
    # Even many misses do not make the client ask for the ring all the time.
    world.run(world.client.get("k"), cluster)
    assert asks_for_ring(world) == 2


def test_the_node_that_answered_is_preferred() -> None:
    world, cluster = World(routing=True), Cluster()
    cluster.down = {"b:1"}
    world.run(world.client.get("k"), cluster)
    assert world.hosts[-1] == "c:1"
    cluster.down = set()
    world.now += 5
    world.run(world.client.put("k", "v", context="ctx"), stored("c"))
    assert world.hosts[-1] == "c:1"
    # Whichever node passed it on, the coordinator has it.
    world.run(world.client.put("k", "v", context="ctx"), stored("d"))
    world.run(world.client.get("k"), record(b"v"))
    assert world.hosts[-1] == "d:1"
    world.run(world.client.put("another", "v"), stored("b"))
    assert world.hosts[-1] == "b:1"


def test_what_is_remembered_is_bounded() -> None:
    routes = Routes(["http://e1"], False, lambda: 0.0)
    for index in range(ANSWERED_MAX + 10):
        routes.answered("http://e1", b"%d" % index, "a")
    assert len(routes._answered) == ANSWERED_MAX


def test_every_node_is_asked_before_the_client_gives_up() -> None:
    world, cluster = World(routing=True, attempts_max=7), Cluster()
    world.run(world.client.ring(), cluster)
    cluster.down = {"a:1", "b:1", "c:1", "d:1", "e1"}
    assert world.run(world.client.get("k"), cluster).value == b"v"
    assert world.hosts == ["e1", "b:1", "c:1", "e1", "e2"]
    cluster.down.add("e2")
    world.asked.clear()
    with pytest.raises(ConnectionFailed):
        world.run(world.client.get("k"), cluster)
    assert set(world.hosts) == {"a:1", "b:1", "c:1", "d:1", "e1", "e2"}


def test_endpoints_serve_where_members_cannot_be_reached() -> None:
    world, cluster = World("http://e1", routing=True), Cluster()
    world.run(world.client.ring(), cluster)
    cluster.down = {"a:1", "b:1", "c:1", "d:1"}
    world.asked.clear()
    for index in range(20):
        assert world.run(world.client.get(f"k{index}"), cluster).value == b"v"
        world.now += 0.1
    assert world.hosts.count("b:1") <= 3, "asked again more and more rarely"
    assert world.hosts[:3] == ["b:1", "c:1", "e1"]


def test_without_a_ring_the_endpoints_serve() -> None:
    for said in (refused(503, "not-a-member"), LOST, Reply(200, {}, b"{}"), Reply(200, {}, b"[")):
        world = World(routing=True)
        world.run(world.client.get("k"), said, record(b"v"))
        assert world.hosts[1] in ("e1", "e2") and world.client.attempts.routes.ring is None


def test_an_older_ring_does_not_replace_a_newer_one() -> None:
    world = World(routing=True)
    world.routes.learn(ring(("b", "c", "d"), epoch=5))
    world.routes.learn(ring(("a", "c", "d"), epoch=4))
    assert world.routes.owners(b"k")[0] == "b"


def test_members_are_asked_as_safely_as_the_endpoints() -> None:
    world = World("https://e1/", routing=True)
    world.routes.learn(ring())
    assert world.routes.choose(b"k") == "https://b:1"


def test_no_routing_no_ring() -> None:
    world, cluster = World(), Cluster()
    world.run(world.client.get("k"), cluster)
    assert world.hosts == ["e1"]
    assert world.run(world.client.ring(), cluster).identity.n == 3
    with pytest.raises(BadAnswer):
        world.run(world.client.ring(), Reply(200, {}, b"{}"))


def test_a_node_that_reaches_no_quorum_is_asked_last_for_a_while() -> None:
    """It may be cut off from all others and not know it for a long time."""
    world = World("http://e1", "http://e2")
    lonely = refused(503, "quorum-not-met", {"dynamo-applied": "no", "dynamo-node": "a"})
    world.run(world.client.put("k", "v"), lonely, stored())
    world.run(world.client.put("other", "v"), stored())
    assert world.hosts == ["e1", "e2", "e2"]
    world.now += DOUBT_S
    world.run(world.client.put("other", "v"), stored())
    assert world.hosts[-1] == "e1"
