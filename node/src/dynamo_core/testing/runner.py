"""Many histories on all cores: `python -m dynamo_core.testing.runner --seeds 15000`.

Prints histories per minute, the table of sometimes-counters, and for each failure its seed, the
command that replays it and the shrunken ladder. Exit status 1 if a history fails, if two runs of
one seed differ, or if a long run has not reached a required state.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from itertools import zip_longest
from multiprocessing import get_context
from os.path import relpath
from pathlib import Path
from time import monotonic

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dynamo_core.testing.plan import load_plan, save_plan
from dynamo_core.testing.shrink import shrink
from dynamo_core.testing.simulation import Result, run
from dynamo_core.testing.workload import make_plan

CHUNK = 10
"""Seeds of one share; a small share, because the last one of a run keeps only one process busy."""
TWICE = 50
"""One seed in this number runs twice, and both runs must be equal, event for event."""
LONG_RUN = 10_000
LINE_S = 10.0
FAILURES_SHOWN_MAX = 3
SHRINK_S_MAX = 40.0
LADDER_LINES_MAX = 400
EXPECTED = (
    "404 over a tombstone", "a put without an answer had happened", "a removed node came back",
    "acked by one node alone", "acked with a hinted replica", "acked with no owner",
    "answer after the client gave up", "answered insufficient-owners", "answered not-a-member",
    "answered overloaded", "answered quorum-not-met", "answered too-many-siblings",
    "canaries_failed", "canaries_fresh", "canaries_mistimed", "canaries_stale", "staleness_reports",
    "backup asked of another node", "backup begun", "backup deleted", "backup done",
    "backup in a ring of two versions", "calls_not_known_there", "node updated",
    "node put back to an older version",
    "backup that refers to another", "backup while a node was down", "backup with hints",
    "backup with hints from before a round", "backup_copies_too_old",
    "backup without a damaged key", "every copy damaged",
    "backups_of_all_owners", "backups_resumed", "records_restored", "restore begun",
    "restores_done", "stored_by_restore", "the archive failed",
    "background_slowed", "became_left", "became_member", "cancelled while a partition moves",
    "clock jumped ahead", "clock jumped back", "completed", "context used through another node",
    "context of a secret that was taken away",
    "context of another secret than that which makes",
    "context of the first ring refused", "context of the first ring taken",
    "copies begun", "copies given up, because the ring changed", "copies made",
    "copies wait for a ring at rest", "damaged copy salvaged", "disk copied while its node is down",
    "frame of the other ring refused", "ring of copies converged", "start on a copy interrupted",
    "converged", "converged without a read", "coordinator died before it answered",
    "corrupt_records", "defaults changed", "delete after a 404 with context", "delete ok",
    "delete unknown", "delete without context", "died before its batch was written",
    "dirty partition settled", "disk of a removed node found stale", "disk rolled back",
    "emptied node joined under a new id", "exchange_differences",
    "expired sibling beside a living one", "expired value behind a read",
    "expiring put forwarded and answered", "expiring value shown at the end",
    "put of a time that has passed",
    "a greedy client was refused", "a modest client was served beside a greedy one",
    "hedges", "hedges_around_silence", "hedges_put_off", "hedges_refused", "mix greedy",
    "shares_used_up",
    "fault bad memory",
    "fault cut one way", "fault isolate", "fault move", "fault move all", "fault pause",
    "fault power all", "fault split", "fault swap addresses", "fault wipe", "founded by command",
    "frames_of_gone_nodes", "fsync failed",
    "flip in Fetched", "flip in FetchedMany", "flip in Forward", "flip in Forwarded",
    "flip in Store exchange", "flip in Store hint", "flip in Store offer", "flip in Store put",
    "flip in Store repair", "corrupt_records_refused", "mix bad memory",
    "get found nothing", "hedged read answered first", "hint damaged",
    "hint delivered to a later life", "hints kept over their holder's restart", "hints_delivered",
    "hints_handed_on", "hints_kept", "hints_refused", "hints_rerouted", "kept_apart_over_a_drop",
    "history forgot its oldest change", "look after convergence", "look at a damaged record",
    "look at cluster",
    "look at hints", "look at history", "look at records", "look at trees", "look shows a hint",
    "look shows a history with parents", "look shows copies that differ",
    "look while a node is of an older version", "look without the answer of a node",
    "learnt_it_is_replaced", "lines_found_elsewhere", "lost_node_admitted",
    "mix addresses", "mix approved", "mix busy", "mix lives", "mix moves",
    "moved_lines_written", "moved_lines_written_again",
    "mix rebuild", "mix stale", "mix twins", "moves_begun", "moves_taken_over", "moves_undone",
    "old disk came back", "one request has two dots", "partition left dirty", "peer_down",
    "peer_up", "plan applied while another one moves", "promises_given", "promises_released",
    "put coordinated by a stand-in after a refused forward",
    "put coordinated by a stand-in after a silent forward", "put fail",
    "put forwarded and answered", "put ok", "put unknown", "puts_kept_apart", "record damaged",
    "records_surrendered", "removed during a move", "replaced_node_emptied",
    "a reused request id was acked", "a reused request id was refused", "request_ids_reused",
    "replacements_approved", "replacements_lapsed", "replacements_refused",
    "request_id_seen_again", "retried under the same request id",
    "retry under the same request id succeeded", "rolled-back disk found stale",
    "rolled_back_disk_found", "rounds_abandoned", "rounds_committed",
    "rounds_known_to_be_abandoned", "siblings returned", "siblings superseded by one put",
    "stale_copies_dropped", "stale_records_refused", "store reopened", "store salvaged",
    "store_distrusted", "store_refused_writes", "stored_by_exchange", "stored_by_hint",
    "stored_by_offer", "stored_by_repair", "strict by the ring", "superseded plan made again",
    "switches", "switches_settled", "synced, and lost with its disk", "three siblings returned",
    "tombstone buried", "tombstones_collected", "written but not synced, and lost",
    "frame after a cut refused", "frame after a lost one refused",
    "frame out of its order refused", "frame with a flipped bit refused", "repeated frame refused",
    "calls_said_again", "frame dropped while its link backed off",
    "frame dropped by a full link", "frame to an address that its receiver has left",
    "fsyncs_asked_elsewhere", "fsyncs_stalled", "slow_operations",
    "frame cut", "full while it hands over", "full while it leaves", "full while it receives",
    "full while it surrenders", "hints delivered in several turns", "leaf listed in several turns",
    "mix narrow", "mix no room", "mix small", "one key twice in a turn",
    "put due at a node with slow fsyncs",
    "partition surrendered in several turns", "records fetched up to a bound",
    "refused for the bytes of its siblings", "ring of one grew", "ring of two grew",
    "mix senseless", "ring input without sense sent", "senseless_input_refused", "rings_refused",
    "frame without sense refused whole", "ring of a disk spoilt", "ring_of_the_disk_refused",
    "ring shrank to one", "ring shrank to two", "several operations in one turn",
)  # fmt: skip
"""States that a long run must reach: otherwise the tests have failed, not the store."""


class Chunk(msgspec.Struct):
    """The results of a worker for some seeds."""

    seeds: int
    failed: list[tuple[int, str]]
    counters: Counter[str]
    steps: int
    traces: list[tuple[int, str]] = []


def run_seeds(bounds: tuple[int, int], traced: bool = False) -> Chunk:
    """Runs a worker's share, and notes traces if they are wanted."""
    chunk = Chunk(0, [], Counter(), 0)
    for seed in range(*bounds):
        result = run(make_plan(seed))
        chunk.seeds += 1
        chunk.steps += result.steps
        chunk.counters.update(result.counters)
        if traced:
            chunk.traces.append((seed, trace_of(result)))
        if result.violations:
            first = result.violations[0]
            chunk.failed.append((seed, f"{first.claim} {first.key!r} {first.detail}"))
        elif seed % TWICE == 0 and trace_of(result) != trace_of(run(make_plan(seed))):
            chunk.failed.append((seed, "two runs of one seed differ"))
    return chunk


def trace_of(result: Result) -> str:
    """One line that is equal for equal histories: the checksum over all frames, the number of
    steps, digests of the events and of the counters."""
    told = (result.events, sorted(result.counters.items()))
    digests = (sha256(msgspec.json.encode(each)).hexdigest()[:16] for each in told)
    return f"{result.trail:08x} {result.steps} {' '.join(digests)}"


def _bounds(first: int, seeds: int) -> Iterator[tuple[int, int]]:
    for at in range(first, first + seeds, CHUNK):
        yield at, min(at + CHUNK, first + seeds)


def run_all(chosen: argparse.Namespace, console: Console) -> Chunk:
    """All chosen seeds, on `jobs` processes, for at most `seconds` (0: no bound)."""
    first, seeds, jobs, seconds = chosen.first, chosen.seeds, chosen.jobs, chosen.seconds
    share = partial(run_seeds, traced=chosen.traces is not None)
    total = Chunk(0, [], Counter(), 0)
    began = said = monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        get_context("spawn").Pool(jobs, initializer=_start_worker) as pool,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("histories", total=seeds)
        for chunk in pool.imap_unordered(share, _bounds(first, seeds)):
            total.seeds += chunk.seeds
            total.steps += chunk.steps
            total.failed += chunk.failed
            for seed, why in chunk.failed:
                _print(f"seed {seed}: {why}", console)
            total.counters.update(chunk.counters)
            total.traces += chunk.traces
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
    """The counters and the failures; True if there are no failures."""
    met = {name: total.counters[name] for name in EXPECTED}
    others = {name: n for name, n in total.counters.items() if name not in met}
    _table("states that a long run must meet", met, console)
    _table("what else was met", others, console)
    for seed, why in total.failed[:FAILURES_SHOWN_MAX]:
        console.rule(f"seed {seed}")
        _print(why, console)
        replay(seed, console)
    missing = [name for name, n in met.items() if not n]
    if missing:
        _print("NEVER MET: " + ", ".join(missing), console)
    for seed, why in total.failed:
        _print(f"FAILED seed {seed} ({_commit()}): {why}", console)
        _print("       " + _replay_line(f"--replay {seed}"), console)
    return not total.failed and not (missing and total.seeds >= LONG_RUN)


def _table(title: str, counts: dict[str, int], console: Console) -> None:
    """Two columns of names and numbers; names are sorted downwards."""
    _print(f"\n{title}:", console)
    cells = [f"{count:>10,}  {name}" for name, count in sorted(counts.items())]
    half = (len(cells) + 1) // 2
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=""):
        _print(f"{left:<66}{right}".rstrip(), console)


def _print(text: str, console: Console) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _replay_line(which: str) -> str:
    return f"replay: {relpath(sys.executable)} -m dynamo_core.testing.runner {which}"


def _commit() -> str:
    """The tested commit, "?" outside a checkout."""
    git = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "?"


def replay(seed: int, console: Console, plan_path: Path | None = None) -> bool:
    """Runs one seed or stored plan again, shrinks it and draws it; True if it passes."""
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
    found = [f"{v.claim} {v.key!r} {v.detail}" for v in result.violations]
    shape = (
        f"shrunk to {len(small.steps)} operations, {len(small.faults)} faults, {small.nodes} "
        f"nodes: n={small.n} r={small.r} w={small.w} dw={small.dw} {' '.join(small.families)}"
    )
    again = _replay_line(f"--replay {seed}" if plan_path is None else f"--plan {plan_path}")
    for line in (*lines, *map(str, small.faults), *found, shape, again):
        _print(line, console)
    return False


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="dynamo_core.testing.runner", description=__doc__)
    parser.add_argument("--seeds", type=int, default=15_000, help="how many histories")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this many seconds")
    parser.add_argument("--replay", type=int, help="run this seed again, shrink it, draw it")
    parser.add_argument("--plan", type=Path, help="run a stored plan again, shrink it, draw it")
    parser.add_argument("--store", type=Path, help="with --replay: store the shrunken plan here")
    parser.add_argument("--traces", type=Path, help="write a line a seed; equal lines, equal runs")
    chosen = parser.parse_args()
    console = Console()
    if chosen.replay is not None and chosen.store is not None:
        save_plan(chosen.store, shrink(make_plan(chosen.replay)))
        return 0
    if chosen.replay is not None or chosen.plan is not None:
        return 0 if replay(chosen.replay or 0, console, chosen.plan) else 1
    total = run_all(chosen, console)
    if chosen.traces is not None:
        lines = [f"{seed} {trace}\n" for seed, trace in sorted(total.traces)]
        chosen.traces.write_text("".join(lines))
    return 0 if report(total, console) else 1


if __name__ == "__main__":
    sys.exit(main())
