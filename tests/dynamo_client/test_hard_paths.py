"""A small real server that gives answers that no healthy node gives, and none at all."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from benchmarks.processes import free_ports

from dynamo_client import (
    AdminClient,
    AsyncDynamoClient,
    BadAnswer,
    BadParameter,
    ConnectionFailed,
    Draining,
    DynamoClient,
    QuorumNotMet,
    Unauthorized,
    WrongUse,
)
from tests.dynamo_client.stepping import PROBLEMS

JOIN_S = 60.0
STORED = (204, {"Dynamo-Node": "a", "Dynamo-Context": "ctx"}, b"")


class Scripted:
    """Answers in turn, the last one for ever; None closes the connection without an answer."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes] | None] = []
        self.heard: list[tuple[str, str, dict[str, str]]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                scripted.heard.append((self.command, self.path, dict(self.headers)))
                script = scripted.script
                said = script.pop(0) if len(script) > 1 else script[0]
                if said is None:
                    self.close_connection = True
                    return
                status, headers, body = said
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(JOIN_S)
        assert not self._thread.is_alive(), f"the server did not end in {JOIN_S:g} s"
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.stop()


def problem(slug: str, status: int = 503, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = f'{{"type":"{PROBLEMS}{slug}","detail":"x: y","acks":{{"total":1}}}}'.encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


def nobody() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def client_of(*endpoints: str, attempts_max: int = 2) -> DynamoClient:
    return DynamoClient(*endpoints, routing=False, attempts_max=attempts_max)


def test_a_connection_that_ends_without_an_answer_is_unknown_and_tried_again(
    server: Scripted,
) -> None:
    server.script = [None, STORED]
    with client_of(server.url) as client:
        assert client.put("k", "v").node == "a"
        assert len({headers["Dynamo-Request-Id"] for _, _, headers in server.heard}) == 1
        server.script = [None]
        with pytest.raises(ConnectionFailed) as caught:
            client.put("k", "v")
    assert caught.value.applied == "unknown"


def test_a_write_that_no_node_got_is_certainly_not_applied() -> None:
    with client_of(nobody(), nobody()) as client, pytest.raises(ConnectionFailed) as caught:
        client.put("k", "v")
    assert caught.value.applied == "no"


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:8080", "http://[", "http://a b", "ftp://a:1", "", "http://", "http://a:99999",
     "http://a:1/v1/kv", "http://a:1/v1/kv/", "http://a:1?x=1", "http://u:p@a:1"],
)  # fmt: skip
def test_a_malformed_address_is_an_error_at_once(endpoint: str) -> None:
    with pytest.raises(BadParameter, match="endpoints: ") as caught:
        client_of(endpoint)
    assert caught.value.field == "endpoints"
    with pytest.raises(BadParameter, match="url: "):
        AdminClient(endpoint)


def test_a_malformed_token_is_an_error_at_once() -> None:
    for token in ("", "k\xe4se", "two\nlines"):
        with pytest.raises(BadParameter, match="token"):
            AdminClient("http://127.0.0.1:1", token)


def test_options_out_of_range_are_told_at_once() -> None:
    with pytest.raises(BadParameter, match="endpoints"):
        DynamoClient()
    urls: Any = ["http://127.0.0.1:1"]
    with pytest.raises(BadParameter, match="endpoints"):
        DynamoClient(urls)
    wrong: list[dict[str, Any]] = [
        {"timeout_s": 0}, {"timeout_s": -1}, {"attempts_max": 0}, {"deadline_s": 0},
        {"deadline_s": float("nan")}, {"timeout_s": float("inf")}, {"deadline_s": "1"},
    ]  # fmt: skip
    for how in wrong:
        with pytest.raises(BadParameter, match=next(iter(how))):
            AsyncDynamoClient("http://127.0.0.1:1", **how)
    client = DynamoClient("http://127.0.0.1:1")
    with pytest.raises(BadParameter, match="deadline_s"):
        client.get("k", deadline_s=-1)
    client.close()
    client.close()
    with pytest.raises(WrongUse, match="closed"):
        client.get("k")


def test_a_node_that_does_not_answer_in_time_is_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            DynamoClient(url, routing=False, timeout_s=0.2, attempts_max=1) as client,
            pytest.raises(ConnectionFailed) as caught,
        ):
            client.put("k", "v")
    assert caught.value.applied == "unknown" and "ReadTimeout" in str(caught.value)


def test_503_goes_to_the_next_endpoint(server: Scripted) -> None:
    server.script = [problem("draining", Dynamo_Applied="no", Retry_After="1"), STORED]
    with client_of(nobody(), server.url, attempts_max=3) as client:
        assert client.put("k", "v").context == "ctx"
    assert len(server.heard) == 2


def test_503_to_the_end(server: Scripted) -> None:
    server.script = [problem("quorum-not-met", Dynamo_Applied="unknown", Retry_After="0")]
    with client_of(server.url) as client, pytest.raises(QuorumNotMet) as caught:
        client.delete("k")
    error = caught.value
    assert (error.status, error.applied, error.retry_after_s) == (503, "unknown", 0.0)
    assert error.acks is not None and error.acks.total == 1


def test_something_else_answers(server: Scripted) -> None:
    server.script = [(200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>")]
    with client_of(server.url) as client:
        for call in (lambda: client.get("k"), lambda: client.put("k", "v"), client.ring):
            with pytest.raises(BadAnswer):
                call()
    with AdminClient(server.url) as admin, pytest.raises(BadAnswer):
        admin.status()


async def async_put(url: str) -> None:
    async with AsyncDynamoClient(url, nobody(), routing=False, attempts_max=6) as client:
        assert client.endpoints[0] == url
        assert (await client.put("k", "v")).node == "a"


def test_the_async_client_hears_the_same(server: Scripted) -> None:

    server.script = [None, problem("overloaded", 429, Retry_After="0"), STORED]
    asyncio.run(async_put(server.url))
    assert len({headers["Dynamo-Request-Id"] for _, _, headers in server.heard}) == 1


def test_admin_errors(server: Scripted) -> None:
    with AdminClient(server.url, token="secret") as admin:
        server.script = [problem("unauthorized", 401)]
        with pytest.raises(Unauthorized):
            admin.status()
        assert server.heard[-1][2]["Authorization"] == "Bearer secret"
        server.script = [problem("draining")]
        with pytest.raises(Draining):
            admin.repair(partitions=[1])
        assert not admin.readyz(level="synced") and server.heard[-1][1] == "/readyz?level=synced"
        server.script = [problem("bad-parameter", 400)]
        with pytest.raises(BadParameter):
            list(admin.keys(limit=5))
        server.script = [None]
        for call, applied in ((admin.ring, "no"), (admin.repair, "unknown")):
            with pytest.raises(ConnectionFailed) as caught:
                call()
            assert caught.value.applied == applied
    with AdminClient(nobody()) as admin:
        assert not admin.livez()
        with pytest.raises(ConnectionFailed) as caught:
            admin.create_ring({})
        assert caught.value.applied == "no"
