"""Backups and restores as values: their objects, and what the node that leads one says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from dynamo_operator.quantity import instant
from dynamo_operator.spec import seconds
from dynamo_operator.spec_backup import BackupSpec, RestoreSpec
from dynamo_operator.volume_snapshots import Taken

BACKUP, RESTORE = "DynamoBackup", "DynamoRestore"
SCHEDULED = "dynamo-ring.dev/scheduled-by"
BOOTSTRAPS = "dynamo-ring.dev/bootstraps"
"""Labels: of a scheduled object, its ring; of the restore that a new ring begins with, the uid of
the ring's resource."""
NAME_CHARS_MAX, UID_CHARS = 100, 8
State = Literal["unknown", "running", "done", "failed"]
STATES: tuple[State, ...] = ("unknown", "failed", "running", "done")
"""States in their order. If two nodes know a run, the node with the later state has led it last."""


def end_in(status: Mapping[str, Any]) -> str | None:
    """`Complete` or `Failed` from a status, which keeps the end as a Job's status does."""
    for condition in status.get("conditions", ()):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return None


class Run(Struct, frozen=True):
    """A DynamoBackup or DynamoRestore of this cluster. `archive` and `backup`: what a restore
    reads, "" while that is not known; `backup` "": the newest that is complete. `missing`: why it
    cannot begin now; `hopeless`: why it never can. `taken`: the volume snapshots of a backup that
    has not ended, `fault`: why they cannot be listed, and `copied`: whether it has its copy of the
    cluster secret."""

    kind: Literal["DynamoBackup", "DynamoRestore"]
    name: str
    uid: str
    resource_version: str
    created: float
    spec: BackupSpec | RestoreSpec
    labels: dict[str, str] = {}
    status: dict[str, Any] = {}
    archive: str = ""
    backup: str = ""
    missing: str = ""
    hopeless: str = ""
    state: State = "unknown"
    report: dict[str, Any] = {}
    taken: tuple[Taken, ...] = ()
    fault: str = ""
    copied: bool = False

    @property
    def by_snapshots(self) -> bool:
        """Whether it is a backup by volume snapshots, without any work of the nodes."""
        return isinstance(self.spec, BackupSpec) and self.spec.method == "VolumeSnapshot"

    @property
    def secret_copy(self) -> str:
        """The name of its copy of the cluster secret."""
        return f"{self.id}-secret"

    @property
    def id(self) -> str:
        """Its id at the nodes and in the archive: another object of the same name has another."""
        return f"{self.name[:NAME_CHARS_MAX]}-{self.uid[:UID_CHARS]}"

    @property
    def path(self) -> str:
        """The path at which the operator asks nodes for it."""
        return "/v1/backups" if self.kind == BACKUP else "/v1/restores"

    @property
    def ended(self) -> str | None:
        """`Complete` or `Failed`."""
        return end_in(self.status)

    @property
    def why(self) -> str:
        """The sentence of its status."""
        return str(self.status.get("message", ""))

    @property
    def started(self) -> float | None:
        """When the nodes began."""
        return instant(self.status.get("startTime"))

    @property
    def failures(self) -> int:
        """How often the nodes have given up."""
        return int(self.status.get("failures", 0))

    def expired(self, now: float) -> bool:
        """Whether it was started, or has waited, for longer than it may take."""
        return now - (self.started or self.created) > seconds(self.spec.timeout)

    def given_up(self) -> bool:
        """Whether the operator does not ask the nodes again."""
        return self.state == "failed" and self.failures >= self.spec.retries

    def rests(self, now: float) -> bool:
        """Whether the operator leaves the nodes alone for a while after they gave up."""
        until = instant(self.status.get("retryTime"))
        return self.state == "failed" and until is not None and until > now


def lacks(missed: Sequence[str], damaged: int) -> list[str]:
    """What a backup of records does not have, for people."""
    found = []
    if missed:
        found.append(f"down: {', '.join(missed)}, so writes that only they held are missing")
    if damaged:
        keys = "1 key is" if damaged == 1 else f"{damaged} keys are"
        found.append(f"{keys} lost: damaged on all nodes, `dynamoctl backup show` lists which")
    return found


def whole_backups(runs: tuple[Run, ...]) -> list[Run]:
    """The backups that are whole, the oldest first."""
    found = [run for run in runs if run.kind == BACKUP and run.ended == "Complete"]
    return sorted(found, key=lambda run: (run.started or run.created, run.name))
