"""Batches: what is sent again, and what is known about each item; no sockets."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_client import (
    BadAnswer,
    BadContext,
    BadParameter,
    ConnectionFailed,
    DeleteOp,
    GetOp,
    PutOp,
    Unauthorized,
)
from dynamo_client.batch import OPERATIONS_MAX, batch
from dynamo_client.steps import Ask, Reply
from tests.dynamo_client.stepping import LOST, PROBLEMS, REFUSED, World, refused


def results(*items: dict[str, object]) -> Reply:
    return Reply(200, {}, msgspec.msgpack.encode({"results": items}))


def sent(ask: Ask) -> list[dict[str, object]]:
    operations: list[dict[str, object]] = msgspec.msgpack.decode(ask.content)["operations"]
    return operations


DONE: dict[str, object] = {"status": 204, "context": "c", "acks": {"total": 2}}


def busy(applied: str) -> dict[str, object]:
    problem = {"type": PROBLEMS + "overloaded", "detail": "busy"}
    return {"status": 503, "applied": applied, "problem": problem}


def test_only_what_failed_of_a_batch_is_sent_again_under_its_id() -> None:
    world = World()
    operations = [GetOp("g"), PutOp("p", "1"), PutOp("q", "2", request_id="mine"), DeleteOp("d")]
    value = {"data": b"v", "content_type": "t/p", "dot": "1"}
    bad = {"status": 400, "problem": {"type": PROBLEMS + "bad-context", "detail": "x: y"}}
    first = results({"status": 200, "context": "c", "values": [value]}, busy("no"), busy("no"), bad)
    found, put, mine, deleted = world.run(
        batch(world.client, operations, w=1), first, results(busy("no"), DONE), results(DONE)
    )
    assert found.found is not None and found.found.value == b"v"
    assert put.stored is not None and put.stored.acks.total == 2
    assert mine.stored is not None
    assert isinstance(deleted.error, BadContext) and deleted.status == 400
    assert [len(sent(ask)) for ask in world.asked] == [4, 2, 1]
    assert len({str(sent(ask)[-1 - at]["request_id"]) for at, ask in ((2, world.asked[0]),)}) == 1
    of_p = [item for ask in world.asked for item in sent(ask) if item["key"] == b"p"]
    assert len({str(item["request_id"]) for item in of_p}) == 1
    assert msgspec.msgpack.decode(world.asked[0].content)["w"] == 1


def test_a_batch_is_unknown_item_by_item() -> None:
    world = World(attempts_max=2)
    script = [results(busy("unknown"), busy("no"), busy("no")), results(*[busy("no")] * 3)]
    operations = [PutOp("a", "1"), PutOp("b", "2"), GetOp("c")]
    items = world.run(batch(world.client, operations), *script)
    assert [item.error and item.error.applied for item in items] == ["unknown", "no", "no"]
    world = World("http://e1", attempts_max=2)
    script = [results(busy("unknown")), REFUSED]
    (item,) = world.run(batch(world.client, [PutOp("a", "1")]), *script)
    assert item.error is not None and item.error.applied == "unknown"
    world = World("http://e1", attempts_max=2)
    items = world.run(batch(world.client, operations), LOST, results(*[busy("no")] * 3))
    assert [item.error and item.error.applied for item in items] == ["unknown", "unknown", "no"]


def test_a_batch_without_an_answer_fails_item_by_item() -> None:
    world = World()
    items = world.run(batch(world.client, [PutOp("a", "1"), GetOp("b")]), REFUSED)
    assert all(isinstance(item.error, ConnectionFailed) for item in items)
    with pytest.raises(BadParameter):
        world.run(batch(world.client, [GetOp("a")], r=9), refused(400, "bad-parameter"))
    (item,) = world.run(batch(world.client, [GetOp("a")]), results(DONE, DONE))
    assert isinstance(item.error, BadAnswer)


def test_a_large_batch_is_several_requests() -> None:
    world = World()
    operations = [PutOp(f"k{index}", b"x") for index in range(OPERATIONS_MAX)]
    operations += [PutOp("large", bytes(9 * 1024 * 1024)), PutOp("larger", bytes(9 * 1024 * 1024))]

    def server(ask: Ask) -> Reply:
        return results(*[DONE] * len(sent(ask)))

    assert len(world.run(batch(world.client, operations), server)) == OPERATIONS_MAX + 2
    assert [len(sent(ask)) for ask in world.asked] == [OPERATIONS_MAX, 1, 1]
    assert world.run(batch(world.client, []), server) == []


def test_a_batch_that_ends_says_that_a_part_of_it_is_stored() -> None:
    """The second request of the batch, or the second attempt of the first, is refused as a whole:
    what went before is stored."""
    many = [PutOp(f"k{index}", b"x") for index in range(OPERATIONS_MAX + 1)]
    no = refused(401, "unauthorized", {"dynamo-applied": "no"})
    with pytest.raises(Unauthorized) as caught:
        world = World("http://e1")
        world.run(batch(world.client, many), results(*[DONE] * OPERATIONS_MAX), no)
    assert caught.value.applied == "unknown"
    with pytest.raises(Unauthorized) as caught:
        world = World("http://e1")
        two = [PutOp("a", "1"), PutOp("b", "2")]
        world.run(batch(world.client, two), results(busy("no"), DONE), no)
    assert caught.value.applied == "unknown"
    with pytest.raises(Unauthorized) as caught:
        world = World("http://e1")
        world.run(batch(world.client, [PutOp("a", "1")]), results(busy("no")), no)
    assert caught.value.applied == "no"
