"""What every command needs: which nodes to ask, how to show results, how to fail."""

from __future__ import annotations

import base64
import binascii
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from dynamo_client import AdminClient, ClientError, ConnectionFailed, DynamoClient
from dynamo_client.attempts import error_of_reply
from dynamo_client.operations import quoted
from dynamo_client.pool import BlockingPool
from dynamo_client.problems import problem_of
from dynamo_client.steps import Ask, Reply
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.token_file import TokenFile

if TYPE_CHECKING:  # rich takes long to load, and a plain command does not need it
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

FAILED, USAGE, NOT_FOUND, SIBLINGS = 1, 2, 3, 4
RETURN = "status --follow"
"""The command that follows a change again."""
DEFAULT_ENDPOINT = "http://127.0.0.1:8080"
ADMIN_PORT = 8081
NOWHERE = "http://127.0.0.1:0"
EXPLAIN_S_MAX = 5.0
PROBE_S_MAX = 2.0
"""A node that is silent for longer than this is shown as down."""
WIDTH_MAX = 10_000
LOCAL_DIR = Path(".local")
PLAIN_WORDS: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
"""Names and values are printed unchanged, with their brackets."""
Answer = TypeVar("Answer")


class Failed(Exception):
    """A command has failed: one line, an exit code, and the field with the fault."""

    def __init__(self, message: str, code: int = FAILED, field: str = "") -> None:
        super().__init__(message)
        self.code, self.field = code, field


def key_of(text: str, is_base64: bool) -> bytes:
    """A key as bytes: those from the shell, or base64 of them. Raises Failed."""
    if not is_base64:
        return os.fsencode(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Failed("not base64", USAGE, "KEY") from None


def text_of(key: bytes) -> str | None:
    """A key as text, None if it is not UTF-8."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def shown_key(key: bytes) -> str:
    """A key for people: unchanged if it can be read and copied, else percent-encoded. On a terminal
    without UTF-8, a copied letter would be other bytes."""
    text = text_of(key)
    spoken = text is not None and (text.isascii() or _speaks_utf8())
    return text if text is not None and text.isprintable() and spoken else quote(key, safe="")


def _speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return "-"
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def shown(words: str) -> str:
    """Text without control sequences for the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in words)


def styled(words: str, style: str) -> Text | str:
    """Text with a colour, if the terminal can show it."""
    if not style or not sys.stdout.isatty():
        return words
    from rich.text import Text

    return Text(words, style)


def fitted(out: Console, picture: RenderableType) -> None:
    """Prints it without losing columns: if it is wider than the terminal, each row is a block."""
    from rich.measure import Measurement
    from rich.table import Table

    if not isinstance(picture, Table):
        out.print(picture, soft_wrap=True)
        return
    options = out.options.update(max_width=WIDTH_MAX)
    wide = Measurement.get(out, options, picture).maximum
    if out.is_terminal and wide > out.width and picture.show_header:
        for line in blocks(picture):
            out.print(line, soft_wrap=True)
    else:
        out.print(picture, width=wide, crop=False, no_wrap=True)


def blocks(rows: Table) -> Iterator[str | Text]:
    """Each row of a table as a block of lines: its first cell, then one name and value per line."""
    from rich.text import Text

    names = [str(column.header) for column in rows.columns]
    wide = max(map(len, names))
    for cells in zip(*(list(column.cells) for column in rows.columns), strict=True):
        for at, (name, cell) in enumerate(zip(names, cells, strict=True)):
            value = cell if isinstance(cell, Text) else Text(str(cell))
            if value.plain.strip():
                yield Text(f"{name:<{wide}}  " if at == 0 else f"  {name:<{wide}}  ") + value


def within(out: Console, rows: Table) -> RenderableType:
    """A table that is redrawn in place: if it is wider than the terminal, each row is a few lines
    of names and values, as many in one line as have room."""
    from rich.console import Group
    from rich.measure import Measurement
    from rich.text import Text

    options = out.options.update(max_width=WIDTH_MAX)
    if Measurement.get(out, options, rows).maximum <= out.width:
        return rows
    lines = []
    for cells in zip(*(list(column.cells) for column in rows.columns), strict=True):
        line = Text()
        for column, cell in zip(rows.columns, cells, strict=True):
            value = cell if isinstance(cell, Text) else Text(str(cell))
            if not value.plain.strip():
                continue
            pair = Text(f"{column.header} ") + value
            if line and len(line) + 2 + len(pair) > out.width:
                lines.append(line)
                line = Text("  ")
            line = line + ("  " if line.plain.strip() else "") + pair
        lines.append(line)
    return Group(*lines, *([Text(str(rows.caption))] if rows.caption else []))


def writable(text: str) -> bool:
    """Whether standard output has all of these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def to_copy(count: int | None) -> str:
    """The cost of a plan, for people."""
    return "the bytes to copy are not known" if count is None else f"{size(count)} to copy"


def table(*columns: str) -> Table:
    """An empty table; a column whose name begins with `>` has numbers."""
    from rich.table import Table

    made = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        right = name.startswith(">")
        made.add_column(name.removeprefix(">"), justify="right" if right else "left")
    return made


@dataclass
class Session:
    """One run of the command line."""

    endpoints: list[str]
    admins: list[str]
    token: str | TokenFile | None
    as_json: bool
    forwarded: dict[str, str] = field(default_factory=dict)
    """Admin URL by member if the ring's own addresses cannot be dialled from here."""
    program: str = "dynamoctl"
    """The name under which it was called."""
    options: tuple[str, ...] = ()
    tls: Tls = SYSTEM
    """The options of a command for the same ring, from any directory."""
    client_token: TokenFile | None = None
    """The token for keys and values."""
    traceparent: str = ""
    """The trace of the command (W3C Trace Context), "" for none."""

    @cached_property
    def out(self) -> Console:
        """Standard output, a terminal or not."""
        from rich.console import Console

        return Console(**PLAIN_WORDS)

    @cached_property
    def err(self) -> Console:
        """Standard error, likewise."""
        from rich.console import Console

        return Console(stderr=True, **PLAIN_WORDS)

    def show(self, document: Any, *pictures: RenderableType) -> None:
        """The result: JSON for programs, pictures for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(document) + "\n")
        else:
            for picture in pictures:
                # The terminal wraps a long line, so that a key can be copied.
                if isinstance(picture, str):
                    sys.stdout.write(shown(picture) + "\n")
                else:
                    fitted(self.out, picture)

    def say(self, words: str, style: str = "") -> None:
        """A message while a command runs."""
        self.show({"news": words}, styled(words, style))

    @property
    def coloured(self) -> bool:
        """Whether colours are shown: not in a file, and not with NO_COLOR."""
        return self.out.color_system is not None and not self.out.no_color

    def again(self, words: str) -> str:
        """A command for this ring, to be pasted into a shell in any directory."""
        return " ".join([self.program, words, *map(shlex.quote, self.options)])

    def client(self) -> DynamoClient:
        """The client for data; the caller closes it."""
        return DynamoClient(
            *self.endpoints,
            routing=not self.forwarded,
            traceparent=self.traceparent,
            tls=self.tls,
            token_file=self.client_token,
        )

    def explain(self, key: bytes) -> dict[str, Any]:
        """A read with `?explain=true`, also if it fails. Raises ClientError."""
        with closing(BlockingPool(self.endpoints, None, self.tls, self.client_token)) as pool:
            for url in self.endpoints:
                url = f"{url}/v1/kv/{quoted(key)}?explain=true"
                answer = pool.ask(Ask("GET", url, {}, timeout_s=EXPLAIN_S_MAX))
                if isinstance(answer, Reply):
                    document = problem_of(answer.body)
                    if "asked" not in document:
                        raise error_of_reply(answer)
                    return document
        raise ConnectionFailed(f"no node answers at {', '.join(self.endpoints)}")

    @contextmanager
    def admin(self) -> Iterator[AdminClient]:
        """The first admin listener that answers. Raises Failed if none does."""
        for url in self.admins:
            with AdminClient(url, timeout_s=PROBE_S_MAX, tls=self.tls) as probe:
                if not probe.livez():
                    continue
            with AdminClient(url, self.token, tls=self.tls) as admin:
                yield admin
                return
        raise Failed(f"no node answers at {', '.join(self.admins)}", field="--admin")

    def admin_urls(self) -> dict[str, str]:
        """Admin URL by member that has not LEFT, as each has told the node that is asked. A member
        that has told none gets a guess: the distance between its two ports is that of the node that
        is asked."""
        with self.admin() as admin:
            mine, ring = admin.status(), admin.ring()
            if self.forwarded:
                members = (m["name"] for m in ring["members"] if m["state"] != "LEFT")
                return {name: self.forwarded.get(name, NOWHERE) for name in members}
            asked = urlsplit(admin.url)
        dialled = {m["name"]: urlsplit("//" + m["client"]) for m in ring["members"]}
        here = dialled.get(mine["name"])
        told = {m["name"]: m.get("admin") for m in ring["members"]}
        for member in ring["members"]:
            if member["state"] == "LEFT":
                del dialled[member["name"]]
        far = asked.port - here.port if asked.port and here and here.port else 1
        found = {}
        for name, parts in dialled.items():
            host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
            guessed = f"{host}:{(parts.port or 0) + far}"
            found[name] = f"{asked.scheme}://{told.get(name) or guessed}"
        return found | ({mine["name"]: admin.url} if mine["name"] in found else {})

    def of_all(
        self, urls: dict[str, str], ask: Callable[[AdminClient], Answer]
    ) -> dict[str, Answer | None]:
        """The same question to all nodes at once; None for those that do not answer."""

        def one(url: str) -> Answer | None:
            try:
                with AdminClient(url, self.token, timeout_s=PROBE_S_MAX, tls=self.tls) as admin:
                    return ask(admin)
            except ClientError:
                return None

        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(max_workers=max(1, len(urls))) as pool:
            return dict(zip(urls, pool.map(one, urls.values()), strict=True))
