"""`staleness`: how likely a read sees the last write, for each R and W; what canaries measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dynamoctl.room import room
from dynamoctl.session import Session, table

commands = room()


@commands.command()
def staleness(
    ctx: typer.Context,
    delays: Annotated[
        bool, typer.Option("--delays", help="Show the sampled delays of each pair of nodes too.")
    ] = False,
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="Predict for this number of copies of each key."),
    ] = None,
) -> None:
    """Show how likely a read through another node sees a write, for each R and W of this ring, what
    that costs, what canaries measured, and advice. The present R and W are marked."""
    session: Session = ctx.obj
    with session.admin() as admin:
        answer = admin.document(f"/v1/staleness?n={n}" if n else "/v1/staleness")
    if not answer["settings"]:
        why = "no samples yet: they come from requests of clients"
        if not answer["sampled_per_minute"]:
            why = "delay_samples_per_minute is 0"
        return session.show(answer, f"nothing to tell: {why}")
    parts: list[Any] = [_head(answer), settings_table(answer)]
    if answer["canary"]["reads"]:
        parts.append(canary_line(answer["canary"]))
    if delays:
        parts.append(delays_table(answer["delays"]))
    parts += [Text(line) for line in answer["advice"]]
    return session.show(answer, *parts)


def _head(answer: dict[str, Any]) -> Text:
    as_is = "" if answer["n"] == answer["ring_n"] else f" instead of {answer['ring_n']}"
    said = f"N={answer['n']}{as_is}, {answer['samples']} samples of {len(answer['nodes'])} nodes"
    if answer["missing"]:
        said += f"; none of {', '.join(answer['missing'])}"
    if answer["assumed"]:
        said += "; pairs without samples are taken like the others"
    return Text(said)


def share(value: float | None) -> str:
    """A share in percent; 100% only if no read was stale."""
    if value is None:
        return "-"
    return "100%" if value >= 1 else f"{min(value, 0.9999):.2%}"


def ms(value: float | None) -> str:
    """Milliseconds; without an end where the samples tell none."""
    return "-" if value is None else f"{value:.1f}"


def settings_table(answer: dict[str, Any]) -> Table:
    """One row for each R and W: the share of reads that see the write if they begin 0, 10 or 100
    ms after its acknowledgement, the time after which 99.9% do, and the 99th percentiles, in ms."""
    at_ms = [t for t in answer["t_ms"] if t in (0, 10, 100)]
    rows = table(
        "", ">R", ">W", *(f">fresh {t} ms" if t else ">at once" for t in at_ms), ">99.9% ms",
        ">read p99", ">write p99",
    )  # fmt: skip
    for line in answer["settings"]:
        mark = Text("now", "bold green") if line["present"] else Text("")
        if not line["possible"]:
            rows.add_row(mark, str(line["r"]), str(line["w"]), Text("too few nodes", "red"))
            continue
        fresh = [line["fresh"][answer["t_ms"].index(t)] for t in at_ms]
        read, write = line["read_ms"], line["write_ms"]
        rows.add_row(
            mark, str(line["r"]), str(line["w"]), *(share(value) for value in fresh),
            ms(line["fresh_999_ms"]), ms(read["p99"]), ms(write["p99"]),
        )  # fmt: skip
    return rows


def canary_line(canary: dict[str, Any]) -> Text:
    """Measured beside predicted."""
    measured, predicted = share(canary["measured"]), share(canary["predicted"])
    return Text(f"canaries: {canary['reads']} reads, {measured} fresh, predicted {predicted}")


def delays_table(pairs: list[dict[str, Any]]) -> Table:
    """The samples of each pair, the median and the 99th percentile of each way."""
    rows = table("from", "to", ">samples", ">lost", *(f">{way} ms" for way in "WARS"))
    for pair in pairs:
        ways = [pair[f"{way}_ms"] for way in "wars"]
        said = ["-" if way is None else f"{ms(way['p50'])} / {ms(way['p99'])}" for way in ways]
        samples = str(pair["writes"] + pair["reads"])
        rows.add_row(pair["from"], pair["to"], samples, str(pair["lost"]), *said)
    return rows
