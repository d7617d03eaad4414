"""What only the shell knows of its node: the part of `GET /v1/status` that the core cannot tell."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import Any

from dynamo_core.node import Node
from dynamo_node.driver import Driver
from dynamo_node.memory import used_bytes


def durability(node: Node) -> str:
    """ "ok", "memory" where nothing is kept over a restart (S-RW-3), or since when fsyncs stall
    (S-RW-8)."""
    if node.settings.volatile:
        return "memory"
    if not node.stalled:
        return "ok"
    since = datetime.fromtimestamp(node.durability.since_ms / 1000, UTC)
    return "fsyncs stall since " + since.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of_shell(driver: Driver, version: str, began: float) -> dict[str, Any]:
    """Disk, version, uptime and memory of a process that began at `began`, monotonic seconds."""
    return {
        "durability": durability(driver.node), "disk_bytes": driver.store.disk_bytes(),
        "version": version, "uptime_s": round(monotonic() - began, 3),
        "memory": {"bound_bytes": driver.memory_bound_bytes, "used_bytes": used_bytes()},
    }  # fmt: skip
