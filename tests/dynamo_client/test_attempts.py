"""What is repeated, where and when, and the final error; no sockets."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_client import (
    Acks,
    BadAnswer,
    BadKey,
    BadParameter,
    BadRequest,
    ClientError,
    Conflict,
    ConnectionFailed,
    Draining,
    Found,
    GetOp,
    Overloaded,
    PutOp,
    QuorumNotMet,
    Unavailable,
    Version,
    errors,
)
from dynamo_client.batch import batch
from dynamo_client.problems import error_of, problem_of
from dynamo_client.steps import Ask, Failure, Reply
from tests.dynamo_client.stepping import LOST, PROBLEMS, REFUSED, World, record, refused, stored

FIELDS = ["type", "title", "detail", "acks", "context"]
NO = {"dynamo-applied": "no", "retry-after": "1"}
UNKNOWN = {"dynamo-applied": "unknown", "retry-after": "1"}


def tree(kind: type[ClientError]) -> list[type[ClientError]]:
    return [kind, *(leaf for below in kind.__subclasses__() for leaf in tree(below))]


def ids(world: World) -> set[str]:
    return {ask.headers["Dynamo-Request-Id"] for ask in world.asked}


def test_a_put_says_all_of_it_and_reads_the_answer() -> None:
    world = World()
    put = world.client.put(
        "a/.é",
        "tea",
        context="seen",
        w=2,
        dw="all",
        strict=True,
        request_id="me",
        expires_in_s=9,
        return_values=True,
    )
    found = world.run(put, stored("node%201"))
    (ask,) = world.asked
    assert ask.url == ("http://e1/v1/kv/a%2F%2E%C3%A9?w=2&dw=all&strict=true&timeout_ms=1800")
    assert (ask.method, ask.content) == ("PUT", b"tea")
    assert ask.headers == {
        "Content-Type": "application/octet-stream",
        "Accept": "application/json",
        "Dynamo-Context": "seen",
        "Dynamo-Request-Id": "me",
        "Dynamo-Expires-In": "9",
        "Prefer": "return=representation",
    }
    assert (found.context, found.node) == ("ctx", "node 1")
    assert (found.acks.total, found.acks.hinted) == (2, 1)


@pytest.mark.parametrize(("strict", "said"), [(None, ""), (True, "true"), (False, "false")])
def test_strict_is_said_where_it_is_given(strict: bool | None, said: str) -> None:
    world = World()
    world.run(world.client.get("k", strict=strict), record(b"v"))
    world.run(world.client.put("k", "v", strict=strict), stored())
    world.run(world.client.delete("k", strict=strict), stored())
    assert [dict(httpx.URL(ask.url).params).get("strict", "") for ask in world.asked] == [said] * 3


def test_every_write_has_an_id_of_its_own() -> None:
    world = World()
    for _ in range(2):
        world.run(world.client.put("k", "v"), stored())
        world.run(world.client.delete("k"), stored())
    assert len(ids(world)) == 4


def test_the_id_stays_over_all_attempts_and_endpoints() -> None:
    world = World()
    world.run(world.client.put("k", "v"), LOST, refused(503, "draining", NO), stored())
    assert len(ids(world)) == 1
    assert world.hosts[:2] == ["e1", "e2"]


def test_a_refused_connection_costs_no_pause_while_another_node_answers() -> None:
    world = World()
    world.run(world.client.get("k"), REFUSED, record(b"v"))
    assert (world.hosts, world.pauses) == (["e1", "e2"], [])
    world.run(world.client.get("other"), record(b"v", key=b"other"))
    assert world.hosts[-1] == "e2", "who failed lately comes last"
    world.now += 2
    world.run(world.client.get("k"), record(b"v"))
    assert world.hosts[-1] == "e1"


def test_who_was_not_asked_has_not_failed() -> None:
    """No connection of the client became free in time."""
    world = World("http://e1", "http://e2")
    with pytest.raises(ConnectionFailed, match="none of 32"):
        world.run(world.client.get("k"), Failure(False, "none of 32", asked=False))
    world.run(world.client.get("k"), record(b"v"))
    assert world.hosts[0] == world.hosts[-1] == "e1"


def test_who_keeps_failing_is_avoided_longer_each_time() -> None:
    world = World()
    for _ in range(5):
        world.routes.failed("http://e1")
    world.now += 15
    assert world.routes.choose(None) == "http://e2"
    world.now += 2
    assert world.routes.choose(None) == "http://e1"
    world.routes.answered("http://e1", None, "")
    world.routes.failed("http://e1")
    world.now += 1.1
    assert world.routes.choose(None) == "http://e1", "it begins anew once it has answered"


def test_a_busy_node_is_better_than_a_dead_one() -> None:
    world = World()
    world.run(world.client.put("k", "v"), REFUSED, refused(503, "draining", NO), stored())
    assert world.hosts == ["e1", "e2", "e2"] and world.pauses == [1.0]


def test_pauses_grow_with_jitter() -> None:
    world = World("http://e1")
    with pytest.raises(ConnectionFailed):
        world.run(world.client.get("k"), REFUSED)
    assert world.pauses == [0.05, 0.1, 0.2, 0.4]


def test_retry_after_is_honoured_by_this_and_the_next_operation() -> None:
    world = World("http://e1")
    busy = refused(429, "overloaded", {"retry-after": "3"})
    assert world.run(world.client.put("k", "v"), busy, stored()).node == "a"
    assert world.pauses == [3.0]
    with pytest.raises(Overloaded):
        world.run(world.client.put("k", "v"), busy)
    before = world.now
    world.run(world.client.get("k"), record(b"v"))
    assert world.now - before == pytest.approx(3.0)


def test_the_client_does_not_wait_for_too_long_a_pause() -> None:
    world = World("http://e1")
    with pytest.raises(Overloaded) as caught:
        world.run(world.client.put("k", "v"), refused(503, "overloaded", {"retry-after": "60"}))
    assert (caught.value.retry_after_s, len(world.asked), world.pauses) == (60.0, 1, [])
    with pytest.raises(Overloaded) as caught:
        world.run(world.client.put("another", "v"), stored())
    assert (caught.value.retry_after_s, len(world.asked), caught.value.applied) == (60.0, 1, "no")


def test_a_quorum_that_is_missing_for_one_key_does_not_stop_the_others() -> None:
    world = World("http://e1")
    missing = refused(503, "quorum-not-met", UNKNOWN, acks={"total": 1})
    with pytest.raises(QuorumNotMet) as caught:
        world.run(world.client.put("k", "v"), missing)
    assert caught.value.acks is not None and caught.value.acks.total == 1
    assert world.pauses == [1.0] * 4
    before = world.now
    world.run(world.client.get("other"), record(b"v", key=b"other"))
    assert world.now == before


@pytest.mark.parametrize(
    ("script", "applied"),
    [
        ([REFUSED], "no"),
        ([LOST], "unknown"),
        ([LOST, REFUSED], "unknown"),
        ([refused(503, "draining", NO)], "no"),
        ([refused(503, "quorum-not-met", UNKNOWN), refused(503, "draining", NO)], "unknown"),
        ([Reply(502, {}, b"<html>")], "unknown"),
        ([refused(429, "overloaded")], "no"),
        ([refused(400, "bad-context")], "no"),
        ([LOST, refused(400, "bad-context")], "unknown"),
        ([LOST, refused(409, "too-many-siblings", context="c")], "unknown"),
    ],
)
def test_unknown_if_any_attempt_may_have_stored_it(
    script: list[Reply | Failure], applied: str
) -> None:
    with pytest.raises(ClientError) as caught:
        world = World()
        world.run(world.client.put("k", "v"), *script)
    assert caught.value.applied == applied


def test_a_read_stores_nothing() -> None:
    world = World()
    with pytest.raises(ConnectionFailed) as caught:
        world.run(world.client.get("k"), LOST)
    assert caught.value.applied == "no"


@pytest.mark.parametrize("status", [400, 401, 404, 405, 408, 409, 413, 414, 431])
def test_no_4xx_is_tried_again(status: int) -> None:
    world = World()
    with pytest.raises(ClientError):
        world.run(world.client.put("k", "v"), Reply(status, {}, b""))
    assert len(world.asked) == 1


def test_every_slug_has_its_type() -> None:
    expected = {
        "bad-key": (400, "BadKey"), "bad-context": (400, "BadContext"),
        "bad-parameter": (400, "BadParameter"), "value-too-large": (413, "ValueTooLarge"),
        "request-id-reused": (409, "RequestIdReused"),
        "too-many-siblings": (409, "TooManySiblings"), "not-found": (404, "NotFound"),
        "quorum-not-met": (503, "QuorumNotMet"), "draining": (503, "Draining"),
        "insufficient-owners": (503, "InsufficientOwners"), "not-a-member": (503, "NotAMember"),
        "overloaded": (503, "Overloaded"), "unauthorized": (401, "Unauthorized"),
        "plan-changed": (409, "Conflict"), "not-lost": (409, "Conflict"),
        "superseded": (409, "Conflict"),
        "wrong-cluster": (409, "Conflict"), "method-not-allowed": (405, "BadRequest"),
        "unsupported-framing": (400, "BadRequest"), "of-a-newer-node": (418, "BadRequest"),
    }  # fmt: skip
    for slug, (status, name) in expected.items():
        error = error_of(status, {"type": PROBLEMS + slug, "detail": "that: is wrong", "x": 1})
        assert (type(error).__name__, error.slug, error.status) == (name, slug, status)
        if isinstance(error, errors.BadRequest):
            assert (error.field, error.detail) == ("that", "that: is wrong")
        if isinstance(error, Conflict):
            assert error.document["x"] == 1
    assert type(error_of(500, {})) is Unavailable
    for name in (errors.__doc__ and [kind.__name__ for kind in tree(ClientError)]) or []:
        assert name in str(errors.__doc__)


@settings(deadline=None)
@given(
    st.integers(100, 599), st.dictionaries(st.sampled_from(FIELDS), st.integers() | st.text("a:/ "))
)
def test_whatever_is_answered_becomes_an_error_of_the_tree(
    status: int, problem: dict[str, object]
) -> None:
    assert isinstance(error_of(status, problem, "perhaps", "soon"), ClientError)
    assert problem_of(b"\xff") == problem_of(b"[]") == problem_of(b"") == {}


def test_not_found_is_an_answer_only_from_a_client_listener() -> None:
    world = World()
    hidden = refused(404, "not-found", {"dynamo-node": "a", "dynamo-context": "grave"})
    assert world.run(world.client.get("k"), hidden) == Found(b"k", (), "grave")
    # The admin listener, say, answers 404 to the same path: that is not "absent".
    for wrong in (refused(404, "not-found"), Reply(200, {}, b"hello"), Reply(302, {}, b"")):
        with pytest.raises(BadAnswer):
            world.run(world.client.get("k"), wrong)
        with pytest.raises(BadAnswer):
            world.run(world.client.put("k", "v"), wrong)
    with pytest.raises(BadAnswer):
        world.run(world.client.get("k"), Reply(200, {"dynamo-node": "a"}, b"hello"))
    with pytest.raises(BadAnswer) as caught:
        world.run(
            world.client.put("k", "v"),
            Reply(204, {"dynamo-node": "a", "dynamo-acks": "total=x"}, b""),
        )
    assert caught.value.applied == "unknown"


def test_what_cannot_be_sent_is_refused_here() -> None:
    world = World()
    for key in ("", "x" * 1025):
        with pytest.raises(BadKey):
            world.run(world.client.get(key), stored())
    with pytest.raises(BadParameter) as caught:
        world.run(world.client.put("k", "v", content_type="a\r\nb: c"), stored())
    assert caught.value.field == "Content-Type"
    wrong: Any
    for wrong in (5, None, [1], "\ud800"):
        with pytest.raises(BadKey):
            world.run(world.client.get(wrong), stored())
        with pytest.raises(BadKey):
            world.run(batch(world.client, [GetOp(wrong)]), stored())
        with pytest.raises(BadParameter, match="data: needs text or bytes"):
            world.run(world.client.put("k", wrong), stored())
        with pytest.raises(BadParameter, match="data: "):
            world.run(batch(world.client, [PutOp("k", wrong)]), stored())
    assert world.asked == []
    world.run(world.client.put(bytearray(b"k"), memoryview(b"v")), stored())
    assert world.asked[0].content == b"v"


def test_where_all_are_silent_an_operation_ends_within_what_is_promised() -> None:
    world = World(routing=True, attempts_max=5)

    def silent(_: Ask) -> Failure:
        world.now += 2.0
        return LOST

    began = world.now
    with pytest.raises(ConnectionFailed):
        world.run(world.client.get("k"), silent)
    assert len(world.asked) <= 2 * 5
    assert world.now - began <= 5 * 2 * 2.0 + 4 * 2.0


def test_the_most_telling_error_is_raised_with_all_attempts_in_it() -> None:
    """Two of three are down: the node that answers says more than the last dead address."""
    world = World("http://e1", "http://e2", "http://e3", attempts_max=3)
    missing = refused(503, "quorum-not-met", UNKNOWN, acks={"total": 1})
    with pytest.raises(QuorumNotMet) as caught:
        world.run(world.client.put("k", "v"), missing, REFUSED, LOST)
    assert caught.value.attempts == (
        "http://e1: field: quorum-not-met",
        "http://e2: refused",
        "http://e3: reset",
    )
    assert caught.value.applied == "unknown" and caught.value.acks is not None
    with pytest.raises(Draining):
        world.run(world.client.get("k"), REFUSED, refused(503, "draining", NO), REFUSED)
    with pytest.raises(BadRequest) as bad:
        world.run(world.client.put("k", "v"), missing, REFUSED, refused(400, "bad-context"))
    assert bad.value.applied == "unknown"


def test_an_answer_for_another_key_is_no_answer() -> None:
    world = World()
    with pytest.raises(BadAnswer, match="the answer is for the key b'other', not for b'k'"):
        world.run(world.client.get("k"), record(b"v", key=b"other"))


@pytest.mark.parametrize("kind", [k for k in tree(ClientError) if k is not errors.SiblingsFound])
def test_errors_survive_pickle(kind: type[ClientError]) -> None:
    error = kind("field: why", 503, "slug")
    error.applied, error.attempts = "unknown", ("http://e1: refused",)
    if isinstance(error, Unavailable):
        error.retry_after_s, error.acks = 3.0, Acks(total=1)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


def test_siblings_survive_pickle() -> None:
    error = errors.SiblingsFound((Version(b"1", "t/p", "a.1"), Version(b"2", "t/p", "b.1")))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.values) == (str(error), error.values)


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_every_attempt_of_an_operation_carries_its_trace() -> None:
    world = World()
    world.run(
        world.client.put(b"k", b"v", traceparent=TRACE), refused(503, "draining"), LOST, stored()
    )
    assert [ask.headers.get("traceparent") for ask in world.asked] == [TRACE] * 3
    world.run(world.client.put(b"k", b"v"), stored())
    assert "traceparent" not in world.asked[-1].headers


def test_reads_and_writes_of_an_update_carry_one_trace() -> None:
    world = World()
    steps = world.client.update(b"k", lambda values: b"v", traceparent=TRACE)
    world.run(steps, record(), stored())
    assert [ask.headers.get("traceparent") for ask in world.asked] == [TRACE] * 2


def test_a_trace_that_is_malformed_is_not_sent() -> None:
    """It came from a stranger's request, so it must not fail this call."""
    world = World()
    world.run(world.client.put(b"k", b"v", traceparent=TRACE[:-1]), stored())
    assert "traceparent" not in world.asked[-1].headers
    with pytest.raises(BadParameter, match="traceparent: needs text, not bytes"):
        world.client.get(b"k", traceparent=TRACE.encode())  # type: ignore[arg-type]
