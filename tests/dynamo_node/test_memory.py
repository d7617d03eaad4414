"""The memory formula, and that every input stays within it (T-4), with shares of clients (T-5)."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

import dynamo_core.settings as core
from dynamo_node.access import Asker
from dynamo_node.http_limits import Limits
from dynamo_node.kv_protocol import SLICE_BYTES
from dynamo_node.link_ends import LinkLimits
from dynamo_node.memory import MIB, TLS_BYTES, bound_bytes, terms, tls_bytes
from tests.dynamo_node.http.client_listener import DEADLINE_S, Listener, everything

ROOT = Path(__file__).parents[2]
VALUE = b"v" * MIB
HEAD = b"HTTP/1.1\r\nHost: h\r\n"
GET = b"GET /v1/kv/big " + HEAD + b"\r\n"


def until(condition: Callable[[], bool]) -> None:
    """Each look asks the listener's own loop."""
    end = monotonic() + DEADLINE_S
    while not condition():
        assert monotonic() < end, "it did not come true"


def formula() -> dict[str, int]:
    return terms(core.Settings(), Limits(MIB), 64 * MIB, LinkLimits())


def test_the_formula_is_what_the_page_and_the_operator_say() -> None:
    bound = bound_bytes(formula()) // MIB
    page = (ROOT / "docs/operations.md").read_text()
    assert f"**{bound} MiB**" in page
    parts = (ROOT / "operator/src/dynamo_operator/spec_types.py").read_text()
    assert re.search(r'NODE_MEMORY = "(\d+)Mi"', parts)[1] == str(bound)  # type: ignore[index]
    with_tls = bound_bytes({**formula(), "tls": tls_bytes(Limits(MIB))}) // MIB
    assert re.search(r'NODE_MEMORY_TLS = "(\d+)Mi"', parts)[1] == str(with_tls)  # type: ignore[index]
    for name, size in formula().items():
        assert f"| {name.replace('_', ' ')} |" in page, name
        assert f"| {size // MIB} MiB |" in page, name
    assert bound <= 1280
    assert f"up to {TLS_BYTES // 1024} KiB more." in page
    assert f"strangers this is {tls_bytes(Limits(MIB)) // MIB} MiB:" in page


def test_the_formula_follows_the_limits() -> None:
    more = terms(
        core.Settings(), Limits(MIB, answers_bytes_max=MIB + 64 * MIB), 64 * MIB, LinkLimits()
    )
    assert bound_bytes(more) - bound_bytes(formula()) == MIB


@pytest.fixture
def listener() -> Any:
    listener = Listener("protocol", Limits(MIB), in_flight_max=64)
    with listener.client() as client:
        assert client.put("/v1/kv/big", content=VALUE).status_code == 204
    yield listener
    listener.stop()


def used(listener: Listener, name: str) -> int:
    return int(listener.call(lambda: getattr(listener.edge.books, name).used))


def test_pipelined_gets_are_answered_as_they_are_read(listener: Listener) -> None:
    count = 40
    with listener.connect() as connection:
        connection.sendall(
            GET * (count - 1) + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        until(lambda: used(listener, "answers") > 0)
        assert used(listener, "answers") <= 2 * MIB
        assert used(listener, "requests") <= count * len(GET)
        said = everything(connection)
    assert said.count(b"HTTP/1.1 200 ") == count
    assert said.count(VALUE) == count
    until(lambda: used(listener, "answers") + used(listener, "requests") == 0)


@pytest.mark.parametrize("front", ["protocol", "asgi"])
def test_unread_answers_are_bounded_over_all_connections(front: str) -> None:
    listener = Listener(front, Limits(8 * MIB, answers_bytes_max=32 * MIB))
    with listener.client() as client:
        assert client.put("/v1/kv/big", content=8 * VALUE).status_code == 204
    waiting = []
    for _ in range(12):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(listener.address)
        connection.settimeout(DEADLINE_S)
        connection.sendall(GET + GET)
        waiting.append(connection)
    first = [connection.recv(12) for connection in waiting]
    assert set(first) == {b"HTTP/1.1 200", b"HTTP/1.1 429"}
    assert used(listener, "answers") <= 33 * MIB
    for connection in waiting:
        connection.close()
    until(lambda: used(listener, "answers") == 0)
    with listener.client() as client:
        assert client.get("/v1/kv/big").content == 8 * VALUE
    listener.stop()


def test_the_plain_front_counts_an_answer_from_its_making_until_it_is_written() -> None:
    """What waits between head and body counts too, and answers of one turn see each other."""
    listener = Listener("asgi", Limits(MIB, answers_bytes_max=4 * MIB))
    with listener.client() as client:
        assert client.put("/v1/kv/big", content=VALUE).status_code == 204
    app = listener.server.config.app
    held: dict[str, list[int]] = {"http.response.start": [], "http.response.body": []}
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])
        held[message["type"]].append(listener.edge.books.answers.used)
        await asyncio.sleep(0)

    async def gets(count: int) -> None:
        scope = {
            "type": "http", "method": "GET", "raw_path": b"/v1/kv/big", "query_string": b"",
            "headers": [], "client": ("127.0.0.1", 1), "dynamo_asker": Asker("127.0.0.1", ""),
        }  # fmt: skip
        await asyncio.gather(*(app(scope, receive, send) for _ in range(count)))

    asyncio.run_coroutine_threadsafe(gets(1), listener.loop).result(DEADLINE_S)
    assert held == {"http.response.start": [MIB], "http.response.body": [MIB]}
    asyncio.run_coroutine_threadsafe(gets(12), listener.loop).result(DEADLINE_S)
    assert 429 in statuses
    assert max(held["http.response.start"]) <= 4 * MIB + 8 * 1024
    assert used(listener, "answers") == 0
    listener.stop()


def test_a_batch_shows_what_its_answer_has_room_for(listener: Listener) -> None:
    item = {"op": "get", "key": base64.b64encode(b"big").decode()}
    put = {"op": "put", "key": base64.b64encode(b"k").decode(), "data": "dg=="}
    with listener.client() as client:
        body = {"operations": [item] * 200 + [put], "timeout_ms": 30_000}
        results = client.post("/v1/batch", json=body).json()["results"]
    statuses = [one["status"] for one in results]
    assert statuses.count(200) == 32 and statuses[-1] == 204
    assert set(statuses[:-1]) == {200, 503}
    refused = next(one for one in results if one["status"] == 503)
    assert refused["problem"]["type"].endswith("/overloaded") and refused["applied"] == "no"
    until(lambda: used(listener, "answers") == 0)


def test_a_batch_takes_few_slots_and_refuses_what_it_could_not_begin() -> None:
    """T-5: few of its operations are under way at once; here none of them ends."""
    listener = Listener("protocol", Limits(MIB), in_flight_max=4096)
    submitted = []

    def swallow(operation: Any, done: Any, principal: str) -> None:
        submitted.append(done)

    listener.call(lambda: setattr(listener.driver, "submit", swallow))
    item = {"op": "get", "key": base64.b64encode(b"k").decode()}
    body = json.dumps({"operations": [item] * 1024, "timeout_ms": 1000}).encode()
    said = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    head = b"POST /v1/batch " + HEAD + said
    with listener.connect() as connection:
        connection.sendall(head + body)
        until(lambda: len(submitted) == 16)
    listener.stop()


def test_large_bodies_wait_until_they_are_admitted() -> None:
    """T-5: the books have room for one; each of the others is read when its turn comes."""
    listener = Listener("protocol", Limits(MIB, large_bytes_max=MIB))
    heads = b"PUT /v1/kv/k " + HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % MIB
    with listener.connect() as first:
        first.sendall(heads + VALUE[:-1])
        until(lambda: used(listener, "large") == MIB)
        others = [listener.connect() for _ in range(3)]
        for other in others:
            other.sendall(heads)
        until(lambda: listener.call(lambda: listener.edge.books.waiting) == 3)
        assert used(listener, "large") == MIB
        with listener.client() as client:  # what is small does not wait
            assert client.put("/v1/kv/small", content=b"v").status_code == 204
        first.sendall(VALUE[-1:])
        assert everything(first).startswith(b"HTTP/1.1 204")
    for other in others:
        other.sendall(VALUE)
        assert everything(other).startswith(b"HTTP/1.1 204")
        other.close()
    until(lambda: used(listener, "large") == 0 and used(listener, "requests") == 0)
    listener.stop()


def test_a_large_body_that_is_not_admitted_is_refused_before_any_effect() -> None:
    listener = Listener("protocol", Limits(MIB, large_bytes_max=MIB, large_wait_s_max=0.1))
    heads = b"PUT /v1/kv/k " + HEAD + b"Content-Length: %d\r\n\r\n" % MIB
    with listener.connect() as first, listener.connect() as second:
        first.sendall(heads)
        until(lambda: used(listener, "large") == MIB)
        second.sendall(heads)
        said = second.recv(4096)
        assert said.startswith(b"HTTP/1.1 503") and b"Dynamo-Applied: no" in said
        assert b"Retry-After" in said
    until(lambda: used(listener, "large") == 0)
    listener.stop()


def test_a_large_body_that_is_slow_to_come_gives_its_turn_to_another() -> None:
    """T-5: a few clients with slow uploads delay no other client, and also succeed."""
    limits = Limits(MIB, large_bytes_max=3 * MIB, large_late_s_max=0.1)
    listener = Listener("protocol", limits)
    listener.call(lambda: setattr(listener.edge.books.large, "total", MIB))
    heads = b"PUT /v1/kv/k " + HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % MIB
    with listener.connect() as slow, listener.connect() as quick, listener.connect() as gone:
        slow.sendall(heads + VALUE[:-1])
        until(lambda: used(listener, "large") == MIB)
        quick.sendall(heads + VALUE)
        assert everything(quick).startswith(b"HTTP/1.1 204")
        books = listener.edge.books
        assert listener.call(lambda: (books.late, books.large.used)) == (MIB, 0)
        gone.sendall(heads + VALUE[:-1])
        until(lambda: used(listener, "large") == MIB)
        slow.sendall(VALUE[-1:])
        assert everything(slow).startswith(b"HTTP/1.1 204")
        until(lambda: listener.call(lambda: books.late) == MIB)  # now it is the other
    until(lambda: listener.call(lambda: (books.late, books.large.used)) == (0, 0))
    listener.stop()


def test_waiting_bodies_leave_room_to_admitted_ones() -> None:
    """T-5: their received bytes take at most half. The others hold nothing, and are refused when
    their wait is over; an admitted one has room for its body."""
    size, begun = MIB // 4, MIB // 64
    limits = Limits(MIB, large_bytes_max=size, bodies_bytes_max=MIB, large_wait_s_max=1.0)
    listener = Listener("protocol", limits)
    heads = b"PUT /v1/kv/k " + HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size

    def rest(other: socket.socket) -> bytes:
        with other:
            with suppress(ConnectionError):
                other.sendall(bytes(size - begun))
            return everything(other)[9:12]

    with listener.connect() as first:
        first.sendall(heads + bytes(size - 1))
        until(lambda: used(listener, "large") == size)
        others = [listener.connect() for _ in range(45)]
        for other in others:
            other.sendall(heads + bytes(begun))
        with ThreadPoolExecutor(len(others)) as pool:
            ends = pool.map(rest, others)
            until(lambda: used(listener, "requests") > size + begun)
            # Beside that half what was parsed with each head, before it was known to wait.
            assert used(listener, "requests") <= MIB // 2 + len(others) * SLICE_BYTES
            first.sendall(b"v")
            assert everything(first).startswith(b"HTTP/1.1 204")
            statuses = set(ends)
    assert b"204" in statuses and statuses <= {b"204", b"503"}
    until(lambda: used(listener, "large") == 0 and used(listener, "requests") == 0)
    listener.stop()


def test_idle_connections_of_a_client_make_room_for_its_next_one() -> None:
    listener = Listener("protocol", Limits(MIB, connections_max=90))
    idle = [listener.connect() for _ in range(200)]
    assert httpx.get(listener.url + "/v1/ring", timeout=DEADLINE_S).status_code == 200
    assert listener.call(lambda: len(listener.edge.connections)) <= 90
    for connection in idle:
        connection.close()
    until(lambda: used(listener, "places") == 0)
    listener.stop()


def test_listings_wait_for_one_another_and_are_refused_behind_unread_answers() -> None:
    """T-5: four of twenty listings run at once; probes are answered meanwhile."""
    listener = Listener("admin", Limits(MIB))
    asked: list[Any] = []
    admin = listener.node.admin
    listener.call(lambda: setattr(admin, "list_keys", lambda *rest: asked.append(rest[-1])))
    head = b"GET /v1/keys " + HEAD + b"Authorization: Bearer between us\r\n\r\n"
    listers = [listener.connect() for _ in range(20)]
    for lister in listers:
        lister.sendall(head)
    until(lambda: len(asked) == 4)
    with listener.client() as client:
        assert client.get("/livez").status_code == 200
    assert len(asked) == 4
    for index in range(len(listers)):
        until(lambda: len(asked) > index)  # noqa: B023
        listener.call(lambda: asked[index](200, {"keys": [], "next": None}))  # noqa: B023
    for lister in listers:
        assert lister.recv(12) == b"HTTP/1.1 200"
        lister.close()
    books = listener.edge.books
    listener.call(lambda: books.answers.take("another", books.answers.total))
    with listener.client() as client:
        client.headers["Authorization"] = "Bearer between us"
        refused = client.get("/v1/keys")
        assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
        assert client.get("/v1/status").status_code == 200
    listener.stop()


def test_an_explained_get_of_a_large_key_says_who_was_asked_and_shows_no_value(
    listener: Listener,
) -> None:
    with listener.client() as client:
        answer = client.get("/v1/kv/big?explain=true")
    assert answer.status_code == 200 and len(answer.content) < 4096
    assert used(listener, "answers") == 0
