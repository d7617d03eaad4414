"""Descriptors, modes of files, secrets (T-7): the shares, and real nodes that have few."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from benchmarks.processes import until
from hypothesis import given
from hypothesis import strategies as st

from dynamo_node.descriptors import (
    DESCRIPTORS_MIN,
    OWN,
    STORE_MIN,
    TooFew,
    raise_limit,
    shares,
    store_share,
)
from dynamo_node.settings import load
from tests.dynamo_node.test_app import DEADLINE_S, Process, Start, create_ring, failure, start

__all__ = ["start"]
LISTENERS = ("client", "admin", "peer")
FEW = 256


@given(st.integers(DESCRIPTORS_MIN, 1 << 21), st.integers(1, 1024), st.integers(1, 1 << 14))
def test_the_shares_fit_and_each_part_has_one(limit: int, admin: int, clients: int) -> None:
    share = shares(limit, admin, clients)
    held = share.store + 2 * share.links + share.strangers + share.admin + share.clients
    assert OWN + held <= limit
    assert share.store == store_share(limit) >= STORE_MIN
    assert (
        share.links >= share.strangers >= 16
        and 1 <= share.admin <= admin
        and 1 <= share.clients <= clients
    )


def test_enough_is_not_lowered_and_too_little_is_refused() -> None:
    assert shares(65_536, 256, 4160) == (512, 2048, 256, 256, 4160)
    assert shares(FEW, 256, 4160) == (46, 23, 23, 23, 46)
    with pytest.raises(TooFew, match="199, a node needs at least 200"):
        shares(199, 256, 4160)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, before[1]))
    try:
        assert raise_limit() == before[1] or before[1] == resource.RLIM_INFINITY
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > FEW
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """Nodes that start now have this many, and may not have more."""
    with pytest.MonkeyPatch.context() as patched:
        limits = (count, count)
        limit = staticmethod(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
        patched.setattr(Process, "limit", limit)
        yield


def address(process: Process, which: str) -> tuple[str, int]:
    host, _, port = process.ports[which].rpartition(":")
    return host, int(port)


def put(process: Process, key: str, value: bytes, **query: int) -> int:
    url = f"http://{process.ports['client']}/v1/kv/{key}"
    try:
        return httpx.put(url, content=value, params=query, timeout=DEADLINE_S).status_code
    except httpx.TransportError:
        return 0


def test_clients_cannot_take_the_descriptors_of_store_and_links(start: Start) -> None:
    with few_descriptors(FEW):
        nodes = [start(name).started() for name in "abc"]
    create_ring(nodes)
    first, second = nodes[:2]
    said = first.said("the limit of open files is low: the node accepts fewer connections")
    assert (said["level"], said["open_files_max"]) == ("warning", FEW)
    assert said["connections_max"] + said["admin_connections_max"] < FEW
    with ExitStack() as held:
        for which in LISTENERS:
            for _ in range(300):
                connection = socket.create_connection(address(first, which), DEADLINE_S)
                held.enter_context(connection)
                with suppress(OSError):  # it is told that there are too many, or cut
                    connection.sendall(b"GET /v1/kv/k HTTP/1.1\r\nX: ")
        assert first.get("/livez").status_code == 200
        assert [put(second, f"w{i}", os.urandom(1 << 20)) for i in range(100)] == [204] * 100
        assert second.stop(signal.SIGKILL) == -signal.SIGKILL
        again = start("b", f"--peer-listen={second.ports['peer']}").started()
        until(lambda: put(again, "back", b"v", dw=3) == 204, "it does not reach the full node")
        descriptors = len(os.listdir(f"/proc/{first.child.pid}/fd"))
        assert descriptors < FEW
    until(lambda: put(first, "after", b"v", dw=3) == 204, "it does not take clients again")
    assert [line for line in first.lines() if line["level"] == "error"] == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of others are of Linux")
def test_a_listener_that_meets_the_limit_goes_on_after(start: Start) -> None:
    process = start("a").started()
    create_ring([process])
    pid = process.child.pid
    until(lambda: put(process, "k", b"v") == 204, "not up")
    whole = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    few = len(os.listdir(f"/proc/{pid}/fd")) + 8
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, whole[1]))
    with ExitStack() as held:
        for _ in range(20):
            for which in LISTENERS:
                held.enter_context(socket.create_connection(address(process, which), DEADLINE_S))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, whole)
    until(lambda: process.ready(), "the admin listener is gone")
    until(lambda: put(process, "k2", b"v") == 204, "the client listener is gone")
    refused = 'event="link_handshakes_refused"'
    with socket.create_connection(address(process, "peer"), DEADLINE_S) as connection:
        connection.sendall(b"this is no hello of a peer" * 100)
        until(lambda: refused in process.get("/metrics").text, "the peer listener is gone")
    assert process.stop() == 0


def test_too_few_descriptors_are_one_line(start: Start) -> None:
    with few_descriptors(100):
        process = start("a")
    said = failure(process)
    assert said == "cannot start: the limit of open files is 100, a node needs at least 200"


def test_what_a_node_writes_is_for_its_user_alone(start: Start, tmp_path: Path) -> None:
    open_to_all = tmp_path / "a"
    open_to_all.mkdir(mode=0o755)
    open_to_all.chmod(0o755)
    process = start("a").started()
    create_ring([process])
    assert put(process, "card", b"4111") == 204
    assert process.stop() == 0
    for path in (open_to_all, *open_to_all.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_secret_that_all_users_can_read_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 32)
    for mode, doubts in ((0o600, 0), (0o440, 0), (0o644, 1), (0o604, 1)):
        path.chmod(mode)
        told = load([f"--cluster-secret-file={path}"]).doubts()
        assert told == [f"cluster_secret_file: every user of this machine can read {path}"] * doubts
    for setting, more in (("tls-key-file", ["--tls-cert-file=none", "--tls-ca-file=none"]),
                          ("backup-identity-file", [])):  # fmt: skip
        doubt = f"{setting.replace('-', '_')}: every user of this machine can read {path}"
        assert doubt in load([f"--{setting}={path}", *more]).doubts()
    assert load([]).doubts() == []


def test_the_doubts_are_in_the_log(start: Start, tmp_path: Path) -> None:
    (tmp_path / "secret").chmod(0o644)
    process = start("a").started()
    said = [line["event"] for line in process.lines() if line["level"] == "warning"]
    assert any("every user of this machine can read" in event for event in said)
