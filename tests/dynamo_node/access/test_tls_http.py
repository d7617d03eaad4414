"""Both HTTP listeners in TLS: what a client must show, and the fast front over TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from dynamo_node.certificates import Certificates
from dynamo_node.http_limits import Limits
from dynamo_node.tls import Within
from tests.dynamo_node.access.authorities import Authority, unchecked
from tests.dynamo_node.http.client_listener import TOKEN, Listener

LIMITS = Limits(1 << 20)
FRONTS = ("protocol", "asgi", "admin")
PATH = {"admin": "/v1/status"}
BEARER = {"Authorization": f"Bearer {TOKEN.decode()}"}


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def opened() -> Iterator[list[Listener]]:
    running: list[Listener] = []
    yield running
    for listener in running:
        listener.stop()


def listening(opened: list[Listener], front: str, how: str, certificates: Certificates) -> Listener:
    opened.append(Listener(front, LIMITS, tls=Within(how, certificates)))
    return opened[-1]


def ask(listener: Listener, front: str, context: ssl.SSLContext | None) -> httpx.Response:
    scheme, verify = ("http", True) if context is None else ("https", context)
    url = f"{scheme}://127.0.0.1:{listener.address[1]}{PATH.get(front, '/v1/ring')}"
    return httpx.get(url, verify=verify, headers=BEARER, timeout=10.0)


def reached(listener: Listener, front: str, context: ssl.SSLContext | None) -> bool:
    try:
        return ask(listener, front, context).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize(
    ("how", "in_"),
    [("on", "known unknown old"), ("mutual", "known old"), ("allow", "known unknown old plain"),
     ("off", "plain")],
)  # fmt: skip
def test_who_gets_in(
    ours: Authority, opened: list[Listener], front: str, how: str, in_: str
) -> None:
    listener = listening(opened, front, how, ours.node("a"))
    shown = {
        "known": ours.client("anna"),
        "unknown": ours.client(),
        "old": ours.client("anna", ssl.TLSVersion.TLSv1_2),
        "plain": None,
    }
    found = [who for who, context in shown.items() if reached(listener, front, context)]
    assert found == in_.split()


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("case", ["other authority", "ended", "another authority was taken"])
def test_who_is_not_known_gets_in_nowhere(
    ours: Authority, opened: list[Listener], tmp_path: Path, front: str, case: str
) -> None:
    others = Authority(tmp_path / "others")
    held = ours.node("a")
    listener = listening(opened, front, "mutual", held)
    assert reached(listener, front, ours.client("anna"))
    client = ours.client()
    if case == "another authority was taken":
        held.files = held.files._replace(ca=others.ca)
        held._name = ""
        fresh = unchecked(held.files)
        listener.loop.call_soon_threadsafe(held.__dict__.update, fresh.__dict__)
        client = ours.client("anna")
    else:
        from dynamoctl.trial_ca import make_client

        place = others.directory if case == "other authority" else ours.directory
        cert = make_client(place, "eve", 1.0 if case == "other authority" else -1.0)
        client.load_cert_chain(cert, cert.with_suffix(".key"))
    assert not reached(listener, front, client)


@pytest.mark.parametrize("front", FRONTS)
def test_a_client_refuses_a_node_that_it_does_not_know(
    ours: Authority, opened: list[Listener], tmp_path: Path, front: str
) -> None:
    listener = listening(opened, front, "on", ours.node("a"))
    assert not reached(listener, front, Authority(tmp_path / "others").client())
    with pytest.raises(httpx.ConnectError, match=r"doesn.t match|mismatch|not valid"):
        url = f"https://127.0.0.2:{listener.address[1]}/v1/ring"
        with socket.create_connection(listener.address) as raw:
            try:
                ours.client().wrap_socket(raw, server_hostname="127.0.0.2")
            except ssl.SSLError as error:
                raise httpx.ConnectError(f"{url}: {error}") from None


@pytest.mark.parametrize("front", ["protocol", "asgi"])
@pytest.mark.parametrize("latest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_values_of_every_size_come_back_on_one_connection(
    ours: Authority, opened: list[Listener], front: str, latest: ssl.TLSVersion
) -> None:
    listener = listening(opened, front, "on", ours.node("a"))
    url = f"https://127.0.0.1:{listener.address[1]}/v1/kv/"
    with httpx.Client(verify=ours.client(latest=latest), timeout=20.0) as client:
        for size in (0, 1, 16_383, 16_384, 65_537, 1 << 20):
            value = b"v" * size
            assert client.put(f"{url}{size}", content=value).status_code == 204
            assert client.get(f"{url}{size}").content == value


def test_a_pipeline_is_answered_in_its_order_and_silence_ends(
    ours: Authority, opened: list[Listener]
) -> None:
    listener = listening(opened, "protocol", "on", ours.node("a"))
    one = b"GET /v1/kv/k%d HTTP/1.1\r\nHost: h\r\n\r\n"
    with (
        socket.create_connection(listener.address, timeout=10.0) as raw,
        ours.client().wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"".join(one % n for n in range(200)) + b"GET / HTTP/9\r\n\r\n")
        heard = b""
        while piece := secure.recv(65536):
            heard += piece
        assert heard.count(b"HTTP/1.1 404") == 200
        assert heard.count(b"HTTP/1.1 400") == 1


@pytest.mark.parametrize("said", [b"\x16", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"\x00" * 500])
def test_bytes_that_are_no_tls_end_their_connection_alone(
    ours: Authority, opened: list[Listener], said: bytes
) -> None:
    listener = listening(opened, "protocol", "on", ours.node("a"))
    with socket.create_connection(listener.address, timeout=10.0) as raw:
        with suppress(OSError):  # the listener may have ended the connection already
            raw.sendall(said)
            raw.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while raw.recv(65536):
                continue
    assert reached(listener, "protocol", ours.client())
    assert not listener.faults
