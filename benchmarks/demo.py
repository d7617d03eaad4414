"""`make demo`: real shopping carts through failing nodes, then every item is counted.

The cart is the key, and each purchase is an `update` with the union merge, from several tills at
once. Meanwhile one node is killed, another loses its disk, two nodes join, one leaves, and one is
cut off; all of it heals. At the end every cart is read through every node and compared with the
data set: exit status 1 if an item is missing or was never bought.

    python -m benchmarks.demo [--purchases 20000 | --all] [--tills 8]
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import httpx
import typer
from benchmarks.baskets import Purchase, carts, purchases
from benchmarks.cluster import Cluster
from benchmarks.links import linked_ring
from benchmarks.picture import Picture, Score
from benchmarks.processes import until
from rich.console import Console

from dynamo_client import AsyncDynamoClient, ClientError, GetOp, cart_union

NAMES = ["anna", "berta", "clara", "dora", "emil"]
NEW = ["frida", "gustav"]
KILLED, WIPED, CUT, LEAVING = "berta", "clara", "dora", "emil"
PARTITIONS = 64
FLAGS = ["--heartbeat-ms=200", "--suspect-ms=1000", "--exchange-ms=250"]
PAUSE_S = 0.1
"""A till whose purchase failed in all attempts pauses for this time and goes on."""
LOOK_S = 0.5
HEAL_S_MAX = 60.0
BATCH = 32
console = Console()


class Act(NamedTuple):
    """One step of the story: the part of all purchases at which it begins, and the action. Before
    it, all moves must have ended (`moved`), or everything must be `whole`; for that the tills
    pause."""

    part: float
    before: Literal["", "moved", "whole"]
    do: Callable[[], None]


@dataclass
class Shop:
    """The ring on this machine, and what has happened to it."""

    cluster: Cluster
    score: Score
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Tills pause while it is not set."""
    members: list[str] = field(default_factory=lambda: list(NAMES))

    def say(self, names: Sequence[str], state: str, sentence: str) -> None:
        """One step of the story."""
        self.score.states |= dict.fromkeys(names, state)
        self.score.story.append((self.score.elapsed_s, sentence))

    def kill(self) -> None:
        """Kills it, like a power cut."""
        self.cluster.nodes[KILLED].kill()
        self.say([KILLED], "killed", f"{KILLED} is killed (SIGKILL)")

    def start(self, name: str) -> None:
        """Starts it on its present disk."""
        self.cluster.nodes[name].start(*FLAGS)
        until(self.cluster.nodes[name].lives, f"{name} does not start again")
        self.say([name], "up", f"{name} is started again")

    def wipe(self) -> None:
        """Kills it and deletes its disk; the name starts again with an empty one."""
        node = self.cluster.nodes[WIPED]
        node.kill()
        node.wipe()
        self.say([WIPED], "wiped", f"{WIPED} loses its disk")

    def cut(self) -> None:
        """It runs, but no node hears it; its clients still reach it."""
        self.cluster.links.isolate(CUT)
        self.say([CUT], "cut off", f"{CUT} is cut off from all the others")

    def mend(self) -> None:
        """All links work again."""
        self.cluster.links.heal()
        self.say([CUT], "up", f"{CUT} is connected again")

    def join(self) -> None:
        """Two more nodes; they take their share while the tills go on."""
        self.cluster.apply({"join": [self.cluster.line(name) for name in NEW]})
        self.members += NEW
        self.say(NEW, "joining", f"{' and '.join(NEW)} join: {self._moves()} moves")

    def leave(self) -> None:
        """One node less; its partitions go to the others."""
        self.say(NEW, "up", f"{' and '.join(NEW)} have joined")
        self.cluster.apply({"leave": [LEAVING]})
        self.say([LEAVING], "leaving", f"{LEAVING} leaves: {self._moves()} moves")

    def _moves(self) -> int:
        with self.cluster.admin(NAMES[0]) as admin:
            return int(admin.status()["operation"]["moves_total"])

    def left(self) -> None:
        """It holds no data any more."""
        self.members.remove(LEAVING)
        self.say([LEAVING], "left", f"{LEAVING} has left")

    def acts(self) -> list[Act]:
        """The story. The second disk is complete again before the third one goes: N=3 promises no
        more."""
        return [
            Act(0.10, "", self.kill),
            Act(0.22, "", partial(self.start, KILLED)),
            Act(0.30, "", self.wipe),
            Act(0.38, "", partial(self.start, WIPED)),
            Act(0.45, "whole", self.join),
            Act(0.60, "moved", self.leave),
            Act(0.75, "moved", self.left),
            Act(0.80, "whole", self.cut),
            Act(0.92, "", self.mend),
        ]


class Tills:
    """Several tills take the purchases one by one; each purchase is repeated until it succeeds."""

    def __init__(self, shop: Shop, bought: list[Purchase]) -> None:
        self.shop = shop
        self.left = iter(bought)

    async def run(self, tills: int) -> None:
        """Runs until everything is bought."""
        await asyncio.gather(*(self._till(index) for index in range(tills)))

    async def _till(self, number: int) -> None:
        """Each till has its own client, because in a shop each till is a machine."""
        endpoints = [self.shop.cluster.nodes[name].endpoint for name in NAMES]
        first = number % len(endpoints)
        async with AsyncDynamoClient(*endpoints[first:], *endpoints[:first]) as client:
            await self._sell(client)

    async def _sell(self, client: AsyncDynamoClient) -> None:
        for purchase in self.left:
            await self.shop.open.wait()
            began = time.perf_counter()
            while not await self._buy(client, purchase):
                await asyncio.sleep(PAUSE_S)
            self.shop.score.bought(time.perf_counter() - began)

    async def _buy(self, client: AsyncDynamoClient, purchase: Purchase) -> bool:
        union = cart_union(add={purchase.line: purchase.item})
        score = self.shop.score

        def merge(values: list[bytes]) -> bytes | None:
            score.siblings[len(values)] += 1
            return union(values)

        try:
            await client.update(purchase.cart, merge, always_write=True)
        except ClientError as error:
            score.failures[type(error).__name__] += 1
            return False
        return True


async def tell(shop: Shop) -> None:
    """Starts the acts as the purchases go on."""
    shop.open.set()
    for act in shop.acts():
        while shop.score.done < act.part * shop.score.total:
            await asyncio.sleep(0.02)
        if act.before == "whole":
            shop.open.clear()
            await settle(shop)
            shop.open.set()
        elif act.before == "moved":
            await asyncio.to_thread(shop.cluster.rest)
        await asyncio.to_thread(act.do)


async def statuses(shop: Shop) -> dict[str, dict[str, Any]]:
    """The status of every member that answers."""
    found: dict[str, dict[str, Any]] = {}
    async with httpx.AsyncClient(timeout=2) as http:
        for name in shop.members:
            try:
                url = shop.cluster.nodes[name].admin + "/v1/status"
                found[name] = (await http.get(url)).json()
            except httpx.HTTPError:
                continue
    return found


async def watch(shop: Shop, picture: Picture) -> None:
    """Updates the live picture."""
    while True:
        shop.score.take(await statuses(shop))
        picture.show()
        await asyncio.sleep(LOOK_S)


def unsettled(shop: Shop) -> str:
    """Why the ring is not complete yet, "" if it is."""
    score = shop.score
    if len(score.nodes) < len(shop.members) or score.peers_down:
        return "some node is not heard"
    if score.behind:
        return f"{score.behind} partitions are not complete"
    return f"{score.hints} hints are held" if score.hints else ""


async def settle(shop: Shop) -> None:
    """Waits until all are complete and no node holds a hint. Raises RuntimeError after the time."""
    began = time.monotonic()
    while True:
        shop.score.take(await statuses(shop))
        why = unsettled(shop)
        if not why:
            return
        if time.monotonic() - began > HEAL_S_MAX:
            raise RuntimeError(f"not healed after {HEAL_S_MAX:.0f} s: {why}")
        await asyncio.sleep(LOOK_S / 2)


async def recount(shop: Shop, expected: dict[str, dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Every cart through every node: lines missing somewhere, and lines that were never bought."""
    missing: set[str] = set()
    invented: set[str] = set()
    names = sorted(expected)
    for node in map(shop.cluster.nodes.__getitem__, shop.members):
        async with AsyncDynamoClient(node.endpoint, routing=False) as client:
            for at in range(0, len(names), BATCH):
                page = names[at : at + BATCH]
                results = await client.batch([GetOp(name) for name in page])
                for name, result in zip(page, results, strict=True):
                    if result.error is not None and result.status != 404:
                        raise RuntimeError(f"{name} through {node.name}: {result.error}")
                    versions = result.found.values if result.found is not None else ()
                    held: dict[str, Any] = {}
                    for version in versions:
                        held |= json.loads(version.data)
                    wanted = expected[name]
                    missing |= {f"{name} {line}" for line in wanted.keys() - held.keys()}
                    invented |= {f"{name} {n}" for n, i in held.items() if wanted.get(n) != i}
                    shop.score.counted += 1
    return missing, invented


async def play(shop: Shop, bought: list[Purchase], tills: int) -> int:
    """The whole demo; the exit status."""
    score = shop.score
    expected = carts(bought)
    picture = Picture(console, score, [*NAMES, *NEW])
    with picture:
        watcher = asyncio.create_task(watch(shop, picture))
        story = asyncio.create_task(tell(shop))
        await Tills(shop, bought).run(tills)
        await story
        score.phase = "healing"
        healing = time.perf_counter()
        watcher.cancel()
        await settle(shop)
        score.story.append((score.elapsed_s, f"healed in {time.perf_counter() - healing:.1f} s"))
        score.phase, score.to_count = "recounting", len(expected) * len(shop.members)
        watcher = asyncio.create_task(watch(shop, picture))
        missing, invented = await recount(shop, expected)
        watcher.cancel()
        score.phase = "done"
        picture.show()
    for line in sorted(missing)[:5]:
        console.print(f"missing: {line}", style="red")
    for line in sorted(invented)[:5]:
        console.print(f"invented: {line}", style="red")
    console.print(score.sentence(), highlight=False)
    console.print(
        f"{len(expected)} carts, {len(bought)} items, {len(missing)} missing, "
        f"{len(invented)} invented",
        style="bold red" if missing or invented else "bold green",
        highlight=False,
    )
    return 1 if missing or invented else 0


def main(
    count: Annotated[int, typer.Option("--purchases", min=1, help="number of purchases")] = 20_000,
    everything: Annotated[bool, typer.Option("--all", help="the whole year")] = False,
    tills: Annotated[
        int, typer.Option(min=1, max=256, help="number of tills at the same time")
    ] = 8,
) -> None:
    """Real shopping carts through failing nodes, then every item is counted."""
    console.print("reading the purchases ...")
    try:
        bought = purchases(None if everything else count)
    except RuntimeError as error:
        console.print(str(error), style="red")
        raise typer.Exit(1) from None
    place = Path(tempfile.mkdtemp(prefix="dynamo-ring-demo-"))
    score = Score(total=len(bought), states=dict.fromkeys(NEW, "unjoined"))
    kept = False
    try:
        console.print(f"starting five nodes and two more with RocksDB under {place} ...")
        with linked_ring(place, NAMES, FLAGS, PARTITIONS, NEW) as (nodes, links, disks):
            cluster = Cluster(nodes, links, disks, FLAGS)
            cluster.asked = list(NAMES)
            shop = Shop(cluster, score)
            score.began = time.perf_counter()
            status = asyncio.run(play(shop, bought, tills))
        kept = status != 0
    except RuntimeError as error:
        kept = True
        console.print(str(error), style="red")
        status = 1
    finally:
        if kept:
            console.print(f"logs and disks are kept in {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    raise typer.Exit(status)


if __name__ == "__main__":
    sys.exit(typer.run(main))
