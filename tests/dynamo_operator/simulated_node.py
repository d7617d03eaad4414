"""One simulated node: its disk, its process, its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dynamo_core.ring import planning
from dynamo_core.ring.document import LEFT, Member, Ring, RingTarget
from dynamo_operator.ports import failure
from tests.dynamo_operator.simulated_mounts import PLAIN, Mount


@dataclass
class Disk:
    """The state that outlives a process."""

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
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    mount: Mount = PLAIN

    @property
    def member(self) -> bool:
        """In a ring, and not LEFT."""
        return self.disk.ring is not None and not self.disk.left

    @property
    def line(self) -> Member | None:
        """Its own line in its own document."""
        return self.disk.ring.members.get(self.name) if self.disk.ring else None


def status(node: SimNode, now: float) -> dict[str, Any]:
    """GET /v1/status (docs/http-api.md)."""
    disk, ring = node.disk, node.disk.ring
    owned = [p for p, e in enumerate(ring.entries if ring else ()) if node.name in e.owners]
    target = ring.target if ring else RingTarget()
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
        "access": "1 rules" if node.mount.access else "open",
        "tls": {
            "peers": node.mount.tls,
            "certificate": shown.mark if (shown := node.mount.trust.certificate) else "",
            "authorities": list(node.mount.trust.marks),
        },
        "speaks": 2,
    }


def start_repair(node: SimNode, ring: Ring, body: dict[str, Any]) -> dict[str, Any]:
    """POST /v1/repairs."""
    if unknown := set(body.get("nodes", ())) - set(ring.members):
        raise failure(400, f"nodes: no member {min(unknown)!r}")
    made = {"id": body["id"], "state": "running", "partitions_done": 0, "keys_repaired": 0}
    made["partitions_total"] = len(body.get("partitions", ring.entries))
    node.repairs.setdefault(body["id"], made)
    return {"id": body["id"], "state": "running"}


def asked(node: SimNode, names: tuple[str, ...]) -> list[str]:
    """Those of the names that `node` has to hear of: a removed one never answers (S-MOVE-4)."""
    assert node.disk.ring is not None
    return [name for name in names if node.disk.ring.members[name].state != LEFT]
