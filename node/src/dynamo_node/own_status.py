"""What only the shell knows of its node: the part of `GET /v1/status` that the core cannot tell."""

from __future__ import annotations

from time import monotonic
from typing import Any

from dynamo_node.admin_answers import durability, tls_word
from dynamo_node.driver import Driver
from dynamo_node.handshake import VERSION
from dynamo_node.memory import used_bytes


def of_shell(driver: Driver, version: str, began: float) -> dict[str, Any]:
    """Disk, version, uptime, memory and protection of a process that began at `began`, in monotonic
    seconds."""
    access = driver.access
    return {
        "durability": durability(driver.node),
        "staleness": driver.node.staleness.summary(),
        "disk_bytes": driver.store.disk_bytes(),
        "version": version,
        "speaks": VERSION,
        "uptime_s": round(monotonic() - began, 3),
        "memory": {"bound_bytes": driver.memory_bound_bytes, "used_bytes": used_bytes()},
        "access": "open" if access is None else f"{access.rights.rules} rules",
        "secrets": list(driver.links.ends.keyring.now.names),
        "tls": tls_word(driver.links.ends),
    }
