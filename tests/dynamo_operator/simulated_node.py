"""One simulated node: its disk, its process, its own word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dynamo_core.ring import planning
from dynamo_core.ring.document import Member, Ring, Target


@dataclass
class Disk:
    """What outlives a process."""

    id: int
    ring: Ring | None = None
    left: bool = False
    emptied: bool = False
    data: dict[int, set[int]] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)


@dataclass
class SimNode:
    """One process on one disk."""

    name: str
    address: str
    disk: Disk
    began: float = 0.0
    left_at: float | None = None
    repairs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def member(self) -> bool:
        """In a ring, and not out of it again."""
        return self.disk.ring is not None and not self.disk.left

    @property
    def line(self) -> Member | None:
        """Its own line in its own document."""
        return self.disk.ring.members.get(self.name) if self.disk.ring else None


def status(node: SimNode, now: float) -> dict[str, Any]:
    """GET /v1/status (docs/http-api.md)."""
    disk, ring = node.disk, node.disk.ring
    owned = [p for p, e in enumerate(ring.entries if ring else ()) if node.name in e.owners]
    target = ring.target if ring else Target()
    left = planning.moves_left(ring) if ring else 0
    last = target.operations[-1] if target.operations else None
    return {
        "name": node.name,
        "id": f"{disk.id:016x}",
        "cluster_id": ring.identity.cluster_id if ring else None,
        "disk": "left" if disk.left else "member" if ring else "empty",
        "state": node.line.state if node.line else None,
        "epoch": ring.epoch if ring else 0,
        "digest": ring.digest.hex() if ring else "",
        "partitions": {
            "held": len(owned),
            "owned": len(owned),
            "complete": len(disk.complete.intersection(owned)),
        },
        "hints": {},
        "operation": {
            "id": last,
            "moves_total": target.moves,
            "moves_done": target.moves - left,
            "state": "running" if left else "done" if last else "none",
        },
        "emptied": disk.emptied,
        "uptime_s": now - node.began,
    }
