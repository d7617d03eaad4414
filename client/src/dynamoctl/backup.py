"""`backup`, and what `restore` shares with it: a plan first, then a bar until the run is done.

The nodes read and write the archive themselves, so an archive `file://` must be one directory for
all of them. Commands that only read or delete there need no ring: `list`, `show`, `verify`,
`delete`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamo_client import ClientError
from dynamoctl.room import room
from dynamoctl.session import USAGE, Failed, Session, size, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamo_core.backup.manifest import Manifest

POLL_S = 0.2
SILENT_S_MAX = 60.0
DAMAGED = "their records were damaged on all nodes; show ID lists them as partition/SHA-256"
commands = room()
backup = room(no_args_is_help=True, help="Backups of the whole ring, in an archive.")
commands.add_typer(backup, name="backup")
Archived = Annotated[
    str,
    typer.Option("--archive", envvar="DYNAMO_ARCHIVE", metavar="URL",
                 help="file:///DIR, s3://BUCKET/PREFIX, gs://… or az://…; credentials come from the"
                 " environment."),
]  # fmt: skip
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


Identity = Annotated[
    Path | None,
    typer.Option("--identity-file", envvar="DYNAMO_BACKUP_IDENTITY_FILE", metavar="FILE",
                 help="Secret keys of age, for an encrypted backup."),
]  # fmt: skip


def sealing_of(path: Path | None) -> Any:
    """The option for the key that decrypts a backup."""
    from dynamo_archive.sealing import Sealing

    return Sealing((), path)


@contextmanager
def archives() -> Iterator[Any]:
    """The rooms of archives; their errors as lines. Raises Failed."""
    try:
        from dynamo_archive import backups, objects
    except ModuleNotFoundError as error:
        raise Failed(f"{error.name} is missing: pip install 'dynamo-ring[backup]'") from None
    from dynamo_archive.unlike import NOT_A_BACKUP

    try:
        yield (backups, objects.Archive)
    except objects.ArchiveError as error:
        raise Failed(str(error), field="--archive") from None
    except NOT_A_BACKUP as error:
        raise Failed(str(error)) from None


def when(ms: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def said_of(manifest: Manifest) -> dict[str, Any]:
    """A backup as JSON."""
    return {
        "id": manifest.id, "cluster_id": manifest.cluster_id, "base": manifest.base or None,
        "started_at": when(manifest.started_ms), "ended_at": when(manifest.ended_ms),
        "partitions": len(manifest.pieces), "missed": manifest.missed(),
        "damaged": [f"{place}/{key}" for place, key in manifest.damaged()],
        "version": manifest.version, **manifest.counts(),
    }  # fmt: skip


def asked(session: Session, question: str, yes: bool) -> None:
    """Asks a person for a yes. Raises Failed."""
    if yes:
        return
    if session.as_json or not session.err.is_terminal:
        raise Failed("give --yes: there is no terminal to ask a person", USAGE, "--yes")
    if not typer.confirm(question, err=True):
        raise typer.Abort


# ---------------------------------------------------------------- backup


@backup.command()
def create(
    ctx: typer.Context,
    archive: Archived,
    name: Annotated[
        str, typer.Option("--id", help="A second run under the same id continues the first.")
    ] = "",
    *,
    whole: Annotated[
        bool, typer.Option("--whole", help="Refer to no earlier backup: send everything.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Save the ring: every write that was acknowledged before now."""
    session: Session = ctx.obj
    with archives() as (backups, archive_of):
        found = backups.find(archive_of(archive))
    with session.admin() as admin:
        ring, status = admin.ring(), admin.status()
    cluster = ring["cluster_id"]
    base = "" if whole else backups.newest(found, cluster)
    name = name or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    down = sorted(n for n, state in status["peers"].items() if state == "down")
    if not session.as_json:
        refers = f"refers to {base} where nothing changed" if base else "sends everything"
        session.out.print(
            f"{name}: {len(ring['entries'])} partitions of {cluster} to {archive}, {refers}",
            soft_wrap=True,
        )
        if name in found.whole:
            then = when(found.whole[name].started_ms)
            words = f"{name} is there already, as of {then}: nothing more is saved"
            session.out.print(words, soft_wrap=True)
        if down:
            session.out.print(f"down: {', '.join(down)}; the backup lacks what only they have")
    asked(session, "Save?", yes)
    body = {"id": name, "archive": archive, **({"base": base} if base else {})}
    report = followed(session, "/v1/backups", body, "partitions")
    session.show(
        report,
        f"{name}: {report['records']:,} records, {size(report['bytes'])},"
        f" {size(report['new_bytes'])} new in the archive"
        + (f"; missed: {', '.join(report['missed'])}" if report["missed"] else "")
        + (f"; {report['damaged']:,} keys are lost: {DAMAGED}" if report.get("damaged") else ""),
    )


@backup.command("list")
def list_backups(ctx: typer.Context, archive: Archived) -> None:
    """List the backups of an archive."""
    session: Session = ctx.obj
    with archives() as (backups, archive_of):
        found = backups.find(archive_of(archive))
    rows = table("backup", "ring", "began", ">records", ">bytes", ">stored", ">new", "missed")
    whole = sorted(found.whole.values(), key=lambda m: (m.started_ms, m.id))
    for manifest in whole:
        counts = manifest.counts()
        rows.add_row(
            manifest.id, manifest.cluster_id, when(manifest.started_ms), f"{counts['records']:,}",
            size(counts["bytes"]), size(counts["stored_bytes"]), size(counts["new_bytes"]),
            ", ".join(manifest.missed()),
        )  # fmt: skip
    for progress in found.unfinished.values():
        rows.add_row(progress.id, progress.cluster_id, when(progress.started_ms), "unfinished")
    for unread, why in found.unreadable.items():
        rows.add_row(unread, "", "", why)
    said = {
        "backups": [said_of(manifest) for manifest in whole],
        "unfinished": sorted(found.unfinished),
        "unreadable": found.unreadable,
    }
    session.show(said, rows)


@backup.command()
def show(
    ctx: typer.Context, archive: Archived, name: Annotated[str, typer.Argument(metavar="ID")]
) -> None:
    """Show one backup: its ring, its size, the nodes that were down."""
    session: Session = ctx.obj
    with archives() as (backups, archive_of):
        manifest = backups.read(archive_of(archive), name)
    said = said_of(manifest) | {"ring": manifest.ring}
    session.show(said, *(f"{key}: {value}" for key, value in said_of(manifest).items()))


@backup.command()
def verify(
    ctx: typer.Context,
    archive: Archived,
    name: Annotated[str, typer.Argument(metavar="ID")],
    identity_file: Identity = None,
) -> None:
    """Read every part and every record of a backup, without a ring. Exits with 1 if one is
    wrong."""
    session: Session = ctx.obj
    with archives() as (backups, archive_of):
        manifest = backups.read(archive_of(archive), name)
        with bar(session, "verify", manifest.counts()["stored_bytes"], True) as step:
            wrong = backups.verify(archive_of(archive), manifest, step, sealing_of(identity_file))
    said = {"id": name, "wrong": wrong, **manifest.counts()}
    counts = manifest.counts()
    good = f"{name}: all of {counts['records']:,} records in {counts['parts']:,} parts are good"
    session.show(said, *(wrong or [good]))
    if wrong:
        raise Failed(f"{name}: {len(wrong)} parts are damaged or missing")


@backup.command()
def delete(
    ctx: typer.Context,
    archive: Archived,
    names: Annotated[list[str] | None, typer.Argument(metavar="ID")] = None,
    *,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Of each ring keep this number of backups, the newest."),
    ] = None,
    keep_days: Annotated[
        int, typer.Option(min=0, help="With --keep: also keep backups of the last days.")
    ] = 0,
    yes: Yes = False,
) -> None:
    """Delete backups, and the parts to which no other backup refers."""
    session: Session = ctx.obj
    if bool(names) == (keep is not None):
        raise Failed("give either IDs or --keep", USAGE, "ID")
    with archives() as (backups, archive_of):
        place = archive_of(archive)
        found = backups.find(place)
        going = list(names or [])
        if keep is not None:
            since = datetime.now(UTC) - timedelta(days=keep_days)
            going = backups.beyond(found, keep, int(since.timestamp() * 1000))
        known = {*found.whole, *found.unfinished, *found.unreadable}
        if unknown := sorted(set(going) - known):
            raise Failed(f"{', '.join(unknown)}: no such backup", USAGE, "ID")
        if not session.as_json:
            words = ", ".join(going) or "nothing"
            session.out.print(f"delete {words} of {len(known)} backups", soft_wrap=True)
        if going:
            asked(session, "Delete?", yes)
        parts = backups.delete(place, going) if going else 0
    session.show({"deleted": going, "parts": parts}, f"{len(going)} backups, {parts} parts deleted")


# ---------------------------------------------------------------- while it goes on


@contextmanager
def bar(
    session: Session, what: str, total: int | None, in_bytes: bool = False
) -> Iterator[Callable[..., None]]:
    """A bar on the terminal; the callable is told how much more is done, and of how much, once that
    is known."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    count = DownloadColumn() if in_bytes else MofNCompleteColumn()
    progress = Progress(
        TextColumn(what), BarColumn(), count, TimeRemainingColumn(), console=session.err,
        transient=True,
    )  # fmt: skip
    quiet = session.as_json or not session.err.is_terminal
    with nullcontext() if quiet else progress:
        task = progress.add_task("", total=total)
        yield lambda more, of=total: progress.update(task, advance=more, total=of or None)


def followed(session: Session, path: str, body: dict[str, Any], what: str) -> dict[str, Any]:
    """Asks a node and follows it to the end. A node that dies, or knows nothing of it any more, is
    followed by another one, under the same id. Raises Failed."""
    heard = time.monotonic()
    done = 0
    with bar(session, what, None) as step:
        while True:
            try:
                with session.admin() as admin:
                    admin.post(path, body)
                    while True:
                        report = admin.document(f"{path}/{body['id']}")
                        heard = time.monotonic()
                        step(report[what + "_done"] - done, report[what + "_total"])
                        done = report[what + "_done"]
                        if report["state"] == "done":
                            return report
                        if report["state"] == "failed":
                            raise Failed(f"{body['id']}: {report['reason']}")
                        time.sleep(POLL_S)
            except ClientError as error:
                if error.status in (400, 401, 409):
                    raise
                if time.monotonic() - heard > SILENT_S_MAX:
                    raise Failed(f"{body['id']}: {error}; run it again to go on") from None
                time.sleep(POLL_S)
