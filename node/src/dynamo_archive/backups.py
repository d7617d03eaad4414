"""Backups in an archive, without any ring: list them, read one whole, delete some.

A backup and a deletion may run at once, so both keep an order. A backup first names its base, then
reads the base's manifest, then saves parts. A deletion first removes the manifest, then lists the
parts, then looks for backups under way. So it knows the backup of each part that it has listed. If
a backup under way names the deleted one, it may have read the manifest, and the deletion puts the
manifest back. So no part is deleted that a backup refers to (`manifest.unneeded`). The progress
goes before the parts: a run that found it would believe that they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import sha256

from dynamo_archive.objects import Archive, ArchiveError
from dynamo_archive.parts import unpack
from dynamo_archive.sealing import PLAIN, Sealing
from dynamo_core.backup.manifest import (
    BACKUPS,
    Manifest,
    Progress,
    decode_manifest,
    decode_progress,
    manifest_name,
    progress_name,
    too_many,
    unneeded,
)
from dynamo_core.backup.marks import mark_name
from dynamo_core.errors import BadParameter, PeerCorrupt
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.backup_messages import PARTS, backup_id_fault


@dataclass
class Found:
    """What lies in an archive: whole backups, those without a manifest, and what does not read."""

    whole: dict[str, Manifest] = field(default_factory=dict)
    unfinished: dict[str, Progress] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def find(archive: Archive) -> Found:
    """All backups. Raises ArchiveError."""
    found = Found()
    names = {name for name, _ in archive.names(BACKUPS)}
    for backup in sorted({name.split("/")[1] for name in names if name.count("/") == 2}):
        try:
            if manifest_name(backup) in names:
                found.whole[backup] = read(archive, backup)
            elif progress_name(backup) in names:
                data = archive.get(progress_name(backup))
                if data is not None:
                    found.unfinished[backup] = decode_progress(data, backup)
        except BadParameter as error:
            found.unreadable[backup] = str(error)
    return found


def read(archive: Archive, backup: str) -> Manifest:
    """Its manifest. Raises ArchiveError when there is none, BadParameter when it does not read."""
    if fault := backup_id_fault(backup):
        raise BadParameter("id", fault)
    data = archive.get(manifest_name(backup))
    if data is None:
        raise ArchiveError(f"{backup}: no such backup at {archive.url}")
    return decode_manifest(data, backup)


def newest(found: Found, cluster_id: str) -> str:
    """The last whole backup of the ring, "" for none."""
    mine = [m for m in found.whole.values() if m.cluster_id == cluster_id]
    return max(mine, key=lambda m: (m.started_ms, m.id)).id if mine else ""


def into_past_mark(backup: str, prefix: str, cluster_id: str) -> str:
    """Where the mark of a command lies that writes the values of a backup again: the same command
    has the same mark."""
    said = sha256(f"{cluster_id}\0{prefix}".encode(errors="surrogateescape")).hexdigest()
    return mark_name(f"into-past-{backup}-{said[:32]}")


def verify(
    archive: Archive, manifest: Manifest, step: Callable[[int], None], sealing: Sealing = PLAIN
) -> list[str]:
    """Reads every part and every record; what does not hold, a line each. `step` is told the bytes
    of each part that was read."""
    wrong = []
    for part in manifest.parts():
        try:
            for stored, record in unpack(archive, part, sealing):
                verified_record(stored, record)
        except (ArchiveError, PeerCorrupt) as error:
            words = str(error)
            wrong.append(words if words.startswith(part.name) else f"{part.name}: {words}")
        step(part.stored_bytes)
    return wrong


def delete(archive: Archive, backups: Collection[str]) -> int:
    """Deletes backups and the parts that no other one refers to; how many parts. Raises
    ArchiveError when one is the base of a backup under way, or a manifest cannot be read, because
    then its parts are unknown."""
    _refuse(find(archive), backups)
    kept = {b: archive.get(manifest_name(b)) for b in backups}
    archive.delete([manifest_name(backup) for backup in sorted(backups)])
    names = [name for name, _ in archive.names(PARTS)]
    left = find(archive)
    if any(p.base in backups for p in left.unfinished.values() if p.id not in backups):
        for backup, data in kept.items():
            if data is not None:
                archive.put(manifest_name(backup), data)
    _refuse(left, backups)
    running = [p for p in left.unfinished.values() if p.id not in backups]
    archive.delete([progress_name(backup) for backup in sorted(backups)])
    gone = unneeded(names, list(left.whole.values()), running)
    archive.delete(gone)
    return len(gone)


def _refuse(found: Found, backups: Collection[str]) -> None:
    for backup, why in found.unreadable.items():
        if backup not in backups:
            raise ArchiveError(f"{backup}: {why}: its parts are unknown, so nothing is deleted")
    for progress in found.unfinished.values():
        base = progress.base
        if progress.id in backups or not base:
            continue
        if base in backups or base not in found.whole:  # then what it refers to is unknown
            raise ArchiveError(f"{base}: {progress.id}, which is under way, refers to it")


def beyond(found: Found, count: int, since_ms: int) -> list[str]:
    """Retention: of each ring the whole backups beyond its newest `count` that began before
    `since_ms`."""
    rings = {manifest.cluster_id for manifest in found.whole.values()}
    return [
        backup
        for ring in sorted(rings)
        for backup in too_many(
            (m for m in found.whole.values() if m.cluster_id == ring), count, since_ms
        )
    ]
