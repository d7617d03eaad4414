"""A ring of real processes in TLS: what is on its wires, and new certificates and secrets under
load."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from benchmarks.cluster import QUICK
from benchmarks.processes import until
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dynamo_client import AdminClient, ClientError, DynamoClient, Tls, Unauthorized
from dynamo_client.local_nodes import LocalNode, LocalRing, create_ring, free_base, free_ports
from dynamo_core.secret_keys import derived, keys_of
from dynamoctl.secured import certify, secure
from dynamoctl.trial_ca import make_ca, make_node

VALUE = b"what nobody else may read 0123456789 " * 20
TOKEN = "what the shop shows, and reads from its file"
PARTITIONS = 16
TOLD = [flag for flag in QUICK if not flag.startswith("--log-level")]


class Recorder:
    """Relays connections to a port and keeps all bytes of both directions."""

    def __init__(self, port: int, to: int) -> None:
        self.port, self.to = port, to
        self.heard = bytearray()
        self.loop = asyncio.new_event_loop()
        self.up = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Recorder:
        self.thread.start()
        assert self.up.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(10.0)

    def _run(self) -> None:
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        self.ended = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._one, "127.0.0.1", self.port)
        self.up.set()
        await self.ended.wait()
        server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        for one, other in ((reader, far), (far_reader, writer)):
            task = self.loop.create_task(self._pipe(one, other))
            self.tasks.add(task)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                self.heard += piece
                writer.write(piece)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()


@contextmanager
def ring_of(
    directory: Path, nodes: int, recorded: bool = False, *flags: str
) -> Iterator[tuple[LocalRing, int]]:
    """A secure ring, and the port that peers dial in place of the first node's own."""
    ring = LocalRing(directory)
    secure(ring)
    base = free_base(nodes)
    for _ in range(nodes):
        ring.add(base)
    certify(ring)
    (relayed,) = free_ports(1)
    if recorded:
        ring.nodes["n1"].advertise = f"127.0.0.1:{relayed}"
    try:
        for node in ring.nodes.values():
            node.start(*ring.flags, *TOLD, *flags)
        yield ring, relayed
    finally:
        for node in ring.nodes.values():
            node.kill()


def founded(ring: LocalRing) -> None:
    nodes: list[LocalNode] = list(ring.nodes.values())
    n = min(3, len(nodes))
    create_ring(nodes, ring.token, partitions=PARTITIONS, n=n, r=n // 2 + 1, w=n // 2 + 1)


def test_no_value_token_or_key_is_on_a_wire(tmp_path: Path) -> None:
    shown = tmp_path / "token"
    shown.write_text(TOKEN)
    access = tmp_path / "access.toml"
    digest = sha256(TOKEN.encode()).hexdigest()
    rule = f'[[rules]]\ntoken_sha256 = "{digest}"\nprefixes = [""]\n'
    access.write_text(rule + 'verbs = ["get", "put"]\n')
    flag = f"--access-file={access}"
    with ring_of(tmp_path / "ring", 2, True, flag) as (ring, relayed):
        one = ring.nodes["n1"]
        ports = free_ports(2)
        with (
            Recorder(relayed, one.ports["peer"]) as peers,
            Recorder(ports[0], one.ports["client"]) as clients,
            Recorder(ports[1], one.ports["admin"]) as admins,
        ):
            founded(ring)
            url = f"https://127.0.0.1:{ports[0]}"
            with DynamoClient(url, tls=one.tls, routing=False, token_file=shown) as to:
                for n in range(20):
                    to.put(f"secret key {n}", VALUE, w=2)
                    assert to.get(f"secret key {n}").value == VALUE
            with AdminClient(f"https://127.0.0.1:{ports[1]}", ring.token, tls=one.tls) as admin:
                assert admin.status()["state"] == "MEMBER"
                assert len(list(admin.keys())) == 20
        secret = Path(ring.secret_file).read_bytes().strip()
        keys = keys_of((secret,))
        hidden = [
            secret, VALUE[:37], b"secret key", b"Dynamo-Context", b"Authorization", b"/v1/",
            b"dynamo-ring", (ring.token or "").encode(), bytes.fromhex(ring.token or ""),
            derived(secret, "contexts"), *keys.peers[0], TOKEN.encode(), digest.encode(),
            sha256(TOKEN.encode()).digest(), *private_keys(ring.directory),
        ]  # fmt: skip
        for name, heard in (
            ("peer", peers.heard),
            ("client", clients.heard),
            ("admin", admins.heard),
        ):
            assert len(heard) > 2000, name
            assert [word for word in hidden if bytes(word) in heard] == [], name
        assert len(peers.heard) > 10 * len(VALUE)


def private_keys(directory: Path) -> list[bytes]:
    """Of nodes and the authority, as a file has them, and their numbers alone."""
    found = []
    for file in directory.rglob("*.key"):
        key = load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        number = key.private_numbers().private_value
        found += [file.read_bytes().splitlines()[1], number.to_bytes(32, "big")]
    assert len(found) == 2 * 3
    return found


class Load:
    """One client that puts and gets all the time, on connections that it keeps and on new ones."""

    def __init__(self, ring: LocalRing) -> None:
        self.ring = ring
        self.failed: list[str] = []
        self.done = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self.thread.start()
        until(lambda: self.done > 10, "no load")
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(20.0)

    def more(self) -> None:
        before = self.done
        until(lambda: self.done > before + 40 or bool(self.failed), "no load")

    def _run(self) -> None:
        nodes = list(self.ring.nodes.values())
        tls = Tls(self.ring.directory / "certs/ca.crt")
        kept = DynamoClient(*(node.endpoint for node in nodes), tls=tls, attempts_max=1)
        with kept:
            while not self.ended.is_set():
                try:
                    self._once(kept)
                    fresh = DynamoClient(
                        nodes[self.done % len(nodes)].endpoint,
                        tls=tls,
                        attempts_max=1,
                        routing=False,
                    )
                    with fresh:
                        self._once(fresh)
                except ClientError as error:
                    self.failed.append(repr(error))

    def _once(self, client: DynamoClient) -> None:
        key = f"k{self.done % 7}"
        if self.done < 7:
            client.put(key, b"v")
        else:
            client.put(key, b"v%d" % self.done, context=client.get(key).context)
        self.done += 1


def _replace(file: Path, text: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(text)
    os.replace(new, file)


def test_certificates_authority_and_secret_change_under_load(tmp_path: Path) -> None:
    with ring_of(tmp_path / "ring", 3) as (ring, _):
        founded(ring)
        certs = ring.directory / "certs"
        fresh = tmp_path / "fresh"
        make_ca(fresh)
        both = (certs / "ca.crt").read_bytes() + (fresh / "ca.crt").read_bytes()
        logs = [node.log for node in ring.nodes.values()]

        def changed(what: str, times: int) -> None:
            until(lambda: all(log.read_text().count(what) >= times for log in logs), what)
            load.more()

        with Load(ring) as load:
            _replace(certs / "ca.crt", both)
            changed("certificates were read again", 1)
            for name in ring.nodes:
                made = make_node(fresh, name, ["127.0.0.1"])
                _replace(certs / f"node.{name}.key", made.with_suffix(".key").read_bytes())
                _replace(certs / f"node.{name}.crt", made.read_bytes())
            changed("certificates were read again", 2)
            _replace(certs / "ca.crt", (fresh / "ca.crt").read_bytes())
            changed("certificates were read again", 3)
            secret = Path(ring.secret_file)
            old, new = secret.read_bytes(), b"n" * 40 + b"\n"
            for times, text in enumerate((old + new, new + old), 1):
                _replace(secret, text)
                changed("secrets were read again", times)
        assert load.failed == []
        assert load.done > 100
        wrong = AdminClient(ring.nodes["n1"].admin, "x" * 64, tls=Tls(certs / "ca.crt"))
        with wrong as admin, pytest.raises(Unauthorized):
            admin.status()
        assert ring.members() == {"n1", "n2", "n3"}
