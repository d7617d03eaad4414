"""The results of `bench.py` as a table: for people on a terminal, and as a page of the docs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.results import Results
from benchmarks.stores import Peer
from rich.console import Console
from rich.table import Table

Rows = dict[str, list[type[Peer]]]
TARGETS = {
    ("put", "naive"): 5.5,
    ("put", "etcd"): 1.1,
    ("get", "etcd"): 4.4,
    ("durable put", "etcd"): 1.25,
    ("tls put", "dynamo-ring"): 0.85,
    ("tls get", "dynamo-ring"): 0.85,
}
"""Ours divided by the peer's; a goal, not a test."""
IDLE_MB_MAX = 120
TRUST_PART_MAX = 0.05
"""Of the processor time of a put."""
RIGHTS_US_MAX = 2.0
CHANGES_HEAD = (
    "Half gets and half updates of 1 KB at a steady rate, 500 a second unless `--rate` says"
    " otherwise, counted from when each was due; the nodes lie on the disk. `--all` measures joins"
    " of 1 GB and rings of a million keys."
)
PHASES_HEAD = (
    "Processor time of one operation, by phase: three cores in one process on stores in memory, so"
    " without HTTP, RocksDB and sockets. 48 operations or one reach the coordinator in one turn of"
    " its loop. Median of five runs; an update writes a known key with its context."
)
COLUMNS = ("row", "store", "ops/s", "ours / it", "goal", "p50 ms", "p99 ms", "p99.9 ms",
           "CPU µs/op", "failed", "load")  # fmt: skip
EXPLAINED = {
    "put": "a key that was never written, W=2, stores on tmpfs",
    "get": "20,000 known keys, R=2, stores on tmpfs",
    "durable put": "as put, on the disk, acknowledged when two nodes have fsynced",
    "update": "known keys, each write with the context of the one before, from our own generator",
    "batch put": "32 puts in one request, latencies of the request; etcd: one transaction",
    "batch get": "32 gets in one request, latencies of the request; redis: a pipeline",
    "tls put": "as put, beside a plain ring",
    "tls get": "as get, beside a plain ring",
    "put at 1": "as put, one connection: one request in flight",
    "get at 1": "as get, one connection",
    "put at 256": "as put, 256 connections",
    "get at 256": "as get, 256 connections",
    "edge": "client HTTP alone on one core, 1 KB answers, the load on the other core",
}


def lines(results: Results, rows: Rows) -> list[tuple[str, ...]]:
    """The cells, row by row."""
    made = []
    for row, kinds in rows.items():
        for place, kind in enumerate(kinds):
            samples = results.samples.get((row, kind.name))
            if not samples:
                continue
            ratio = results.ratio(row, kind.name) if place else None
            goal = TARGETS.get((row, kind.name))
            met = "" if goal is None or ratio is None else "met" if ratio >= goal else "NOT MET"
            made.append(
                (
                    row,
                    kind.name,
                    f"{median(s.rate for s in samples):,.0f}",
                    f"{ratio:.2f}×" if ratio is not None else "",
                    f"≥{goal} {met}" if goal is not None else "",
                    *(
                        f"{median(getattr(s, part) for s in samples):.2f}"
                        for part in ("p50", "p99", "p999")
                    ),
                    f"{median(results.cpu_us[row, kind.name]):.0f}",
                    str(sum(s.failed for s in samples)),
                    samples[0].generator,
                )
            )
    return made


def _trust(results: Results) -> list[str]:
    put_us = results.cpu_us.get(("put", "dynamo-ring"))
    if not (results.trust_us and put_us):
        return []
    part = sum(results.trust_us.values()) / median(put_us)
    met = "met" if part <= TRUST_PART_MAX else "NOT MET"
    costs = ", ".join(f"{what} {cost_us:.1f} µs" for what, cost_us in results.trust_us.items())
    return [f"trust: {costs} of a put: {part:.1%} (goal ≤{TRUST_PART_MAX:.0%}: {met})"]


def remarks(results: Results, rows: Rows) -> list[str]:
    """Facts that a reader of the numbers must know."""
    used = {row for row, _ in results.samples}
    said = [f"{row}: {text}" for row, text in EXPLAINED.items() if row in used]
    kinds = {kind.name: kind for kinds in rows.values() for kind in kinds}
    said += [f"{n}: {kinds[n].note}" for n in results.versions if n in kinds and kinds[n].note]
    if results.idle_bytes:
        most = max(results.idle_bytes) / 1e6
        met = "met" if most < IDLE_MB_MAX else "NOT MET"
        said.append(f"idle node: {most:.0f} MB resident (goal < {IDLE_MB_MAX} MB: {met})")
    for kind, cost_us in results.rights_us.items():
        met = "met" if cost_us < RIGHTS_US_MAX else "NOT MET"
        said.append(
            f"rights: {cost_us:.1f} µs of a {kind} (goal < {RIGHTS_US_MAX:g} µs: {met}), in one"
            " process, a token that the connection has shown before"
        )
    said += _trust(results)
    if results.versions.get("naive", "").endswith("httpx"):
        said.append(
            "naive: aiohttp is not installed, so its nodes call each other with httpx, which is"
            " several times slower: its ratios are too good for us"
        )
    if not results.tmpfs:
        said.append("there is no /dev/shm: all data was on the disk")
    if "etcd" in results.versions:
        said.append("ratios against etcd mix load generators; run nothing else meanwhile")
    return said + [f"not run: {' '.join(note.split())}" for note in dict.fromkeys(results.notes)]


def machine() -> str:
    """Cores, memory, processor, system."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model[1] if model else platform.machine()}),"
        f" {pages * size / 2**30:.0f} GiB, {platform.system()} {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}"
    )


def commit() -> str:
    """The commit, marked if files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def head(results: Results) -> str:
    """Which software, where, when and how."""
    own = ", ".join(f"{p} {version(p)}" for p in ("uvicorn", "uvloop", "rocksdict", "msgspec"))
    others = ", ".join(f"{n} {v}" for n, v in results.versions.items() if v)
    own += f". {others}" * bool(others)
    return (
        f"commit {commit()}, {datetime.now(UTC):%Y-%m-%d}. {machine()}. {own}."
        " Values of 1 KB; stores and load share the cores."
        + f" 48 connections, {results.rounds} interleaved rounds of {results.seconds:g} s."
        * bool(results.rounds)
    )


def show(results: Results, rows: Rows, console: Console) -> None:
    """For a terminal of 80 columns; the page has every column."""
    shown = Table(
        title="ours over the peer's: more is better",
        header_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
    )
    names = ("row", "store", "ops/s", "ours/it", "goal", "p50/p99/p99.9 ms", "µs/op")
    for name in names:
        left = name in ("row", "store", "goal")
        shown.add_column(name, justify="left" if left else "right", no_wrap=True)
    last = ""
    for line in lines(results, rows):
        style = "red" if "NOT MET" in line[4] else "green" if "met" in line[4] else ""
        goal = f"[{style}]{line[4]}[/]" if style else line[4]
        name = line[0] if line[0] != last else ""
        shown.add_row(
            name, *line[1:4], goal, "/".join(f"{float(ms):.3g}" for ms in line[5:8]), line[8]
        )
        if int(line[9]):
            shown.add_row("", f"[red]{line[9]} failed[/]")
        last = line[0]
    if last:
        console.print(shown)
    for figure in results.figures:
        bad = "red" if "NOT MET" in figure.goal else "green"
        goal = f"  [{bad}]{figure.goal}[/]" if figure.goal else ""
        console.print(
            f"{figure.row:8}{figure.what}: [bold]{figure.value}[/]{goal}", highlight=False
        )
    console.print(head(results), highlight=False)
    for remark in remarks(results, rows):
        console.print(f"- {remark}", highlight=False)


def markdown(results: Results, rows: Rows) -> str:
    """As a page: `docs/benchmarks.md`."""
    out = ["# Benchmarks", "", "Written by `make bench`.", "", head(results), ""]
    if results.samples:
        out += ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS))]
        out += ["| " + " | ".join(line) + " |" for line in lines(results, rows)]
    if results.figures:
        out += ["", "## While the ring changes", "", CHANGES_HEAD, ""]
        out += ["| row | what | measured | goal |", "| --- | --- | --- | --- |"]
        out += [f"| {f.row} | {f.what} | {f.value} | {f.goal} |" for f in results.figures]
    if results.phases:
        first, *rest = results.phases
        out += ["", "## Inside the core", "", PHASES_HEAD, ""]
        out += ["| " + " | ".join(cells) + " |" for cells in (first, ["---"] * len(first), *rest)]
    out += ["", *(f"- {remark}" for remark in remarks(results, rows)), ""]
    return "\n".join(out)
