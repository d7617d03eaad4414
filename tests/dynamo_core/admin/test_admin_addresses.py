"""Admin addresses of members: heartbeats carry them, the ring document only shows them."""

from __future__ import annotations

import msgspec

from dynamo_core.protocol.ring_messages import Gossip
from dynamo_core.testing.town import Town


def shown(town: Town, at: str) -> dict[str, str | None]:
    """By member, as that node shows it."""
    document = town.nodes[at].admin.ring_document()
    return {member["name"]: member["admin"] for member in document["members"]}


def told(town: Town, name: str, admin: str) -> None:
    """Starts the node with that address of its admin listener."""
    town.kill(name)
    town.start(name, admin=admin)
    town.run(2.0)


def test_each_member_tells_its_own() -> None:
    town = Town("a b c")
    assert shown(town, "a") == {"a": None, "b": None, "c": None}
    told(town, "a", "a:3")
    told(town, "b", "host-of-b:9081")
    for at in town.names:
        assert shown(town, at) == {"a": "a:3", "b": "host-of-b:9081", "c": None}
    assert len({node.ring.digests() for node in town.nodes.values()}) == 1


def test_the_latest_life_tells_it_and_an_older_version_tells_nothing() -> None:
    """An older node sends no address; the address of its earlier life is then forgotten."""
    town = Town("a b c")
    told(town, "b", "b:3")
    changes = town.nodes["a"].detector.admins_told
    told(town, "b", "b:4")
    assert shown(town, "a")["b"] == "b:4"
    assert town.nodes["a"].detector.admins_told > changes
    told(town, "b", "")
    assert shown(town, "a")["b"] is None


def test_another_life_of_a_name_is_not_dialled_where_the_one_before_was() -> None:
    town = Town("a b c")
    told(town, "b", "b:3")
    ring = town.nodes["a"].ring
    line = msgspec.structs.replace(ring.members["b"], id=77, incarnation=2)
    town.kill("b")
    town.nodes["a"].ring_state.take(ring.with_member(line))
    assert shown(town, "a")["b"] is None


def test_what_is_no_address_is_refused() -> None:
    """S-IN-2: the whole message is refused."""
    town = Town("a b c")
    told(town, "b", "b:3")

    node = town.nodes["b"]
    node.identity = msgspec.structs.replace(node.identity, admin="no address")
    town.run(2.0)
    assert shown(town, "a")["b"] == "b:3"
    assert town.nodes["a"].counters["senseless_input_refused"] > 0
    assert town.nodes["a"].up("b"), "a frame is heard, whatever is in it"


def test_an_older_node_reads_what_a_new_one_says() -> None:
    """C17: the field is the last one and has a default."""

    class Older(msgspec.Struct, array_like=True, tag=8):
        id: int
        digests: tuple[bytes, ...]
        number: int
        remembered: int
        reply: bool = False
        stalled: bool = False

    said = msgspec.msgpack.encode(Gossip(0, (), 5, 4, True, True, "b:3"))
    assert msgspec.msgpack.decode(said, type=Older) == Older(0, (), 5, 4, True, True)
    older = msgspec.msgpack.encode(Older(0, (), 5, 4, True, True))
    assert msgspec.msgpack.decode(older, type=Gossip).admin == ""
