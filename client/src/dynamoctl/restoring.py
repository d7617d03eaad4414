"""`restore`: a plan with what is there, what comes and how long that takes; then a merge by the
nodes, or the values of the backup written again by this command."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from dynamo_client import ClientError
from dynamoctl.backup import (
    Archived,
    Identity,
    Yes,
    archives,
    asked,
    bar,
    followed,
    sealing_of,
    when,
)
from dynamoctl.room import room
from dynamoctl.session import USAGE, Failed, Session, size

if TYPE_CHECKING:
    from dynamo_core.backup.manifest import Manifest
    from dynamoctl.into_past import Mark

MERGE = "a merge: newer values in the ring stay; keys that were deleted long ago come back"
INTO_PAST = "into the past: keys of the backup get their values of that time; other keys stay"
commands = room()


@commands.command()
def restore(
    ctx: typer.Context, archive: Archived,
    source: Annotated[
        str, typer.Option("--from", metavar="ID", help="The backup. Default: the newest.")
    ] = "",
    *,
    prefix: Annotated[str, typer.Option(help="Only keys that begin with this.")] = "",
    name: Annotated[
        str, typer.Option("--id", help="A second run under the same id is the same restore.")
    ] = "",
    into_past: Annotated[
        bool, typer.Option("--into-past", help="Make the values of the backup the newest.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option("--again", help="With --into-past: also if it was done before, or if no mark"
                     " can be written into the archive."),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the plan, and restore nothing.")
    ] = False,
    rate: Annotated[
        float,
        typer.Option("--rate", min=0.0, metavar="MB/S",
                     help="For the duration in the plan. Default: that of an earlier restore."),
    ] = 0.0,
    identity_file: Identity = None,
    yes: Yes = False,
) -> None:  # fmt: skip
    """Merge a backup into the ring. Newer values stay, unless you give --into-past."""
    session: Session = ctx.obj
    if into_past and name:
        raise Failed("not with --into-past: its id follows from what it restores", USAGE, "--id")
    if again and not into_past:
        raise Failed(
            "only with --into-past: a merge under another --id is another one", USAGE, "--again"
        )
    manifest = _chosen(archive, source)
    with session.admin() as admin:
        ring, status = admin.ring(), admin.status()
    mark = None
    if into_past and not plan:
        mark = _mark(archive, manifest, prefix, ring["cluster_id"], again)
    said = _plan(
        session, archive, manifest, ring, status, prefix=prefix, into_past=into_past, rate=rate
    )
    if plan:
        session.show(said)
        return
    asked(session, "Restore?", yes)
    if mark is not None:
        lww = ring.get("conflicts") == "LastWriteWins"
        _write_back(session, archive, manifest, mark, identity_file, lww=lww, again=again)
        return
    name = name or datetime.now(UTC).strftime("restore-%Y%m%dT%H%M%SZ")
    body = {
        "id": name,
        "backup": manifest.id,
        "archive": archive,
        "prefix": base64.b64encode(os.fsencode(prefix)).decode(),
    }
    report = followed(session, "/v1/restores", body, "parts")
    session.show(
        report,
        f"{report['records']:,} records merged, {report['skipped']:,} of other keys left out",
    )


def _chosen(archive: str, source: str) -> Manifest:
    """The backup of this id, or the newest. Raises Failed."""
    with archives() as (backups, archive_of):
        place = archive_of(archive)
        if not source:
            whole = backups.find(place).whole.values()
            if not whole:
                raise Failed(f"{archive}: has no complete backup", field="--archive")
            source = max(whole, key=lambda m: (m.started_ms, m.id)).id
        manifest: Manifest = backups.read(place, source)
        return manifest


def _plan(
    session: Session, archive: str, manifest: Manifest, ring: dict[str, Any],
    status: dict[str, Any], *, prefix: str, into_past: bool, rate: float,
) -> dict[str, Any]:  # fmt: skip
    """Shows what is there, what comes, and how long that takes."""
    from dynamo_archive.durations import estimate

    counts = manifest.counts()
    with archives() as (_, archive_of):
        seconds, why = estimate(archive_of(archive), counts, into_past, rate)
    what = INTO_PAST if into_past else MERGE
    if not session.as_json:
        for line in (
            f"backup: {counts['records']:,} records, {size(counts['bytes'])}, of"
            f" {manifest.cluster_id} as of {when(manifest.started_ms)}"
            + (f"; only keys that begin with {prefix!r}" if prefix else ""),
            f"ring: {ring['cluster_id']}, {len(status['peers']) + 1} nodes,"
            f" {len(ring['entries'])} partitions, {size(status['disk_bytes'])} on {status['name']}",
            f"duration: about {_words(seconds)} ({why})",
            what,
        ):
            session.out.print(line, soft_wrap=True)
    return {
        "backup": manifest.id, "cluster_id": ring["cluster_id"], "into_past": into_past,
        "prefix": prefix, "records": counts["records"], "bytes": counts["bytes"],
        "seconds": seconds, "rate": why,
    }  # fmt: skip


def _words(seconds: int) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 120:
        return f"{seconds} s"
    return f"{minutes} min" if minutes < 120 else f"{hours} h"


# ---------------------------------------------------------------- into the past


def _mark(archive: str, manifest: Manifest, prefix: str, cluster_id: str, again: bool) -> Mark:
    """The mark of an earlier run that was cut off, or a fresh one. Raises Failed."""
    from dynamoctl.into_past import Mark, marked

    with archives() as (backups, archive_of):
        name = backups.into_past_mark(manifest.id, prefix, cluster_id)
        data = archive_of(archive).get(name)
    fresh = Mark(manifest.id, prefix, cluster_id, os.urandom(16).hex())
    return marked(data, fresh, name, again)


def _write_back(
    session: Session, archive: str, manifest: Manifest, mark: Mark, identity_file: Path | None,
    *, lww: bool, again: bool,
) -> None:  # fmt: skip
    """This command reads the archive and writes as any client does."""
    from dynamo_archive.contents import contents
    from dynamo_archive.objects import ArchiveError
    from dynamoctl.into_past import WritingBack

    total = manifest.counts()["records"]
    with archives() as (backups, archive_of), bar(session, "write", total) as step:
        place = archive_of(archive)
        name = backups.into_past_mark(manifest.id, mark.prefix, mark.cluster_id)

        def keep(one: Mark) -> None:
            try:
                place.put(name, msgspec.json.encode(one))
            except ArchiveError as error:
                if not again:
                    raise Failed(
                        f"{error}; --again goes on without a mark", field="--archive"
                    ) from None

        found = contents(place, manifest, os.fsencode(mark.prefix), sealing_of(identity_file))
        try:
            with session.client() as client:
                done = WritingBack(client, mark, keep, lww=lww).run(found, datetime.now(UTC), step)
        except ClientError as error:
            raise Failed(f"{manifest.id}: {error}; run the command again to continue") from None
    session.show(
        {"backup": manifest.id, "state": "done", **msgspec.structs.asdict(done)},
        f"{done.keys:,} keys: {done.values:,} values written, {done.deleted:,} keys deleted,"
        f" {done.same:,} as they were",
    )
