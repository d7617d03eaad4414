"""What one operation costs inside the core and at the edge: processor time, and bytecodes.

Three nodes run in one process on stores in memory; calls carry their frames. In each turn one node
coordinates all operations and the two others are replicas; the nodes take turns as the coordinator.
Times depend on the machine. Bytecodes do not: the nodes draw the same numbers in every run, so the
same code runs the same bytecodes, and `tests/benchmarks/test_core_cost.py` compares them with
`bytecodes.json`.

    python -m benchmarks.core_cost              # the table of phases
    python -m benchmarks.core_cost --write      # count bytecodes and save them
"""

from __future__ import annotations

import gc
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from time import thread_time_ns
from types import FrameType
from typing import Any

import typer
from benchmarks.edge_cost import CODE as EDGE
from benchmarks.edge_cost import REQUESTS, VALUE, cost_us, on
from benchmarks.floor import floor_turn, floor_us
from rich.console import Console
from rich.table import Table

import dynamo_core
from benchmarks import floor
from dynamo_core.node import Node, NodeIdentity
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.ring.document import Identity, Member, RingTarget
from dynamo_core.ring.placement import first_ring
from dynamo_core.settings import Settings
from dynamo_node.memory_store import MemoryStore

COUNTS = Path(__file__).with_name("bytecodes.json")
CORE = str(Path(dynamo_core.__file__).parent)
NAMES = ("n0", "n1", "n2")
KINDS = ("put", "get", "update")
TURNS = (48, 1)
"""Operations in one turn of the loop: of 48 connections, and of one request in flight."""
VALUE_BYTES = 1024
KEYS = 2000
FLOOR = "straight put"
COUNTED = (
    *(f"{kind} {size}" for size in TURNS for kind in KINDS),
    *(f"{FLOOR} {size}" for size in TURNS),
    *REQUESTS,
)
"""What `bytecodes.json` has: an operation in a turn of so many, the same put in straight loops
(`floor.py`), and a request at the edge."""
COUNTED_OPERATIONS = 288
EDGE_REQUESTS = 20
PHASES = (  # of the coordinator, unless a replica is named
    "submit", "flush", "after fsync", "replicas: receive",
    "replicas: flush", "answers", "ticks",
)  # fmt: skip


@dataclass
class Spent:
    """Nanoseconds of this thread by phase."""

    phases: Counter[str] = field(default_factory=Counter)
    operations: int = 0

    def run(self, phase: str, call: Callable[[], Any]) -> Any:
        """Make the call and count its time."""
        began = thread_time_ns()
        result = call()
        self.phases[phase] += thread_time_ns() - began
        return result


class Trio:
    """Three founders of one ring, without a shell."""

    def __init__(self) -> None:
        self.now = 100.0
        draws = random.Random(1)
        self.nodes: dict[str, Node] = {}
        self.contexts: dict[bytes, Any] = {}
        self._numbers = count()
        self._choices = random.Random(2)
        for index, name in enumerate(NAMES, 1):
            identity = NodeIdentity(name, index, f"{name}:1")
            settings = Settings(exchange_s=3600.0)
            node = Node(identity, MemoryStore(), settings, lambda: draws.getrandbits(64))
            self.nodes[name] = node
            node.start(self.now, self._wall_ms(), trusted=True)
        lines = {name: Member(name, 1, n, f"{name}:1") for n, name in enumerate(NAMES, 1)}
        ring = first_ring(Identity("cost", 256, 3), lines, RingTarget())
        for node in self.nodes.values():
            node.ring_state.take(ring, founding=True)
        self._live(6.0)
        for first in range(0, KEYS, 50):
            keys = [b"key-%d" % index for index in range(first, first + 50)]
            self.turn("n0", [Put(key=key, value=b"v" * VALUE_BYTES) for key in keys])
        self._live(2.0)  # no timer of these puts is due in what is measured

    def _live(self, seconds: float) -> None:
        """Let this time pass: nodes do only what they do without requests."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            for node in self.nodes.values():
                node.tick(self.now, self._wall_ms())
            self._carry()

    def _wall_ms(self) -> int:
        return int(self.now * 1000) + 1_000_000

    def _carry(self) -> None:
        """Carry frames and fsync until no node sends any more."""
        busy = True
        while busy:
            busy = False
            for node in self.nodes.values():
                if node.sync_wanted:
                    node.synced(node.write_batch.store.sequence())
                for address, frame in node.flush():
                    self.nodes[address[:2]].receive(frame)
                    busy = True

    def operations(self, kind: str, size: int) -> list[Operation]:
        """This many operations for one turn. An update writes known keys with their contexts."""
        value = b"w" * VALUE_BYTES
        if kind == "put":
            return [Put(key=b"new-%d" % next(self._numbers), value=value) for _ in range(size)]
        keys = [b"key-%d" % n for n in self._choices.sample(range(KEYS), size)]
        if kind == "get":
            return [Get(key=key) for key in keys]
        return [Put(key=key, value=value, context=self.contexts[key]) for key in keys]

    def turn(self, name: str, operations: list[Operation], spent: Spent | None = None) -> None:
        """One turn of the coordinator, one of its replicas, and the answers."""
        spent = spent or Spent()
        spent.operations += len(operations)
        coordinator = self.nodes[name]
        others = [node for node in self.nodes.values() if node is not coordinator]
        outcomes: list[Outcome] = []
        self.now += 0.002
        spent.run("ticks", lambda: coordinator.tick(self.now, self._wall_ms()))
        spent.run("submit", lambda: _submit(coordinator, operations, outcomes))
        frames = spent.run("flush", coordinator.flush)
        if coordinator.sync_wanted:
            sequence = coordinator.write_batch.store.sequence()
            spent.run("after fsync", lambda: coordinator.synced(sequence))
        back: list[bytes] = []
        for node in others:
            back += self._replica(node, frames, spent)
        self.now += 0.0001
        spent.run("ticks", lambda: coordinator.tick(self.now, self._wall_ms()))
        spent.run("answers", lambda: _receive(coordinator, back))
        self._carry()
        for operation, outcome in zip(operations, outcomes, strict=True):
            assert outcome.status in (200, 204), outcome
            self.contexts[operation.key] = outcome.context

    def _replica(self, node: Node, frames: list[tuple[str, bytes]], spent: Spent) -> list[bytes]:
        """The answers of one replica to the frames for it."""
        mine = [frame for address, frame in frames if address == node.identity.address]
        self.now += 0.0001
        spent.run("ticks", lambda: node.tick(self.now, self._wall_ms()))
        spent.run("replicas: receive", lambda: _receive(node, mine))
        replies: list[tuple[str, bytes]] = spent.run("replicas: flush", node.flush)
        return [frame for _, frame in replies]


def _submit(node: Node, operations: list[Operation], outcomes: list[Outcome]) -> None:
    """Outcomes come in any order; the list has the order of the operations."""
    found: dict[int, Outcome] = {}

    def done_at(place: int) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            found[place] = outcome
            if len(found) == len(operations):
                outcomes.extend(found[n] for n in range(len(operations)))

        return done

    for place, operation in enumerate(operations):
        node.submit(operation, done_at(place))


def _receive(node: Node, frames: list[bytes]) -> None:
    for frame in frames:
        node.receive(frame)


def bytecodes(what: str) -> int:
    """How many bytecodes one of `COUNTED` runs, rounded."""
    if what in REQUESTS:
        return round(on(what, lambda ask: ran(lambda: _repeat(ask), EDGE)) / EDGE_REQUESTS)
    kind, size = what.rsplit(" ", 1)
    if kind == FLOOR:
        turn, puts = floor_turn(int(size), VALUE), int(size)
        return round(ran(turn, (CORE, floor.__file__)) / puts)
    trio, turns = Trio(), COUNTED_OPERATIONS // int(size)
    made = [trio.operations(kind, int(size)) for _ in range(turns + 3)]
    for index in range(3):  # each node has coordinated once: no first time is counted
        trio.turn(NAMES[index], made[index])

    def run() -> None:
        for index in range(turns):
            trio.turn(NAMES[index % 3], made[index + 3])

    return round(ran(run, (CORE,)) / COUNTED_OPERATIONS)


def _repeat(ask: Callable[[], None]) -> None:
    for _ in range(EDGE_REQUESTS):
        ask()


def ran(call: Callable[[], object], code: tuple[str, ...]) -> int:
    """How many bytecodes of files in these directories the call runs."""
    ran = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal ran
        if event == "call" and not frame.f_code.co_filename.startswith(code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        ran += event == "opcode"
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(outer)
    return ran


def phases(kind: str, size: int, repeats: int = 5) -> dict[str, float]:
    """Median processor time of an operation in µs, by phase."""
    trio = Trio()
    gc.collect()
    gc.freeze()
    rows: list[Spent] = []
    for _ in range(repeats):
        spent = Spent()
        for index in range(max(1, 1200 // size)):
            trio.turn(NAMES[index % 3], trio.operations(kind, size), spent)
        rows.append(spent)
    gc.unfreeze()
    return {p: median(row.phases[p] / row.operations for row in rows) / 1000 for p in PHASES}


def shown() -> list[tuple[str, ...]]:
    """The table: a row a phase, a column for each kind and size of turn; then the sum, and what
    client HTTP adds to each request."""
    columns = {(kind, size): phases(kind, size) for kind in KINDS for size in TURNS}
    rows = [(p, *(f"{column[p]:.1f}" for column in columns.values())) for p in PHASES]
    sums = (f"{sum(column.values()):.1f}" for column in columns.values())
    head = ("phase", *(f"{kind} {size}" for kind, size in columns))
    edge = [(what, f"{cost_us(what):.1f}", *[""] * (len(columns) - 1)) for what in REQUESTS]
    least = {size: f"{floor_us(size, VALUE):.1f}" for size in TURNS}
    straight = ("in straight loops", *(least[s] if k == "put" else "" for k, s in columns))
    return [head, *rows, ("sum", *sums), straight, *edge]


def show(rows: list[tuple[str, ...]], console: Console) -> None:
    """On the terminal."""
    head, *rest = rows
    title = "µs of processor an operation, by kind and operations a turn"
    table = Table(title=title, box=None, padding=(0, 1, 0, 0))
    for name in head:
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for row in rest:
        table.add_row(*row)
    console.print(table)


def python() -> str:
    """The Python version of the counts: another version compiles to other bytecodes."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def main(*, write: bool = typer.Option(False, help="Count bytecodes and save them.")) -> None:
    """Show the cost of a put, a get and an update inside the core."""
    console = Console()
    if write:
        written = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
        written[python()] = {what: bytecodes(what) for what in COUNTED}
        COUNTS.write_text(json.dumps(written, indent=2) + "\n")
        console.print(f"Python {python()}: {written[python()]}, written to {COUNTS.name}")
        return
    show(shown(), console)


if __name__ == "__main__":
    typer.run(main)
