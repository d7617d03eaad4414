"""A client that lives on while the authority of its ring changes."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dynamo_client.async_pool import AsyncPool
from dynamo_client.pool import BlockingPool
from dynamo_client.steps import Ask, Failure, Reply
from dynamo_client.tls import Tls
from dynamoctl.trial_ca import make_ca, make_node

JOIN_S = 20.0


class Answers(BaseHTTPRequestHandler):
    """204 to everything, and the connection is closed."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[list[str]]:
    """Servers with certificates of two authorities, `0/ca.crt` and `1/ca.crt`."""
    found, servers = [], []
    for place in ("0", "1"):
        make_ca(tmp_path / place)
        cert = make_node(tmp_path / place, "n", ["127.0.0.1"], 1.0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, cert.with_suffix(".key"))
        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        found.append(f"https://127.0.0.1:{server.server_address[1]}")
    yield found
    for server, thread in servers:
        server.shutdown()
        thread.join(JOIN_S)
        server.server_close()


def grown(tmp_path: Path, text: bytes) -> None:
    """The file of the client, replaced by renaming."""
    (tmp_path / "new").write_bytes(text)
    (tmp_path / "new").rename(tmp_path / "ca.crt")


def test_what_is_new_in_the_file_is_believed(urls: list[str], tmp_path: Path) -> None:
    first, second = ((tmp_path / place / "ca.crt").read_bytes() for place in "01")
    grown(tmp_path, first)
    pool = BlockingPool(urls, tls=Tls(ca_file=tmp_path / "ca.crt"))
    heard = [pool.ask(Ask("GET", url + "/", {})) for url in urls]
    assert isinstance(heard[0], Reply) and isinstance(heard[1], Failure)
    grown(tmp_path, b"no PEM")
    assert isinstance(pool.ask(Ask("GET", urls[0] + "/", {})), Reply)
    grown(tmp_path, first + second)
    assert all(isinstance(pool.ask(Ask("GET", url + "/", {})), Reply) for url in urls)
    pool.close()


def test_the_same_under_asyncio(urls: list[str], tmp_path: Path) -> None:
    first, second = ((tmp_path / place / "ca.crt").read_bytes() for place in "01")

    async def body() -> None:
        grown(tmp_path, first)
        pool = AsyncPool(urls, tls=Tls(ca_file=tmp_path / "ca.crt"))
        assert isinstance(await pool.ask(Ask("GET", urls[1] + "/", {})), Failure)
        grown(tmp_path, first + second)
        assert isinstance(await pool.ask(Ask("GET", urls[1] + "/", {})), Reply)
        await pool.aclose()

    asyncio.run(body())
