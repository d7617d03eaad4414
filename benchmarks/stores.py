"""The stores that `bench.py` compares: how to start each, and the requests that load it.

Three nodes of each on loopback, N=3 R=2 W=2 or the nearest equivalent. `disk` stores are on a real
disk and acknowledge only fsynced writes; the others are on tmpfs with their usual settings.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
from benchmarks.load_runs import BATCH, CONNECTIONS, Load, h2load, own, wrk
from benchmarks.processes import Child, Node, create_ring, free_ports, listens, until

from dynamo_client.local_nodes import LocalNode, LocalRing, free_base
from dynamoctl.secured import certify, secure

HERE = Path(__file__).parent
NODES = 3
KEYS = 20_000
VALUE_BYTES = 1024
PARTITIONS = 256
UPDATED_KEYS = 960
"""Known keys of the row `update`; each connection first asks once for each key's context."""


class Peer:
    """A store that can be loaded, row by row; None of a row that it cannot do."""

    name = ""
    note = ""

    def __init__(self, directory: Path, durable: bool) -> None:
        self.directory = directory / f"{self.name}-{'disk' if durable else 'tmpfs'}"
        self.durable = durable
        self.children: list[Child] = []
        self.ports: list[int] = []

    @staticmethod
    def missing() -> str:
        """Why it cannot run here, "" if it can."""
        return ""

    @staticmethod
    def version() -> str:
        """What ran."""
        return ""

    def start(self) -> None:
        """Starts it and writes the known keys."""
        raise RuntimeError("a subclass starts its store")

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        """The load of one row; keys that are new begin with the prefix."""
        raise RuntimeError("a peer knows its loads")

    def check(self) -> None:
        """Raises RuntimeError if the store did not do what the load generator counted."""

    def stop(self) -> None:
        """Ends its processes and removes its data."""
        for child in self.children:
            child.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _child(self, number: int, command: list[str]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.children.append(Child.start(command, self.directory / f"{number}.log"))

    @property
    def addresses(self) -> list[str]:
        """Where it accepts requests."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    def _http(self, row: str, prefix: str, connections: int, query: str = "") -> Load | None:
        """Rows over `/v1/kv` and `/v1/batch`."""
        if row in ("put", "durable put"):
            return wrk("put", self.addresses, prefix=prefix, query=query, connections=connections)
        if row == "get":
            return wrk("get", self.addresses, connections=connections)
        return None


class Ours(Peer):
    """dynamo-ring with its defaults."""

    name = "dynamo-ring"
    note = "put: W=2, one of them fsynced (dw=1); durable put: both (dw=2)"

    def start(self) -> None:
        self.nodes = self._started()
        self.children = [
            c for node in self.nodes if (c := Child.of_file(node.pid_file)) is not None
        ]
        self.ports = [node.ports["client"] for node in self.nodes]
        self.idle_bytes = [child.resident_bytes() for child in self.children]
        fill = own("fill", self.addresses).run(60.0)
        if fill.failed or fill.operations < KEYS:
            raise RuntimeError(f"dynamo-ring stored {fill.operations} of {KEYS} keys")

    def _started(self) -> list[LocalNode]:
        nodes = [Node(f"n{index}", self.directory / f"n{index}") for index in range(NODES)]
        for node in nodes:
            node.start("--log-level=warning")
        create_ring(nodes, n=NODES)
        return nodes

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        if row == "update":
            return own("update", self.addresses, keys=UPDATED_KEYS)
        if row.startswith("batch"):
            return own(row.replace(" ", "-"), self.addresses, prefix=prefix)
        query = "?dw=2" if row == "durable put" else ""
        return self._http(row.removeprefix("tls "), prefix, connections, query)


class Secured(Ours):
    """dynamo-ring with TLS between clients and nodes, and between nodes."""

    name = "dynamo-ring in TLS"
    note = "TLS 1.3 on kept connections, links between nodes in TLS as well"

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("wrk") else "wrk is not installed"

    def _started(self) -> list[LocalNode]:
        ring = LocalRing(self.directory)
        secure(ring)
        base = free_base(NODES)
        nodes = [ring.add(base) for _ in range(NODES)]
        certify(ring)
        # The generator that fills it speaks plain HTTP.
        ring.flags = [*ring.flags, "--client-tls=allow", "--log-level=warning"]
        ring.up(PARTITIONS)
        return nodes

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        kind = row.removeprefix("tls ")
        return wrk(kind, self.addresses, prefix=prefix, scheme="https", connections=connections)


class Naive(Peer):
    """benchmarks/naive."""

    name = "naive"

    @staticmethod
    def version() -> str:
        code = "import importlib.util as u; print(bool(u.find_spec('aiohttp')))"
        has = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        called = "aiohttp" if has.stdout.strip() == "True" else "httpx"
        return f"FastAPI, nodes called with {called}"

    def start(self) -> None:
        self.ports = free_ports(NODES)
        for index, port in enumerate(self.ports):
            directory = self.directory / f"n{index}"
            directory.mkdir(parents=True)
            peers = ",".join(f"http://127.0.0.1:{p}" for p in self.ports if p != port)
            program = str(HERE / "naive/app.py")
            sync = ["--sync"] if self.durable else []
            self._child(
                index,
                [
                    sys.executable,
                    program,
                    f"--name=n{index}",
                    f"--port={port}",
                    f"--peers={peers}",
                    f"--dir={directory}",
                    f"--fill={KEYS}",
                    *sync,
                ],
            )
        for port in self.ports:
            until(lambda port=port: listens(port), "the naive design does not start")

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        return self._http(row, prefix, connections)


class Etcd(Peer):
    """Three members; each gets a third of the connections, for one key."""

    name = "etcd"
    note = "gRPC from h2load, one key for each member; get is linearizable"

    @staticmethod
    def missing() -> str:
        absent = [tool for tool in ("etcd", "h2load") if shutil.which(tool) is None]
        return f"{' and '.join(absent)} not installed" if absent else ""

    @staticmethod
    def version() -> str:
        return _said(["etcd", "--version"], r"etcd Version: (\S+)")

    def start(self) -> None:
        self.ports, peers = free_ports(NODES), free_ports(NODES)
        members = ",".join(f"e{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
        for index, (port, peer) in enumerate(zip(self.ports, peers, strict=True)):
            self._child(
                index,
                [
                    "etcd",
                    f"--name=e{index}",
                    f"--data-dir={self.directory / str(index)}",
                    f"--listen-client-urls=http://127.0.0.1:{port}",
                    f"--advertise-client-urls=http://127.0.0.1:{port}",
                    f"--listen-peer-urls=http://127.0.0.1:{peer}",
                    f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                    f"--initial-cluster={members}",
                    "--initial-cluster-state=new",
                    "--log-level=error",
                    f"--quota-backend-bytes={8 << 30}",
                ],
            )
        for port in self.ports:
            until(lambda port=port: listens(port), "etcd does not start")
        until(self._takes_puts, "etcd has no leader")
        self._revision = self._at()
        self._counted = 0

    def _takes_puts(self) -> bool:
        sample = h2load("put", self.addresses, self.directory, VALUE_BYTES).run(0.3)
        return sample.failed == 0 and sample.operations > 0

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        kinds = {"put": "put", "durable put": "put", "get": "get", "batch put": "txn"}
        if row not in kinds:
            return None
        load = h2load(kinds[row], self.addresses, self.directory, VALUE_BYTES, connections)
        if row != "get":
            load.told = partial(self._count, BATCH if kinds[row] == "txn" else 1)
        return load

    def _count(self, puts_in_one: int, operations: int) -> None:
        self._counted += operations // puts_in_one

    def _at(self) -> int:
        """The number of committed transactions, from its JSON gateway."""
        url = f"http://{self.addresses[0]}/v3/kv/range"
        answer = httpx.post(url, json={"key": "Yg=="}, timeout=10)
        return int(answer.json()["header"]["revision"])

    def check(self) -> None:
        """h2load sees HTTP statuses, and gRPC errors have status 200, so check etcd's revision."""
        done = self._at() - self._revision
        if done < self._counted:
            raise RuntimeError(f"etcd: {self._counted} puts counted, {done} committed")


class Redis(Peer):
    """A master and two replicas with AOF; a put waits for one replica."""

    name = "redis"
    note = "AOF everysec, always where durable; SET + WAIT 1 of known keys; get asks the master"

    @staticmethod
    def missing() -> str:
        return "" if shutil.which("redis-server") else "redis-server not installed"

    @staticmethod
    def version() -> str:
        return _said(["redis-server", "--version"], r"v=(\S+)")

    def start(self) -> None:
        ports = free_ports(NODES)
        for index, port in enumerate(ports):
            directory = self.directory / str(index)
            directory.mkdir(parents=True)
            follow = ["--replicaof", "127.0.0.1", str(ports[0])] if index else []
            self._child(
                index,
                [
                    "redis-server",
                    "--port",
                    str(port),
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                    str(directory),
                    "--save",
                    "",
                    "--appendonly",
                    "yes",
                    "--appendfsync",
                    "always" if self.durable else "everysec",
                    "--repl-diskless-sync-delay",
                    "0",
                    *follow,
                ],
            )
        for port in ports:
            until(lambda port=port: listens(port), "redis does not start")
        self.ports = ports[:1]
        until(self._replicated, "the replicas of redis do not follow")

    def _replicated(self) -> bool:
        sample = own("redis-fill", self.addresses).run(60.0)
        return sample.failed == 0 and sample.operations >= KEYS

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        modes = {
            "put": "redis-set",
            "durable put": "redis-set",
            "get": "redis-get",
            "batch put": "redis-batch-set",
            "batch get": "redis-batch-get",
        }
        if row not in modes:
            return None
        return own(modes[row], self.addresses, connections=connections)


class Nginx(Peer):
    """One worker on one core that answers 1 KB from its configuration."""

    name = "nginx"
    note = "one worker, `return 200` with 1 KB"

    @staticmethod
    def missing() -> str:
        return "" if _nginx() else "nginx not installed"

    @staticmethod
    def version() -> str:
        return _said([_nginx(), "-v"], r"nginx/(\S+)")

    def start(self) -> None:
        self.ports = free_ports(1)
        self.directory.mkdir(parents=True)
        text = (HERE / "wrk/nginx.conf").read_text()
        for word, value in (
            ("DIRECTORY", str(self.directory)),
            ("PORT", str(self.ports[0])),
            ("VALUE", "v" * VALUE_BYTES),
        ):
            text = text.replace(f"@{word}@", value)
        file = self.directory / "nginx.conf"
        file.write_text(text)
        command = [_nginx(), "-p", str(self.directory), "-c", str(file), "-e", "stderr"]
        self.children = [Child.start(command, self.directory / "log", cpu=0)]
        until(lambda: listens(self.ports[0]), "nginx does not start")

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        return wrk("same", self.addresses, prefix="/", cpu=1) if row == "edge" else None


class Edge(Peer):
    """Only our client HTTP, on one core: requests are parsed, checked and answered, no store."""

    name = "dynamo-ring edge"

    def start(self) -> None:
        self.ports = free_ports(1)
        self.directory.mkdir(parents=True)
        command = [sys.executable, str(HERE / "edge.py"), str(self.ports[0]), str(VALUE_BYTES)]
        self.children = [Child.start(command, self.directory / "log", cpu=0)]
        until(lambda: listens(self.ports[0]), "the edge does not start")

    def load(self, row: str, prefix: str, connections: int = CONNECTIONS) -> Load | None:
        return wrk("same", self.addresses, prefix="/v1/kv/k", cpu=1) if row == "edge" else None


def _nginx() -> str:
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    return shutil.which("nginx", path=path) or ""


def _said(command: list[str], pattern: str) -> str:
    """The version in the output of a command."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, ended.stdout + ended.stderr)
    return match[1] if match else "?"
