"""`token`: what administrators show to nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamoctl.credentials import derived
from dynamoctl.room import room
from dynamoctl.session import USAGE, Failed, Session

commands = room()


@commands.command()
def token(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Instead of --secret-file.")
    ] = None,
) -> None:
    """Print the administrator's token, which is derived from the cluster secret. Nodes take it as
    `Authorization: Bearer`; it opens no link between nodes."""
    session: Session = ctx.obj
    made = session.token if file is None else derived(file, "FILE")
    if made is None:
        raise Failed("name the file of the secret", USAGE, "--secret-file")
    session.show({"token": made}, made)
