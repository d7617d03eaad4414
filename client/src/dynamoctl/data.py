"""`get`, `put`, `delete`: one key at a time."""

from __future__ import annotations

import base64
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dynamo_client import Found, Stored, Version
from dynamo_client.expiry import time_of, time_text
from dynamoctl.room import Base64Option, KeyArgument, either, room
from dynamoctl.session import (
    FAILED,
    NOT_FOUND,
    SIBLINGS,
    USAGE,
    Failed,
    Session,
    key_of,
    shown_key,
    size,
    styled,
    table,
)

PREVIEW_CHARS = 40
commands = room()

QUORUMS = either("one", "quorum", "all")
Quorum = Annotated[
    str,
    typer.Option(help="Answers to wait for: 1 to N, one, quorum, all.", autocompletion=QUORUMS),
]
Durable = Annotated[str, typer.Option(help="Fsynced acks among these.", autocompletion=QUORUMS)]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--sloppy", help="Whether only owners count, or also stand-ins."),
]
ContextOut = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the context here.")]
ContextIn = Annotated[
    str | None,
    typer.Option(metavar="TEXT|@FILE", help="Of a get: replace what it showed."),
]


def _count(text: str) -> int | str | None:
    return int(text) if text.isdecimal() else text or None


def _context(text: str | None) -> str | None:
    if not text or text[0] != "@":
        return text
    return _file(text[1:], "--context").decode("ascii", "replace").strip()


def _file(name: str, field: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}", USAGE, field) from None


def _time(text: str) -> datetime | None:
    try:
        return time_of(text) if text else None
    except ValueError as error:
        raise Failed(str(error), USAGE, "--expires-at") from None


def _write(context: str | None, file: Path | None) -> None:
    if file is not None:
        try:
            file.write_text(f"{context or ''}\n")
        except OSError as error:
            raise Failed(f"{file}: {error.strerror}", FAILED, "--context-out") from None


def value_json(version: Version) -> dict[str, str]:
    """A version as the HTTP API writes it."""
    data = base64.b64encode(version.data).decode()
    shown = {"data": data, "content_type": version.content_type, "dot": version.dot}
    if version.content_encoding:
        shown["content_encoding"] = version.content_encoding
    return shown | ({"expires_at": time_text(version.expires_at)} if version.expires_at else {})


def _found_json(found: Found) -> dict[str, Any]:
    key = base64.b64encode(found.key).decode()
    return {"key": key, "context": found.context, "values": list(map(value_json, found.values))}


@commands.command()
def get(
    ctx: typer.Context,
    key: KeyArgument,
    is_base64: Base64Option = False,
    *,
    r: Quorum = "",
    strict: Strict = None,
    context_out: ContextOut = None,
) -> None:
    """Print a value as it is, byte for byte. Several siblings are printed as a table or as JSON,
    and the command exits with 4. It exits with 3 if there is no value."""
    session: Session = ctx.obj
    with session.client() as client:
        found = client.get(key_of(key, is_base64), r=_count(r), strict=strict)
    _write(found.context, context_out)
    if not found.values:
        raise Failed(f"no value at {shown_key(found.key)}", NOT_FOUND, "KEY")
    if session.as_json:
        session.show(_found_json(found))
    elif len(found.values) == 1:
        sys.stdout.flush()
        sys.stdout.buffer.write(found.values[0].data)
        if sys.stdout.isatty() and not found.values[0].data.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.flush()
    else:
        from rich.text import Text

        expire = any(one.expires_at for one in found.values)
        head = "dot", "content type", "encoding", ">size", *["expires"] * expire, "value"
        siblings = table(*head)
        for one in found.values:
            preview = one.data[:PREVIEW_CHARS].decode("utf-8", "replace").replace("\n", " ")
            said = one.content_type, one.content_encoding, size(len(one.data))
            until = [time_text(one.expires_at) if one.expires_at else "never"] * expire
            siblings.add_row(one.dot, *said, *until, Text(preview))
        session.show(None, siblings)
    if len(found.values) > 1:
        words = f"{len(found.values)} siblings: merge them and put the result with --context"
        raise Failed(words, SIBLINGS, "KEY")


def _done(session: Session, what: str, stored: Stored, context_out: Path | None) -> None:
    _write(stored.context, context_out)
    acks = stored.acks
    counts = {"total": acks.total, "owners": acks.owners, "hinted": acks.hinted,
              "durable": acks.durable}  # fmt: skip
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    session.show(
        {"context": stored.context, "acks": counts, "node": stored.node},
        f"{what} by {stored.node}: acks {words}",
        *([] if context_out else [styled(f"context {stored.context}", "dim")]),
    )


@commands.command()
def put(
    ctx: typer.Context,
    key: KeyArgument,
    value: Annotated[
        str, typer.Argument(metavar="[VALUE|@FILE|-]", help="Default: standard input.")
    ] = "-",
    is_base64: Base64Option = False,
    *,
    context: ContextIn = None,
    context_out: ContextOut = None,
    content_type: Annotated[
        str, typer.Option(help="Stored with the value.")
    ] = "application/octet-stream",
    content_encoding: Annotated[
        str, typer.Option(help="Stored with the value; the value is not encoded.")
    ] = "",
    w: Quorum = "",
    dw: Durable = "",
    strict: Strict = None,
    request_id: Annotated[str | None, typer.Option(help="The same id is the same write.")] = None,
    expires_in_s: Annotated[int | None, typer.Option(help="Seconds until it expires.")] = None,
    expires_at: Annotated[
        str, typer.Option(metavar="TIME", help="Time at which it expires: RFC 3339, with a zone.")
    ] = "",
) -> None:
    """Write a value. Without the context of a get, it becomes a sibling of the present values; with
    it, it replaces the values of that get."""
    session: Session = ctx.obj
    if value == "-":
        data = sys.stdin.buffer.read()
    elif value.startswith("@"):
        data = _file(value[1:], "VALUE")
    else:
        data = os.fsencode(value)
    with session.client() as client:
        stored = client.put(
            key_of(key, is_base64),
            data,
            context=_context(context),
            content_type=content_type,
            content_encoding=content_encoding,
            w=_count(w),
            dw=_count(dw),
            strict=strict,
            request_id=request_id,
            expires_in_s=expires_in_s,
            expires_at=_time(expires_at),
        )
    _done(session, "stored", stored, context_out)


@commands.command()
def delete(
    ctx: typer.Context,
    key: KeyArgument,
    is_base64: Base64Option = False,
    *,
    context: ContextIn = None,
    context_out: ContextOut = None,
    w: Quorum = "",
    dw: Durable = "",
    strict: Strict = None,
) -> None:
    """Delete the versions of the context; without a context, those that a quorum has now."""
    session: Session = ctx.obj
    with session.client() as client:
        stored = client.delete(
            key_of(key, is_base64),
            context=_context(context),
            w=_count(w),
            dw=_count(dw),
            strict=strict,
        )
    _done(session, "deleted", stored, context_out)
