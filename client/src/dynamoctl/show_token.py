"""`token`: prints the token that administrators send to nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynamo_client.token_file import TokenFile
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
    """Print the administrator's token, which is derived from the cluster secret. Nodes accept it as
    `Authorization: Bearer`; it cannot open a link between nodes."""
    session: Session = ctx.obj
    made = session.token if file is None else derived(file, "FILE")
    made = made.token if isinstance(made, TokenFile) else made
    if made is None:
        raise Failed("give the file of the secret", USAGE, "--secret-file")
    session.show({"token": made}, made)
