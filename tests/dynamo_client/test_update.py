"""What `update` reads, merges and writes again, and what it must not write; no sockets."""

from __future__ import annotations

from typing import Any

import pytest

from dynamo_client import (
    ClientError,
    ConnectionFailed,
    Found,
    SiblingsFound,
    TooManySiblings,
    errors,
    set_union,
)
from dynamo_client.steps import Ask, Reply
from tests.dynamo_client.stepping import LOST, REFUSED, World, absent, record, refused, stored

NO = {"dynamo-applied": "no", "retry-after": "1"}


def test_update_merges_all_siblings_and_writes_with_their_context() -> None:
    world = World()
    world.run(world.client.update("k", set_union(add=[3])), record(b"[1]", b"[2]"), stored())
    assert world.asked[1].content == b"[1,2,3]"
    headers = world.asked[1].headers
    assert (headers["Dynamo-Context"], headers["Content-Type"]) == ("ctx", "t/p")


def test_update_writes_the_same_again_when_it_cannot_know() -> None:
    world = World("http://e1", attempts_max=2)
    script = [record(b"[1]"), LOST, refused(503, "draining", NO), LOST, LOST, stored()]
    world.run(world.client.update("k", set_union(add=[2])), *script)
    assert [ask.method for ask in world.asked] == ["GET", "PUT", "PUT", "PUT", "PUT", "PUT"]
    assert len({ask.headers["Dynamo-Request-Id"] for ask in world.asked[1:]}) == 1
    assert {ask.content for ask in world.asked[1:]} == {b"[1,2]"}


def test_update_reads_again_when_nothing_was_stored() -> None:
    world = World(attempts_max=1)
    full = refused(409, "too-many-siblings", context="c")
    script = [absent(), full, record(b"[1]"), refused(503, "draining", NO), record(b"[1]", b"[5]")]
    world.run(world.client.update("k", set_union(add=[2])), *script, stored())
    assert [ask.method for ask in world.asked] == ["GET", "PUT"] * 3
    assert world.asked[-1].content == b"[1,2,5]"
    assert len({ask.headers["Dynamo-Request-Id"] for ask in world.asked[1::2]}) == 3


def test_update_does_not_merge_twice_what_may_be_there() -> None:
    world = World("http://e1", attempts_max=2)
    full = refused(409, "too-many-siblings", context="c")
    with pytest.raises(TooManySiblings) as caught:
        world.run(world.client.update("k", set_union(add=[2])), absent(), LOST, full)
    assert caught.value.applied == "unknown"


def test_update_does_not_forget_that_an_earlier_write_may_be_there() -> None:
    """The second write was certainly not stored; the first one may have been. If the update read
    again, it would apply its change to a value that has the change already."""
    world = World("http://e1", attempts_max=1)
    script = [record(b"[1]"), LOST, refused(503, "draining", NO), REFUSED, stored()]
    world.run(world.client.update("k", set_union(add=[2])), *script)
    assert [ask.method for ask in world.asked] == ["GET", "PUT", "PUT", "PUT", "PUT"]
    assert len({ask.headers["Dynamo-Request-Id"] for ask in world.asked[1:]}) == 1


@pytest.mark.parametrize(
    "last",
    [
        refused(403, "forbidden", NO),
        refused(409, "request-id-reused", NO),
        refused(409, "too-many-siblings", NO, context="c"),
        refused(503, "draining", NO),
    ],
)
def test_an_update_that_ends_says_that_an_earlier_write_may_be_there(last: Reply) -> None:
    world = World("http://e1", attempts_max=1)
    with pytest.raises(ClientError) as caught:
        world.run(world.client.update("k", set_union(add=[2])), record(b"[1]"), LOST, last)
    assert caught.value.applied == "unknown"


def test_update_gives_up_after_its_attempts() -> None:
    world = World(attempts_max=1)
    script = [record(b"[1]"), LOST]
    with pytest.raises(ConnectionFailed):
        world.run(world.client.update("k", set_union(add=[2]), attempts_max=3), *script)
    assert [ask.method for ask in world.asked] == ["GET", "PUT", "PUT", "PUT"]


def test_update_to_nothing() -> None:
    world = World()
    world.run(world.client.update("k", lambda values: None), record(b"1"), stored())
    assert world.asked[-1].method == "DELETE"
    assert world.asked[-1].headers["Dynamo-Context"] == "ctx"
    done = world.run(world.client.update("k", lambda values: None), absent())
    assert (done.acks.total, world.asked[-1].method) == (0, "GET")


def test_found_has_one_value_or_says_why_not() -> None:
    world = World()
    read = world.run(world.client.get("k"), record(b"1", b"2"))
    with pytest.raises(SiblingsFound) as siblings:
        assert read.value
    assert [version.data for version in siblings.value.values] == [b"1", b"2"]
    with pytest.raises(errors.NotFound):
        assert Found(b"k", (), None).value


def test_an_update_that_must_not_be_refused_writes_what_it_could_not_read() -> None:
    """[P 2.3]: as a sibling, without a context, so that it covers no other version."""
    world = World("http://e1")
    unread = refused(503, "insufficient-owners", {"dynamo-applied": "no", "retry-after": "1"})
    steps = world.client.update("k", set_union(add=[2]), always_write=True)
    world.run(steps, unread, unread, unread, unread, stored())
    assert [ask.method for ask in world.asked] == ["GET"] * 4 + ["PUT"]
    assert ["r=1" in ask.url for ask in world.asked[:4]] == [False, False, True, True]
    assert world.asked[-1].content == b"[2]"
    assert "Dynamo-Context" not in world.asked[-1].headers
    with pytest.raises(errors.InsufficientOwners):
        world.run(world.client.update("k", set_union(add=[2])), unread)


@pytest.mark.parametrize("attempts_max", [1, 8])
def test_with_one_node_alive_an_update_that_must_not_be_refused_is_written_there(
    attempts_max: int,
) -> None:
    """The paper's cart [P 2.3]: what one node has is merged, and the same write, by its id, goes to
    one node when no quorum answers, also after a single attempt."""
    world = World("http://e1", deadline_s=10.0)
    unknown = {"dynamo-applied": "unknown"}

    def alone(ask: Ask) -> Reply:
        slow = "?" not in ask.url or not ("r=1" in ask.url or "w=1" in ask.url)
        world.now += min(1.8, ask.timeout_s) if slow else 0.0
        if slow:
            return refused(503, "quorum-not-met", unknown)
        return record(b"[1]") if ask.method == "GET" else stored()

    began = world.now
    how: dict[str, Any] = {"w": 2, "dw": 2, "attempts_max": attempts_max}
    world.run(world.client.update("k", set_union(add=[2]), always_write=True, **how), alone)
    assert world.now - began < 10.0
    puts = [ask for ask in world.asked if ask.method == "PUT"]
    assert {ask.content for ask in puts} == {b"[1,2]"}
    assert len({ask.headers["Dynamo-Request-Id"] for ask in puts}) == 1
    assert "w=1&dw=1" in puts[-1].url and "w=2&dw=2" in puts[0].url


def test_update_says_how_it_is_written() -> None:
    world = World()
    steps = world.client.update("k", set_union(add=[2]), w="all", dw=2, expires_in_s=9)
    world.run(steps, absent(), stored())
    assert "w=all&dw=2" in world.asked[-1].url
    assert world.asked[-1].headers["Dynamo-Expires-In"] == "9"
