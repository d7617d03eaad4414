"""What happens to a ring that people change while it serves: one function for each story.

Each story begins and ends with a ring of five nodes at rest and two spares, and writes its steps to
the record, while clients read and write. A wait that is too long is a RuntimeError.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from benchmarks.cluster import HEAL_S_MAX, Cluster
from benchmarks.stalled_disks import MISSING
from benchmarks.witnesses import CLIENTS, Record, Witness

from dynamo_client import ClientError
from dynamo_client.local_process import POLL_S
from dynamo_core.testing.history import Attempt

DOOMED = 24
"""Keys that are deleted while a disk is away."""
CARD_ONE_IN, FLIPPED = 200, 20
"""A bad card corrupts one in this many frames; a story goes on until this many were corrupted."""
DOWN_S = 1.5
"""Time for which a killed node stays away."""


@dataclass
class Stage:
    """The surroundings of a story."""

    cluster: Cluster
    record: Record
    chance: random.Random
    pause_s: float
    """How long a process is stopped (SIGSTOP)."""
    open: asyncio.Event
    """Clients pause while it is not set."""

    async def do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a blocking call while the clients go on."""
        return await asyncio.to_thread(partial(call, *arguments))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition. Raises RuntimeError."""
        end = time.monotonic() + HEAL_S_MAX
        while not await self.do(condition):
            if time.monotonic() > end:
                raise RuntimeError(f"after {HEAL_S_MAX:.0f} s: {what}")
            await asyncio.sleep(POLL_S)

    def say(self, sentence: str) -> None:
        """One step."""
        self.record.say(sentence)

    def some(self, names: list[str], count: int) -> list[str]:
        """Random names."""
        return self.chance.sample(sorted(names), count)

    async def join(self, *names: str) -> None:
        """Nodes join; waits for the end."""
        self.say(f"{' and '.join(names)} join")
        await self.do(self.cluster.join, names)

    async def leave(self, *names: str) -> None:
        """Nodes leave; waits for the end."""
        self.say(f"{' and '.join(names)} leave")
        await self.do(self.cluster.leave, names)

    async def midway(self, receiver: str = "") -> None:
        """Waits until a partition moves, or the change has ended already."""

        def moving() -> bool:
            return bool(self.cluster.moving(receiver)) or self.cluster.quiet()

        await self.until(moving, "nothing moves")
        where = await self.do(self.cluster.moving, receiver)
        self.say(f"{len(where)} partitions are moving: {where}")


async def join_two_then_leave_two(stage: Stage) -> None:
    """The ring grows by two nodes, and then any two leave."""
    await stage.join(*await stage.do(stage.cluster.spares))
    await stage.leave(*stage.some(await stage.do(stage.cluster.members), 2))


async def leave_of_one_that_is_killed(stage: Stage) -> None:
    """A node is killed while it leaves; it starts again and goes on, or is removed by force and
    learns at its start that it has left."""
    cluster = stage.cluster
    (name,) = stage.some(await stage.do(cluster.members), 1)
    removed = stage.chance.random() < 0.5
    stage.say(f"{name} leaves")
    await stage.do(cluster.begin_leave, [name])
    await stage.midway()
    stage.say(f"{name} is killed")
    await stage.do(cluster.kill, name)
    await asyncio.sleep(DOWN_S)
    if removed and await stage.do(_remove, cluster, name):
        stage.say(f"{name} is removed by force")
        stage.record.lost(name, silent=True)
    node = cluster.nodes[name]
    await stage.do(node.start, *cluster.flags)
    stage.say(f"{name} is started again")
    await stage.until(node.lives, f"{name} does not start again")
    await stage.do(cluster.renew, [name])
    await stage.do(cluster.rest)
    await stage.join((await stage.do(cluster.spares))[0])


def _remove(cluster: Cluster, name: str) -> bool:
    """False if it has LEFT meanwhile."""
    stays = next(other for other in cluster.asked if other != name)
    try:
        with cluster.admin(stays) as admin:
            admin.remove(name, force=True)
    except ClientError as error:
        if error.status != 400:
            raise
        return False
    return True


async def flip(stage: Stage) -> None:
    """Five, three, and midway to five back to three; then five again. Every key is counted."""
    cluster = stage.cluster
    await stage.leave(*stage.some(await stage.do(cluster.members), 2))
    joining = stage.some(await stage.do(cluster.spares), 2)
    stage.say(f"{' and '.join(joining)} join: three to five")
    await stage.do(cluster.begin_join, joining)
    await stage.until(
        lambda: any(cluster.owned(name) for name in joining) or cluster.quiet(), "nothing switches"
    )
    stage.say(f"midway, with moves {cluster.moving()}: back to three")
    await stage.do(cluster.begin_leave, joining)
    await stage.do(cluster.renew, joining)
    await stage.do(cluster.rest)
    await stage.join(*stage.some(await stage.do(cluster.spares), 2))


async def tokens_by_hand(stage: Stage) -> None:
    """Replicas of chosen partitions, then tokens; then the ring is balanced again."""
    cluster = stage.cluster
    ring = await stage.do(cluster.ring)
    names = await stage.do(cluster.members)
    moves: list[dict[str, Any]] = []
    for partition in sorted(stage.chance.sample(range(ring["partitions"]), 6)):
        owners = ring["entries"][partition]["owners"]
        (to,) = stage.some([name for name in names if name not in owners], 1)
        moves.append({"partition": partition, "from": stage.chance.choice(owners), "to": to})
    stage.say(f"manual moves: {moves}")
    await stage.do(cluster.apply, {"moves": moves}, stage.chance.choice(names))
    await stage.midway()
    tokens = {"tokens": 2, "to": stage.chance.choice(names)}
    stage.say(f"manual moves: {tokens}")
    await stage.do(cluster.apply, {"moves": [tokens]}, stage.chance.choice(names))
    await stage.do(cluster.rest)
    stage.say("balanced")
    await stage.do(cluster.apply, {})
    await stage.do(cluster.rest)


async def wiped_during_a_move(stage: Stage) -> None:
    """A spare joins, and meanwhile an owner or the spare itself loses its disk."""
    cluster = stage.cluster
    spare = (await stage.do(cluster.spares))[0]
    stage.say(f"{spare} joins")
    await stage.do(cluster.begin_join, [spare])
    await stage.midway(spare)
    victim = spare
    if stage.chance.random() < 0.7:
        (victim,) = stage.some([n for n in await stage.do(cluster.members) if n != spare], 1)
    stage.say(f"{victim} is killed, and its disk is lost")
    await stage.do(cluster.kill, victim)
    await stage.do(cluster.nodes[victim].wipe)
    stage.record.lost(victim)
    await asyncio.sleep(DOWN_S)
    await stage.do(cluster.restart, victim)
    stage.say(f"{victim} is back with an empty disk")
    await stage.do(cluster.rest)
    cluster.over(spare)
    await stage.do(cluster.settle)  # N=3 survives one lost disk at a time
    await stage.leave(*stage.some(await stage.do(cluster.members), 1))


async def old_disk_after_a_collection(stage: Stage) -> None:
    """A disk from before a deletion is put back after all tombstones were collected."""
    cluster, record = stage.cluster, stage.record
    witness = Witness(CLIENTS, cluster, record, stage.chance.randrange(1 << 16))
    (name,) = stage.some(await stage.do(cluster.members), 1)
    node = cluster.nodes[name]
    backup = node.directory.with_suffix(".old")
    doomed = [b"%s-doomed-%d" % (record.keys[0], index) for index in range(DOOMED)]
    record.apart += doomed
    async with witness.http() as http:
        for key in doomed:
            await witness.operation(http, "put", key, w=3)
        stage.say(f"{name} is stopped, and its disk copied")
        cluster.fault(name)
        await stage.do(node.stop)
        await stage.do(shutil.copytree, node.directory, backup)
        since = time.monotonic()
        await stage.do(cluster.restart, name)
        for key in doomed:
            await witness.operation(http, "delete", key, w=2)
        # Any hint stops a round, and on a busy machine there is always some hint.
        stage.open.clear()
        stage.say("deleted; the clients pause")
        left = list(doomed)
        end = time.monotonic() + HEAL_S_MAX
        while left and time.monotonic() < end:
            answer = await witness.attempt(
                http, Attempt(kind="get", key=left[0], node=name, r=3), {}
            )
            if answer is not None and forgotten(answer):
                left.pop(0)
            else:
                await asyncio.sleep(POLL_S * 5)
    if left:
        raise RuntimeError(f"{len(left)} of {DOOMED} tombstones are not collected in time")
    stage.open.set()
    stage.say("all tombstones are collected; the clients go on")
    stage.say(f"{name} is killed, and its old disk put back")
    await stage.do(cluster.kill, name)
    await stage.do(node.wipe)
    await stage.do(backup.rename, node.directory)
    record.lost(name, since)
    await stage.do(cluster.restart, name)
    stage.say(f"{name} is back")


def forgotten(answer: httpx.Response) -> bool:
    """Whether no owner has even a tombstone: an answer with a tombstone has a context."""
    return answer.status_code == 404 and "dynamo-context" not in answer.headers


async def two_administrators(stage: Stage) -> None:
    """Two administrators at once through two nodes: one lets a spare join and a member leave, the
    other moves tokens. If another plan was faster, the administrator plans again."""
    cluster = stage.cluster
    names = await stage.do(cluster.members)
    spare = (await stage.do(cluster.spares))[0]
    leaver, one, other, taker = stage.some(names, 4)
    cluster.fault(spare)
    cluster.fault(leaver)
    first = {"join": [cluster.line(spare)], "leave": [leaver]}
    second = {"moves": [{"tokens": 3, "to": taker}]}
    stage.say(f"at {one}: {spare} joins, {leaver} leaves; at {other}: {second['moves']}")
    await asyncio.gather(
        stage.do(cluster.apply, first, one), stage.do(cluster.apply, second, other)
    )
    cluster.asked.append(spare)
    stage.say("both plans are applied")
    await stage.do(cluster.renew, [leaver])
    await stage.do(cluster.rest)
    cluster.over(spare)


async def stopped_receiver(stage: Stage) -> None:
    """A spare joins and is stopped midway for some time."""
    cluster = stage.cluster
    spare = (await stage.do(cluster.spares))[0]
    stage.say(f"{spare} joins")
    await stage.do(cluster.begin_join, [spare])
    await stage.midway(spare)
    cluster.pause(spare)
    stage.say(f"{spare} is stopped for {stage.pause_s:.0f} s")
    await asyncio.sleep(stage.pause_s)
    cluster.resume(spare)
    stage.say(f"{spare} goes on")
    await stage.do(cluster.rest)
    cluster.over(spare)
    await stage.leave(*stage.some(await stage.do(cluster.members), 1))


async def a_moved_node(stage: Stage) -> None:
    """One node returns with its disk at another address, which is no seed; then all at once; then
    one more while another node is away, which learns of it at its start."""
    cluster = stage.cluster
    names = await stage.do(cluster.members)
    (name,) = stage.some(names, 1)
    stage.say(f"{name} is killed and starts again at another address")
    await stage.do(cluster.move, [name])
    stage.say("all members are killed and start again at other addresses")
    await stage.do(cluster.move, names)
    one, away = stage.some(names, 2)
    await stage.do(cluster.settle)  # W=2 of N=3 survives one node away at a time
    stage.say(f"{away} is killed, and meanwhile {one} starts again at another address")
    await stage.do(cluster.kill, away)
    moving = asyncio.create_task(stage.do(cluster.move, [one]))
    await asyncio.sleep(DOWN_S)
    await stage.do(cluster.restart, away)
    await moving
    stage.say(f"{one} and {away} are found")


async def bad_network_card(stage: Stage) -> None:
    """The card of a member flips bits of its frames while a spare joins and a member leaves; each
    such frame closes its link, and no node accepts it."""
    cluster, links = stage.cluster, stage.cluster.links
    (name,) = stage.some(await stage.do(cluster.members), 1)
    before = links.met["flipped"]
    await stage.do(links.spoil, name, CARD_ONE_IN)
    stage.say(f"the card of {name} flips one bit in 1 of {CARD_ONE_IN} frames")
    await stage.join((await stage.do(cluster.spares))[0])
    await stage.leave(*stage.some(await stage.do(cluster.members), 1))
    await stage.until(lambda: links.met["flipped"] >= before + FLIPPED, "few frames pass")
    await stage.do(links.spoil, name, 0)
    stage.say(f"{links.met['flipped'] - before} frames were corrupted; the card works again")


async def a_stalled_fsync(stage: Stage) -> None:
    """A member's fsyncs do not end for some time; it reports this, and the disks of others do every
    put. Then a spare joins, a member leaves, and the fsyncs stall in the middle of that."""
    cluster, disks = stage.cluster, stage.cluster.disks
    if not disks.can_stall:
        stage.say(f"skipped: {MISSING}")
        return
    (name,) = stage.some(await stage.do(cluster.members), 1)
    disks.stall(name)
    stage.say(f"no fsync of {name} ends")
    await stage.until(lambda: cluster.stalls(name), f"{name} does not report that its fsyncs stall")
    stage.say(f"{name} reports it; the clients go on for {stage.pause_s:.0f} s")
    await asyncio.sleep(stage.pause_s)
    disks.heal(name)
    await stage.until(lambda: not cluster.stalls(name), f"{name} still reports that they stall")
    stage.say(f"the fsyncs of {name} are fast again")
    await stage.join((await stage.do(cluster.spares))[0])
    (other,) = stage.some([n for n in await stage.do(cluster.members) if n != name], 1)
    stage.say(f"{other} leaves, and meanwhile the fsyncs of {name} stall")
    await stage.do(cluster.begin_leave, [other])
    await stage.midway()
    disks.stall(name)
    await asyncio.sleep(stage.pause_s)
    disks.heal(name)
    stage.say(f"the fsyncs of {name} are fast again")
    await stage.do(cluster.renew, [other])
    await stage.do(cluster.rest)


Story = Callable[[Stage], Awaitable[None]]
STORIES: tuple[Story, ...] = (
    join_two_then_leave_two, leave_of_one_that_is_killed, flip, tokens_by_hand,
    wiped_during_a_move, old_disk_after_a_collection, two_administrators, stopped_receiver,
    a_moved_node, bad_network_card, a_stalled_fsync,
)  # fmt: skip
