"""Changes of the ring: `plan`, `join`, `leave`, `move`, `weights`, `defaults`, `cancel`, `replace`,
`remove`.

Each command first shows a plan with a bar of replicas for every node, before and after, and asks
the user. Then it applies the plan by its hash and follows it to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.table import Table
from rich.text import Text

from dynamo_client.admin import AdminClient
from dynamo_client.errors import Conflict
from dynamoctl.follow import follow, going_on
from dynamoctl.room import offer, room
from dynamoctl.session import RETURN, USAGE, Failed, Session, table, to_copy, writable

BAR = 30
"""Columns of the longest bar."""
TRIES_MAX = 5
"""How often an agreed plan is made again because the ring has changed."""
commands = room()

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Such as n3.", autocompletion=offer("nodes")),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as n3.", autocompletion=offer("nodes"))
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")]
Hash = Annotated[str, typer.Option("--hash", metavar="HASH", help="Apply only this plan.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the end.")]
Count = Annotated[int | None, typer.Option(min=1, help="1 to N; dw is at most w.")]
Zone = Annotated[str, typer.Option(help="The nodes' failure domain.")]


def picture(plan: Mapping[str, Any]) -> list[Table | Text | str]:
    """A plan for people: for each node a bar of the replicas that it keeps, gains and gives; then
    the moves; then changed defaults."""
    before, after = plan["before"], plan["after"]
    unit = max(1, *before.values(), *after.values()) / BAR
    keeps, gains, gives = "█▒░" if writable("█▒░") else "#+-"
    rows = table("node", ">before", ">after", "")
    for name in after:
        old, new = before[name], after[name]
        kept, more = round(min(old, new) / unit), round(max(old, new) / unit)
        gained = new > old
        rest = Text((gains if gained else gives) * (more - kept), "green" if gained else "red")
        rows.add_row(name, str(old), str(new), Text(keeps * kept) + rest)
    pairs = Counter((move["out"], move["in"]) for move in plan["moves"])
    words = [f"{count} from {out} to {into}" for (out, into), count in sorted(pairs.items())]
    moves = f"{len(plan['moves'])} moves" + f": {', '.join(words)}" * bool(words)
    seconds = plan["seconds_estimated"]
    took = "" if seconds is None else f", about {max(1, round(seconds))} s at full speed"
    cost = f"{to_copy(plan['bytes'])}{took}" if plan["moves"] else ""
    wrong = [Text(line, "yellow") for line in plan["violations"]]
    said: list[Table | Text | str] = [rows, moves, *([cost] if cost else []), *wrong]
    if defaults := plan.get("defaults"):
        others = table("default", ">before", ">after")
        for word, value in defaults["after"].items():
            old = defaults["before"][word]
            others.add_row(word, *map(_plain, (old, value)), style="bold" * (value != old))
        said.append(others)
    return [*said, f"hash {plan['hash']}"]


def _plain(value: int) -> str:
    return str(value).lower()


def change(
    session: Session,
    wishes: Mapping[str, Any],
    yes: bool = False,
    quoted: str = "",
    detach: bool = False,
) -> None:
    """Carries a change out to its end. Raises Failed and ClientError."""
    with session.admin() as admin:
        plan = admin.plan(wishes)
        if quoted and plan["hash"] != quoted:
            raise Failed("the plan has changed; look at it and give its hash", 1, "--hash")
        _agree(session, plan, yes or bool(quoted))
        operation = uuid4().hex
        with going_on(session):
            tries = 1 if quoted else TRIES_MAX
            while new := _apply(admin, wishes, plan["hash"], operation, tries):
                tries -= 1
                if _essence(new) != _essence(plan):
                    _agree(session, new, yes)
                plan = new
            _end(session, operation, {"plan": plan}, detach)


def _apply(
    admin: AdminClient, wishes: Mapping[str, Any], quoted: str, operation: str, tries: int
) -> dict[str, Any] | None:
    """None after it was applied, or the new plan if it has changed and may be tried again."""
    try:
        admin.apply(wishes, quoted, operation)
    except Conflict as error:
        new: dict[str, Any] | None = error.document.get("plan")
        if new is None or tries <= 1:
            raise
        return new
    return None


def _essence(plan: Mapping[str, Any]) -> tuple[Any, ...]:
    moves = [(move["partition"], move["out"], move["in"]) for move in plan["moves"]]
    return moves, plan["before"], plan["violations"], plan.get("defaults")


def _agree(session: Session, plan: Mapping[str, Any], yes: bool) -> None:
    if not session.as_json:
        session.show(plan, *picture(plan))
    _ask(session, "Apply it?", yes)


def _ask(session: Session, question: str, yes: bool) -> None:
    if yes:
        return
    if session.as_json:
        raise Failed("required, because a program cannot answer the question", USAGE, "--yes")
    with suppress(typer.Abort):
        if typer.confirm(question):
            return
    raise Failed("nothing was changed")


def _end(session: Session, operation: str, said: dict[str, Any], detach: bool) -> None:
    if detach:
        session.show(
            {**said, "operation_id": operation}, f"it goes on; {session.again(RETURN)} follows it"
        )
        return
    end = follow(session, operation, said.get("plan"))
    if end["state"] == "cancelled":
        raise Failed("cancelled; moves that had switched stay")
    done = f"{end['moves_done']} of {end['moves_total']} moves are done"
    session.show({**said, "operation_id": operation, "operation": end}, f"{end['state']}: {done}")


def member_of(text: str, zone: str, weight: int) -> dict[str, Any]:
    """A member of `NAME=HOST:PORT`. Raises Failed."""
    name, _, address = text.partition("=")
    if not name or not address.rpartition(":")[2].isdigit():
        raise Failed(f"{text!r} is not like n4=10.0.0.4:8082", USAGE, "NAME=HOST:PORT")
    return {"name": name, "address": address, "zone": zone, "weight": weight}


def weights_of(texts: Sequence[str], field: str) -> dict[str, int]:
    """Weights of `NAME=NUMBER`. Raises Failed."""
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not name or not number.isdigit():
            raise Failed(f"{text!r} is not like n1=2", USAGE, field)
        found[name] = int(number)
    return found


@commands.command()
def plan(
    ctx: typer.Context,
    join: Annotated[
        list[str] | None, typer.Option(metavar="NAME=HOST:PORT", help="May be given several times.")
    ] = None,
    leave: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="May be repeated.", autocompletion=offer("nodes")),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="May be repeated.", autocompletion=offer("weighed")),
    ] = None,
    *,
    zone: Zone = "",
    apply: Annotated[bool, typer.Option("--apply", help="Then ask, and apply the plan.")] = False,
    yes: Yes = False,
    quoted: Hash = "",
    detach: Detach = False,
) -> None:
    """Show what a change would do; without options, how the ring would be balanced. Changes nothing
    without --apply."""
    session: Session = ctx.obj
    wishes = {
        "join": [member_of(text, zone, 1) for text in join or ()],
        "leave": leave or [],
        "weights": weights_of(weight or (), "--weight"),
    }
    if apply:
        return change(session, wishes, yes, quoted, detach)
    with session.admin() as admin:
        made = admin.plan(wishes)
    return session.show(made, *picture(made))


@commands.command()
def join(
    ctx: typer.Context,
    members: Annotated[
        list[str],
        typer.Argument(metavar="NAME=HOST:PORT...", help="Running, empty nodes; peer ports."),
    ],
    zone: Zone = "",
    weight: Annotated[int, typer.Option(min=1, max=1000, help="Relative capacity.")] = 1,
    *,
    yes: Yes = False,
    quoted: Hash = "",
    detach: Detach = False,
) -> None:
    """Take nodes into the ring; they get their share of the partitions."""
    wishes = {"join": [member_of(text, zone, weight) for text in members]}
    change(ctx.obj, wishes, yes, quoted, detach)


@commands.command()
def leave(
    ctx: typer.Context, names: Names, yes: Yes = False, quoted: Hash = "", detach: Detach = False
) -> None:
    """Let nodes leave: their partitions go to other nodes, then you may stop them."""
    change(ctx.obj, {"leave": names}, yes, quoted, detach)


@commands.command()
def move(
    ctx: typer.Context,
    partition: Annotated[
        int | None, typer.Argument(metavar="[PARTITION]", help="One replica of it moves.")
    ] = None,
    *,
    to: Annotated[
        str, typer.Option(metavar="NAME", help="Receiving node.", autocompletion=offer("nodes"))
    ],
    source: Annotated[
        str,
        typer.Option("--from", metavar="NAME", help="Giving node.", autocompletion=offer("nodes")),
    ] = "",
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Instead: a number of partitions, one replica each.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Move them from nodes of this zone.")] = None,
    yes: Yes = False,
    quoted: Hash = "",
    detach: Detach = False,
) -> None:
    """Move replicas: one of PARTITION, or --tokens from the nodes with the most. Nothing else
    changes; a later plan may move them back."""
    wish = {"to": to, "from": source or None, "partition": partition, "tokens": tokens}
    wish["zone"] = zone
    given = {word: value for word, value in wish.items() if value is not None}
    change(ctx.obj, {"moves": [given]}, yes, quoted, detach)


@commands.command()
def weights(
    ctx: typer.Context,
    pairs: Annotated[
        list[str],
        typer.Argument(metavar="NAME=N...", help="Such as n1=2.", autocompletion=offer("weighed")),
    ],
    *,
    yes: Yes = False,
    quoted: Hash = "",
    detach: Detach = False,
) -> None:
    """Weigh nodes: a node of weight 2 holds twice as much as a node of weight 1."""
    change(ctx.obj, {"weights": weights_of(pairs, "NAME=N")}, yes, quoted, detach)


@commands.command()
def defaults(
    ctx: typer.Context,
    r: Count = None,
    w: Count = None,
    dw: Count = None,
    sloppy: Annotated[
        bool | None, typer.Option("--sloppy/--strict", help="Whether acks of stand-ins count.")
    ] = None,
    *,
    yes: Yes = False,
    quoted: Hash = "",
    detach: Detach = False,
) -> None:
    """Change r, w, dw and strict for requests that give none themselves; without options, show
    them. Moves nothing; earlier acknowledgements keep their meaning."""
    asked = {"r": r, "w": w, "dw": dw, "sloppy": sloppy}
    given = {word: value for word, value in asked.items() if value is not None}
    if given:
        return change(ctx.obj, {"defaults": given}, yes, quoted, detach)
    session: Session = ctx.obj
    with session.admin() as admin:
        ring = admin.ring()
    shown = {word: ring[word] for word in ("n", "r", "w", "dw", "sloppy", "conflicts")}
    rows = table("default", "")
    for word, value in shown.items():
        rows.add_row(word, value if isinstance(value, str) else _plain(value))
    return session.show(shown, rows)


@commands.command()
def cancel(ctx: typer.Context) -> None:
    """Cancel the moves of the last change that have not switched yet. A joining node that owns
    nothing leaves; a leaving node that owns something stays; weights and defaults keep their new
    values."""
    session: Session = ctx.obj
    with session.admin() as admin:
        said = admin.cancel()
        operation = admin.status()["operation"]
    done, nothing = "cancelled; moves that have switched stay", "no change is under way"
    session.show({**said, "operation": operation}, done if said["undone"] else nothing)


@commands.command()
def replace(ctx: typer.Context, name: Name) -> None:
    """Let one empty node take the place of the member of its name, if a person must approve. The
    member must be down; the approval is for one disk and expires."""
    session: Session = ctx.obj
    with session.admin() as admin:
        answer = admin.replace(name)
    minutes = answer.get("lapses_s", 0) / 60  # an older node does not say
    until = f" within {minutes:.0f} minutes" if minutes else ""
    session.show(
        answer,
        f"one empty node of the name {name} may take its place{until};"
        " it rebuilds from the other owners",
    )


def ranges(numbers: Sequence[int]) -> str:
    """Numbers for people, for example `0-15, 20`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, ends)) for ends in found) or "none"


@commands.command()
def remove(
    ctx: typer.Context,
    name: Name,
    force: Annotated[
        bool,
        typer.Option("--force", help="Remove it; it must never start again on its old disk."),
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Remove it even if partitions then have no owner.")
    ] = False,
    *,
    yes: Yes = False,
    detach: Detach = False,
) -> None:
    """Show what would be lost without a dead node; with --force, remove it. Other nodes take its
    places. If the node is alive, let it leave instead."""
    session: Session = ctx.obj
    with session.admin() as admin:
        would = admin.remove(name)
        if not session.as_json:
            up = admin.status()["peers"].get(name) == "up"
            session.show(would, *_losses(name, would, up))
        if not force:
            if session.as_json:
                session.show(would)
            else:
                session.say(f"nothing was changed; --force removes {name}")
            return
        _ask(session, f"Remove {name} for good?", yes)
        operation = uuid4().hex
        done = admin.remove(name, force=True, accept_loss=accept_loss, operation_id=operation)
        with going_on(session):
            _end(session, operation, {"removed": name, **done}, detach)


def _losses(name: str, would: Mapping[str, Any], up: bool) -> list[Text | str]:
    lost, below = would["may_be_lost"], would["below_n"]
    alive = Text(f"{name} answers: let it leave instead, which loses nothing", "bold red")
    return [
        *([alive] if up else []),
        f"{name} owns {len(below)} partitions. They have fewer than N owners until other nodes"
        f" have taken its places: {ranges(below)}",
        Text(f"acked writes may be lost in: {ranges(lost)}", "bold red" if lost else ""),
        f"this list assumes W = {would['w']}, the present value; writes with fewer acks, by their"
        " own w or before W was raised, may be lost in any partition of the node",
    ]
