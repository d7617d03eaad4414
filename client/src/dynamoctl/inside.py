"""Looks inside: `records`, `history`, `trees`, `hints`, `events`, `console`."""

from __future__ import annotations

import json
import sys
import webbrowser
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from dynamoctl.session import (
    Base64Option,
    Failed,
    KeyArgument,
    Session,
    key_of,
    shown_key,
    size,
    table,
)

VALUE_CHARS_MAX = 40
ACTOR_CHARS = 6
STREAM_S_MAX = 30.0
"""A stream that says nothing for so long is lost: nodes say at least that they are there."""
commands = typer.Typer()


def value_of(version: dict[str, Any]) -> str:
    """A value for people, or what it is instead."""
    if version["kind"] == "tombstone":
        return "(deleted)"
    if version["kind"] == "unknown":
        return "?"
    words = shown_key(b64decode(version["value"]))
    if len(words) > VALUE_CHARS_MAX:
        words = words[: VALUE_CHARS_MAX - 1] + "…"
    return f"{words} (expired)" if version["kind"] == "expired" else words


def dot_of(dot: str) -> str:
    """A dot, its actor cut short."""
    actor, _, counter = dot.partition(":")
    return f"{actor[:ACTOR_CHARS]}:{counter}"


def silent(found: dict[str, Any]) -> list[Text]:
    """A line for each node that did not answer."""
    return [Text(f"{name}: {why}", "red") for name, why in found["no_answer"].items()]


@commands.command()
def records(ctx: typer.Context, key: KeyArgument, is_base64: Base64Option = False) -> None:
    """Show every copy of a key, hints included, side by side, and what each one lacks."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.records(key_of(key, is_base64))
    rows = table("node", "as", "version", "value", ">bytes", "digest", "")
    for copy in found["copies"]:
        role = f"hint for {copy['target']}" if copy["target"] else "owner" if copy["owner"] else "-"
        lacks = f"lacks {', '.join(map(dot_of, copy['lacks']))}" if copy["lacks"] else ""
        for at, version in enumerate(copy["siblings"]):
            first = at == 0
            rows.add_row(
                copy["node"] if first else "", role if first else "", dot_of(version["dot"]),
                value_of(version), str(version["bytes"]), copy["digest"][:10] if first else "",
                Text(lacks if first else "", "yellow"),
            )  # fmt: skip
    for copy in found["without"]:
        if copy["owner"]:
            rows.add_row(copy["node"], "owner", "-", "", "", "", Text("holds nothing", "yellow"))
    same = "the owners agree" if found["owners_agree"] else "the owners differ"
    session.show(found, rows, *silent(found), f"partition {found['partition']}: {same}")


@commands.command()
def history(ctx: typer.Context, key: KeyArgument, is_base64: Base64Option = False) -> None:
    """Show how a watched key came to be what it is: each put, what its writer had seen, and by
    which way it came to other nodes. Nodes remember it where history_bytes_max is not 0."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.history(key_of(key, is_base64))
    rows = table("time", "dot", "coordinator", "value", "seen before", "superseded by", "came to")
    for event in found["events"]:
        came = [f"{c['node']} ({c['way']})" for c in event["came"]]
        rows.add_row(
            clock(event["at_ms"]), dot_of(event["dot"]), event["coordinator"] or "?",
            value_of(event), ", ".join(map(dot_of, event["parents"])) or "-",
            ", ".join(map(dot_of, event["superseded_by"])) or "-", ", ".join(came),
        )  # fmt: skip
    if not found["watched"]:
        rest = "no node watches this key: set history_bytes_max"
    else:
        rest = "" if found["events"] else "nothing has changed it since its nodes started"
    session.show(found, rows, *silent(found), *([rest] if rest else []))


@commands.command()
def trees(
    ctx: typer.Context, partition: Annotated[int, typer.Argument(min=0, max=4095)]
) -> None:  # fmt: skip
    """Compare the hash trees of the owners of a partition. Ends with 1 when they differ."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.trees(partition)
    rows = table("node", "root", "complete", ">leaves in use")
    for copy in found["copies"]:
        used = sum(leaf.strip("0") != "" for leaf in copy["leaves"])
        rows.add_row(copy["node"], copy["root"][:16], str(copy["complete"]).lower(), str(used))
    differ = ", ".join(map(str, found["differ"][:32])) or "none"
    session.show(found, rows, *silent(found), f"leaves that differ: {differ}")
    if found["differ"]:
        raise Failed(f"{len(found['differ'])} leaves differ")


@commands.command()
def hints(
    ctx: typer.Context,
    target: Annotated[str, typer.Option(help="Show the first keys for this node.")] = "",
    limit: Annotated[int, typer.Option(min=0, max=100, help="So many keys of each holder.")] = 10,
) -> None:
    """Show whose hints lie where, how many, and what they wait for."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.hints(target, limit if target else 0)
    rows = table("held by", "for", ">keys", ">bytes", "waits for", ">next try")
    keys: list[str] = []
    for holder in found["holders"]:
        for line in holder["targets"]:
            rows.add_row(
                holder["node"], line["target"], str(line["count"]), size(line["bytes"]),
                line["waits_for"], f"{holder['next_attempt_ms'] / 1000:.1f} s",
            )  # fmt: skip
            keys += [f"{holder['node']}: {shown_key(b64decode(key))}" for key in line["keys"]]
    session.show(found, rows, *silent(found), *keys)


@commands.command()
def events(ctx: typer.Context) -> None:
    """Follow what happens on a node: ring changes, nodes up and down, hints, exchanges, moves,
    repairs, rounds, each with its rule of docs/rules.md. Ends with Ctrl-C."""
    session: Session = ctx.obj
    with session.admin() as admin:
        url = admin.url
    for line in streamed(f"{url}/v1/events", session.token):
        if session.as_json:
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            about = {k: v for k, v in line.items() if k not in ("at_ms", "kind", "rule")}
            words = " ".join(f"{name}={value}" for name, value in about.items())
            session.show(
                line, f"{clock(line['at_ms'])}  {line['kind']:<20} {words}  {line['rule']}"
            )
        sys.stdout.flush()


def streamed(url: str, token: str | None) -> Iterator[dict[str, Any]]:
    """The events of a stream as they come. Raises Failed when it is refused or lost."""
    import httpcore

    headers = [("Authorization", f"Bearer {token}")] if token else []
    timeout = {"timeout": {"connect": STREAM_S_MAX, "read": STREAM_S_MAX}}
    rest = b""
    try:
        with httpcore.stream("GET", url, headers=headers, extensions=timeout) as answer:
            if answer.status != 200:
                raise Failed(f"{url}: status {answer.status}")
            for chunk in answer.iter_stream():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for block in blocks:
                    data = [x[6:] for x in block.split(b"\n") if x.startswith(b"data: ")]
                    if data:
                        yield json.loads(data[0])
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise Failed(f"{url}: {type(error).__name__}") from None
    raise Failed(f"{url}: the node has ended the stream")


def clock(at_ms: int) -> str:
    """Wall time of the node, in this terminal's zone."""
    return datetime.fromtimestamp(at_ms / 1000).strftime("%H:%M:%S") if at_ms else "-"


@commands.command()
def console(
    ctx: typer.Context,
    opened: Annotated[bool, typer.Option("--open", help="In a browser.")] = False,
) -> None:
    """Print the address of the console, the ring in a browser; with --open open it."""
    session: Session = ctx.obj
    with session.admin() as admin:
        url = f"{admin.url}/console"
    session.show({"console": url}, url)
    if opened and not webbrowser.open(url):
        raise Failed("no browser can be opened here")
