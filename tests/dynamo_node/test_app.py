"""The command itself: real processes, from their start to their end."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from benchmarks.processes import until

from dynamo_core.secret_keys import token_of
from dynamo_node.app import main
from dynamo_node.listeners import CannotStart, bind

DEADLINE_S = 20.0
STOP_S_MAX = 10.0
SECRET = "between us, and of nobody else's concern"
ANY_PORTS = [f"--{which}-listen=127.0.0.1:0" for which in ("client", "admin", "peer")]


class Process:
    """One `dynamo-node` and what it wrote."""

    limit: Callable[[], None] | None = None
    """Called in the new process before the node, to take something from it."""

    def __init__(self, directory: Path, name: str, *flags: str, **variables: str) -> None:
        self.name = name
        self.directory = directory
        self.log = directory.with_suffix(".log")
        if directory.is_dir():
            (directory / "ports").unlink(missing_ok=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DYNAMO_")}
        command = [sys.executable, "-m", "dynamo_node.app", "--name", name, *ANY_PORTS, *flags]
        self.log.unlink(missing_ok=True)  # another process of the directory may write there yet
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                [*command, "--data-dir", str(directory)],
                stderr=log,
                env={**clean, **variables},
                preexec_fn=self.limit,
            )

    def started(self) -> Process:
        until(
            lambda: (self.directory / "ports").exists() or self.child.poll() is not None,
            "neither up nor down",
        )
        assert self.child.poll() is None, self.log.read_text()
        self.ports: dict[str, str] = json.loads((self.directory / "ports").read_text())
        return self

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token_of(SECRET.encode())}"}
        url = f"http://{self.ports['admin']}{path}"
        return httpx.request(method, url, headers=headers, timeout=DEADLINE_S, **more)

    def ready(self) -> bool:
        return self.get("/readyz").status_code == 200

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.child.wait(STOP_S_MAX)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def said(self, event: str) -> dict[str, Any]:
        return next(line for line in self.lines() if line["event"] == event)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts nodes; those that still run at the end are killed."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    running: list[Process] = []

    def begin(name: str, *flags: str, directory: str = "", **variables: str) -> Process:
        secret = f"--cluster-secret-file={tmp_path / 'secret'}"
        running.append(Process(tmp_path / (directory or name), name, secret, *flags, **variables))
        return running[-1]

    yield begin
    for process in running:
        process.stop(signal.SIGKILL)


def create_ring(nodes: list[Process]) -> dict[str, Any]:
    members = [{"name": p.name, "address": p.ports["peer"]} for p in nodes]
    body = {"cluster_id": "c", "partitions": 16, "n": min(3, len(nodes)), "members": members}
    created = nodes[0].ask("POST", "/v1/ring", json=body)
    assert created.status_code == 201, created.text
    until(lambda: all(p.ready() for p in nodes), "not ready")
    document: dict[str, Any] = created.json()
    return document


def failure(process: Process) -> str:
    """The one line of a process that could not start."""
    assert process.child.wait(DEADLINE_S) == 1
    (line,) = (line for line in process.lines() if line["level"] == "error")
    return str(line["event"])


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.strip() == version("dynamo-ring")


def test_three_nodes_from_nothing_to_a_clean_end(start: Start) -> None:
    nodes = [start(name) for name in "abc"]
    for process in nodes:
        process.started()
        assert process.get("/livez").status_code == 200
        assert process.get("/readyz").status_code == 503
    ring = create_ring(nodes)
    assert {m["name"]: m["address"] for m in ring["members"]} == {
        p.name: p.ports["peer"] for p in nodes
    }
    assert {m["name"]: m["client"] for m in ring["members"]} == {
        p.name: p.ports["client"] for p in nodes
    }
    up = {p.name: {o.name: "up" for o in nodes if o is not p} for p in nodes}
    until(
        lambda: all(p.get("/v1/status").json()["peers"] == up[p.name] for p in nodes),
        "they do not see each other",
    )
    for process in nodes:
        said = process.said("listening")
        assert {which: said[which] for which in process.ports} == process.ports
    assert [p.stop() for p in nodes] == [0, 0, 0]
    for process in nodes:
        assert process.lines()[-1]["event"] == "stopped clean"


def has_ipv6() -> bool:
    """Whether this machine has the loopback of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_nodes_listen_to_both_families_and_meet_over_ipv6(start: Start) -> None:
    both = ("--client-listen=:0", "--admin-listen=:0", "--peer-listen=[::1]:0")
    nodes = [start(name, *both).started() for name in "ab"]
    members = create_ring(nodes)["members"]
    assert all(m[field].startswith("[::1]:") for m in members for field in ("address", "client"))
    up = {p.name: {o.name: "up" for o in nodes if o is not p} for p in nodes}
    until(
        lambda: all(p.get("/v1/status").json()["peers"] == up[p.name] for p in nodes),
        "they do not see each other",
    )
    port = nodes[0].ports["client"].rpartition(":")[2]
    assert nodes[0].ports["client"] == f"[::]:{port}"
    put = httpx.put(f"http://[::1]:{port}/v1/kv/k?w=2", content=b"v", timeout=DEADLINE_S)
    assert put.status_code == 204, put.text
    got = httpx.get(f"http://127.0.0.1:{port}/v1/kv/k?r=2", timeout=DEADLINE_S)
    assert (got.status_code, got.content) == (200, b"v")


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    made = socket.socket

    def without(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        return made(family, kind)

    monkeypatch.setattr(socket, "socket", without)
    with bind("client_listen", ":0") as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
    with pytest.raises(CannotStart, match=r"client_listen: cannot listen on \[::\]:0: no such"):
        bind("client_listen", "[::]:0")


def _lines(document: dict[str, Any]) -> dict[str, Any]:
    """A ring document without admin addresses, which members tell anew in each life."""
    members = [member | {"admin": None} for member in document["members"]]
    return document | {"members": members}


def test_a_restart_remembers_and_knows_how_it_ended(start: Start) -> None:
    for number, why in (
        (signal.SIGTERM, "clean stop"),
        (signal.SIGKILL, "the process ended without a clean stop, but the machine did not restart"),
    ):
        name = f"n{number}"
        first = start(name).started()
        document = create_ring([first])
        assert first.stop(number) in (0, -signal.SIGKILL)
        again = start(name).started()
        said = again.said("the store is open")
        assert (said["trusted"], said["why"]) == (True, why)
        assert again.ready()
        assert _lines(again.get("/v1/ring").json()) == _lines(document)


def test_one_process_to_a_directory(start: Start) -> None:
    first = start("a").started()
    ports = (first.directory / "ports").read_text()
    second = start("a", "--admin-listen=127.0.0.1:0", directory="a")
    assert "another process has the data directory" in failure(second)
    first.ports = json.loads(ports)
    assert first.get("/livez").status_code == 200
    assert first.stop() == 0


def test_a_directory_of_another_node_or_cluster_is_refused(start: Start) -> None:
    assert start("a", "--cluster=one").started().stop() == 0
    assert "belongs to node 'a', not to 'b'" in failure(start("b", directory="a"))
    assert "belongs to cluster 'one'" in failure(start("a", "--cluster=two"))


def test_a_port_that_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = failure(start("a", f"--peer-listen={address}"))
    assert said == f"cannot start: peer_listen: cannot listen on {address}: Address already in use"


def test_an_address_that_cannot_be_dialled(start: Start) -> None:
    assert "advertise: needed" in failure(start("a", "--peer-listen=0.0.0.0:0"))


def test_a_damaged_store_is_salvaged_and_not_believed(start: Start) -> None:
    first = start("a").started()
    create_ring([first])
    assert first.stop() == 0
    (first.directory / "store" / "CURRENT").write_bytes(b"nonsense")
    again = start("a").started()
    said = again.said("the store is open")
    assert not said["trusted"] and "salvaged" in said["why"]
    assert again.stop() == 0


def test_a_full_disk_at_the_start_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dynamo_node.app", "--name=a", *ANY_PORTS]
    ended = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "a")],
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert json.loads(line)["event"].startswith("cannot start: data_dir: ")


def test_a_disk_that_fills_up_is_lived_with(start: Start) -> None:
    process = start("a").started()
    body = {"cluster_id": "c", "partitions": 4096, "n": 1}
    body["members"] = [{"name": "a", "address": process.ports["peer"]}]
    limit, unlimited = 64 * 1024, resource.RLIM_INFINITY
    resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (limit, unlimited))
    assert process.ask("POST", "/v1/ring", json=body).status_code >= 400
    until(lambda: "reads go on" in process.log.read_text(), "not noticed")
    assert process.get("/livez").status_code == 200
    resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    until(lambda: "accepts writes again" in process.log.read_text(), "not opened again")
    assert process.ask("POST", "/v1/ring", json=body).status_code in (200, 201)
    assert process.ready()
    assert process.stop() == 0


def test_a_data_directory_that_cannot_be_made(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "data_dir: the data directory cannot be used" in failure(start("a", directory="file"))


def test_wrong_settings_exit_2(start: Start, tmp_path: Path) -> None:
    for process, said in (
        (start("a", DYNAMO_WEIGHT="much"), "dynamo-node: weight: "),
        (start("b", "--cluster-secret-file=/nowhere"), "cluster_secret_file: /nowhere"),
    ):
        assert process.child.wait(DEADLINE_S) == 2
        (line,) = process.log.read_text().splitlines()
        assert said in line


def test_unknown_variables_are_warned_of(start: Start) -> None:
    process = start("a", DYNAMO_WIEGHT="1").started()
    said = process.said("unknown setting")
    assert (said["level"], said["variable"]) == ("warning", "DYNAMO_WIEGHT")


def test_no_secret_is_said(start: Start, tmp_path: Path) -> None:
    in_memory = "a restart loses all data: puts answer durable=0 for every dw"
    process = Process(tmp_path / "bare", "bare", "--engine=memory").started()
    event = "no cluster secret: peers and administrators are not asked who they are"
    until(lambda: event in process.log.read_text(), "nothing said")
    status = process.get("/v1/status").json()
    assert (status["name"], status["durability"]) == ("bare", "memory")
    assert process.said(in_memory)["level"] == "warning"
    assert process.stop(signal.SIGINT) == 0


def test_the_admin_listener_asks_for_the_token(start: Start) -> None:
    process = start("a").started()
    url = f"http://{process.ports['admin']}"
    assert httpx.get(url + "/livez").status_code == 200
    refused = httpx.get(url + "/v1/status")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    key = process.get("/v1/preference-list/%ff").json()
    assert key["type"].endswith("not-a-member")
    create_ring([process])
    assert process.get("/v1/preference-list/%ff%0a").json()["key"] == "/wo="


def test_a_lost_disk_is_replaced_and_made_whole(start: Start, tmp_path: Path) -> None:
    quick = ("--suspect-ms=600", "--heartbeat-ms=100", "--exchange-ms=100")
    nodes = [start(name, *quick).started() for name in "abc"]
    create_ring(nodes)
    lost = nodes[2]
    assert lost.stop(signal.SIGKILL) == -signal.SIGKILL
    lost.directory.rename(tmp_path / "gone")
    flags = (f"--peer-listen={lost.ports['peer']}", f"--seeds={nodes[0].ports['peer']}")
    back = start("c", *quick, *flags).started()
    until(
        lambda: back.get("/readyz?level=synced").status_code == 200,
        "not made whole: " + back.get("/v1/status").text,
    )
    line = next(m for m in back.get("/v1/ring").json()["members"] if m["name"] == "c")
    assert line["incarnation"] == 2


def test_a_disk_that_has_left_joins_again_under_a_new_id(start: Start) -> None:
    """S-MEM-3: join, leave, restart, join."""
    quick = ("--suspect-ms=600", "--heartbeat-ms=100", "--exchange-ms=100")
    nodes = [start(name, *quick).started() for name in "abc"]
    create_ring(nodes)

    def state(name: str) -> dict[str, Any]:
        lines = nodes[0].get("/v1/ring").json()["members"]
        return next((line for line in lines if line["name"] == name), {})

    def change(wishes: dict[str, Any]) -> None:
        plan = nodes[0].ask("POST", "/v1/ring/plan", json=wishes).json()
        body = {**wishes, "hash": plan["hash"]}
        applied = nodes[0].ask("POST", "/v1/ring/apply", json=body)
        assert applied.status_code == 202, applied.text

    def join(node: Process) -> dict[str, Any]:
        change({"join": [{"name": "d", "address": node.ports["peer"]}]})
        until(lambda: state("d").get("state") == "MEMBER", "it does not join")
        return state("d")

    before = start("d", *quick).started()
    first = join(before)
    change({"leave": ["d"]})
    until(lambda: state("d")["state"] == "LEFT", "it does not leave")
    emptied = 'event="replaced_node_emptied"'
    until(lambda: emptied in before.get("/metrics").text, "it is not emptied")
    told = before.get("/v1/status").json()
    assert (told["disk"], told["emptied"]) == ("left", True)
    assert before.stop() == 0

    after = start("d", *quick, f"--seeds={nodes[0].ports['peer']}").started()
    assert "has left the ring" in after.said("the store is open")["why"]
    now = after.get("/v1/status").json()
    assert (now["disk"], now["emptied"]) == ("empty", False)
    assert now["uptime_s"] < told["uptime_s"]
    second = join(after)
    assert (first["incarnation"], second["incarnation"]) == (1, 2)
    assert first["id"] != second["id"]
