"""Common parts of the command modules: their table, the argument KEY, and completions. The
completions are in `complete`, which is loaded when the user presses TAB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

Offer = Callable[[typer.Context, str], list[str]]


def room(**more: Any) -> typer.Typer:
    """An empty table of commands. Its help is plain text: the library for boxes takes longer to
    load than most commands take to run."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, **more)


def offer(what: str) -> Offer:
    """The words of a function of `complete`."""

    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        from dynamoctl import complete

        found: list[str] = getattr(complete, what)(ctx, incomplete)
        return found

    return offered


def either(*words: str) -> Offer:
    """These words."""

    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        return list(words)

    return offered


KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key; any bytes.", autocompletion=offer("keys"))
]
Base64Option = Annotated[bool, typer.Option("--base64", "-b", help="KEY is base64 of its bytes.")]
