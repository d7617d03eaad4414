"""Looks inside: `records`, `history`, `trees`, `hints`, `events`."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime
from time import monotonic
from typing import Annotated, Any

import typer
from rich.text import Text

from dynamo_client.steps import Ask
from dynamo_client.token_file import TokenFile
from dynamoctl.room import Base64Option, KeyArgument, offer, room
from dynamoctl.session import Failed, Session, key_of, shown_key, size, table

VALUE_CHARS_MAX = 40
ACTOR_CHARS = 6
DIFFERENCES_SHOWN_MAX = 32
STREAM_S_MIN = 5.0
"""A node ends a stream after minutes. One that ends sooner is not asked for again."""
STREAM_S_MAX = 30.0
"""A stream that is silent for this long is lost: nodes send at least that they are there."""
BLOCK_BYTES_MAX = 1024 * 1024
"""The most bytes of one event."""
commands = room()


def value_of(version: dict[str, Any], values_shown: bool) -> str:
    """A value for people, or what is there instead."""
    kind = version["kind"]
    if kind in ("tombstone", "unknown"):
        return "(deleted)" if kind == "tombstone" else "?"
    if not values_shown:
        return "(no right to it)"
    words = shown_key(b64decode(version["value"]))
    if len(words) > VALUE_CHARS_MAX:
        words = words[: VALUE_CHARS_MAX - 3] + "..."
    return f"{words} (expired)" if kind == "expired" else words


def dot_of(dot: str) -> str:
    """A dot with a short actor."""
    actor, _, counter = dot.partition(":")
    return f"{actor[:ACTOR_CHARS]}:{counter}"


def dots_of(dots: list[str]) -> str:
    """Several dots."""
    return ", ".join(map(dot_of, dots)) or "-"


def came_to(came: list[dict[str, Any]]) -> str:
    """The nodes to which a version came, by the ways on which it came."""
    ways: dict[str, list[str]] = {}
    for line in came:
        node = f"{line['node']} for {line['target']}" if line["target"] else line["node"]
        ways.setdefault(line["way"], []).append(node)
    return "; ".join(f"{', '.join(nodes)} ({way})" for way, nodes in ways.items()) or "-"


def silent(found: dict[str, Any]) -> list[Text]:
    """A line for each node that did not answer."""
    return [Text(f"{name}: {why}", "red") for name, why in found["no_answer"].items()]


@commands.command()
def records(ctx: typer.Context, key: KeyArgument, is_base64: Base64Option = False) -> None:
    """Show every copy of a key, hints included, side by side, and what each copy lacks."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.records(key_of(key, is_base64))
    rows = table("node", "as", "version", "value", ">bytes", "digest", "")
    for copy in found["copies"]:
        role = f"hint for {copy['target']}" if copy["target"] else "owner" if copy["owner"] else "-"
        lacks = f"lacks {dots_of(copy['lacks'])}" if copy["lacks"] else ""
        head = [copy["node"], role, copy["digest"][:10], lacks]
        for version in copy["siblings"]:
            node, kept_as, digest, note = head
            value = value_of(version, found["values_shown"])
            rows.add_row(
                node, kept_as, dot_of(version["dot"]), value, str(version["bytes"]), digest,
                Text(note, "yellow"),
            )  # fmt: skip
            head = [""] * 4
    for copy in found["without"]:
        if copy["owner"]:
            note = "its record is damaged" if copy["damaged"] else "has no record"
            rows.add_row(copy["node"], "owner", "-", "", "", "", Text(note, "yellow"))
    whole = not found["no_answer"].keys() & set(found["owners"])
    owners = "the owners" if whole else "the owners that answer"
    same = f"{owners} {'agree' if found['owners_agree'] else 'differ'}"
    session.show(found, rows, *silent(found), f"partition {found['partition']}: {same}")


@commands.command()
def history(ctx: typer.Context, key: KeyArgument, is_base64: Base64Option = False) -> None:
    """Show how a watched key came to be what it is: each put, what its writer had seen, and by
    which way it came to other nodes. Nodes remember it if history_bytes_max is not 0."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.history(key_of(key, is_base64))
    rows = table("time", "dot", "by", "value", "after", "superseded by", "came to")
    for event in found["events"]:
        rows.add_row(
            clock(event["at_ms"]), dot_of(event["dot"]), event["coordinator"] or "?",
            value_of(event, found["values_shown"]), dots_of(event["parents"]),
            dots_of(event["superseded_by"]), came_to(event["came"]),
        )  # fmt: skip
    rest = [] if found["events"] else ["no change of this key is remembered"]
    if not found["watched"]:
        rest = ["no node watches this key: set history_bytes_max (and history_prefixes)"]
    session.show(found, rows, *silent(found), *rest)


@commands.command()
def trees(
    ctx: typer.Context,
    partition: Annotated[int, typer.Argument(min=0, max=4095, help="The number of the partition.")],
) -> None:
    """Compare the hash trees of the owners of a partition. Fails if they differ."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.trees(partition)
    rows = table("node", "root", "complete", ">leaves in use")
    for copy in found["copies"]:
        used = sum(leaf.strip("0") != "" for leaf in copy["leaves"])
        rows.add_row(copy["node"], copy["root"][:16], str(copy["complete"]).lower(), str(used))
    count = len(found["differ"])
    differ = ", ".join(map(str, found["differ"][:DIFFERENCES_SHOWN_MAX])) or "none"
    more = f" and {count - DIFFERENCES_SHOWN_MAX} more" if count > DIFFERENCES_SHOWN_MAX else ""
    session.show(found, rows, *silent(found), f"leaves that differ: {differ}{more}")
    if count:
        raise Failed(f"{count} leaves differ")


@commands.command()
def hints(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Option(help="Show some of the keys for this node.", autocompletion=offer("nodes")),
    ] = "",
    limit: Annotated[
        int, typer.Option(min=0, max=100, help="Maximum number of keys from each node.")
    ] = 10,
) -> None:
    """Show for which nodes hints are kept, where, how many, and what they wait for."""
    session: Session = ctx.obj
    with session.admin() as admin:
        found = admin.hints(target, limit if target else 0)
    rows = table("kept by", "for", ">keys", ">bytes", ">oldest", "waits for", ">next try")
    keys: list[str] = []
    for holder in found["holders"]:
        next_try = f"{holder['next_attempt_ms'] / 1000:.1f} s"
        for line in holder["targets"]:
            rows.add_row(
                holder["node"], line["target"], str(line["count"]), size(line["bytes"]),
                f"{line['oldest_s']:.0f} s", line["waits_for"], next_try,
            )  # fmt: skip
            keys += [f"{holder['node']}: {shown_key(b64decode(key))}" for key in line["keys"]]
    rest = [] if rows.row_count else ["no node keeps a hint"]
    session.show(found, rows, *silent(found), *keys, *rest)


@commands.command()
def events(
    ctx: typer.Context,
    limit: Annotated[
        int | None, typer.Option(min=1, help="End after this number of events. Default: at Ctrl-C.")
    ] = None,
) -> None:
    """Follow what happens on a node: ring changes, nodes up and down, hints, exchanges, moves,
    repairs, rounds, each with its rule of docs/rules.md."""
    session: Session = ctx.obj
    with session.admin() as admin:
        url = admin.url
    for index, line in enumerate(followed(session, f"{url}/v1/events"), 1):
        about = {k: v for k, v in line.items() if k not in ("at_ms", "kind", "rule")}
        words = " ".join(f"{name}={value}" for name, value in about.items())
        shown = f"{clock(line['at_ms'])}  {line['kind']:<20} {words}  {line['rule']}"
        session.show(line, shown)
        sys.stdout.flush()
        if index == limit:
            return


def followed(session: Session, url: str) -> Iterator[dict[str, Any]]:
    """The events of a node. A stream that the node has ended goes on from its last number. Raises
    Failed if it is refused or lost."""
    last = 0
    while True:
        began = monotonic()
        for after, line in streamed(session, f"{url}?after={last}"):
            last = after
            yield line
        if monotonic() - began < STREAM_S_MIN:
            raise Failed(f"{url}: the node has ended the stream")


def streamed(session: Session, url: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers and events of one stream, until the node ends it. Raises Failed."""
    import httpcore

    from dynamo_client.attempts import error_of_reply
    from dynamo_client.pool import HTTP_ERRORS, pool_options, reply_of, request_of

    token = session.token.token if isinstance(session.token, TokenFile) else session.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = request_of(Ask("GET", url, headers), {}, STREAM_S_MAX)
    rest = b""
    try:
        with (
            httpcore.ConnectionPool(**pool_options([url], session.tls)) as pool,
            pool.stream(**asked) as answer,
        ):
            if answer.status != 200:
                raise error_of_reply(reply_of(answer, answer.read()))
            for chunk in answer.iter_stream():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                if len(rest) > BLOCK_BYTES_MAX:
                    raise Failed(f"{url}: not a stream of events")
                yield from filter(None, map(event_of, blocks))
    except HTTP_ERRORS as error:
        raise Failed(f"{url}: {type(error).__name__}") from None


def event_of(block: bytes) -> tuple[int, dict[str, Any]] | None:
    """Number and event of a block of the stream, None for a comment. Raises Failed."""
    fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
    if b"data" not in fields:
        return None
    try:
        line = json.loads(fields[b"data"])
        return int(fields.get(b"id", b"0")), {"at_ms": 0, "kind": "?", "rule": ""} | line
    except (ValueError, TypeError) as error:
        raise Failed(f"not an event: {error}") from None


def clock(at_ms: int) -> str:
    """Wall time of the node, in the zone of this terminal."""
    return datetime.fromtimestamp(at_ms / 1000).strftime("%H:%M:%S") if at_ms else "-"
