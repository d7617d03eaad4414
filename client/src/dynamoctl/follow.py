"""Follows a change of the ring with bars until it ends; Ctrl-C does not stop the change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.text import Text

from dynamo_client import ClientError
from dynamoctl.session import RETURN, Failed, Session

POLL_S = 0.3
SILENT_S_MAX = 30.0
SHOWN_MAX = 8
"""Maximum number of transfers shown, one in each line."""
Statuses = dict[str, dict[str, Any] | None]


def looks(session: Session) -> Iterator[tuple[Statuses, list[dict[str, Any]]]]:
    """The status of all nodes and the ring's entries, again and again, with nodes that join later.
    Raises Failed if no node has answered for some time."""
    urls: dict[str, str] = {}
    heard = time.monotonic()
    while True:
        try:
            with session.admin() as admin:
                ring = admin.ring()
            live = {m["name"] for m in ring["members"] if m["state"] != "LEFT"}
            urls = urls if live <= urls.keys() else session.admin_urls()
            statuses = session.of_all(urls, lambda admin: admin.status())
        except (Failed, ClientError):
            statuses = {}
        if any(one and one["state"] is not None for one in statuses.values()):
            heard = time.monotonic()
            yield statuses, ring["entries"]
        elif time.monotonic() - heard > SILENT_S_MAX:
            raise Failed(f"no node answers; {session.again(RETURN)} follows the change")
        time.sleep(POLL_S)


def operation_of(statuses: Statuses, operation_id: str | None) -> dict[str, Any]:
    """An operation, by default the last one, from the node with the newest ring. Raises Failed if
    another one has replaced it."""
    known = [one for one in statuses.values() if one is not None and one["state"] is not None]
    known.sort(key=lambda one: int(one["epoch"]))
    told: list[dict[str, Any]] = [one["operation"] for one in known]
    if operation_id is None:
        return told[-1]
    if ours := [one for one in told if one["id"] == operation_id]:
        return ours[-1]
    if not any(operation_id in one["earlier"] for one in told):
        raise Failed(f"superseded: {told[-1]['id']} was applied at the same time")
    return {**told[-1], "id": operation_id, "state": "followed by another"}


def follow(
    session: Session, operation_id: str | None = None, plan: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Shows an operation, by default the last one, until it ends, and returns its result; with the
    plan, also in bytes. Raises Failed if another one has replaced it."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    moves = Progress(
        TextColumn("moves"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=session.err,
    )
    copied = Progress(
        TextColumn("bytes"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=session.err,
    )
    bars = [moves, copied] if plan is not None and plan["bytes"] else [moves]
    tasks = [bar.add_task("", total=None) for bar in bars]
    quiet = session.as_json or not session.err.is_terminal
    live = Live(Group(*bars), console=session.err, transient=True, auto_refresh=False)
    with nullcontext() if quiet else live:
        for statuses, entries in looks(session):
            operation = operation_of(statuses, operation_id)
            total = operation["moves_total"] or None
            moves.update(tasks[0], total=total, completed=operation["moves_done"])
            if plan is not None and copied in bars:
                copied.update(tasks[1], total=plan["bytes"], completed=switched(plan, entries))
            if not quiet:
                live.update(Group(*bars, *_lines(statuses)), refresh=True)
            if operation["state"] != "running":
                return operation
    raise AssertionError("looks has no end")


def switched(plan: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of the plan's moves that have switched."""
    return sum(
        move["bytes"] or 0
        for move in plan["moves"]
        if move["in"] in entries[move["partition"]]["owners"]
    )


@contextmanager
def going_on(session: Session, words: str = "") -> Iterator[None]:
    """Ctrl-C does not stop a change: prints the command that follows it again."""
    try:
        yield
    except KeyboardInterrupt:
        words = words or f"it goes on; {session.again(RETURN)} follows it"
        session.err.print(words, soft_wrap=True)
        raise


def _lines(statuses: Statuses) -> list[Text]:
    """What is under way at each receiver, and the reason if it waits."""
    lines = [
        Text(
            f"  {one['in']} takes partition {one['partition']} from {one['out']}: {one['state']}"
            + f", {one['bytes_done']:,} bytes of"
            f" about {one['bytes_total']:,}"
            * bool(one["bytes_total"])
            + f", {one['reason']}" * bool(one["reason"]),
            "dim",
        )
        for status in statuses.values()
        if status is not None
        for one in status["transfers"]
    ]
    lines += [Text(f"  {name} is down", "red") for name, one in statuses.items() if one is None]
    if len(lines) > SHOWN_MAX:
        lines[SHOWN_MAX:] = [Text(f"  and {len(lines) - SHOWN_MAX} more", "dim")]
    return lines
