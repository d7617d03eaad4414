"""`certs`: makes an authority for a trial, and certificates of nodes and clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from typing import Annotated

import typer

from dynamo_client.local_fault import EXTRA, LocalFault
from dynamoctl.room import room
from dynamoctl.session import USAGE, Failed, Session

commands = room(
    no_args_is_help=True, help="Make certificates for a trial: an authority, nodes, clients."
)
Directory = Annotated[Path, typer.Option("--dir", help="Directory of the files.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Days = Annotated[float, typer.Option(min=0.0, max=36500.0, help="Days until it expires.")]
CERTS = Path("certs")


@commands.command()
def ca(ctx: typer.Context, directory: Directory = CERTS, days: Days = 3650.0) -> None:
    """Make an authority. Its key can sign a certificate of any node: keep it away from nodes."""
    from_room("make_ca", ctx, directory, days=days)


@commands.command()
def node(
    ctx: typer.Context,
    name: Name,
    host: Annotated[
        list[str] | None, typer.Option(help="A host that clients dial; may be given several times.")
    ] = None,
    directory: Directory = CERTS,
    days: Days = 365.0,
) -> None:
    """Make the certificate of a node: peers check its name, clients check its hosts."""
    from_room("make_node", ctx, directory, name, host or [], days=days)


@commands.command()
def client(
    ctx: typer.Context, name: Name, directory: Directory = CERTS, days: Days = 365.0
) -> None:
    """Make the certificate of a client, with its name."""
    from_room("make_client", ctx, directory, name, days=days)


def from_room(what: str, ctx: typer.Context, *told: object, days: float) -> None:
    """Runs it if the extra is installed, and shows the files. Raises Failed, LocalFault."""
    try:
        from dynamoctl import trial_ca
    except ModuleNotFoundError as error:
        words = f"needs the package's extra [certs] ({error.name} is not installed)"
        raise LocalFault(f"{words}: pip install 'dynamo-ring[certs]'", EXTRA) from None
    if isnan(days):
        raise Failed("needs a number of days", USAGE, "--days")
    make: Callable[..., Path] = partial(getattr(trial_ca, what), *told, days=days)
    try:
        made = make()
    except (trial_ca.ThereAlready, trial_ca.NoAuthority) as error:
        raise Failed(str(error), USAGE, "--dir") from None
    except trial_ca.BadHost as error:
        raise Failed(str(error), USAGE, "--host") from None
    except trial_ca.BadName as error:
        raise Failed(str(error), USAGE, "NAME") from None
    key = made.with_suffix(".key")
    session: Session = ctx.obj
    session.show({"cert": str(made), "key": str(key)}, f"made {made} and {key}")
