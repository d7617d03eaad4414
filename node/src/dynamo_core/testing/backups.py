"""Administrators of a simulated ring who back up and restore, and an archive that fails them.

A backup that is done is held against what was acknowledged before it began: each such write is in
it, unless all the disks that held it by then were down, or have lost it (S-BAK-1). What a restore
brings back must leave every claim of the checker as it was: nothing newer is lost, no dot is minted
twice (S-BAK-2, S-BAK-3). The administrator asks another node when the one that was asked is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from dynamo_core.backup.archive_calls import ArchiveFailed
from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.backup.manifest import (
    Manifest,
    decode_manifest,
    decode_rows,
    manifest_name,
    progress_name,
    unneeded,
)
from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.records import History
from dynamo_core.keys import store_key
from dynamo_core.protocol.backup_messages import PARTS
from dynamo_core.protocol.messages import Message
from dynamo_core.ring.document import LEFT
from dynamo_core.testing.archives import Objects
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import OK, Attempt, Restored, Trouble
from dynamo_core.testing.plan import READY_S, Plan
from dynamo_core.testing.process import Process

if TYPE_CHECKING:
    from dynamo_core.node import Node
    from dynamo_core.testing.world import World

FAILS = 0.15
LATE = 0.1
LOOK_S = 0.4
BACKED_UP = 0.06
"""Of the histories so many have backups."""


def add_to(rng: Random, plan: Plan) -> None:
    """In few histories administrators back up and restore, whatever else happens."""
    if plan.quiet or rng.random() >= BACKED_UP:
        return
    plan.families.append("backups")
    at = READY_S + rng.uniform(0.5, plan.ends_at / 2)
    kinds = rng.choices(("back up", "back up", "restore", "forget backup"), k=2)
    for kind in ("back up", *kinds, "back up", "forget backup", "restore"):
        plan.faults.append(Fault(at, kind, rng.randrange(plan.nodes)))
        at += rng.choice((0.3, 1.5, 3.0)) * rng.uniform(0.5, 1.5)
    plan.ends_at = max(plan.ends_at, at + 2.0 - READY_S)
    plan.faults.sort(key=lambda f: f.at)


class Backups:
    """The archive of one world, and who asks for what."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.objects = Objects()
        self.done: list[str] = []
        self._count = 0
        self._under_way: set[str] = set()

    # ------------------------------------------------------------ the archive

    def connect(self, process: Process, node: Node) -> None:
        """A node that was started reaches the archive."""
        node.archive.carry = partial(self._carry, process, node)

    def _carry(
        self, process: Process, node: Node, request: Message, reply: Callable[[Message], None]
    ) -> None:
        """It answers later. Failing, it may have done what was asked."""
        world, rng = self.world, self.world.rng
        fails = rng.random() < FAILS and not world.healed
        answer: Message = ArchiveFailed(0, "the archive says no")
        if not fails or rng.random() < 0.5:
            done = self.objects.answer(request, process.disk)
            answer = answer if fails else done
        if fails:
            world.count("the archive failed")

        def answered() -> None:
            if process.node is node:
                reply(answer)
                node.dispatcher.drain()

        late = rng.uniform(0.5, 2.0) if rng.random() < LATE else 0.0
        world.later(late + rng.uniform(0.001, 0.02), lambda: world.enter(process, answered))

    # ------------------------------------------------------------ administrators

    def back_up(self, process: Process) -> None:
        """Everything acknowledged by now is to be in it."""
        if not _asked(process):
            return
        world = self.world
        acked = {
            event.value: event.key
            for event in world.events
            if isinstance(event, Attempt) and event.kind != "get" and event.outcome == OK
            if not self._buried(store_key(event.key), world.dots_of.get(event.value, []))
        }
        held = {
            value: {
                (p.name, p.disk.node_id) for p in world.processes if world.holds(p.disk, key, value)
            }
            for value, key in acked.items()
        }
        self._count += 1
        name = f"b{self._count}"
        world.count("backup begun")
        self._under_way.add(name)
        judge = partial(self._judge, name, acked, held)
        self._lead(process, name, self.done[-1] if self.done else "", judge)

    def _lead(
        self, process: Process, name: str, base: str, judge: Callable[[Manifest], None]
    ) -> None:
        """Asks that node, looks again and again, and asks another one when it is gone."""
        world, node = self.world, process.node
        assert node is not None
        body = {"id": name, "archive": "sim", "base": base}
        world.enter(process, lambda: node.archive.back_up(body, lambda status, said: None))

        def look() -> None:
            report = node.archive.status(name, ClusterBackup) if process.node is node else None
            if report is not None and report["state"] == "done":
                self._under_way.discard(name)
                self.done.append(name)
                world.count("backup done")
                return judge(decode_manifest(self.objects[manifest_name(name)]))
            if report is not None and report["state"] == "running":
                return world.later(LOOK_S, look)
            others = [p for p in world.processes if _asked(p)]
            if not others:
                return world.later(LOOK_S, look)
            world.count("backup asked of another node")
            return self._lead(world.rng.choice(others), name, base, judge)

        world.later(LOOK_S, look)

    def restore(self, process: Process) -> None:
        """The last backup is merged into the ring, which has moved on."""
        node = process.node
        if not _asked(process) or not self.done or node is None:
            return
        self._count += 1
        body = {"id": f"r{self._count}", "backup": self.done[-1], "archive": "sim"}
        self.world.count("restore begun")
        for key in sorted({key for key, _ in self.world.written}):
            self.world.events.append(Restored(key))
        self.world.enter(process, lambda: node.archive.restore(body, lambda status, said: None))

    def forget(self) -> None:
        """The oldest backup is deleted, in the order in which that must be done."""
        bases = {f"{name}" for name in self.done[-1:]} if self._under_way else set()
        if len(self.done) < 2 or self.done[0] in bases:
            return
        gone = self.done.pop(0)
        del self.objects[manifest_name(gone)]
        self.objects.pop(progress_name(gone), None)
        if self._under_way:
            return  # parts go another time
        kept = [decode_manifest(self.objects[manifest_name(name)]) for name in self.done]
        names = [name for name in self.objects if name.startswith(PARTS)]
        for name in unneeded(names, kept, []):
            del self.objects[name]
        self.world.count("backup deleted")
        self._all_there(kept)

    def _all_there(self, kept: list[Manifest]) -> None:
        for manifest in kept:
            for part in manifest.parts():
                if part.name not in self.objects:
                    detail = f"{part.name} is gone, and {manifest.id} refers to it"
                    self.world.events.append(Trouble("S-BAK-1", detail))

    # ------------------------------------------------------------ the judge

    def _judge(
        self, name: str, acked: dict[int, bytes], held: dict[int, set[tuple[str, int]]],
        manifest: Manifest,
    ) -> None:  # fmt: skip
        """S-BAK-1: each write that was acknowledged before the start is in it."""
        world = self.world
        histories: dict[bytes, list[History]] = {}
        for part in manifest.parts():
            for stored, record in decode_rows(self.objects[part.name]):
                histories.setdefault(stored, []).append(decode_record(record).history)
        missed = set(manifest.missed())
        # With an older disk what is known of its burials has gone as well.
        put_back = {p.name for p in world.processes if p.disk.put_back}
        if missed:
            world.count("backup while a node was down")
        if any(piece.backup for some in manifest.pieces.values() for piece in some):
            world.count("backup that refers to another")
        if any(manifest.hints.values()):
            world.count("backup with hints")
        members = {
            (line["name"], int(line["id"], 16))
            for line in manifest.ring["members"]
            if line["state"] != LEFT
        }
        for value, key in acked.items():
            dots = world.dots_of.get(value, [])
            stored = store_key(key)
            if any(h.covers_dot(dot) for h in histories.get(stored, ()) for dot in dots):
                continue
            holders = {
                holder
                for holder, node_id in held[value] & members
                if holder not in missed | put_back and not world.lost_with(holder, value)
            }
            if holders and dots and not self._buried(stored, dots):
                detail = f"{name} lacks v{value} of {key!r}, which {sorted(holders)} had"
                world.events.append(Trouble("S-BAK-1", detail))

    def _buried(self, stored: bytes, dots: list[tuple[int, int]]) -> bool:
        """Whether it was forgotten by proof meanwhile."""
        rows = [row for p in self.world.processes for row in p.disk.buried.get(stored, ())]
        return any(decode_record(row).history.covers_dot(dot) for row in rows for dot in dots)


def _asked(process: Process) -> bool:
    """Whether an administrator can ask this node."""
    return process.node is not None and not process.paused and process.node.member
