"""Nodes of dynamo-ring as processes on this machine: one node, and a ring in one directory.

    .local/nodes.json   names, ports and flags
    .local/n1/          data of a node; beside it n1.log, its log, and n1.pid, its process
    .local/backups/     the only directory for backups of its nodes

While `dynamoctl local up` stays, peers may dial its nodes through proxies (`local_links`), so that
links can be cut. Each node then has a second address, and the directory says so.

This module keeps no state in memory: it reads the files each time, so several shells may use it.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dynamo_client.admin import AdminClient
from dynamo_client.errors import BadParameter, ClientError
from dynamo_client.local_fault import EXTRA, LocalFault
from dynamo_client.local_ports import LISTENERS, PORTS_APART, check_free, link_port
from dynamo_client.local_ports import free_base as free_base
from dynamo_client.local_ports import free_ports as free_ports
from dynamo_client.local_process import Process, until
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.tokens import token_of_secret_file

BASE_PORT = 7101
NODES_MAX = 64
SECRET, ACCESS = "--cluster-secret-file", "--access-file"
RIGHTS, TRIAL_TOKEN = "access.toml", "trial.token"
"""Of `--secure`, in the directory of a ring: who may do what; the token that may do everything."""
HISTORY, HISTORY_BYTES_MAX = "--history-bytes-max", 8 * 1024 * 1024
BACKUPS = "--backup-targets"
STORES = "s3://,gs://,az://"
CERTS = "certs"
"""Directory of the certificates in the directory of a ring."""
PROBE_S_MAX = 2.0


def said(line: str) -> tuple[str, str]:
    """Level and text of a line of a node's log, JSON or not."""
    try:
        fields = json.loads(line)
        level, event = fields.pop("level"), fields.pop("event")
    except (ValueError, KeyError, AttributeError):
        return "", line.rstrip()
    more = [f"{k}={v}" for k, v in fields.items() if k not in ("node", "timestamp") and v]
    return level, " ".join([event, *more])


class LocalNode:
    """One `dynamo-node` on loopback that can be killed, wiped and started again."""

    def __init__(
        self, name: str, directory: Path, advertise: str = "", ports: dict[str, int] | None = None
    ) -> None:
        self.name = name
        self.directory = directory
        self.ports = ports or dict(zip(LISTENERS, free_ports(3), strict=True))
        self.advertise = advertise or f"127.0.0.1:{self.ports['peer']}"
        self.seeds: list[str] = []
        self.before: list[str] = []
        """Words before its command, such as `env` and variables."""
        self.skew_s = 0.0
        """Seconds by which its clock is ahead from its next start on."""
        self.certs: Path | None = None
        """The directory of its certificate; None for a plain node."""
        self.log = directory.with_suffix(".log")
        self.pid_file = directory.with_suffix(".pid")

    @property
    def process(self) -> Process | None:
        """Its last process, which may have ended; None before a start and after a clean stop."""
        return Process.of_file(self.pid_file)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        process = self.process
        return process is not None and process.alive

    @property
    def endpoint(self) -> str:
        """Base URL of client HTTP."""
        return f"{self.scheme}://127.0.0.1:{self.ports['client']}"

    @property
    def admin(self) -> str:
        """Base URL of admin HTTP."""
        return f"{self.scheme}://127.0.0.1:{self.ports['admin']}"

    @property
    def scheme(self) -> str:
        """The scheme of both URLs."""
        return "https" if self.certs else "http"

    @property
    def tls(self) -> Tls:
        """Which authorities its clients trust."""
        return Tls(self.certs / "ca.crt") if self.certs else SYSTEM

    def _tls_flags(self) -> list[str]:
        if self.certs is None:
            return []
        cert = self.certs / f"node.{self.name}.crt"
        files = {"cert": cert, "key": cert.with_suffix(".key"), "ca": self.certs / "ca.crt"}
        return [f"--tls-{which}-file={file.resolve()}" for which, file in files.items()]

    def _usual_flags(self, flags: Iterable[str]) -> list[str]:
        """Unless the flags say it: where it may write backups, and that it remembers histories."""
        beside = (self.directory.parent / "backups").resolve()
        usual = {BACKUPS: f"{STORES},{beside.as_uri()}", HISTORY: str(HISTORY_BYTES_MAX)}
        named = {flag.partition("=")[0] for flag in flags}
        return [f"{name}={value}" for name, value in usual.items() if name not in named]

    def start(self, *flags: str) -> None:
        """Starts the process; `until(self.lives, ...)` waits for it."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        listen = [f"--{which}-listen=127.0.0.1:{port}" for which, port in self.ports.items()]
        seeds = [f"--seeds={','.join(self.seeds)}"] if self.seeds else []
        process = Process.start(
            [
                *self.before,
                *[sys.executable, "-m"],
                *(["dynamo_client.skewed_clock", str(self.skew_s)] if self.skew_s else []),
                "dynamo_node.app",
                f"--name={self.name}",
                f"--data-dir={self.directory}",
                f"--advertise={self.advertise}",
                *listen,
                *seeds,
                *self._tls_flags(),
                *self._usual_flags(flags),
                *flags,
            ],
            self.log,
        )
        process.save(self.pid_file)

    def kill(self) -> None:
        """Kills it, like a power cut."""
        if (process := self.process) is not None:
            process.end(signal.SIGKILL)

    def stop(self) -> None:
        """Stops it cleanly; does nothing if it does not run."""
        if (process := self.process) is not None:
            process.end()
            self.pid_file.unlink(missing_ok=True)

    def wipe(self) -> None:
        """Deletes its disk."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def lives(self) -> bool:
        """Whether the process answers; raises LocalFault if it has ended."""
        if not self.alive:
            raise LocalFault(f"{self.name} has ended: {self.last_words()}")
        return self._probe("/livez")

    def ready(self) -> bool:
        """Whether it accepts operations."""
        return self._probe("/readyz")

    def last_words(self) -> str:
        """The last line of its log."""
        lines: list[str] = []
        with suppress(FileNotFoundError):
            lines = self.log.read_text(errors="replace").splitlines()
        return said(lines[-1])[1] if lines else "its log is empty"

    def _probe(self, path: str) -> bool:
        # Cheaper than an AdminClient: called often while the nodes need the processors.
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        where = ("127.0.0.1", self.ports["admin"])
        connection = HTTPConnection(*where, timeout=PROBE_S_MAX)
        if self.certs:
            connection = HTTPSConnection(*where, timeout=PROBE_S_MAX, context=self.tls.context())
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def create_ring(
    nodes: Iterable[LocalNode], token: str | None = None, **settings: int | str
) -> None:
    """Makes one ring of nodes that are up and empty. Raises RuntimeError, ClientError."""
    nodes = list(nodes)
    for node in nodes:
        until(node.lives, f"{node.name} does not answer")
    members = [{"name": node.name, "address": node.advertise} for node in nodes]
    body: dict[str, Any] = {**settings, "members": members}
    with AdminClient(nodes[0].admin, token, tls=nodes[0].tls) as admin:
        admin.create_ring(body)
    for node in nodes:
        until(node.ready, f"{node.name} is not ready")


class LocalRing:
    """The nodes of one directory."""

    def __init__(self, directory: Path) -> None:
        """Reads the directory. Raises LocalFault."""
        self.directory = directory
        self.nodes: dict[str, LocalNode] = {}
        self.flags: list[str] = []
        self.certs: Path | None = None
        """The directory of its nodes' certificates; None for a plain ring."""
        self.linked = False
        """Whether peers dial its nodes through proxies."""
        try:
            document = json.loads((directory / "nodes.json").read_text())
            self.flags = document["flags"]
            self.certs = directory / CERTS if document.get("secure") else None
            self.linked = document.get("linked", False)
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
        """The administrator's token, from the secret that the flags name. Raises LocalFault."""
        if not (path := self.secret_file):
            return None
        try:
            return token_of_secret_file(path)
        except OSError as error:
            raise LocalFault(f"{path}: {error.strerror}", SECRET) from None
        except BadParameter as error:
            raise LocalFault(str(error), SECRET) from None

    @property
    def secret_file(self) -> str:
        """The file of the secret in the flags, "" if they name none."""
        return self.flag(SECRET)

    def flag(self, name: str) -> str:
        """The value of a node's flag, "" if the flags do not have it."""
        return dict(flag.partition("=")[::2] for flag in self.flags).get(name, "")

    @property
    def client_token_file(self) -> Path | None:
        """The token that may do everything, if the rights are those that `--secure` made."""
        own = str((self.directory / RIGHTS).resolve())
        return self.directory / TRIAL_TOKEN if self.flag(ACCESS) == own else None

    @property
    def admin_tokens(self) -> list[str]:
        """What an administrator may show; [] if nodes ask for nothing. Raises LocalFault."""
        found = [self.token] if self.token is not None else []
        if (file := self.client_token_file) is not None:
            with suppress(OSError):
                found.append(file.read_text().strip())
        return found

    def node(self, name: str) -> LocalNode:
        """The node of that name. Raises LocalFault if there is none."""
        if name not in self.nodes:
            has = ", ".join(self.nodes) or "no nodes"
            raise LocalFault(f"no node {name!r} in {self.directory}, which has {has}", "NAME")
        return self.nodes[name]

    def add(self, base_port: int = BASE_PORT) -> LocalNode:
        """Adds a node, not started, with the first free name; n1 has the base port, the others the
        following ones. Raises LocalFault."""
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
        """Stops a node that has left the ring and deletes its directory."""
        node.stop()
        node.wipe()
        del self.nodes[node.name]
        self._save()

    def _save(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = {
            "ports": {n.name: n.ports for n in self.nodes.values()},
            "flags": self.flags,
        }
        document["secure"], document["linked"] = self.certs is not None, self.linked
        new = self.directory / "nodes.new"
        new.write_text(json.dumps(document, indent=1) + "\n")
        new.rename(self.directory / "nodes.json")

    def link(self, linked: bool) -> None:
        """From their next start on, peers dial the nodes through proxies, or directly."""
        self.linked = linked
        ports = {name: node.ports for name, node in self.nodes.items()}
        self.nodes.clear()
        for name, each in ports.items():
            self._take(name, each)
        self._save()

    def forget(self) -> None:
        """Deletes the list of nodes, so that the next try may take other ports."""
        (self.directory / "nodes.json").unlink(missing_ok=True)

    def start(self, nodes: list[LocalNode]) -> None:
        """Starts nodes and waits until they answer; stops all of them if one does not. Raises
        LocalFault."""
        if missing := [
            name
            for name in ("dynamo_node", "fastapi", "rocksdict", "uvicorn")
            if find_spec(name) is None
        ]:
            raise LocalFault(
                f"nodes need the package's extra [node] ({missing[0]} is not installed):"
                " pip install 'dynamo-ring[node]'",
                EXTRA,
            )
        for node in nodes:
            for port in node.ports.values():
                check_free(port)
        try:
            for node in nodes:
                node.start(*self.flags)
            for node in nodes:
                until(node.lives, f"{node.name} does not answer; its log is {node.log}")
        except BaseException:
            self.stop(nodes)
            raise

    def stop(self, nodes: list[LocalNode] | None = None) -> None:
        """Stops these nodes, or all, cleanly and at the same time."""
        nodes = list(self.nodes.values()) if nodes is None else nodes
        for node in nodes:
            if (process := node.process) is not None:
                process.send(signal.SIGTERM)
        for node in nodes:
            node.stop()

    def up(self, partitions: int) -> None:
        """Starts all nodes, and makes a ring of them unless they are in one. Raises RuntimeError or
        ClientError."""
        nodes = list(self.nodes.values())
        n = min(3, len(nodes))
        quorum = n // 2 + 1
        self.start(nodes)
        try:
            if not (members := self.members()):
                create_ring(nodes, self.token, partitions=partitions, n=n, r=quorum, w=quorum)
            for node in nodes:
                if node.name in members:
                    until(node.ready, f"{node.name} is not ready; its log is {node.log}")
        except BaseException:
            self.stop()
            raise

    def members(self) -> set[str]:
        """The names in the ring, from the first node that is in one; empty without a ring."""
        for node in self.running:
            client = AdminClient(node.admin, self.token, timeout_s=PROBE_S_MAX, tls=node.tls)
            with client as admin, suppress(ClientError):
                members = admin.ring()["members"]
                return {member["name"] for member in members if member["state"] != "LEFT"}
        return set()

    def _take(self, name: str, ports: dict[str, int]) -> None:
        link = f"127.0.0.1:{link_port(ports)}" if self.linked else ""
        new = LocalNode(name, self.directory / name, link, ports)
        new.certs = self.certs
        for node in self.nodes.values():
            node.seeds.append(new.advertise)
            new.seeds.append(node.advertise)
        self.nodes[name] = new
