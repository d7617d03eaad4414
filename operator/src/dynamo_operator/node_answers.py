"""What nodes answer (docs/http-api.md): the ring document and their status, as frozen values."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from msgspec import Struct, field

LEFT = "LEFT"


class Member(Struct, frozen=True):
    """One line of the ring document."""

    name: str
    id: str
    state: Literal["JOINING", "MEMBER", "LEAVING", "LEFT"]
    zone: str = ""
    weight: int = 1


class Move(Struct, frozen=True):
    """A switch of one owner in progress."""

    out: str
    into: str = field(name="in")


class Entry(Struct, frozen=True):
    """The owners of one partition, and what changes there."""

    owners: tuple[str, ...]
    move: Move | None = None
    old: tuple[str, ...] | None = None


class Ring(Struct, frozen=True, dict=True):
    """The ring document (docs/http-api.md) from the nodes."""

    cluster_id: str
    epoch: int
    digest: str
    partitions: int
    n: int
    r: int
    w: int
    conflicts: str
    members: tuple[Member, ...]
    entries: tuple[Entry, ...]
    target: tuple[tuple[str, ...], ...] | None = None
    dw: int = 1
    sloppy: bool = True  # an older node does not say

    @cached_property
    def lines(self) -> dict[str, Member]:
        """Members by name, also those that have LEFT."""
        return {member.name: member for member in self.members}

    @cached_property
    def live(self) -> dict[str, Member]:
        """Members that have not LEFT."""
        return {m.name: m for m in self.members if m.state != LEFT}

    @cached_property
    def pending(self) -> int:
        """Replicas that are not on the nodes of the target, and switches that still settle."""
        wanted = self.target or tuple(entry.owners for entry in self.entries)
        return sum(
            len(set(owners) - set(entry.owners)) or bool(entry.move or entry.old)
            for owners, entry in zip(wanted, self.entries, strict=True)
        )

    @property
    def changing(self) -> bool:
        """Whether moves, joins or leaves are under way."""
        passing = any(m.state in ("JOINING", "LEAVING") for m in self.members)
        return passing or self.pending > 0

    @cached_property
    def owned(self) -> dict[str, int]:
        """How many replicas each live member holds."""
        counts = dict.fromkeys(self.live, 0)
        for entry in self.entries:
            for name in entry.owners:
                counts[name] = counts.get(name, 0) + 1
        return counts


class Backlog(Struct, frozen=True):
    """Hints that a node keeps for another node."""

    count: int = 0


class Operation(Struct, frozen=True):
    """What a node knows of the last ring change."""

    id: str | None = None
    moves_total: int = 0
    moves_done: int = 0
    state: str = "none"
    earlier: tuple[str, ...] = ()


class Owned(Struct, frozen=True):
    """Partitions of one node."""

    owned: int = 0
    complete: int = 0


class TlsWord(Struct, frozen=True):
    """How a node dials and accepts links, and what it has read last: its certificate and the
    authorities that it believes, by their marks."""

    peers: Literal["off", "allow", "require"] = "off"
    certificate: str = ""
    authorities: tuple[str, ...] = ()


class Freshness(Struct, frozen=True):
    """The last report of a node about staleness, for the ring's own R and W."""

    fresh_at_once: float
    fresh_999_ms: float | None = None
    canary: float | None = None


class Node(Struct, frozen=True):
    """`GET /v1/status` of one node."""

    name: str
    id: str
    disk: Literal["empty", "member", "left", "foreign"]
    cluster_id: str | None = None
    state: str | None = None
    epoch: int = 0
    digest: str = ""
    partitions: Owned = Owned()
    hints: dict[str, Backlog] = {}
    operation: Operation | None = None
    emptied: bool | None = None
    uptime_s: float | None = None
    speaks: int = 1
    tls: TlsWord | None = None
    access: str | None = None
    staleness: Freshness | None = None
    ring_fsynced: bool | None = None
    """`emptied`: the disk of an id that has left is empty (S-MEM-3); `uptime_s`: by the node's own
    clock; `access`: `open`, or how many rules there are; `ring_fsynced`: whether
    a copy of the disk has the ring document as it is now. None: an older node does not say it.
    `speaks`: the latest protocol between nodes that it knows; nodes of 0.1.0 do not say it."""

    @property
    def whole(self) -> bool:
        """A member that has all the data that it owns."""
        return self.disk == "member" and self.partitions.complete >= self.partitions.owned

    @property
    def unjoined(self) -> bool:
        """Whether the node itself says that it is in no ring, or has left one."""
        return self.disk in ("empty", "left")
