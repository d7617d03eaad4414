"""`top`: rates and latencies of every node, from two scrapes of its metrics a second apart."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dynamo_client.admin import AdminClient
from dynamoctl.room import room
from dynamoctl.session import Session, table, within

INTERVAL_S = 1.0
KINDS = ("get", "put", "delete")
_SAMPLE = re.compile(r"^(dynamo_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
commands = room()


@dataclass
class Scrape:
    """One reading of a node: `at` is the time of our monotonic clock, in seconds."""

    at: float
    counts: dict[tuple[str, int], float] = field(default_factory=dict)
    """Answered operations, by kind and status."""
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)
    """Cumulative, by kind and upper limit in seconds."""
    gauges: dict[str, float] = field(default_factory=dict)
    """Summed over labels."""
    peers: dict[str, str] = field(default_factory=dict)


def scrape_of(text: str, at: float) -> Scrape:
    """A reading from Prometheus text."""
    scrape = Scrape(at)
    for name, inside, value in _SAMPLE.findall(text):
        labels = dict(_LABEL.findall(inside))
        if name == "dynamo_requests_total":
            scrape.counts[labels["operation"], int(labels["status"])] = float(value)
        elif name == "dynamo_request_seconds_bucket":
            limits = scrape.buckets.setdefault(labels["operation"], {})
            limits[float(labels["le"])] = float(value)
        else:
            scrape.gauges[name] = scrape.gauges.get(name, 0.0) + float(value)
    return scrape


def quantile(share: float, before: dict[float, float], after: dict[float, float]) -> float | None:
    """A quantile in seconds between two scrapes, linear in a bucket. None without operations."""
    counts = {limit: count - before.get(limit, 0.0) for limit, count in sorted(after.items())}
    wanted = share * max(counts.values(), default=0.0)
    low, below = 0.0, 0.0
    for limit, count in counts.items():
        if count >= wanted > 0:
            if limit == float("inf"):
                return low
            return low + (limit - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = limit, count
    return None


def rates(before: Scrape, after: Scrape) -> dict[str, Any]:
    """The work of one node between two scrapes; latencies in milliseconds."""
    seconds = max(after.at - before.at, 1e-9)
    grown = {key: n - before.counts.get(key, 0.0) for key, n in after.counts.items()}
    row: dict[str, Any] = {}
    for kind in KINDS:
        limits = before.buckets.get(kind, {}), after.buckets.get(kind, {})
        for word, share in (("p50", 0.5), ("p99", 0.99)):
            found = quantile(share, *limits)
            row[f"{kind}_{word}_ms"] = None if found is None else round(found * 1000, 3)
        row[f"{kind}_rate"] = round(sum(n for k, n in grown.items() if k[0] == kind) / seconds, 1)
    row["errors_rate"] = round(sum(n for k, n in grown.items() if k[1] >= 500) / seconds, 1)
    row["hints"] = int(after.gauges.get("dynamo_hints", 0))
    row["in_flight"] = int(after.gauges.get("dynamo_in_flight", 0))
    row["peers_down"] = sorted(name for name, state in after.peers.items() if state != "up")
    return row


def _read(admin: AdminClient) -> Scrape:
    scrape = scrape_of(admin.metrics(), time.monotonic())
    scrape.peers = admin.status()["peers"]
    return scrape


def _picture(rows: dict[str, dict[str, Any] | None]) -> Table:
    made = table(
        "node",
        ">get/s",
        ">p50",
        ">p99",
        ">put/s",
        ">p50",
        ">p99",
        ">del/s",
        ">5xx/s",
        ">hints",
        "sees down",
    )
    for name, row in rows.items():
        if row is None:
            made.add_row(name, Text("down", "bold red"))
            continue
        cells = [f"{row['get_rate']:,.0f}", _ms(row["get_p50_ms"]), _ms(row["get_p99_ms"]),
                 f"{row['put_rate']:,.0f}", _ms(row["put_p50_ms"]), _ms(row["put_p99_ms"]),
                 f"{row['delete_rate']:,.0f}"]  # fmt: skip
        made.add_row(
            name,
            *cells,
            Text(f"{row['errors_rate']:,.0f}", "red" if row["errors_rate"] else ""),
            Text(str(row["hints"]), "yellow" if row["hints"] else ""),
            Text(", ".join(row["peers_down"]), "red"),
        )
    made.caption = "operations that each node answered; latencies in ms; Ctrl-C ends"
    return made


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


@commands.command()
def top(
    ctx: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Show the rates of one second, then exit.")
    ] = False,
) -> None:
    """Watch rates, latencies, hints and peers of all nodes, updated every second."""
    session: Session = ctx.obj
    urls = session.admin_urls()
    before = session.of_all(urls, _read)

    def turn() -> dict[str, dict[str, Any] | None]:
        nonlocal before
        time.sleep(INTERVAL_S)
        now = session.of_all(urls, _read)
        rows = {name: _rates(before.get(name), scrape) for name, scrape in now.items()}
        before = now
        return rows

    if once or session.as_json or not session.out.is_terminal:
        rows = turn()
        session.show(
            [{"name": n, "up": r is not None, **(r or {})} for n, r in rows.items()], _picture(rows)
        )
        return
    with (
        suppress(KeyboardInterrupt),
        Live(console=session.out, auto_refresh=False) as live,
    ):
        while True:
            live.update(within(session.out, _picture(turn())), refresh=True)


def _rates(before: Scrape | None, after: Scrape | None) -> dict[str, Any] | None:
    return None if after is None else rates(before or after, after)
