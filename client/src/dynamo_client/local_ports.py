"""Ports of loopback for nodes on this machine."""

from __future__ import annotations

import socket
from contextlib import suppress
from fcntl import LOCK_EX, flock
from os import getuid, strerror
from pathlib import Path
from tempfile import gettempdir

from dynamo_client.local_fault import LocalFault

LISTENERS = ("client", "admin", "peer")
PORTS_APART = 100
"""Difference between the ports of one node's listeners."""
RANGES = len(LISTENERS) + 2
"""Beside the listeners: the proxies in front of peers, and the console of the directory."""
FREE_PORTS = range(10_000, 32_000)


def link_port(ports: dict[str, int]) -> int:
    """The port of the proxy in front of a node's peer listener."""
    return ports["peer"] + PORTS_APART


def console_port(ports: dict[str, int]) -> int:
    """The port of the console of a directory, from the ports of its first node."""
    return ports["peer"] + 2 * PORTS_APART


def free_ports(count: int) -> list[int]:
    """Free ports of loopback, below the ports that the system gives to outgoing connections: such a
    connection could take a port while its node is down. All processes of this user get the ports in
    turn. With random ports, two processes could get the same one, because the first has not opened
    it yet, or has closed it to open it again."""
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
    """A base port from which the ports of `nodes` nodes in one directory are free, as in
    `free_ports`."""
    apart = [PORTS_APART * which for which in range(RANGES)]
    while True:
        ports = free_ports(apart[-1] + nodes)
        base = ports[0]
        if {base + place + node for place in apart for node in range(nodes)} <= set(ports):
            return base


def check_free(port: int) -> None:
    """Raises LocalFault if nothing can listen at this port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        reason = f"127.0.0.1:{port} cannot be used: {strerror(error.errno or 0)}"
        raise LocalFault(reason, "--base-port") from None
