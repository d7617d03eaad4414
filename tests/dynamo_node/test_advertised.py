"""Which addresses a node tells the others: of its peer, client and admin listeners."""

from __future__ import annotations

import pytest

from dynamo_node.listeners import CannotStart, Listeners, advertised, bind
from dynamo_node.settings import NodeSettings


def told(**fields: str) -> tuple[str, str, str]:
    """With listeners on free ports of the addresses in the settings."""
    listen = {f"{which}_listen": "127.0.0.1:0" for which in ("client", "admin", "peer")}
    settings = NodeSettings(**{**listen, **fields})  # type: ignore[arg-type]
    sockets = [bind(field, getattr(settings, field)) for field in listen]
    listeners = Listeners(*sockets)
    try:
        peer, client, admin = advertised(settings, listeners)
        ports = {
            listeners.address(which).rpartition(":")[2]: which
            for which in ("client", "admin", "peer")
        }
    finally:
        for each in sockets:
            each.close()

    def named(address: str) -> str:
        host, _, port = address.rpartition(":")
        return f"{host}:{ports.get(port, port)}" if address else ""

    return named(peer), named(client), named(admin)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("127.0.0.1:peer", "127.0.0.1:client", "127.0.0.1:admin")),
        (
            {"advertise": "n1.example:8082", "admin_listen": "0.0.0.0:0"},
            ("n1.example:8082", "n1.example:client", "n1.example:admin"),
        ),
        ({"advertise": "n1.example:8082"}, ("n1.example:8082", "n1.example:client", "")),
        (
            {"advertise": "[fd00::1]:8082", "admin_listen": "0.0.0.0:0"},
            ("[fd00::1]:8082", "[fd00::1]:client", "[fd00::1]:admin"),
        ),
        (
            {"advertise": "n1.example:8082", "admin_advertise": "bastion.example:9001"},
            ("n1.example:8082", "n1.example:client", "bastion.example:9001"),
        ),
    ],
)
def test_the_advertised_addresses(fields: dict[str, str], expected: tuple[str, str, str]) -> None:
    """If only this machine reaches the admin listener, its address is not told to other machines:
    there it would lead to another node, or to nothing."""
    assert told(**fields) == expected


def test_a_wildcard_of_the_peer_listener_is_no_address() -> None:
    with pytest.raises(CannotStart, match="advertise: needed"):
        told(peer_listen="0.0.0.0:0")
