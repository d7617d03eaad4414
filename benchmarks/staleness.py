"""Staleness predicted and measured: real nodes, with delays that proxies add to each link.

Three nodes with N = 3 write canaries and read them through another node, for each R and W in turn.
Each proxy delays what it carries by a random time, the links to a slow node by more. The table has
the share of fresh reads that the nodes measured, and what they predicted for the same reads. It
goes to docs/staleness.md with `--write`.

    python -m benchmarks.staleness
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from benchmarks.links import Delay, linked_ring
from benchmarks.processes import Node, until
from rich.console import Console

from dynamo_client.admin import AdminClient
from dynamo_client.errors import Unavailable

NAMES = ("a", "b", "c")
PAGE = Path(__file__).parents[1] / "docs/staleness.md"
MARKS = ("<!-- measured -->", "<!-- end of measured -->")
QUORUMS = ((1, 1), (2, 1), (1, 2))
FLAGS = (
    "--canaries-per-minute=1200", "--delay-samples-per-minute=1200", "--engine=memory",
    "--heartbeat-ms=500", "--suspect-ms=10000", "--log-level=warning",
)  # fmt: skip
READS = 1200
WAIT_S_MAX = 300.0


def exponential(chance: random.Random, least_ms: float, mean_ms: float) -> Delay:
    """A time that is never below `least_ms`, with an exponential rest."""
    return lambda: (least_ms + chance.expovariate(1 / mean_ms)) / 1000


Delays = dict[tuple[str, str], Delay]


def everywhere() -> Delays:
    """Each link: 5 ms and an exponential time with a mean of 40 ms."""
    chance = random.Random(1)
    return {link: exponential(chance, 5, 40) for link in permutations(NAMES, 2)}


def one_slow_node() -> Delays:
    """The links of node c, both ways: 20 ms and a mean of 80 ms; the others 2 ms and 10 ms."""
    chance = random.Random(1)
    return {
        link: exponential(chance, *((20, 80) if "c" in link else (2, 10)))
        for link in permutations(NAMES, 2)
    }


DELAYS: dict[str, Callable[[], Delays]] = {
    "every link 5 ms + exponential, mean 40 ms": everywhere,
    "links of one node 20 ms + mean 80 ms, others 2 ms + mean 10 ms": one_slow_node,
}


@contextmanager
def delayed_ring(
    place: Path, delays: Delays, quorums: tuple[int, int]
) -> Iterator[dict[str, Node]]:
    """Three nodes whose links are delayed from the beginning on."""
    with linked_ring(place, NAMES, FLAGS, 64, quorums=quorums, delays=delays) as (nodes, _, _):
        yield nodes


def report(node: Node, max_age_s: float = 0.0) -> dict[str, Any]:
    """The node's report on staleness."""
    with AdminClient(node.admin) as admin:
        return admin.document(f"/v1/staleness?max_age_s={max_age_s:g}")


def measured(node: Node, reads: int = READS) -> dict[str, Any]:
    """The first report with so many reads of canaries since R and W are as they are now."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        with suppress(Unavailable):  # a busy machine
            found.append(report(node, 3.0))
        return bool(found and found[-1]["canary"]["reads"] >= reads)

    until(enough, "too few canaries were read", WAIT_S_MAX)
    return report(node)


def requorum(node: Node, quorums: tuple[int, int]) -> None:
    """Other defaults of R and W for the whole ring."""
    wishes = {"defaults": {"r": quorums[0], "w": quorums[1]}}
    with AdminClient(node.admin) as admin:
        admin.apply(wishes, admin.plan(wishes)["hash"])


def known_everywhere(nodes: dict[str, Node], quorums: tuple[int, int]) -> bool:
    """Whether every node has these R and W, and canaries of no other ones."""
    for node in nodes.values():
        with AdminClient(node.admin) as admin:
            ring = admin.ring()
        if (ring["r"], ring["w"]) != quorums:
            return False
    return report(next(iter(nodes.values())))["canary"]["reads"] < READS // 4


def rows(console: Console) -> Iterator[list[str]]:
    """One row for each delay and each R and W."""
    for title, delays in DELAYS.items():
        with TemporaryDirectory() as place, delayed_ring(Path(place), delays(), (2, 2)) as nodes:
            first = next(iter(nodes.values()))
            for quorums in QUORUMS:
                requorum(first, quorums)
                until(lambda q=quorums: known_everywhere(nodes, q), "other quorums", WAIT_S_MAX)  # type: ignore[misc]
                body = measured(first)
                canary = body["canary"]
                now = next(line for line in body["settings"] if line["present"])
                after = now["fresh_999_ms"]
                row = [
                    title, f"3, {quorums[0]}, {quorums[1]}", str(canary["reads"]),
                    f"{canary['measured']:.1%}", f"{canary['predicted']:.1%}",
                    f"{(canary['predicted'] - canary['measured']) * 100:+.1f}",
                    f"{now['fresh_at_once']:.1%}", "-" if after is None else f"{after:.0f}",
                ]  # fmt: skip
                console.print(" | ".join(row))
                yield row


HEAD = (
    "delays", "N, R, W", "reads", "measured fresh", "predicted fresh", "difference, points",
    "predicted at once", "predicted 99.9% after ms",
)  # fmt: skip


def page(lines: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, with the commit that was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=8", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    table = [HEAD, ["---"] * len(HEAD), *lines]
    text = "\n".join("| " + " | ".join(line) + " |" for line in table)
    return f"{text}\n\nMeasured by `python -m benchmarks.staleness` at {commit}."


def main(write: Annotated[bool, typer.Option(help="Write docs/staleness.md.")] = False) -> None:
    """Measure, and print the table."""
    console = Console()
    text = page(list(rows(console)))
    console.print(text, soft_wrap=True)
    if write:
        old = PAGE.read_text()
        begin, end = map(re.escape, MARKS)
        made = f"{MARKS[0]}\n{text}\n{MARKS[1]}"
        PAGE.write_text(re.sub(f"{begin}.*{end}", lambda _: made, old, flags=re.S))


if __name__ == "__main__":
    typer.run(main)
