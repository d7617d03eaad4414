"""The admin listener before any token is known: heads, bodies, silence, many connections (T-4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

import pytest

from dynamo_node.http_limits import Limits
from tests.dynamo_node.http.client_listener import DEADLINE_S, Listener, everything, statuses
from tests.dynamo_node.http.client_listener import TOKEN as BEARER

LIMITS = Limits(
    value_bytes_max=100_000,
    head_s_max=0.4,
    body_s_max=0.6,
    idle_s_max=0.8,
    linger_s_max=0.5,
    sweep_s=0.05,
    admin_connections_max=20,
    admin_body_bytes_max=100_000,
)
PROBE = b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
PLAN = b"POST /v1/ring/plan HTTP/1.1\r\nHost: h\r\n"
TOKEN = b"Authorization: Bearer " + BEARER + b"\r\n"
CHUNKS = (b"8000\r\n" + b"v" * 32768 + b"\r\n") * 100


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener("admin", LIMITS)
    yield listener
    listener.stop()


SAID = {
    "a probe": (PROBE, [200]),
    "a head without an end": (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 500_000, [431]),
    "a field without an end": (b"GET /livez HTTP/1.1\r\nX: " + b"y" * (5 << 20), [431]),
    "half a head": (b"GET /livez HTTP/1.1\r\nHost: h\r\nX: ", [408]),
    "silence": (b"", []),
    "a body too long, announced": (PLAN + b"Content-Length: 100001\r\n\r\n", [413]),
    "a body without an end": (
        PLAN + TOKEN + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        [413],
    ),
    "half a body": (PLAN + TOKEN + b"Content-Length: 9\r\n\r\nhalf", [408]),
    "a trailer": (
        PLAN + TOKEN + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
        [400],
    ),
    "bare LF": (b"GET /livez HTTP/1.1\nHost: h\n\n", [400]),
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", [400]),
    "an offer of an upgrade": (
        PROBE.replace(b"Connection: close", b"Connection: Upgrade, close\r\nUpgrade: h2c"),
        [200],
    ),
    "the answer first": (PROBE.replace(b"Connection: close\r\n", b"") + b"GET\n\n", [200, 400]),
}


@pytest.mark.parametrize("name", SAID)
def test_what_strangers_say(listener: Listener, name: str) -> None:
    raw, expected = SAID[name]
    said = listener.say(raw)
    assert statuses(said) == expected, said
    assert statuses(listener.say(PROBE)) == [200]


def test_the_token_is_asked_for_before_the_body_is_there(listener: Listener) -> None:
    with listener.connect() as connection:
        connection.sendall(PLAN + b"Content-Length: 9\r\n\r\n")
        assert statuses(connection.recv(65536)) == [401]
        connection.sendall(b"123456789" + PROBE)
        assert statuses(everything(connection)) == [200], "the rest of the body is not a request"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(b"POST /livez HTTP/1.1\r\nHost: h\r\n", 405), (PLAN, 401)],
    ids=["a probe", "no token"],
)
def test_a_body_without_an_end_has_one_answer(
    listener: Listener, asked: bytes, answer: int
) -> None:
    with listener.connect() as connection:
        connection.sendall(asked + b"Transfer-Encoding: chunked\r\n\r\n")
        assert statuses(connection.recv(65536)) == [answer]
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(CHUNKS)
        assert everything(connection) == b"", "a second answer to one request"


def test_probes_get_in_whatever_others_hold(listener: Listener) -> None:
    held = []
    try:
        for index in range(3 * LIMITS.admin_connections_max):
            held.append(listener.connect())
            held[-1].sendall((b"", b"GET /v1/status HTTP/1.1\r\nX: ")[index % 2])
        for _ in range(10):
            assert statuses(listener.say(PROBE)) == [200]
        count = listener.call(lambda: len(listener.edge.connections))
        assert count <= LIMITS.admin_connections_max
    finally:
        for connection in held:
            connection.close()
    end = monotonic() + DEADLINE_S
    while listener.call(lambda: len(listener.edge.connections)):
        assert monotonic() < end, "connections that were closed are still counted"
