"""`make chaos MINUTES=n`: people change a ring of real nodes under load; the checker judges it.

Five nodes with RocksDB and two spares; six clients work all the time. The seed decides the order of
the stories, which run one after another until the time is over. After each story the ring must come
to rest and heal; then every key is read through every node, and the checker judges the history. At
the end every key of every story is read once more. Exit status 1 if anything was lost, invented or
resurrected; then a directory has the ladder of each wrong key, the story step by step, every node's
ring document, and the logs.

    python -m benchmarks.chaos [--minutes 2] [--seed 4711] [--only flip]
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from benchmarks.cluster import Cluster, cluster_of
from benchmarks.stories import STORIES, Stage, Story
from benchmarks.witnesses import CLIENTS, MEANINGS, Record, Witness, look
from rich.console import Console

from dynamo_client import ClientError
from dynamo_core.testing.checker import Violation

NAMES = ["n0", "n1", "n2", "n3", "n4"]
SPARES = ["n5", "n6"]
KEYS = 40
AGE_S = 12
"""Age of a tombstone before collection: clients give up long before."""
TIMEOUT_MS = 3000
REST_S = 0.02
"""Pause of a client between two operations."""
PAUSE_S, LONG_PAUSE_S, LONG_MINUTES = 5.0, 30.0, 5.0
FLAGS = (
    "--heartbeat-ms=200", "--suspect-ms=1500", "--exchange-ms=300", "--hedge-ms=200",
    f"--tombstone-age-min-s={AGE_S}", "--log-level=info",
)  # fmt: skip
TOLD = (
    "switches", "moves_taken_over", "moves_undone", "records_surrendered", "lost_node_admitted",
    "replaced_node_emptied", "rolled_back_disk_found", "tombstones_collected",
    "stale_copies_dropped", "stale_records_refused", "hints_rerouted", "link_bad_frames",
    "fsyncs_stalled", "fsyncs_asked_elsewhere",
)  # fmt: skip
"""Events that a useful run must have; those of dead processes are missing."""
COUNTED = ("lost", "invented", "resurrected")
console = Console(highlight=False, soft_wrap=True)


@dataclass
class Chaos:
    """The stories until now, each with its keys and its record."""

    cluster: Cluster
    place: Path
    seed: int
    pause_s: float
    told: list[tuple[str, Record]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    events: dict[tuple[str, int], Counter[str]] = field(default_factory=dict)
    """The counters of processes at the end of a story."""

    async def tell(self, story: Story) -> None:
        """One story under load, with its verdict."""
        number = len(self.told) + 1
        name = f"{number}-{story.__name__}"
        chance = random.Random(self.seed * 1000 + number)
        record = Record([b"%d-%d" % (number, key) for key in range(KEYS)])
        self.told.append((name, record))
        console.print(f"{name} ...")
        began = time.monotonic()
        open_ = asyncio.Event()
        open_.set()
        try:
            await self._play(story, Stage(self.cluster, record, chance, self.pause_s, open_))
        except (RuntimeError, ClientError, AssertionError, StopIteration) as error:
            record.say(f"the story does not end: {error}")
            not_ended = Violation("not ended", b"", str(error))
            self.judge(name, record, [*record.verdict(), not_ended])
            raise RuntimeError(f"{name}: {error}") from error
        self.judge(name, record, record.verdict())
        self.events |= await asyncio.to_thread(self.cluster.events)
        met = record.met()
        count, refused = sum(met.values()), sum(met[kind, "fail"] for kind in ("get", "put"))
        unknown = sum(met[kind, "unknown"] for kind in ("get", "put", "delete"))
        console.print(
            f"  {time.monotonic() - began:.0f} s, {count} operations, {refused} refused, "
            f"{unknown} unknown"
        )

    async def _play(self, story: Story, stage: Stage) -> None:
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(
                Witness(
                    index,
                    self.cluster,
                    stage.record,
                    stage.chance.randrange(1 << 32),
                    timeout_ms=TIMEOUT_MS,
                    rest_s=REST_S,
                ).run(stop, stage.open)
            )
            for index in range(CLIENTS)
        ]
        try:
            await story(stage)
        finally:
            stop.set()
            stage.open.set()
            await asyncio.gather(*clients)
        stage.say("the clients rest")
        await stage.do(self.cluster.settle)
        stage.say("settled")
        await look(self.cluster, stage.record)
        await stage.do(_count, self.cluster, stage.record)

    def judge(self, name: str, record: Record, wrong: list[Violation]) -> None:
        """Counts the violations and keeps the evidence."""
        for violation in wrong:
            self.wrong[MEANINGS.get(violation.claim, violation.claim)] += 1
            console.print(f"  {violation.claim} {violation.key!r} {violation.detail}", style="red")
        if wrong:
            record.save(self.place / name, wrong)
            self.cluster.save(self.place / name)

    async def look_again(self) -> None:
        """Reads every key of every story: some may have come back or gone away later."""
        for name, record in self.told:
            known = set(record.verdict())
            await look(self.cluster, record)
            self.judge(name, record, [one for one in record.verdict() if one not in known])


def _count(cluster: Cluster, record: Record) -> None:
    """Counts every key: a member must list the keys of the final reads. Raises RuntimeError."""
    shown = {a.key for a in record.attempts() if a.final and a.shown}
    with cluster.admin() as admin:
        listed = set(admin.keys()) & set(record.all_keys())
    if listed != shown:
        raise RuntimeError(
            f"listed but not shown, or shown but not listed: {sorted(listed ^ shown)}"
        )


async def play(chaos: Chaos, stories: list[Story], minutes: float) -> None:
    """Stories until the time is over; all in turn, each time in another order. Raises RuntimeError
    if one does not end."""
    order = random.Random(chaos.seed)
    ends = time.monotonic() + 60 * minutes
    while True:
        for story in order.sample(stories, len(stories)):
            await chaos.tell(story)
            if time.monotonic() > ends:
                return await chaos.look_again()


def report(chaos: Chaos, seconds: float) -> int:
    """The last lines; the exit status."""
    met: Counter[str] = Counter()
    for _, record in chaos.told:
        met.update(attempt.outcome for attempt in record.attempts())
    stories = Counter(name.partition("-")[2] for name, _ in chaos.told)
    for name, times in sorted(stories.items()):
        console.print(f"{times:4} x {name.replace('_', ' ')}")
    events = sum(chaos.events.values(), Counter())
    told = ", ".join(f"{events[event]} {event}" for event in TOLD if events[event])
    console.print(f"at least: {told or 'nothing'}".replace("_", " "))
    others = {claim: count for claim, count in chaos.wrong.items() if claim not in COUNTED}
    verdict = ", ".join(f"{chaos.wrong[word]} {word}" for word in COUNTED)
    verdict += "".join(f", {count} {claim}" for claim, count in sorted(others.items()))
    console.print(
        f"seed {chaos.seed}: {len(chaos.told)} stories in {seconds:.0f} s, {met['ok']} operations "
        f"ok, {met['fail']} refused, {met['unknown']} unknown"
    )
    console.print(verdict, style="bold red" if chaos.wrong else "bold green")
    return 1 if chaos.wrong else 0


def main(
    minutes: Annotated[float, typer.Option(min=0.0, help="no story begins after this time")] = 2.0,
    seed: Annotated[int, typer.Option(help="order and choices; 0: any")] = 0,
    only: Annotated[str, typer.Option(help="one story, by its name")] = "",
) -> None:
    """Nodes join, leave, move, and are killed, wiped and stopped under load; then it is judged."""
    seed = seed or random.SystemRandom().randrange(1, 10**6)
    stories = [story for story in STORIES if only in ("", story.__name__)]
    if not stories:
        names = ", ".join(story.__name__ for story in STORIES)
        raise typer.BadParameter(f"must be one of {names}", param_hint="--only")
    place = Path(tempfile.mkdtemp(prefix="dynamo-ring-chaos-"))
    console.print(f"seed {seed}: five nodes and two spares with RocksDB under {place} ...")
    pause_s = LONG_PAUSE_S if minutes >= LONG_MINUTES else PAUSE_S
    began = time.monotonic()
    chaos = None
    try:
        with cluster_of(place, NAMES, FLAGS, SPARES) as cluster:
            chaos = Chaos(cluster, place, seed, pause_s)
            asyncio.run(play(chaos, stories, minutes))
    except RuntimeError as error:
        console.print(str(error), style="bold red")
    status = 1 if chaos is None else report(chaos, time.monotonic() - began)
    if status:
        console.print(f"ladders, ring documents and logs are in {place}")
        console.print(f"again: python -m benchmarks.chaos --seed {seed} --minutes {minutes:g}")
    else:
        shutil.rmtree(place, ignore_errors=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    sys.exit(typer.run(main))
