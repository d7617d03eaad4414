"""`make bench`: dynamo-ring beside its peers, interleaved in one run, as a table of ratios.

Every round measures every row of every store once, one after another, so that what else the
machine does meets all alike. Shown are medians over the rounds; a ratio is the median of the
rounds' own ratios, ours over the peer's. Absolute numbers are this machine's; trust the ratios.

Then what happens to us while nodes die, join and lose their disks (`changes.py`), each once, with
small sizes; `--all` measures them whole.

What an operation costs inside the core, by phase, is measured in one process (`core_cost.py`);
`--profile` does that alone.

    python benchmarks/bench.py [--quick] [--rounds 4] [--seconds 2.5] [--only put,get,kill] [--all]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import typer  # noqa: E402
from benchmarks.changes import CHANGES, Figure, Sizes  # noqa: E402
from benchmarks.load_runs import Sample  # noqa: E402
from benchmarks.stores import Edge, Etcd, Naive, Nginx, Ours, Peer, Redis  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

from benchmarks import core_cost, table  # noqa: E402
from dynamo_client.errors import ClientError  # noqa: E402

ROWS: dict[str, list[type[Peer]]] = {
    "put": [Ours, Naive, Etcd, Redis],
    "get": [Ours, Naive, Etcd, Redis],
    "durable put": [Ours, Naive, Etcd, Redis],
    "update": [Ours],
    "batch put": [Ours, Etcd, Redis],
    "batch get": [Ours, Redis],
    "edge": [Edge, Nginx],
}
"""The first of a row is ours."""
DURABLE = "durable put"
SECONDS_MAX = 340.0
"""No round begins that would end later."""
TMPFS = Path("/dev/shm")
SETTLE_S = 0.3


@dataclass
class Results:
    """What was measured, and what could not be."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    """By row and store, one a round."""
    cpu_us: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Processor time of the store's processes for one operation."""
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    idle_bytes: list[int] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    phases: list[tuple[str, ...]] = field(default_factory=list)
    """Inside the core: the head of the table, then a row a phase."""
    tmpfs: bool = True
    rounds: int = 0
    seconds: float = 0.0

    def ratio(self, row: str, name: str) -> float | None:
        """Ours over the peer's: the median of the rounds."""
        ours = self.samples.get((row, ROWS[row][0].name), [])
        peer = self.samples.get((row, name), [])
        pairs = [o.rate / p.rate for o, p in zip(ours, peer, strict=False) if p.rate and o.rate]
        return median(pairs) if pairs else None


@contextmanager
def started(rows: list[str], results: Results) -> Iterator[dict[tuple[type[Peer], bool], Peer]]:
    """Every store that the rows want and that can be run here."""
    memory = TMPFS if TMPFS.is_dir() else Path(tempfile.gettempdir())
    results.tmpfs = memory == TMPFS
    wanted = {(kind, row == DURABLE): None for row in rows for kind in ROWS[row]}
    with ExitStack() as stack:
        places = {
            durable: Path(tempfile.mkdtemp(prefix="dynamo-ring-bench-", dir=where))
            for durable, where in ((False, memory), (True, ROOT))
        }
        for place in places.values():
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        running: dict[tuple[type[Peer], bool], Peer] = {}
        for kind, durable in wanted:
            if why := kind.missing():
                results.notes.append(f"{kind.name}: {why}")
                continue
            peer = kind(places[durable], durable)
            stack.callback(peer.stop)
            try:
                peer.start()
            except RuntimeError as error:
                results.notes.append(f"{kind.name}{' on disk' if durable else ''}: {error}")
                continue
            results.versions[kind.name] = kind.version()
            results.idle_bytes += getattr(peer, "idle_bytes", [])
            running[kind, durable] = peer
        yield running


def measure(peer: Peer, row: str, seconds: float, round_number: int) -> tuple[Sample, float] | None:
    """One row of one store: the sample, and µs of processor for an operation."""
    load = peer.load(row, f"r{round_number}-{row[0]}-")
    if load is None:
        return None
    time.sleep(SETTLE_S)
    before = sum(child.cpu_s() for child in peer.children)
    sample = load.run(seconds)
    used = sum(child.cpu_s() for child in peer.children) - before
    return sample, 1e6 * used / max(1, sample.operations)


def one_round(
    rows: list[str], running: dict[tuple[type[Peer], bool], Peer], results: Results,
    progress: Progress,
) -> None:  # fmt: skip
    """Every row of every store once."""
    task = progress.add_task("", total=sum(len(ROWS[row]) for row in rows))
    for row in rows:
        for kind in ROWS[row]:
            progress.update(task, description=f"round {results.rounds + 1}: {row}, {kind.name}")
            peer = running.get((kind, row == DURABLE))
            if peer is not None:
                try:
                    measured = measure(peer, row, results.seconds, results.rounds)
                except (RuntimeError, OSError) as error:
                    measured = None
                    results.notes.append(f"{kind.name}, {row}: {error}")
                if measured is not None:
                    sample, cpu_us = measured
                    results.samples.setdefault((row, kind.name), []).append(sample)
                    results.cpu_us.setdefault((row, kind.name), []).append(cpu_us)
            progress.advance(task)
    progress.remove_task(task)
    results.rounds += 1


def run(rows: list[str], rounds: int, seconds: float, console: Console) -> Results:
    """The whole comparison; stops early rather than late."""
    results = Results(seconds=seconds)
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        waiting = progress.add_task("starting stores", total=None)
        with started(rows, results) as running:
            progress.remove_task(waiting)
            for _ in range(rounds):
                round_began = time.monotonic()
                one_round(rows, running, results, progress)
                took = time.monotonic() - round_began
                if time.monotonic() - began + took > SECONDS_MAX:
                    if results.rounds < rounds:
                        results.notes.append(f"{results.rounds} rounds, for want of time")
                    break
            for peer in running.values():
                try:
                    peer.check()
                except (RuntimeError, OSError) as error:
                    results.notes.append(str(error))
    return results


def change(rows: list[str], sizes: Sizes, results: Results, console: Console) -> None:
    """What happens while the ring changes, on the disk."""
    for row in rows:
        place = Path(tempfile.mkdtemp(prefix="dynamo-ring-bench-", dir=ROOT))
        try:
            with console.status(f"{row} ..."):
                results.figures += CHANGES[row](place, sizes)
        except (RuntimeError, OSError, ClientError) as error:
            results.notes.append(f"{row}: {error}")
        finally:
            shutil.rmtree(place, ignore_errors=True)


def main(
    *,
    quick: bool = typer.Option(False, help="One round of one second."),
    rounds: int = typer.Option(4, min=1, max=50),
    seconds: float = typer.Option(2.0, min=1.0, max=60.0, help="Of each measurement."),
    only: str = typer.Option("", help=f"Some rows, with commas: {', '.join([*ROWS, *CHANGES])}."),
    everything: bool = typer.Option(False, "--all", help="Joins of 1 GB, a million keys."),
    rate: float = typer.Option(500.0, min=1.0, help="Requests a second while the ring changes."),
    join_keys: int = typer.Option(0, help="Keys of 1 KB in the ring that a node joins."),
    profile: bool = typer.Option(False, help="Only what an operation costs inside the core."),
    output: str = typer.Option("", help="Markdown file; a full run writes docs/benchmarks.md."),
) -> None:
    """Compare dynamo-ring with its peers on this machine."""
    console = Console()
    if profile:
        core_cost.show(core_cost.shown(), console)
        return
    wanted = [row.strip() for row in only.split(",") if row.strip()] or [*ROWS, *CHANGES]
    if unknown := set(wanted) - {*ROWS, *CHANGES}:
        there = ", ".join([*ROWS, *CHANGES])
        raise typer.BadParameter(f"no such row: {', '.join(unknown)}; there are {there}")
    rows = [row for row in wanted if row in ROWS]
    sizes = Sizes.whole() if everything else Sizes()
    sizes = replace(sizes, rate=rate, join_keys=join_keys or sizes.join_keys)
    if quick:
        rounds, seconds = 1, 1.0
    results = run(rows, rounds, seconds, console) if rows else Results(seconds=seconds)
    change([row for row in wanted if row in CHANGES], sizes, results, console)
    table.show(results, ROWS, console)
    if not (quick or only):
        results.phases = core_cost.shown()
        core_cost.show(results.phases, console)
    if not (output or quick or only):
        output = str(ROOT / "docs" / "benchmarks.md")
    if output:
        Path(output).write_text(table.markdown(results, ROWS))
        console.print(f"written: {output}")
    if not results.figures and not any(k[1] in (Ours.name, Edge.name) for k in results.samples):
        raise typer.Exit(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        typer.run(main)
