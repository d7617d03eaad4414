"""Nodes of dynamo-ring as processes of this machine: one, and the ring of them in one directory.

    .local/nodes.json   names, ports and flags
    .local/n1/          data of a node; beside it n1.log, what it said, and n1.pid, who it is

Nothing is kept in memory: every question reads the files, so several shells may ask and act.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from fcntl import LOCK_EX, flock
from importlib.util import find_spec
from os import getuid, strerror
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from dynamo_client.admin import AdminClient
from dynamo_client.errors import ClientError
from dynamo_client.local_process import Process, until

LISTENERS = ("client", "admin", "peer")
BASE_PORT = 7101
PORTS_APART = 100
"""Between the listeners of one node."""
NODES_MAX = 64
HISTORY = "--history-bytes-max"
HISTORY_BYTES_MAX = 8 * 1024 * 1024
"""Nodes of one directory are for trying things: they remember the histories of all keys."""
EXTRA = "[node]"
SECRET = "--cluster-secret-file"
FREE_PORTS = range(10_000, 32_000)
PROBE_S_MAX = 2.0


class LocalFault(RuntimeError):
    """What hinders local nodes, in one line; `field` names what to change, when it is an option."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, below those that the system gives to outgoing
    connections: one of these could take a port while its node is down. They are given in turn, to
    all processes of this user: who drew at random now and then drew what another had not yet
    opened, or had closed to open it again."""
    ports: list[int] = []
    with open(Path(gettempdir()) / f"dynamo-ring-ports-{getuid()}", "a+b") as turn:
        flock(turn, LOCK_EX)
        turn.seek(0)
        last = int(turn.read() or 0)
        while len(ports) < count:
            last += 1
            port = FREE_PORTS[last % len(FREE_PORTS)]
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                ports.append(port)
        turn.truncate(0)
        turn.write(b"%d" % last)
    return ports


def free_base(nodes: int) -> int:
    """A base port from which the ports of so many nodes in one directory are free, as
    `free_ports`."""
    apart = [PORTS_APART * which for which in range(len(LISTENERS))]
    while True:
        ports = free_ports(apart[-1] + nodes)
        base = ports[0]
        if {base + place + node for place in apart for node in range(nodes)} <= set(ports):
            return base


def said(line: str) -> tuple[str, str]:
    """Level and words of a line of a node's log, JSON or not."""
    try:
        fields = json.loads(line)
        level, event = fields.pop("level"), fields.pop("event")
    except (ValueError, KeyError, AttributeError):
        return "", line.rstrip()
    more = [f"{k}={v}" for k, v in fields.items() if k not in ("node", "timestamp") and v]
    return level, " ".join([event, *more])


class LocalNode:
    """One `dynamo-node` on loopback that can be killed, wiped and started again in its place."""

    def __init__(
        self, name: str, directory: Path, advertise: str = "", ports: dict[str, int] | None = None
    ) -> None:
        self.name = name
        self.directory = directory
        self.ports = ports or dict(zip(LISTENERS, free_ports(3), strict=True))
        self.advertise = advertise or f"127.0.0.1:{self.ports['peer']}"
        self.seeds: list[str] = []
        self.before: list[str] = []
        """What stands before its command, as `env` and variables."""
        self.log = directory.with_suffix(".log")
        self.pid_file = directory.with_suffix(".pid")

    @property
    def process(self) -> Process | None:
        """Its last process, which may have ended; None before its start and after a clean stop."""
        return Process.of_file(self.pid_file)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        process = self.process
        return process is not None and process.alive

    @property
    def endpoint(self) -> str:
        """Base URL of client HTTP."""
        return f"http://127.0.0.1:{self.ports['client']}"

    @property
    def admin(self) -> str:
        """Base URL of admin HTTP."""
        return f"http://127.0.0.1:{self.ports['admin']}"

    def start(self, *flags: str) -> None:
        """Starts the process; `until(self.lives, ...)` waits for it."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        listen = [f"--{which}-listen=127.0.0.1:{port}" for which, port in self.ports.items()]
        seeds = [f"--seeds={','.join(self.seeds)}"] if self.seeds else []
        process = Process.start(
            [*self.before, sys.executable, "-m", "dynamo_node.app", f"--name={self.name}",
             f"--data-dir={self.directory}", f"--advertise={self.advertise}",
             *listen, *seeds, *flags],
            self.log,
        )  # fmt: skip
        process.save(self.pid_file)

    def kill(self) -> None:
        """As a power switch would."""
        if (process := self.process) is not None:
            process.end(signal.SIGKILL)

    def stop(self) -> None:
        """The clean way; nothing when it does not run."""
        if (process := self.process) is not None:
            process.end()
            self.pid_file.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Its disk is lost."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def lives(self) -> bool:
        """Whether the process answers; raises LocalFault when it has ended."""
        if not self.alive:
            raise LocalFault(f"{self.name} has ended: {self.last_words()}")
        return self._probe("/livez")

    def ready(self) -> bool:
        """Whether it takes operations."""
        return self._probe("/readyz")

    def last_words(self) -> str:
        """The last line of its log."""
        lines: list[str] = []
        with suppress(FileNotFoundError):
            lines = self.log.read_text(errors="replace").splitlines()
        return said(lines[-1])[1] if lines else "it said nothing"

    def _probe(self, path: str) -> bool:
        # Cheaper than an AdminClient, as it is asked often while the nodes need the processors.
        from http.client import HTTPConnection, HTTPException

        door = HTTPConnection("127.0.0.1", self.ports["admin"], timeout=PROBE_S_MAX)
        try:
            door.request("GET", path)
            return door.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            door.close()


def found(nodes: Iterable[LocalNode], token: str | None = None, **settings: int | str) -> None:
    """Makes one ring of nodes that are up and empty. Raises RuntimeError, or
    ClientError when they do not want."""
    nodes = list(nodes)
    for node in nodes:
        until(node.lives, f"{node.name} does not answer")
    members = [{"name": node.name, "address": node.advertise} for node in nodes]
    body: dict[str, Any] = {**settings, "members": members}
    with AdminClient(nodes[0].admin, token) as admin:
        admin.create_ring(body)
    for node in nodes:
        until(node.ready, f"{node.name} is not ready")


class LocalRing:
    """The nodes of one directory."""

    def __init__(self, directory: Path) -> None:
        """Reads what is there. Raises LocalFault."""
        self.directory = directory
        self.nodes: dict[str, LocalNode] = {}
        self.flags: list[str] = []
        try:
            document = json.loads((directory / "nodes.json").read_text())
            self.flags = document["flags"]
            for name, ports in document["ports"].items():
                self._take(name, ports)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalFault(f"{directory / 'nodes.json'}: {error!r}", "--dir") from None

    @property
    def running(self) -> list[LocalNode]:
        """Nodes whose process runs."""
        return [node for node in self.nodes.values() if node.alive]

    @property
    def token(self) -> str | None:
        """The secret that the flags name, as administrators show it. Raises LocalFault."""
        if not (path := self.token_file):
            return None
        try:
            return Path(path).read_text().removesuffix("\n")
        except OSError as error:
            raise LocalFault(f"{path}: {error.strerror}", SECRET) from None

    @property
    def token_file(self) -> str:
        """Where the flags say that it is; "" when they name none."""
        named = dict(flag.partition("=")[::2] for flag in self.flags)
        return named.get(SECRET, "")

    def node(self, name: str) -> LocalNode:
        """One of them. Raises LocalFault when there is none of that name."""
        if name not in self.nodes:
            has = ", ".join(self.nodes) or "no nodes"
            raise LocalFault(f"no node {name!r} in {self.directory}, which has {has}", "NAME")
        return self.nodes[name]

    def add(self, base_port: int = BASE_PORT) -> LocalNode:
        """One more node, not started, under the first name that is free; n1 has the base port, the
        others follow it. Raises LocalFault."""
        taken = {int(name[1:]) - 1: node for name, node in self.nodes.items()}
        number = next(n for n in range(NODES_MAX + 1) if n not in taken)
        for other, node in taken.items():
            base_port = node.ports["client"] - other
        if number >= NODES_MAX:
            raise LocalFault(f"at most {NODES_MAX} nodes on one machine", "--nodes")
        ports = {name: base_port + PORTS_APART * i + number for i, name in enumerate(LISTENERS)}
        self._take(f"n{number + 1}", ports)
        self._save()
        return self.nodes[f"n{number + 1}"]

    def drop(self, node: LocalNode) -> None:
        """Stops a node that has left the ring; its directory goes with it."""
        node.stop()
        node.wipe()
        del self.nodes[node.name]
        self._save()

    def _save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        document = {"ports": {n.name: n.ports for n in self.nodes.values()}, "flags": self.flags}
        new = self.directory / "nodes.new"
        new.write_text(json.dumps(document, indent=1) + "\n")
        new.rename(self.directory / "nodes.json")

    def forget(self) -> None:
        """The next try begins anew, with other ports if it likes."""
        (self.directory / "nodes.json").unlink(missing_ok=True)

    def start(self, nodes: list[LocalNode]) -> None:
        """Starts nodes and waits until they answer; stops them when one does not. Raises
        LocalFault."""
        if missing := [name for name in ("dynamo_node", "fastapi", "rocksdict", "uvicorn")
                       if find_spec(name) is None]:  # fmt: skip
            raise LocalFault(
                f"nodes need the package's extra [node] ({missing[0]} is not installed):"
                " pip install 'dynamo-ring[node]'",
                EXTRA,
            )
        for node in nodes:
            for port in node.ports.values():
                _check_free(port)
        try:
            for node in nodes:
                node.start(*self._all_flags())
            for node in nodes:
                until(node.lives, f"{node.name} does not answer; its log is {node.log}")
        except BaseException:
            self.stop(nodes)
            raise

    def _all_flags(self) -> list[str]:
        if any(flag.partition("=")[0] == HISTORY for flag in self.flags):
            return self.flags
        return [f"{HISTORY}={HISTORY_BYTES_MAX}", *self.flags]

    def stop(self, nodes: list[LocalNode] | None = None) -> None:
        """Stops nodes the clean way, all at once; all of them when none are named."""
        nodes = list(self.nodes.values()) if nodes is None else nodes
        for node in nodes:
            if (process := node.process) is not None:
                process.send(signal.SIGTERM)
        for node in nodes:
            node.stop()

    def up(self, partitions: int) -> None:
        """All nodes, and a ring of them unless they are in one. Raises RuntimeError or
        ClientError."""
        nodes = list(self.nodes.values())
        n = min(3, len(nodes))
        quorum = n // 2 + 1
        self.start(nodes)
        try:
            if not (members := self.members()):
                found(nodes, self.token, partitions=partitions, n=n, r=quorum, w=quorum)
            for node in nodes:
                if node.name in members:
                    until(node.ready, f"{node.name} is not ready; its log is {node.log}")
        except BaseException:
            self.stop()
            raise

    def members(self) -> set[str]:
        """Names in the ring, as the first node that is in one knows it; empty without a ring."""
        for node in self.running:
            door = AdminClient(node.admin, self.token, timeout_s=PROBE_S_MAX)
            with door as admin, suppress(ClientError):
                members = admin.ring()["members"]
                return {member["name"] for member in members if member["state"] != "LEFT"}
        return set()

    def _take(self, name: str, ports: dict[str, int]) -> None:
        new = LocalNode(name, self.directory / name, ports=ports)
        for node in self.nodes.values():
            node.seeds.append(new.advertise)
            new.seeds.append(node.advertise)
        self.nodes[name] = new


def _check_free(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        reason = f"127.0.0.1:{port} cannot be used: {strerror(error.errno or 0)}"
        raise LocalFault(reason, "--base-port") from None
