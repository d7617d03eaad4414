"""The volume snapshots that a new ring is to begin with (`spec.bootstrap.fromBackup.name`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from dynamo_operator.archive_runs import end_in
from dynamo_operator.owner import CLAIM


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


def by_snapshots(backup: Mapping[str, Any]) -> bool:
    """Whether a DynamoBackup is of volume snapshots."""
    return bool((backup.get("spec") or {}).get("method", "Records") == "VolumeSnapshot")


def not_whole(backup: Mapping[str, Any]) -> str | None:
    """Why nothing can be restored from a DynamoBackup now, None if it is complete."""
    meta, status = backup["metadata"], backup.get("status") or {}
    named, said = f"DynamoBackup {meta['name']}", status.get("message")
    if "deletionTimestamp" in meta:
        place = f"target {status['target']} and backupId {status['backupId']}"
        instead = f"; name {place} instead" if status.get("target") else ""
        return f"{named} is being deleted{instead}"
    if (end := end_in(status)) == "Failed":
        return f"{named} failed, so there is nothing to restore: {said}"
    if end is None:
        return f"waits until {named} is complete: {said or 'it has not begun'}"
    return None


def beginner(
    backup: str,
    ordinals: Collection[int],
    rings: Iterable[Mapping[str, Any]],
    claims: Iterable[Mapping[str, Any]],
) -> str:
    """The name of a DynamoCluster that needs the snapshots of this DynamoBackup, "" if there is
    none: it is to begin with them, and not all of its claims are bound. `ordinals`: of the
    snapshots; `rings`, `claims`: of the namespace."""
    bound = {
        claim["metadata"]["name"]
        for claim in claims
        if (claim.get("status") or {}).get("phase") == "Bound"
    }
    for ring in rings:
        meta, first = ring["metadata"], ring["spec"].get("bootstrap") or {}
        if "deletionTimestamp" in meta or (first.get("fromBackup") or {}).get("name") != backup:
            continue
        if not bound.issuperset(f"{CLAIM}-{meta['name']}-{ordinal}" for ordinal in ordinals):
            return str(meta["name"])
    return ""


def origin_of(named: str | None, backups: Sequence[Mapping[str, Any]]) -> Origin | None:
    """What the DynamoBackup of this name has; None: its records are merged into a ring that is
    founded as any other, or there is no such wish."""
    if named is None:
        return None
    found = next((each for each in backups if each["metadata"]["name"] == named), None)
    if found is None:
        return Origin(named, missing=f"there is no DynamoBackup {named}")
    if not by_snapshots(found):
        return None
    if (wait := not_whole(found)) is not None:
        return Origin(named, missing=wait)
    status = found["status"]
    ring = status["ring"]
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
