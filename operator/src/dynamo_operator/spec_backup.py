"""The fields about backups: `spec.backup` and `spec.bootstrap` of a DynamoCluster, and the specs of
`DynamoBackup` and `DynamoRestore`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dynamo_operator.spec_types import DURATION, Part

TARGET = r"^((s3|gs|az)://[^\s@?#]+|file:///[^\s@?#]+)$"
BACKUP_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Target = Annotated[str, Meta(
    description="URL of an archive, where backups lie: s3://BUCKET/PREFIX, gs://, az://, or"
    " file:///backups/DIRECTORY in the volume of spec.backup.volumeClaim.",
    pattern=TARGET, max_length=512)]  # fmt: skip


Method = Annotated[Literal["Records", "VolumeSnapshot"], Meta(
    description="Records: the nodes save every key into an archive. VolumeSnapshot: the storage"
    " driver makes one VolumeSnapshot of each node's claim; they begin only a new ring of as many"
    " nodes.")]  # fmt: skip
SnapshotClass = Annotated[str, Meta(
    description="VolumeSnapshotClass of the snapshots; unset: the default of the driver. Only with"
    " method VolumeSnapshot.",
    max_length=253)]  # fmt: skip


# fmt: off
class KeptBackups(Part, frozen=True, kw_only=True):
    """How many scheduled backups are kept. A backup goes only if both rules let it."""

    count: Annotated[int, Meta(
        description="This number of the newest scheduled backups stay, also if they are old.",
        ge=1, le=1000)] = 7
    days: Annotated[int, Meta(
        description="Scheduled backups of this number of days before now stay too.",
        ge=0, le=36500)] = 0


class Backups(Part, frozen=True, kw_only=True):
    """Backups of the ring: when, where to, and how long they are kept."""

    target: Annotated[Target, Meta(
        description="Archive of the scheduled backups, and of each DynamoBackup that names none:"
        " s3://BUCKET/PREFIX, gs://, az://, or file:///backups/DIRECTORY in the volume of"
        " volumeClaim. A change of it restarts no pod.")] | None = None
    schedule: Annotated[str, Meta(
        description="Times of backups, as five fields of cron, in UTC. Unset: no such backups.",
        max_length=100)] | None = None
    method: Method = "Records"
    snapshot_class_name: SnapshotClass | None = None
    suspend: Annotated[bool, Meta(description="No new backups while this is true.")] = False
    retention: Annotated[KeptBackups, Meta(
        description="Which scheduled backups are kept. Nothing is deleted that a kept backup"
        " refers to.")] = KeptBackups()
    secret_name: Annotated[str, Meta(
        description="Secret with the credentials of the object store. Its keys become variables of"
        " the nodes, such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and"
        " AWS_ENDPOINT_URL, and files in /etc/dynamo-backup.",
        max_length=253)] | None = None
    volume_claim: Annotated[str, Meta(
        description="A claim that many pods can mount at once (ReadWriteMany), for targets"
        " file:///backups/DIRECTORY. The operator never makes or deletes it.",
        max_length=253)] | None = None


class BackupSource(Part, frozen=True, kw_only=True):
    """One backup: a DynamoBackup of this namespace, or what lies in an archive."""

    name: Annotated[str, Meta(
        description="A DynamoBackup in the same namespace.",
        min_length=1, max_length=253)] | None = None
    target: Annotated[Target, Meta(
        description="URL of the archive, as in spec.backup.target. Not with name.")] | None = None
    backup_id: Annotated[str, Meta(
        description="Which backup of the archive: status.backupId of its DynamoBackup, or as"
        " `dynamoctl backup list` shows it. Unset: the newest complete one.",
        pattern=BACKUP_ID, max_length=128)] | None = None


class Bootstrap(Part, frozen=True, kw_only=True):
    """What a new ring begins with."""

    from_backup: Annotated[BackupSource, Meta(
        description="The operator makes the ring and merges this backup into it. The ring that"
        " was saved may have another size, partition count, name or place. Ready becomes True when"
        " the ring has all keys of the backup. If name is a DynamoBackup of volume snapshots, the"
        " first claims are made from the snapshots, and their disks get new names and ids: the"
        " ring needs as many nodes, and the same partitions and copies.")]


class BackupSpec(Part, frozen=True, kw_only=True):
    """One backup of a whole ring."""

    cluster_name: Annotated[
        str, Meta(description="DynamoCluster in the same namespace.", min_length=1, max_length=40)
    ]
    target: Annotated[Target, Meta(
        description="URL of the archive. Unset: spec.backup.target of the"
        " DynamoCluster.")] | None = None
    method: Method = "Records"
    snapshot_class_name: SnapshotClass | None = None
    deletion_policy: Annotated[Literal["Delete", "Retain"], Meta(
        description="With method VolumeSnapshot: whether the snapshots and the copy of the cluster"
        " secret are deleted with this object. Retain: a person deletes them.")] = "Delete"
    whole: Annotated[bool, Meta(
        description="Refer to no earlier backup: send everything.")] = False
    timeout: Annotated[str, Meta(
        description="The backup fails if it takes longer: a number and s, m or h.",
        pattern=DURATION, max_length=16)] = "24h"
    retries: Annotated[int, Meta(
        description="How often the nodes continue it after they gave up. They give up"
        " after two minutes without progress, such as an archive that does not answer.",
        ge=0, le=100)] = 3


class RestoreSpec(Part, frozen=True, kw_only=True):
    """One restore into a running ring."""

    cluster_name: Annotated[
        str, Meta(description="DynamoCluster in the same namespace.", min_length=1, max_length=40)
    ]
    source: Annotated[BackupSource, Meta(
        description="The backup.")] = msgspec.field(name="from")
    prefix: Annotated[str, Meta(
        description="Only keys that begin with this.", max_length=1024)] = ""
    mode: Annotated[Literal["Merge", "IntoPast"], Meta(
        description="Merge: what is newer in the ring stays. IntoPast: the values of the backup"
        " become the newest, as new writes; keys that are not in it stay as they are.")] = "Merge"
    timeout: Annotated[str, Meta(
        description="The restore fails if it takes longer: a number and s, m or h.",
        pattern=DURATION, max_length=16)] = "24h"
    retries: Annotated[int, Meta(
        description="How often the nodes begin again after they gave up.",
        ge=0, le=100)] = 3
# fmt: on
