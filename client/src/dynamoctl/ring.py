"""Commands about the ring: `ring`, `status`, `repair`, `keys`, `preference-list`, `explain`."""

from __future__ import annotations

import base64
import re
import time
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dynamoctl.follow import follow, going_on
from dynamoctl.picture import circle, mark
from dynamoctl.room import Base64Option, KeyArgument, either, offer, room
from dynamoctl.session import (
    USAGE,
    Failed,
    Session,
    key_of,
    shown_key,
    size,
    table,
    writable,
)

POLL_S = 0.2
commands = room()


@commands.command()
def ring(ctx: typer.Context) -> None:
    """Show the ring: a circle of partitions by first owner, and its members."""
    session: Session = ctx.obj
    with session.admin() as admin:
        document = admin.ring()
    session.show(document, *ring_picture(session, document))


def ring_picture(session: Session, document: Mapping[str, Any]) -> list[Table | Text]:
    """The ring for people; on a narrow terminal, the members are below the circle."""
    colours = session.coloured and writable("█▀")
    owners = [entry["owners"] for entry in document["entries"]]
    first = Counter(names[0] for names in owners if names)
    held = Counter(name for names in owners for name in names)
    everybody = [m for m in document["members"] if m["state"] != "LEFT" or held[m["name"]]]
    numbers = {member["name"]: index for index, member in enumerate(everybody)}
    zones = any(member["zone"] for member in everybody)
    weights = any(member["weight"] != 1 for member in everybody)
    more = ["zone"] * zones + [">weight"] * weights
    members = table("", "node", *more, "state", ">tokens", ">replicas")
    for member in everybody:
        name = member["name"]
        said = [member["zone"]] * zones + [str(member["weight"])] * weights
        members.add_row(
            mark(numbers[name], colours),
            name,
            *said,
            member["state"],
            str(first[name]),
            str(held[name]),
        )
    moving = sum(entry["move"] is not None for entry in document["entries"])
    words = [
        f"{document['partitions']} partitions",
        f"N={document['n']} R={document['r']} W={document['w']}",
        f"epoch {document['epoch']}",
        *([f"{moving} moving"] if moving else []),
    ]
    drawn = circle([numbers.get(o[0], 0) if o else 0 for o in owners], words, colours)
    if session.out.is_terminal and len(drawn.plain.partition("\n")[0]) * 2 > session.out.width:
        return [drawn, members]
    both = Table.grid(padding=(0, 2))
    both.add_row(drawn, members)
    return [both]


def status_row(name: str, status: dict[str, Any] | None) -> list[str | Text]:
    """One row of `status`."""
    if status is None:
        return [name, Text("down", "bold red"), *["-"] * 6]
    parts = status["partitions"]
    whole = f"{parts['complete']}/{parts['owned']}"
    hints = sum(hint["count"] for hint in status["hints"].values())
    down = [peer for peer, state in status["peers"].items() if state != "up"]
    # Older nodes do not have this; their `last_exchange` counts only exchanges with a difference,
    # so it may be old.
    oldest = status.get("oldest_comparison_s")
    return [
        name,
        Text("up", "green"),
        status["state"] or f"disk {status['disk']}",
        whole if parts["complete"] == parts["owned"] else Text(whole, "yellow"),
        Text(str(hints), "yellow" if hints else ""),
        size(status["disk_bytes"]),
        f"{oldest:.1f} s" if oldest is not None else "-",
        Text(", ".join(down), "red"),
    ]


def troubles(found: Mapping[str, dict[str, Any] | None]) -> list[Text]:
    """What nodes say about their addresses, one in each line; older nodes say nothing."""
    said = {name: answer.get("address_trouble") for name, answer in found.items() if answer}
    return [Text(f"{name}: {words}", "red") for name, words in said.items() if words]


def approvals(found: Mapping[str, dict[str, Any] | None]) -> list[Text]:
    """Approved replacements that are not used yet, one in each line; older nodes say nothing."""
    return [
        Text(
            f"{name}: one empty {lost} may take its place for {approval['lapses_s']:.0f} s", "bold"
        )
        for name, answer in found.items()
        if answer
        for lost, approval in answer.get("replacements", {}).items()
    ]


@commands.command()
def status(
    ctx: typer.Context,
    until_done: Annotated[
        bool, typer.Option("--follow", help="Follow the last change of the ring until it is done.")
    ] = False,
) -> None:
    """Show for all members: up, state, complete of owned partitions, hints, bytes on disk, the
    oldest comparison with a peer, and peers that seem down. Exits with 1 if one is down."""
    session: Session = ctx.obj
    if until_done:
        with going_on(session):
            end = follow(session)
        moved = f"{end['moves_done']} of {end['moves_total']} moves"
        return session.show(
            end, f"{end['state']}: {moved}" if end["id"] else "no change is under way"
        )
    found = session.of_all(session.admin_urls(), lambda admin: admin.status())
    rows = table(
        "node", "up", "state", ">complete", ">hints", ">disk", ">oldest comparison", "sees down"
    )
    for name, answer in found.items():
        rows.add_row(*status_row(name, answer))
    document = [{"name": n, "up": a is not None, **(a or {})} for n, a in found.items()]
    session.show(document, rows, *troubles(found), *approvals(found))
    if down := [name for name, answer in found.items() if answer is None]:
        raise Failed(f"{', '.join(down)}: no answer")
    return None


def partitions_of(text: str) -> list[int]:
    """Numbers of `0-15,20`. Raises Failed."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        if not re.fullmatch(r"\d{1,4}(-\d{1,4})?", part):
            raise Failed(
                f"{part!r} is not a number or a range, like 0-15,20", USAGE, "--partitions"
            )
        low, _, high = part.partition("-")
        numbers = range(int(low), int(high or low) + 1)
        if not numbers:
            raise Failed(
                f"{part!r} is not a range: its end is before its start", USAGE, "--partitions"
            )
        found += numbers
    return found


@commands.command()
def repair(
    ctx: typer.Context,
    partitions: Annotated[str, typer.Option(help="For example 0-15,20; default: all.")] = "",
    nodes: Annotated[
        str,
        typer.Option(
            help="Only these nodes' partitions, with commas.", autocompletion=offer("nodes")
        ),
    ] = "",
    mode: Annotated[
        str,
        typer.Option(
            help="tree: compare digests; full: read every record first.",
            autocompletion=either("tree", "full"),
        ),
    ] = "tree",
) -> None:
    """Run anti-entropy now and wait until it is done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    session: Session = ctx.obj
    with session.admin() as admin:
        job = admin.repair(partitions_of(partitions), [n for n in nodes.split(",") if n], mode)
        report = admin.repair_status(job)
        words = f"the repair goes on; see {admin.url}/v1/repairs/{job}"
        with (
            going_on(session, words),
            Progress(
                TextColumn("repair"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("partitions"),
                TimeRemainingColumn(),
                console=session.err,
                transient=True,
                disable=session.as_json or not session.err.is_terminal,
            ) as progress,
        ):
            task = progress.add_task("", total=None)
            while report["state"] == "running":
                total = report["partitions_total"]
                progress.update(task, total=total or None, completed=report["partitions_done"])
                time.sleep(POLL_S)
                report = admin.repair_status(job)
    session.show(
        report,
        f"{report['state']}: {report['partitions_done']} of {report['partitions_total']} partitions"
        f" compared, {report['keys_repaired']} keys repaired",
    )
    if report["state"] != "done":
        raise Failed(f"repair {job} {report['state']}")


@commands.command()
def keys(
    ctx: typer.Context,
    partition: Annotated[int | None, typer.Option(help="Only this partition.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number.")] = None,
    in_base64: Annotated[
        bool, typer.Option("--base64", "-b", help="Print all keys as base64.")
    ] = False,
) -> None:
    """List live keys, one in each line; bytes that are not readable text are percent-encoded."""
    session: Session = ctx.obj
    with session.admin() as admin:
        for key in islice(admin.keys(partition=partition), limit):
            coded = base64.b64encode(key).decode()
            session.show({"key": coded}, Text(coded if in_base64 else shown_key(key)))


@commands.command("preference-list")
def preference_list(ctx: typer.Context, key: KeyArgument, is_base64: Base64Option = False) -> None:
    """Show the owners of a key and their stand-ins, in order, and which of them are up."""
    session: Session = ctx.obj
    with session.admin() as admin:
        answer = admin.preference_list(key_of(key, is_base64))
    rows = table("node", "role", "up")
    for role, names in (("owner", answer["owners"]), ("stand-in", answer["stand_ins"])):
        for name in names:
            up = answer["up"].get(name)
            rows.add_row(name, role, Text("up", "green") if up else Text("down", "red"))
    session.show(answer, f"partition {answer['partition']}", rows)


@commands.command()
def explain(ctx: typer.Context, key: KeyArgument, is_base64: Base64Option = False) -> None:
    """Read a key and show which nodes were asked or skipped, why, and what was decided."""
    session: Session = ctx.obj
    answer = session.explain(key_of(key, is_base64))
    head = f"partition {answer['partition']}, coordinator {answer['coordinator']}"
    rows = table("node", "role", "answer", ">ms")
    for asked in answer["asked"]:
        rows.add_row(asked["node"], asked["role"], asked["answer"], f"{asked['ms']:.1f}")
    for skipped in answer["skipped"]:
        rows.add_row(skipped["node"], "skipped", skipped["reason"], "-")
    session.show(answer, head, rows, f"decided: {answer['decided']}")
