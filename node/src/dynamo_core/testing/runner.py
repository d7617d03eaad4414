"""Many histories on all cores: `python -m dynamo_core.testing.runner --seeds 15000`.

Prints histories per minute, the table of sometimes-counters, and for each failure its seed, the
command that replays it and the shrunken ladder. Exit status 1 when a history fails, when two runs
of one seed differ, or when a long run never reached a state that it must reach.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from dynamo_core.testing.plan import load_plan, save_plan
from dynamo_core.testing.shrink import shrink
from dynamo_core.testing.simulation import Result, run
from dynamo_core.testing.workload import make_plan

CHUNK = 50
TWICE = 50
"""One seed in so many runs twice and must match event for event."""
LONG_RUN = 10_000
LINE_S = 10.0
FAILURES_SHOWN_MAX = 3
SHRINK_S_MAX = 40.0
LADDER_LINES_MAX = 400
EXPECTED = (
    "acked with a hinted replica", "acked with no owner", "answer after the client gave up",
    "answered insufficient-owners", "answered not-a-member", "answered quorum-not-met",
    "clock jumped ahead", "clock jumped back", "completed", "converged",
    "coordinator died before it answered", "corrupt_records", "delete ok", "delete unknown",
    "died before its batch was written", "disk rolled back", "exchange_differences",
    "fault cut one way", "fault isolate", "fault pause", "fault power all", "fault wipe",
    "frames_of_gone_nodes", "fsync failed", "get found nothing", "hints_delivered",
    "hints_kept", "hints_refused", "learnt_it_is_replaced", "lost_node_admitted",
    "old disk came back", "peer_down", "peer_up", "put fail", "put ok", "put unknown",
    "record damaged", "request_id_seen_again", "retried under the same request id",
    "rolled_back_disk_found", "siblings returned", "store reopened", "store_distrusted",
    "store_refused_writes", "stored_by_exchange", "stored_by_hint", "stored_by_repair",
    "three siblings returned",
)  # fmt: skip
"""States that a long run must reach: otherwise the tests have failed, not the store."""


class Chunk(msgspec.Struct):
    """What a worker found in some seeds."""

    seeds: int
    failed: list[tuple[int, str]]
    counters: Counter[str]
    steps: int


def run_seeds(bounds: tuple[int, int]) -> Chunk:
    """A worker's share."""
    chunk = Chunk(0, [], Counter(), 0)
    for seed in range(*bounds):
        result = run(make_plan(seed))
        chunk.seeds += 1
        chunk.steps += result.steps
        chunk.counters.update(result.counters)
        if result.violations:
            first = result.violations[0]
            chunk.failed.append((seed, f"{first.claim} {first.key!r} {first.detail}"))
        elif seed % TWICE == 0 and _trace(result) != _trace(run(make_plan(seed))):
            chunk.failed.append((seed, "two runs of one seed differ"))
    return chunk


def _trace(result: Result) -> tuple[int, int, bytes]:
    return result.trail, result.steps, msgspec.json.encode(result.events)


def _bounds(first: int, seeds: int) -> Iterator[tuple[int, int]]:
    for at in range(first, first + seeds, CHUNK):
        yield at, min(at + CHUNK, first + seeds)


def run_all(first: int, seeds: int, jobs: int, seconds: float, console: Console) -> Chunk:
    """All seeds, on `jobs` processes, for at most `seconds` (0: no bound)."""
    total = Chunk(0, [], Counter(), 0)
    began = said = monotonic()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        get_context("spawn").Pool(jobs, initializer=_start_worker) as pool,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("histories", total=seeds)
        for chunk in pool.imap_unordered(run_seeds, _bounds(first, seeds)):
            total.seeds += chunk.seeds
            total.steps += chunk.steps
            total.failed += chunk.failed
            total.counters.update(chunk.counters)
            progress.update(task, advance=chunk.seeds)
            now = monotonic()
            if not console.is_terminal and now - said >= LINE_S:
                said = now
                rate = total.seeds / (now - began) * 60
                failed = len(total.failed)
                console.print(f"{total.seeds}/{seeds} histories, {rate:.0f}/min, {failed} failed")
            if seconds and now - began > seconds:
                break
        pool.terminate()
    rate = total.seeds / (monotonic() - began) * 60
    events = total.steps / max(total.seeds, 1)
    console.print(
        f"{total.seeds} histories, {len(total.failed)} failed, {rate:.0f} histories per minute, "
        f"{events:.0f} events each"
    )
    return total


def _start_worker() -> None:
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def report(total: Chunk, console: Console) -> bool:
    """The counters and the failures; True when nothing is wrong."""
    table = Table(title="how often each state was met", box=None)
    for _ in range(2):
        table.add_column("state")
        table.add_column("times", justify="right")
    lines = sorted(total.counters.items())
    half = (len(lines) + 1) // 2
    for at in range(half):
        right = lines[half + at] if half + at < len(lines) else ("", "")
        table.add_row(lines[at][0], str(lines[at][1]), right[0], str(right[1]))
    console.print(table)
    for seed, why in total.failed[:FAILURES_SHOWN_MAX]:
        console.rule(f"seed {seed}")
        console.print(why, markup=False, highlight=False)
        replay(seed, console)
    for seed, why in total.failed[FAILURES_SHOWN_MAX:]:
        console.print(f"seed {seed}: {why}", markup=False, highlight=False)
    missing = [name for name in EXPECTED if not total.counters[name]]
    if missing:
        console.print("never met: " + ", ".join(missing))
    return not total.failed and not (missing and total.seeds >= LONG_RUN)


def replay(seed: int, console: Console, plan_path: Path | None = None) -> bool:
    """One seed or stored plan again, made small, with its ladder; True when it passes."""
    plan = load_plan(plan_path) if plan_path is not None else make_plan(seed)
    violations = run(plan).violations
    if not violations:
        console.print(f"seed {plan.seed} passes")
        return True
    small = shrink(plan, SHRINK_S_MAX)
    result = run(small, draw=True)
    lines = result.ladder.splitlines()
    if len(lines) > LADDER_LINES_MAX:
        lines = [f"... {len(lines) - LADDER_LINES_MAX} lines before", *lines[-LADDER_LINES_MAX:]]
    text = "\n".join(lines)
    console.print(
        f"shrunk to {len(small.steps)} operations, {len(small.faults)} faults, "
        f"{small.nodes} nodes: n={small.n} r={small.r} w={small.w} {small.families}",
        markup=False, highlight=False,
    )  # fmt: skip
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    for fault in small.faults:
        console.print(str(fault), markup=False, highlight=False, soft_wrap=True)
    for violation in result.violations:
        console.print(str(violation), markup=False, highlight=False, soft_wrap=True)
    replay_line = f"python -m dynamo_core.testing.runner --replay {plan.seed}"
    console.print(f"replay: {replay_line}", markup=False, highlight=False)
    return False


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="dynamo_core.testing.runner", description=__doc__)
    parser.add_argument("--seeds", type=int, default=15_000, help="how many histories")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long")
    parser.add_argument("--replay", type=int, help="run this seed again, shrink it, draw it")
    parser.add_argument("--plan", type=Path, help="run a stored plan again, shrink it, draw it")
    parser.add_argument("--store", type=Path, help="with --replay: store the shrunken plan here")
    chosen = parser.parse_args()
    console = Console()
    if chosen.replay is not None and chosen.store is not None:
        save_plan(chosen.store, shrink(make_plan(chosen.replay)))
        return 0
    if chosen.replay is not None or chosen.plan is not None:
        return 0 if replay(chosen.replay or 0, console, chosen.plan) else 1
    total = run_all(chosen.first, chosen.seeds, chosen.jobs, chosen.seconds, console)
    return 0 if report(total, console) else 1


if __name__ == "__main__":
    sys.exit(main())
