"""The volume snapshots that a new ring is to begin with (`spec.bootstrap.fromBackup.name`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct


class Origin(Struct, frozen=True):
    """A DynamoBackup by volume snapshots, or what is to become clear first: `missing` says why its
    snapshots cannot be used now. `snapshots`: name and size of each, by ordinal."""

    name: str
    missing: str = ""
    cluster: str = ""
    partitions: int = 0
    factor: int = 0
    conflicts: str = ""
    snapshots: dict[int, tuple[str, str]] = {}

    @property
    def size(self) -> int:
        """The number of nodes that the new ring needs."""
        return 1 + max(self.snapshots, default=-1)


def origin_of(named: str | None, backups: Sequence[Mapping[str, Any]]) -> Origin | None:
    """What the DynamoBackup of this name has; None: its records are merged into a ring that is
    founded as any other, or there is no such wish."""
    if named is None:
        return None
    found = next((each for each in backups if each["metadata"]["name"] == named), None)
    if found is None:
        return Origin(named, missing=f"there is no DynamoBackup {named}")
    if (found.get("spec") or {}).get("method", "Records") == "Records":
        return None
    status = found.get("status") or {}
    ring = status.get("ring")
    if status.get("state") != "Complete" or not ring:
        return Origin(named, missing=f"DynamoBackup {named} is not complete")
    return Origin(
        name=named,
        cluster=ring["cluster"],
        partitions=ring["partitions"],
        factor=ring["factor"],
        conflicts=ring["conflicts"],
        snapshots={
            each["ordinal"]: (each["name"], each.get("size", "")) for each in status["snapshots"]
        },
    )
