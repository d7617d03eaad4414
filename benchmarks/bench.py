"""`make bench`: dynamo-ring beside its peers, interleaved in one run, as a table of ratios.

Every round measures every row of every store once, one after another, so that other work of the
machine disturbs all stores alike. The table has medians over the rounds; a ratio is the median of
the rounds' ratios, ours divided by the peer's. Absolute numbers depend on the machine; the ratios
do not depend on it much.

Then it measures what happens to our clients while nodes die, join and lose their disks
(`changes.py`), each once, with small sizes; `--all` uses the full sizes.

`core_cost.py` measures the cost of an operation inside the core, by phase, and of client HTTP, in
one process; `--profile` does only that. On a machine that does other work the page is not written
(`quiet.py`).

    python benchmarks/bench.py [--quick] [--rounds 4] [--seconds 2.5] [--only put,get,kill] [--all]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import typer  # noqa: E402
from benchmarks.backups import backups  # noqa: E402
from benchmarks.changes import CHANGES as RING_CHANGES  # noqa: E402
from benchmarks.changes import Sizes  # noqa: E402
from benchmarks.growth import growth  # noqa: E402
from benchmarks.hedging import hedging  # noqa: E402
from benchmarks.load_runs import CONNECTIONS, Sample  # noqa: E402
from benchmarks.results import ROWS, Results  # noqa: E402
from benchmarks.stores import Edge, Ours, Peer  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

from benchmarks import core_cost, quiet, rights_cost, table, trust_cost  # noqa: E402
from dynamo_client.errors import ClientError  # noqa: E402

CHANGES = RING_CHANGES | {"growth": growth, "backup": backups, "hedging": hedging}
DURABLE = "durable put"
SECONDS_MAX = 480.0
"""No round begins that would end later than this."""
TMPFS = Path("/dev/shm")
SETTLE_S = 0.3


@contextmanager
def started(rows: list[str], results: Results) -> Iterator[dict[tuple[type[Peer], bool], Peer]]:
    """Every store that the rows need and that this machine can run."""
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
    """One row of one store: the sample, and the µs of processor time of an operation."""
    kind, _, connections = row.partition(" at ")
    prefix = f"r{round_number}-{row[0]}{connections}-"
    load = peer.load(kind, prefix, int(connections or CONNECTIONS))
    if load is None:
        return None
    time.sleep(SETTLE_S)
    before = sum(child.cpu_s() for child in peer.children)
    sample = load.run(seconds)
    used = sum(child.cpu_s() for child in peer.children) - before
    return sample, 1e6 * used / max(1, sample.operations)


def one_round(
    rows: list[str],
    running: dict[tuple[type[Peer], bool], Peer],
    results: Results,
    progress: Progress,
) -> None:
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
    """The whole comparison; stops early if the time would be exceeded."""
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
                        results.notes.append(f"{results.rounds} rounds, because the time was over")
                    break
            for peer in running.values():
                try:
                    peer.check()
                except (RuntimeError, OSError) as error:
                    results.notes.append(str(error))
    return results


def change(rows: list[str], sizes: Sizes, results: Results, console: Console) -> None:
    """Measures on disk while the ring changes."""
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
    seconds: float = typer.Option(2.0, min=1.0, max=60.0, help="Seconds of each measurement."),
    only: str = typer.Option(
        "", help=f"Only these rows, with commas: {', '.join([*ROWS, *CHANGES])}."
    ),
    everything: bool = typer.Option(False, "--all", help="Joins of 1 GB, a million keys."),
    rate: float = typer.Option(500.0, min=1.0, help="Requests a second while the ring changes."),
    join_keys: int = typer.Option(0, help="Keys of 1 KB in the ring that a node joins."),
    profile: bool = typer.Option(False, help="Only the cost of an operation inside the core."),
    output: str = typer.Option("", help="Markdown file; a full run writes docs/benchmarks.md."),
) -> None:
    """Compare dynamo-ring with its peers on this machine."""
    console = Console()
    writes = not (quick or only or output or profile)
    if writes and (why := quiet.busy()):
        console.print(f"the page is not written on a machine that is busy: {why}", style="red")
        raise typer.Exit(1)
    began = quiet.ticks()
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
    if not (quick or only):
        results.rights_us = rights_cost.shown()
        results.trust_us = trust_cost.shown()
    table.show(results, ROWS, console)
    if not (quick or only):
        results.phases = core_cost.shown()
        core_cost.show(results.phases, console)
    if writes and (why := quiet.stolen(began, quiet.ticks())):
        console.print(f"the page is not written: {why}", style="red")
        raise typer.Exit(1)
    if writes:
        output = str(ROOT / "docs" / "benchmarks.md")
    if output:
        Path(output).write_text(table.markdown(results, ROWS))
        console.print(f"written: {output}")
    if not results.figures and not any(k[1] in (Ours.name, Edge.name) for k in results.samples):
        raise typer.Exit(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        typer.run(main)
