"""Processes on this machine that a benchmark or the demo starts and ends, only by their ids."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Self

from dynamo_client.local_nodes import LocalNode as Node
from dynamo_client.local_nodes import create_ring, free_ports
from dynamo_client.local_process import Process, until

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
__all__ = ["Child", "Node", "cpu_s", "create_ring", "free_ports", "listens", "until"]


def listens(port: int) -> bool:
    """Whether a process accepts connections on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used, in all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class Child(Process):
    """A measured process."""

    @classmethod
    def start(cls, command: list[str], log: Path, cpu: int | None = None) -> Self:
        """Starts a process; on one processor if asked and possible."""
        if cpu is not None and shutil.which("taskset"):
            command = ["taskset", "-c", str(cpu), *command]
        return super().start(command, log)

    def cpu_s(self) -> float:
        """Seconds of processor time that it has used, in all threads."""
        return cpu_s(self.pid)

    def resident_bytes(self) -> int:
        """The memory that it uses now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
