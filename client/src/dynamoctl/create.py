"""`create`: makes a ring of running nodes that are in no ring (S-RING-5)."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Annotated, Any

import typer

from dynamoctl.change import member_of
from dynamoctl.ring import ring_picture
from dynamoctl.room import room
from dynamoctl.session import USAGE, Failed, Session

MEMBERS = "NAME=HOST:PORT[,zone=ZONE][,weight=N]"
FIELD = "NAME=HOST:PORT"
PARTITIONS_MIN, PARTITIONS_MAX = 16, 4096
WEIGHT_MAX = 1000
commands = room()
Count = Annotated[int | None, typer.Option(min=1, help="1 to N; default: more than half of N.")]


class Conflicts(StrEnum):
    """How concurrent writes are treated."""

    siblings = "Siblings"
    last = "LastWriteWins"


def founder_of(text: str) -> dict[str, Any]:
    """A member of `NAME=HOST:PORT[,zone=ZONE][,weight=N]`. Raises Failed."""
    first, *rest = text.split(",")
    more = dict(part.partition("=")[::2] for part in rest)
    zone, weight = more.pop("zone", ""), more.pop("weight", "1")
    if more or ("zone" in text.partition(",")[2] and not zone):
        unknown = ", ".join(more) or "zone"
        raise Failed(f"{unknown!r} of {text!r}: needs zone=ZONE or weight=N", USAGE, FIELD)
    if not (weight.isdecimal() and 1 <= int(weight) <= WEIGHT_MAX):
        raise Failed(f"weight of {text!r}: 1 to {WEIGHT_MAX}", USAGE, FIELD)
    return member_of(first, zone, int(weight))


@commands.command()
def create(
    ctx: typer.Context,
    members: Annotated[
        list[str], typer.Argument(metavar=f"{MEMBERS}...", help="Running nodes; their peer ports.")
    ],
    *,
    partitions: Annotated[int, typer.Option(help="A power of two; fixed after creation.")] = 256,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Copies of each key; default 3.")
    ] = None,
    r: Count = None,
    w: Count = None,
    dw: Annotated[int | None, typer.Option(min=1, help="Fsynced acks of W; default 1.")] = None,
    sloppy: Annotated[
        bool | None, typer.Option("--sloppy/--strict", help="Whether acks of stand-ins count.")
    ] = None,
    conflicts: Annotated[
        Conflicts, typer.Option(help="Keep both values, or delete the earlier one.")
    ] = Conflicts.siblings,
    cluster_id: Annotated[str, typer.Option(help="Default: a new one.")] = "",
) -> None:
    """Make a ring of nodes that run, are empty and reach each other; --admin names any of them.
    Give each node the address that its peers dial (its `advertise`)."""
    session: Session = ctx.obj
    founders = [founder_of(text) for text in members]
    for what in ("name", "address"):
        ((most, count),) = Counter(founder[what] for founder in founders).most_common(1)
        if count > 1:
            raise Failed(f"{most} is given twice", USAGE, FIELD)
    if partitions.bit_count() != 1 or not PARTITIONS_MIN <= partitions <= PARTITIONS_MAX:
        words = f"a power of two from {PARTITIONS_MIN} to {PARTITIONS_MAX}, not {partitions}"
        raise Failed(words, USAGE, "--partitions")
    n = min(3, len(founders)) if n is None else n
    if not 1 <= (dw or 1) <= (w or n // 2 + 1):
        raise Failed(f"1 to w = {w or n // 2 + 1}, not {dw}", USAGE, "--dw")
    wanted: dict[str, Any] = {
        "n": n, "r": r or n // 2 + 1, "w": w or n // 2 + 1, "dw": dw, "sloppy": sloppy,
        "cluster_id": cluster_id or None, "partitions": partitions, "conflicts": conflicts.value,
        "members": founders,
    }  # fmt: skip
    body = {word: value for word, value in wanted.items() if value is not None}
    with session.admin() as admin:
        document = admin.create_ring(body)
    session.show(document, *ring_picture(session, document))
