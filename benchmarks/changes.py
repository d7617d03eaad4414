"""What `bench.py` measures while nodes die, join and lose their disks: only our own figures.

Each measurement starts a separate ring on loopback, with RocksDB under the given directory, and,
where it says so, sends `Sizes.rate` requests a second (`pace.py`). Sizes are small by default;
`Sizes.whole` has the full ones.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load_runs import BATCH, VALUE_BYTES, own
from benchmarks.processes import Child, Node, create_ring, until

from dynamo_client import AsyncDynamoClient, PutOp
from dynamo_client.admin import AdminClient
from dynamo_client.errors import ClientError

HERE = Path(__file__).parent
BEFORE_S = 4.0
"""Seconds of undisturbed load before a change."""
FILLERS = 8
CHANGE_S_MAX = 3600.0
START_S_MAX = 120.0
LOOK_S = 0.25
P999_MS_MAX = 50.0
HEAL_S_MAX = 10.0
BYTES_OFF_MAX = 0.1
Rows = list[tuple[float, float, int, bool]]


@dataclass(frozen=True)
class Sizes:
    """The sizes of the measurements."""

    rate: float = 500.0
    kill_s: float = 10.0
    join_keys: int = 20_000
    backup_keys: int = 20_000
    heal_keys: int = 10_000
    growth: tuple[tuple[int, int], ...] = ((3, 10_000), (6, 10_000), (9, 10_000))
    """Nodes and keys."""
    growth_s: float = 2.0

    @classmethod
    def whole(cls) -> Sizes:
        """1 GB joins, and up to a million keys."""
        growth = tuple((nodes, keys) for keys in (10**4, 10**5, 10**6) for nodes in (3, 6, 9))
        return cls(kill_s=30.0, join_keys=10**6, backup_keys=10**6, growth=growth, growth_s=5.0)


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    row: str
    what: str
    value: str
    goal: str = ""


class Ring:
    """Nodes in one ring with N=3, R=W=2."""

    def __init__(self, directory: Path, nodes: int, *flags: str) -> None:
        self.directory = directory
        self.flags = ("--log-level=warning", *flags)
        self.nodes = [self._node(index) for index in range(nodes)]

    def start(self) -> None:
        """Starts the nodes and makes the ring."""
        for node in self.nodes:
            node.start(*self.flags)
        for node in self.nodes:
            until(node.lives, f"{node.name} does not answer", START_S_MAX)
        create_ring(self.nodes, n=3, r=2, w=2)

    def _node(self, number: int) -> Node:
        return Node(f"n{number + 1}", self.directory / f"n{number + 1}")

    def add(self) -> Node:
        """Adds one node that is up and in no ring."""
        node = self._node(len(self.nodes))
        node.seeds = [other.advertise for other in self.nodes]
        node.start(*self.flags)
        until(node.lives, f"{node.name} does not answer", START_S_MAX)
        self.nodes.append(node)
        return node

    @property
    def addresses(self) -> list[str]:
        """Client HTTP."""
        return [node.endpoint.removeprefix("http://") for node in self.nodes]

    def fill(self, keys: int) -> None:
        """Writes `key-0` and so on. Raises RuntimeError if some were refused."""
        asyncio.run(self._fill(keys))

    async def _fill(self, keys: int) -> None:
        """With the client, because it repeats refused puts under the same id."""
        endpoints = [node.endpoint for node in self.nodes]
        starts = iter(range(0, keys, BATCH))

        async def some(client: AsyncDynamoClient) -> None:
            for at in starts:
                names = [f"key-{key}" for key in range(at, min(at + BATCH, keys))]
                puts = [PutOp(name, b"v" * VALUE_BYTES) for name in names]
                for result in await client.batch(puts):
                    if result.error is not None:
                        raise RuntimeError(f"{keys} keys were not stored: {result.error}")

        async with AsyncDynamoClient(*endpoints, timeout_s=10.0, attempts_max=10) as client:
            await asyncio.gather(*(some(client) for _ in range(FILLERS)))

    def status(self, node: Node) -> dict[str, Any]:
        """The status of the node."""
        with AdminClient(node.admin) as admin:
            return admin.status()

    def whole(self) -> bool:
        """Whether every node is complete in all its partitions."""
        try:
            shown = [self.status(node)["partitions"] for node in self.nodes]
        except ClientError:
            return False
        return all(one["owned"] == one["complete"] > 0 for one in shown)

    def metric(self, node: Node, name: str) -> float:
        """One value of its metrics."""
        with AdminClient(node.admin) as admin:
            found = re.search(rf"^{name} (\S+)$", admin.metrics(), re.M)
        return float(found[1]) if found else 0.0

    def children(self) -> list[Child]:
        """Its processes."""
        return [c for node in self.nodes if (c := Child.of_file(node.pid_file)) is not None]

    def stop(self) -> None:
        """Ends the processes and removes the data."""
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def ring(place: Path, nodes: int, *flags: str) -> Iterator[Ring]:
    """A ring for one measurement."""
    directory = place / f"ring-{time.monotonic_ns()}"
    directory.mkdir(parents=True)
    made = Ring(directory, nodes, *flags)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Load:
    """Runs `pace.py` on a ring from `with` to its end."""

    def __init__(self, of: Ring, keys: int, rate: float) -> None:
        self.out = of.directory / "pace.json"
        self._command = [
            sys.executable, str(HERE / "pace.py"), f"--rate={rate}", f"--seconds={CHANGE_S_MAX}",
            f"--keys={keys}", f"--bytes={VALUE_BYTES}", f"--out={self.out}", *of.addresses,
        ]  # fmt: skip
        self._log = of.directory / "pace.log"
        self.rows: Rows = []

    def __enter__(self) -> Load:
        self._child = Child.start(self._command, self._log)
        time.sleep(BEFORE_S)
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.end()
        if self.out.exists():
            self.rows = json.loads(self.out.read_text())
        elif exception == (None, None, None):
            raise RuntimeError(f"no load: {self._log.read_text()[-500:]}")


def percentile(rows: Rows, part: float) -> float:
    """A percentile of the latencies in ms; failed requests count with their time."""
    ms = sorted(row[1] for row in rows) or [0.0]
    return ms[min(len(ms) - 1, int(part * len(ms)))]


def between(rows: Rows, begin: float, end: float) -> Rows:
    """The requests that were due in this time."""
    return [row for row in rows if begin <= row[0] < end]


def met(good: bool, goal: str) -> str:
    """The goal, and whether it is met."""
    return f"{goal} {'met' if good else 'NOT MET'}"


def _latencies(row: str, when: str, rows: Rows) -> list[Figure]:
    p99, p999 = percentile(rows, 0.99), percentile(rows, 0.999)
    failed = sum(not one[3] for one in rows)
    return [
        Figure(row, f"p99 {when}", f"{p99:.1f} ms"),
        Figure(row, f"p99.9 {when}", f"{p999:.1f} ms",
               met(p999 <= P999_MS_MAX, f"≤{P999_MS_MAX:.0f} ms")),
        Figure(row, f"requests {when}", f"{len(rows):,} due, {failed} failed"),
    ]  # fmt: skip


def kill(place: Path, sizes: Sizes) -> list[Figure]:
    """One of four nodes is killed under load; the load goes on at the others."""
    keys = 5_000
    with ring(place, 4) as made:
        made.fill(keys)
        with Load(made, keys, sizes.rate) as load:
            killed = time.monotonic()
            made.nodes[1].kill()
            time.sleep(sizes.kill_s)
    end = killed + sizes.kill_s
    before = between(load.rows, killed - BEFORE_S, killed)
    return [
        Figure("kill", "p99.9 before", f"{percentile(before, 0.999):.1f} ms"),
        *_latencies("kill", "after the kill", between(load.rows, killed, end)),
    ]


@dataclass
class Joined:
    """A join under load, second by second."""

    plan: dict[str, Any]
    rows: Rows
    began: float
    ended: float
    moved_bytes: float
    looks: list[tuple[float, float, float | None]]
    """Time, the receiver's lowest budget of all nodes, the largest p99 of reads in ms."""


def join(place: Path, keys: int, rate: float, *flags: str) -> Joined:
    """A fourth node joins three nodes with this many keys, under load."""
    with ring(place, 3, *flags) as made:
        made.fill(keys)
        new = made.add()
        looks: list[tuple[float, float, float | None]] = []
        with (
            AdminClient(made.nodes[0].admin, timeout_s=30.0) as admin,
            Load(made, keys, rate) as load,
        ):
            wish = {"join": [{"name": new.name, "address": new.advertise}]}
            plan = admin.plan(wish)
            began = time.monotonic()
            admin.apply(wish, plan["hash"])
            while not _joined(made, new, looks):
                if time.monotonic() - began > CHANGE_S_MAX:
                    raise RuntimeError(f"the join has not ended after {CHANGE_S_MAX:.0f} s")
                time.sleep(LOOK_S)
            ended = time.monotonic()
        moved = made.metric(new, "dynamo_moved_bytes_total")
    return Joined(plan, load.rows, began, ended, moved, looks)


def _joined(made: Ring, new: Node, looks: list[tuple[float, float, float | None]]) -> bool:
    try:
        shown = [made.status(node) for node in made.nodes]
    except ClientError:
        return False
    budgets = [one["background"]["budget"] for one in shown]
    p99s = [p for one in shown if (p := one["background"]["latency_p99_ms"]) is not None]
    looks.append((time.monotonic(), min(budgets), max(p99s) if p99s else None))
    return bool(shown[-1]["state"] == "MEMBER")


def joins(place: Path, sizes: Sizes) -> list[Figure]:
    """The join as figures."""
    one = join(place, sizes.join_keys, sizes.rate)
    mb = one.plan["bytes"] / 1e6
    off = one.moved_bytes / one.plan["bytes"] - 1
    took = one.ended - one.began
    before = between(one.rows, one.began - BEFORE_S, one.began)
    return [
        Figure("join", "data in the ring", f"{sizes.join_keys * VALUE_BYTES / 1e6:,.0f} MB, N=3"),
        Figure("join", "time", f"{took:.1f} s, {len(one.plan['moves'])} moves, {mb:,.0f} MB"),
        Figure("join", "bytes moved against the plan", f"{off:+.1%}",
               met(abs(off) <= BYTES_OFF_MAX, f"±{BYTES_OFF_MAX:.0%}")),
        Figure("join", "least budget", f"{min(look[1] for look in one.looks):.2f}"),
        Figure("join", "p99.9 before", f"{percentile(before, 0.999):.1f} ms"),
        *_latencies("join", "while partitions move", between(one.rows, one.began, one.ended)),
    ]  # fmt: skip


def heal(place: Path, sizes: Sizes) -> list[Figure]:
    """A node returns with an empty disk; the time until every node is complete again."""
    with ring(place, 3) as made:
        made.fill(sizes.heal_keys)
        until(made.whole, "the ring is not complete")
        lost = made.nodes[1]
        lost.kill()
        lost.wipe()
        lost.seeds = [node.advertise for node in made.nodes if node is not lost]
        lost.start(*made.flags)
        until(lost.lives, "the node does not start again", START_S_MAX)
        began = time.monotonic()
        until(
            lambda: made.whole() and made.status(lost)["state"] == "MEMBER",
            "the disk does not heal",
            CHANGE_S_MAX,
        )
        took = time.monotonic() - began
    goal = met(took <= HEAL_S_MAX, f"≤{HEAL_S_MAX:.0f} s") if sizes.heal_keys == 10_000 else ""
    return [Figure("heal", f"{sizes.heal_keys:,} keys after a wiped disk", f"{took:.1f} s", goal)]


def steady(place: Path, sizes: Sizes) -> list[Figure]:
    """Gets and updates at half of the highest rate that this machine reaches with both."""
    keys = 5_000
    with ring(place, 3) as made:
        made.fill(keys)
        get, update = (
            own(mode, made.addresses, keys=keys).run(sizes.growth_s).rate
            for mode in ("get", "update")
        )
        rate = 1 / (1 / get + 1 / update)
        with Load(made, keys, rate) as load:
            began = time.monotonic()
            time.sleep(sizes.kill_s)
    rows = between(load.rows, began, began + sizes.kill_s)
    when = "at half of the highest rate"
    return [
        Figure("steady", "rate", f"{rate:,.0f}/s, half gets and half updates"),
        Figure("steady", f"p50 {when}", f"{percentile(rows, 0.5):.1f} ms"),
        *_latencies("steady", when, rows),
    ]


CHANGES: dict[str, Callable[[Path, Sizes], list[Figure]]] = {
    "kill": kill,
    "join": joins,
    "heal": heal,
    "steady": steady,
}
