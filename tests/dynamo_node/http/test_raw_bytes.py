"""The edge against raw bytes: framing, limits, deadlines (docs/http-api.md), on both fronts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.dynamo_node.http.client_listener import (
    DEADLINE_S,
    SHORT,
    Listener,
    everything,
    statuses,
)

LIMITS = SHORT._replace(bodies_bytes_max=500_000, connections_max=20, refusals_max=8)
PUT = b"PUT /v1/kv/k HTTP/1.1\r\nHost: h\r\n"
GET = b"GET /v1/kv/k HTTP/1.1\r\nHost: h\r\n"
LAST = b"Connection: close\r\n\r\n"


REFUSED = {
    "length and chunked": (
        PUT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + LAST,
        400,
    ),
    "two lengths that differ": (PUT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "two equal lengths": (PUT + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "length +5": (PUT + b"Content-Length: +5\r\n\r\nhello", 400),
    "length -1": (PUT + b"Content-Length: -1\r\n\r\n", 400),
    "length 5, 5": (PUT + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "length beyond 64 bits": (PUT + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "length of 15 digits": (PUT + b"Content-Length: 999999999999999\r\n\r\n", 413),
    "xchunked": (PUT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, identity": (PUT + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "gzip, chunked": (PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked on 1.0": (
        b"PUT /v1/kv/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "space before the colon": (PUT + b"Content-Length : 5\r\n\r\nhello", 400),
    "bare CR in a value": (GET + b"X: a\rb\r\n\r\n", 400),
    "NUL in a value": (GET + b"X: a\0b\r\n\r\n", 400),
    "obs-fold": (GET + b"X: a\r\n b\r\n\r\n", 400),
    "bare LF": (b"GET /v1/kv/k HTTP/1.1\nHost: h\n\n", 400),
    "chunk size 0x5": (PUT + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
    "no CRLF after a chunk": (
        PUT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n",
        400,
    ),
    "LF in a chunk extension": (
        PUT + b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
        400,
    ),
    "no Host": (b"GET /v1/kv/k HTTP/1.1\r\n\r\n", 400),
    "empty Host": (b"GET /v1/kv/k HTTP/1.1\r\nHost: \r\n\r\n", 400),
    "two Hosts": (GET + b"Host: other\r\n\r\n", 400),
    "absolute-form": (b"GET http://h/v1/kv/k HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "CONNECT": (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /v1/kv/k\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /v1/kv/k HTTP/2.0\r\nHost: h\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "raw bytes beyond ASCII": (b"GET /v1/kv/\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "a fragment": (b"GET /v1/kv/a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "no such method": (b"GRAB /v1/kv/k HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "32 KiB of target": (b"GET /v1/kv/" + b"k" * 32768 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    "1 MiB of target": (b"GET /v1/kv/" + b"k" * (1 << 20), 414),
    "128 KiB of one field": (GET + b"X: " + b"x" * (128 << 10) + b"\r\n\r\n", 431),
    "one field without an end": (GET + b"X: " + b"x" * (5 << 20), 431),
    "65 fields": (GET + b"X: y\r\n" * 64 + b"\r\n", 431),
    "5,000 fields": (GET + b"X: y\r\n" * 5000 + b"\r\n", 431),
    "a body too long, announced": (PUT + b"Content-Length: 100001\r\n\r\n", 413),
    "a body too long, in chunks": (
        PUT + b"Transfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b"v" * 32768 + b"\r\n") * 4,
        413,
    ),
    "a batch too long": (
        b"POST /v1/batch HTTP/1.1\r\nHost: h\r\nContent-Length: 200001\r\n\r\n",
        413,
    ),
    "an expectation of its own": (PUT + b"Expect: wonders\r\nContent-Length: 1\r\n\r\nv", 417),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_once_and_closed(listener: Listener, name: str) -> None:
    raw, status = REFUSED[name]
    said = listener.say(raw)
    assert statuses(said) == [status], said
    assert b"connection: close\r\n" in said.lower()
    assert b"application/problem+json" in said
    with listener.client() as client:
        assert client.get("/v1/kv/k").status_code == 404, "it had an effect"


TAKEN = {
    "HTTP/1.0 without a Host": (b"GET /v1/kv/k HTTP/1.0\r\n\r\n", [404]),
    "chunks": (
        b"GET /v1/kv/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + LAST + b"0\r\n\r\n",
        [404],
    ),
    "empty lines before": (b"\r\n\r\n" + GET + LAST, [404]),
    "a line of folded letters": (GET + b"CONNECTION: Close\r\n\r\n", [404]),
    "pipelined": ((GET + b"\r\n") * 50 + GET + LAST, [404] * 51),
    "pipelined, the last one broken": ((GET + b"\r\n") * 3 + b"GET\n\n", None),
    "64 fields": (GET + b"X: y\r\n" * 62 + LAST, [404]),
    "another path": (b"GET /metrics HTTP/1.1\r\nHost: h\r\n" + LAST, [404]),
    "docs": (b"GET /docs HTTP/1.1\r\nHost: h\r\n" + LAST, [404]),
    "two slashes": (b"GET //v1/kv/k HTTP/1.1\r\nHost: h\r\n" + LAST, [404]),
    "a key of dots": (b"GET /v1/kv/../../metrics HTTP/1.1\r\nHost: h\r\n" + LAST, [404]),
    "another method": (b"PATCH /v1/kv/k HTTP/1.1\r\nHost: h\r\n" + LAST, [405]),
    "HEAD": (b"HEAD /v1/ring HTTP/1.1\r\nHost: h\r\n" + LAST, None),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(listener: Listener, name: str) -> None:
    raw, expected = TAKEN[name]
    said = listener.say(raw)
    if expected is not None:
        assert statuses(said) == expected
    elif name == "HEAD":
        assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(b"\r\n\r\n")
    elif said:
        # Where the broken one came while answers were owed, these are given or the line is cut.
        assert statuses(said)[:-1] == [404] * (len(statuses(said)) - 1)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_bytes_in_pieces(listener: Listener, size: int) -> None:
    raw = b"PUT /v1/kv/pieces HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n" + LAST + b"v" * 20
    assert statuses(listener.say(*(raw[at : at + size] for at in range(0, len(raw), size)))) == [
        204
    ]
    with listener.client() as client:
        assert client.get("/v1/kv/pieces").content == b"v" * 20 or size != 1
        context = client.get("/v1/kv/pieces").headers["dynamo-context"]
        client.delete("/v1/kv/pieces", headers={"dynamo-context": context})


@pytest.mark.parametrize(
    ("said_first", "answer"),
    [
        (b"", []),
        (b"GET /v1/kv/k HT", [408]),
        (GET, [408]),
        (PUT + b"Content-Length: 9\r\n\r\nhalf", [408]),
        (b"\r\n", []),
        (GET + b"\r\n", [404]),
    ],
    ids=["silence", "half a line", "half a head", "half a body", "an empty line", "no more"],
)
def test_who_does_not_finish_is_not_waited_for(
    listener: Listener, said_first: bytes, answer: list[int]
) -> None:
    assert statuses(listener.say(said_first)) == answer


def test_a_head_that_trickles_is_not_waited_for(listener: Listener) -> None:
    with listener.connect() as connection:
        connection.settimeout(0.05)
        end = time.monotonic() + 10
        said = b""
        while time.monotonic() < end and not said:
            try:
                connection.sendall(b"G" if not said else b"")
                said = connection.recv(1000)
            except TimeoutError:
                pass
            except (ConnectionError, OSError):
                break
        assert time.monotonic() < end


def test_a_client_that_expects_100_continue_gets_it(listener: Listener) -> None:
    with listener.connect() as connection:
        connection.sendall(PUT.replace(b"kv/k", b"kv/told") + b"Expect: 100-continue\r\n")
        connection.sendall(b"Content-Length: 5\r\n" + LAST)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert statuses(everything(connection)) == [204]
    with listener.connect() as connection:
        connection.sendall(PUT + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n")
        assert statuses(everything(connection)) == [413]


def until(listener: Listener, condition: Callable[[], bool]) -> None:
    """Each look asks the listener's loop."""
    end = time.monotonic() + DEADLINE_S
    while not listener.call(condition):
        assert time.monotonic() < end, "it did not come true"


@pytest.fixture(params=["protocol", "asgi"])
def patient(request: pytest.FixtureRequest) -> Iterator[Listener]:
    listener = Listener(
        request.param, LIMITS._replace(head_s_max=DEADLINE_S, body_s_max=DEADLINE_S)
    )
    yield listener
    listener.stop()


def test_bodies_together_are_bounded(patient: Listener) -> None:
    """One client holds what it may, and no more: some is left for the next (T-5)."""
    begun = PUT + b"Content-Length: 100000\r\n\r\n"
    held = [patient.connect() for _ in range(4)]
    try:
        for connection in held:
            connection.sendall(begun)
        until(patient, lambda: patient.edge.books.requests.used == 400_000)
        said = patient.say(begun)
        assert statuses(said) == [429]
        assert b"Dynamo-Applied: no\r\n" in said and b"Retry-After: 1\r\n" in said
    finally:
        for connection in held:
            connection.close()
    until(patient, lambda: patient.edge.books.requests.used == 0)


SHARE = 17
"""Of 20 places one client may hold so many: 17 are at most eight times the 3 that are left."""


def begin_heads(listener: Listener) -> list[socket.socket]:
    """Connections that are not idle, as many as one client may hold."""
    held = [listener.connect() for _ in range(SHARE)]
    for connection in held:
        connection.sendall(b"G")
    edge = listener.edge
    until(listener, lambda: sum(not one.idle for one in edge.connections) == SHARE)
    return held


def test_connections_are_bounded(patient: Listener) -> None:
    held = begin_heads(patient)
    try:
        assert statuses(patient.say(b"")) == [429]
    finally:
        for connection in held:
            connection.close()


def test_connections_that_are_too_many_are_bounded_too(patient: Listener) -> None:
    held = begin_heads(patient)
    try:
        held.extend(patient.connect() for _ in range(5 * LIMITS.refusals_max))
        assert statuses(patient.say(b"")) == [429], "one that comes now is told"
        count = patient.call(lambda: len(patient.edge.connections))
        assert count <= LIMITS.connections_max + LIMITS.refusals_max
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_leaves_before_its_answer_harms_no_other(listener: Listener) -> None:
    for _ in range(20):
        with listener.connect() as connection:
            connection.sendall(PUT.replace(b"kv/k", b"kv/left") + b"Content-Length: 1\r\n\r\nv")
            connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: a reset
    with listener.client() as client:
        assert client.get("/v1/kv/k").status_code == 404


def test_a_client_that_does_not_read_is_not_read(listener: Listener) -> None:
    with listener.client() as client:
        client.put("/v1/kv/large", content=b"v" * 100_000)
    with listener.connect() as connection:
        connection.setsockopt(1, 8, 4096)  # SO_RCVBUF
        asked = GET.replace(b"kv/k", b"kv/large") + b"\r\n"
        connection.settimeout(1)
        try:
            for _ in range(5000):
                connection.sendall(asked * 100)
        except (TimeoutError, ConnectionError):
            return
        raise AssertionError("half a gigabyte of answers was taken on")
