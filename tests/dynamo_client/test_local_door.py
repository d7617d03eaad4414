"""The console of a local ring: who may make faults, and proxies that cut links."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec
import pytest

from dynamo_client.local_door import TOKEN_HEADER, LocalDoor
from dynamo_client.local_fault import LocalFault
from dynamo_client.local_faults import LocalFaults, Wanted
from dynamo_client.local_links import LocalLinks
from dynamo_client.local_nodes import LocalRing, free_base, free_ports
from dynamo_client.local_ports import link_port
from dynamo_client.tokens import token_of_secret

SECRET = b"a secret of forty characters, or of more."
WAIT_S = 10.0


@pytest.fixture
def door(tmp_path: Path) -> Iterator[LocalDoor]:
    """In front of two nodes that do not run."""
    ring = LocalRing(tmp_path / "ring")
    base = free_base(2)
    for _ in range(2):
        ring.add(base)
    door = LocalDoor(LocalFaults(ring.directory, None), 0)
    yield door
    door.stop()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"Host": "rebound.example"}, 421),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_no_other_site_reads_the_token(
    door: LocalDoor, fields: dict[str, str], status: int
) -> None:
    heard = httpx.get(door.url + "/what-if", headers=fields)
    assert heard.status_code == status
    assert (door.token in heard.text) == (status == 200)
    if status != 200:
        heard = httpx.get(door.url + "/v1/status", headers=fields)
        assert heard.status_code == status, "nor data of a node"


def test_a_fault_needs_the_token_and_sense(door: LocalDoor) -> None:
    url = door.url + "/what-if"
    for shown in ({}, {TOKEN_HEADER: "guess"}):
        assert httpx.post(url, json={"fault": "heal"}, headers=shown).status_code == 403
    shown = {TOKEN_HEADER: door.token}
    for body, said in (
        ({"fault": "explode"}, "fault: "),
        ({"fault": "kill", "node": "n9"}, "node: no node"),
        ({"fault": "kill", "node": "n1"}, "node: n1 does not run"),
        ({"fault": 7}, "body: "),
        ({"fault": "rollback", "node": "n1"}, "node: no copy"),
        ({"what": "kill"}, "body: "),
        ({"fault": "skew", "node": "n1", "ahead_s": 1e12}, "ahead_s: "),
        ({"fault": "cut", "source": "n1", "target": "n2"}, "fault: links in TLS"),
        ({"fault": "mend", "source": "n1", "target": "n2"}, "fault: links in TLS"),
    ):
        heard = httpx.post(url, json=body, headers=shown)
        assert heard.status_code == 400 and heard.json()["detail"].startswith(said)
    assert httpx.put(url).status_code == 405
    long = httpx.post(url, content=b"x" * (1 << 21), headers=shown)
    assert long.status_code == 413


def test_a_ring_with_a_secret_gives_the_token_to_administrators_only(door: LocalDoor) -> None:
    file = door.directory / "secret"
    file.write_bytes(SECRET)
    ring = LocalRing(door.directory)
    ring.flags = [f"--cluster-secret-file={file}"]
    ring.link(False)
    url = door.url + "/what-if"
    for token, status in (("", 401), ("guess", 401), (token_of_secret(SECRET), 200)):
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        assert httpx.get(url, headers=fields).status_code == status


def test_where_no_node_runs_the_door_says_so(door: LocalDoor) -> None:
    for path in ("/v1/status", "/console", "/node/n1/v1/status", "/node/n9/v1/status"):
        assert httpx.get(door.url + path).status_code == 502
    assert httpx.get(door.url + "/").headers["location"] == "/console"


def test_nodes_of_a_linked_ring_are_dialled_at_their_proxies(tmp_path: Path) -> None:
    ring = LocalRing(tmp_path / "ring")
    base = free_base(2)
    for _ in range(2):
        ring.add(base)
    for linked in (True, False):
        ring.link(linked)
        for same in (ring, LocalRing(ring.directory)):
            one, other = same.nodes.values()
            port = link_port(one.ports) if linked else one.ports["peer"]
            assert one.advertise == f"127.0.0.1:{port}" and other.seeds == [one.advertise]


def hello(name: str) -> bytes:
    body = msgspec.msgpack.encode(["dialer", name, 1, "", "h:1", b"0" * 16])
    return b"dynamo-ring\x02" + len(body).to_bytes(2, "big") + body


def test_each_direction_of_a_link_is_cut_alone() -> None:
    with ExitStack() as stack:
        links = LocalLinks()
        stack.callback(links.stop)
        node = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        node.settimeout(WAIT_S)
        (port,) = free_ports(1)
        links.lead({"b": (port, node.getsockname()[1])})

        def dialled(name: str) -> tuple[socket.socket, socket.socket]:
            near = stack.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))
            near.sendall(hello(name))
            far = stack.enter_context(node.accept()[0])
            far.settimeout(WAIT_S)
            return near, far

        a, of_a = dialled("a")
        c, of_c = dialled("c")
        for far, name in ((of_a, "a"), (of_c, "c")):
            said = hello(name)
            assert far.recv(len(said), socket.MSG_WAITALL) == said
        links.cut("a", "b")
        a.sendall(b"late")
        c.sendall(b"c to b")
        of_a.sendall(b"b to a")
        assert of_c.recv(6, socket.MSG_WAITALL) == b"c to b"
        assert a.recv(6, socket.MSG_WAITALL) == b"b to a"
        of_a.setblocking(False)
        with pytest.raises(BlockingIOError):
            of_a.recv(1)
        of_a.settimeout(WAIT_S)
        links.cut("b", "a")
        of_a.sendall(b"b to a")
        links.mend("a", "b")
        assert of_a.recv(4, socket.MSG_WAITALL) == b"late"
        a.setblocking(False)
        with pytest.raises(BlockingIOError):
            a.recv(1)
        a.settimeout(WAIT_S)
        links.mend()
        assert a.recv(6, socket.MSG_WAITALL) == b"b to a"
        stranger = stack.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(1) == b"", "no link of a node"


def test_a_fault_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(LocalFault) as raised:
        LocalFaults(tmp_path, None).do(Wanted("cut", source="n1", target="n1"))
    assert raised.value.field == "fault"
