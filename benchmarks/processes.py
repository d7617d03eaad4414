"""Processes of this machine that a benchmark or the demo starts, and ends by their ids alone."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Self

from dynamo_client.local_nodes import LocalNode as Node
from dynamo_client.local_nodes import found, free_ports
from dynamo_client.local_process import Process, until

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
__all__ = ["Child", "Node", "found", "free_ports", "listens", "until"]


def listens(port: int) -> bool:
    """Whether somebody accepts connections on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Child(Process):
    """One process that is measured."""

    @classmethod
    def start(cls, command: list[str], log: Path, cpu: int | None = None) -> Self:
        """As a process is started; on one processor alone where that is asked and can be."""
        if cpu is not None and shutil.which("taskset"):
            command = ["taskset", "-c", str(cpu), *command]
        return super().start(command, log)

    def cpu_s(self) -> float:
        """Seconds of processor that it has used, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def resident_bytes(self) -> int:
        """Memory that it has now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
