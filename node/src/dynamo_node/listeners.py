"""The sockets on which a node listens, and the addresses under which others dial it."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from dynamo_node.setting_values import is_loopback, split_address
from dynamo_node.settings import NodeSettings

BACKLOG_MAX = 4096
ANY_HOST = ("0.0.0.0", "::")
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors of a machine without IPv6."""


class CannotStart(Exception):
    """One line for people."""


@dataclass(slots=True)
class Listeners:
    """They listen before the store is opened, so a taken port is known at once."""

    client: socket.socket
    admin: socket.socket
    peer: socket.socket

    @classmethod
    def of(cls, settings: NodeSettings) -> Listeners:
        """All three, bound. Raises CannotStart."""
        names = ("client_listen", "admin_listen", "peer_listen")
        return cls(*(bind(name, getattr(settings, name)) for name in names))

    def address(self, which: str) -> str:
        """The real host:port, also if the setting asks for port 0."""
        host, port = getattr(self, which).getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(field: str, address: str) -> socket.socket:
    """A listening socket; clients that connect early wait. Without a host it accepts both families,
    or only IPv4 if the machine has no IPv6. Raises CannotStart."""
    host, port = split_address(address)
    try:
        try:
            return _listening(host or "::", port)
        except OSError as error:
            if host or error.errno not in NO_IPV6:
                raise
            return _listening("0.0.0.0", port)
    except OSError as error:
        raise CannotStart(f"{field}: cannot listen on {address}: {error.strerror}") from None


def _listening(host: str, port: int) -> socket.socket:
    """`::` accepts IPv4 as well, on systems of either default (RFC 3493, 5.3)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG_MAX)
    except OSError:
        listener.close()
        raise
    return listener


def advertised(settings: NodeSettings, listeners: Listeners) -> tuple[str, str, str]:
    """Where peers, clients and administrators dial this node; the last is "" if only this machine
    can reach the admin listener. Raises CannotStart if the peer address is unknown."""
    peer = settings.advertise or listeners.address("peer")
    host = split_address(peer)[0]
    if settings.advertise is None and host in ANY_HOST:
        raise CannotStart(f"advertise: needed, because {peer} is no address that peers can dial")
    host = f"[{host}]" if ":" in host else host
    client, admin = listeners.address("client"), listeners.address("admin")
    clients = settings.client_advertise or f"{host}:{split_address(client)[1]}"
    admin_host, admin_port = split_address(admin)
    if admin_host in ANY_HOST:
        admin = f"{host}:{admin_port}"
    elif is_loopback(admin) and not is_loopback(peer):
        admin = ""  # dialled from another machine, it is another node
    return peer, clients, settings.admin_advertise or admin
