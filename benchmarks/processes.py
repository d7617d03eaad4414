"""Processes of this machine that a benchmark or the demo starts, and ends by their ids alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx

STOP_S_MAX = 12.0
READY_S_MAX = 30.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
LISTENERS = ("client", "admin", "peer")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def until(condition: Callable[[], bool], what: str, wait_s_max: float = READY_S_MAX) -> None:
    """Waits for a condition. Raises RuntimeError after the time."""
    end = time.monotonic() + wait_s_max
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"after {wait_s_max:.0f} s: {what}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Child:
    """One process; what it says goes to a file."""

    def __init__(self, command: list[str], log: Path, cpu: int | None = None) -> None:
        if cpu is not None and shutil.which("taskset"):
            command = ["taskset", "-c", str(cpu), *command]
        # A node that is started here is told everything by flags.
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DYNAMO_")}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=clean
            )
        self.pid = self._process.pid
        self.log = log

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends it and waits; kills what does not want to end."""
        if self.alive:
            self._process.send_signal(number)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_s(self) -> float:
        """Seconds of processor that it has used, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def resident_bytes(self) -> int:
        """Memory that it has now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )


class Node:
    """One `dynamo-node` on loopback that can be killed, wiped and started again in its place."""

    def __init__(self, name: str, directory: Path, advertise: str = "") -> None:
        self.name = name
        self.directory = directory
        self.ports = dict(zip(LISTENERS, free_ports(3), strict=True))
        self.advertise = advertise or f"127.0.0.1:{self.ports['peer']}"
        self.seeds: list[str] = []
        self.child: Child | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.child is not None and self.child.alive

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
        self.child = Child(
            [sys.executable, "-m", "dynamo_node.app", f"--name={self.name}", "--log-level=warning",
             f"--data-dir={self.directory}", f"--advertise={self.advertise}",
             *listen, *seeds, *flags],
            self.directory.with_suffix(".log"),
        )  # fmt: skip

    def kill(self) -> None:
        """As a power switch would."""
        assert self.child is not None
        self.child.end(signal.SIGKILL)

    def stop(self) -> None:
        """The clean way; nothing when it does not run."""
        if self.child is not None:
            self.child.end()

    def wipe(self) -> None:
        """Its disk is lost."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def lives(self) -> bool:
        """Whether the process answers; raises RuntimeError when it has ended."""
        if not self.alive:
            assert self.child is not None
            said = self.child.log.read_text(errors="replace").splitlines()[-3:]
            raise RuntimeError(f"{self.name} has ended: " + " | ".join(said))
        return self._answers("/livez")

    def ready(self) -> bool:
        """Whether it takes operations."""
        return self._answers("/readyz")

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(self.admin + path, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


def found(nodes: Iterable[Node], **settings: int | str) -> None:
    """Makes one ring of nodes that are up and empty."""
    nodes = list(nodes)
    for node in nodes:
        until(node.lives, f"{node.name} does not answer")
    body = {"cluster_id": f"benchmark-{os.getpid()}", **settings}
    body["members"] = [{"name": node.name, "address": node.advertise} for node in nodes]  # type: ignore[assignment]
    answer = httpx.post(nodes[0].admin + "/v1/ring", json=body, timeout=READY_S_MAX)
    if answer.status_code not in (200, 201):
        raise RuntimeError(f"no ring: {json.dumps(answer.json())}")
    for node in nodes:
        until(node.ready, f"{node.name} is not ready")
