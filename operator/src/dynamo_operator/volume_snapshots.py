"""VolumeSnapshots of a ring's claims as values: one for each node, together one backup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from dynamo_operator.quantity import instant

SNAPSHOT = "VolumeSnapshot"
API = "snapshot.storage.k8s.io/v1"
OF_BACKUP = "dynamo-ring.dev/backup-uid"
"""Label of a snapshot and of a copy of the secret: the uid of their DynamoBackup."""
ORDINAL = "dynamo-ring.dev/ordinal"
EPOCH = "dynamo-ring.dev/epoch"
"""Annotations of a snapshot: the number of the pod, and the epoch of the ring when the operator
asked for it. If the ring has another epoch before all snapshots are cut, they do not fit."""
NOT_INSTALLED = (
    "the API server has no VolumeSnapshot: install the CRDs of snapshot.storage.k8s.io/v1, a"
    " snapshot controller, and a storage driver that makes snapshots"
)


class Taken(Struct, frozen=True):
    """One VolumeSnapshot. `cut`: the time whose data it has, None before the driver tells it;
    `size`: the smallest claim that can have its data; `error`: what the driver says."""

    name: str
    ordinal: int
    created: float
    cut: float | None = None
    ready: bool = False
    size: str = ""
    error: str = ""
    epoch: str = ""


def taken_of(item: Mapping[str, Any]) -> Taken | None:
    """A VolumeSnapshot that an operator has made; None for another one."""
    meta, status = item["metadata"], item.get("status") or {}
    notes = meta.get("annotations") or {}
    if not notes.get(ORDINAL, "").isdecimal() or "deletionTimestamp" in meta:
        return None
    return Taken(
        name=meta["name"],
        ordinal=int(notes[ORDINAL]),
        created=instant(meta["creationTimestamp"]) or 0.0,
        cut=instant(status.get("creationTime")),
        ready=status.get("readyToUse") is True,
        size=str(status.get("restoreSize") or ""),
        error=str((status.get("error") or {}).get("message") or ""),
        epoch=notes.get(EPOCH, ""),
    )


def backup_of(item: Mapping[str, Any]) -> str:
    """The uid of the DynamoBackup that a snapshot is of."""
    return str((item["metadata"].get("labels") or {}).get(OF_BACKUP, ""))
