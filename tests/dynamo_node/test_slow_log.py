"""What the log says of slow operations, with a real listener in front; never a key or a value."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
import structlog

from dynamo_core.protocol.operations import Asked
from dynamo_core.runtime.slow import LINES_MAX, Slow
from dynamo_node.http_limits import Limits
from dynamo_node.slow_log import fields_of
from tests.dynamo_node.http.client_listener import DEADLINE_S, Listener

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SLOW = "a slow operation"


@pytest.fixture(params=["protocol", "asgi"])
def all_slow(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """A node to which every operation is a slow one."""
    listener = Listener(request.param, Limits(value_bytes_max=1 << 20))
    listener.node.slow.limit_s = 0.0
    yield listener
    listener.stop()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def told(logged: list[Any], count: int) -> list[Any]:
    """This number of lines of slow operations, once they are there."""
    until = monotonic() + DEADLINE_S
    while len(found := [line for line in logged if line["event"] == SLOW]) < count:
        assert monotonic() < until, logged
    return found


def test_each_kind_has_a_line_with_its_trace(logged: list[Any], all_slow: Listener) -> None:
    key, value = "secret-of-a-customer", b"worth-more"
    headers = {"traceparent": TRACE}
    with all_slow.client() as kv:
        kv.put(f"/v1/kv/{key}", content=value, headers=headers)
        kv.get(f"/v1/kv/{key}")
        gets = [{"op": "get", "key": b64encode(key.encode()).decode()}] * 2
        kv.post("/v1/batch", json={"operations": gets}, headers=headers)
    lines = told(logged, 5)
    assert [line["kind"] for line in lines] == ["put", "get", "get", "get", "batch"]
    put, get, *_, batch = lines
    assert (put["acks"], put["durable"], put["status"]) == ("1 of w=1", "1 of dw=1", 204)
    assert (get["answers"], get["status"], get["silent"], get["late"]) == ("1 of r=1", 200, [], [])
    assert put["key_hash"] == get["key_hash"] and len(put["key_hash"]) == 8
    assert put["traceparent"] == batch["traceparent"] == TRACE and "traceparent" not in get
    assert batch["operations"] == 2 and batch["ms"] > 0
    said = repr(logged)
    assert key not in said and value.decode() not in said and gets[0]["key"] not in said


def test_a_line_names_whom_it_waited_for() -> None:
    late = [Asked("n3", "owner", "stored", 812.3)]
    line = Slow(
        kind="put",
        seconds=0.8124,
        status=204,
        position="9b2a61c0",
        late=late,
        silent=["n2"],
        hedged=True,
        answers=2,
        wanted=2,
        durable=1,
        dw=1,
        forwarded_to="n3",
        trace=TRACE,
    )
    assert fields_of(line) == {
        "key_hash": "9b2a61c0",
        "status": 204,
        "hedged": True,
        "acks": "2 of w=2",
        "durable": "1 of dw=1",
        "late": ["n3: stored after 812.3 ms"],
        "silent": ["n2"],
        "forwarded_to": "n3",
        "traceparent": TRACE,
    }


def test_a_trace_that_a_peer_made_up_is_not_logged() -> None:
    assert "traceparent" not in fields_of(Slow(kind="get", seconds=1.0, trace="\n{} forged"))


def test_a_minute_has_so_many_lines(logged: list[Any], all_slow: Listener) -> None:
    with all_slow.client() as kv:
        for _ in range(LINES_MAX + 5):
            kv.get("/v1/kv/k")
        told(logged, LINES_MAX)
        counted = all_slow.call(lambda: all_slow.node.counters["slow_operations"])
        kept = all_slow.call(lambda: len(all_slow.node.slow.untold))
    assert counted == LINES_MAX + 5 and kept == 0
    assert len(told(logged, LINES_MAX)) == LINES_MAX
