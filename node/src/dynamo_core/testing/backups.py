"""Administrators of a simulated ring who back up and restore, and an archive that fails them. When
they do so: `backup_mixes`.

When a backup is done, the judge compares it with the writes that were acknowledged before it began.
It must have each of them, unless every disk that held the write then was down, lost it, or handed
it to a disk that lost it before the backup saved it (S-BAK-1). After a restore every claim of the
checker must still hold: nothing newer is lost, no dot is minted twice (S-BAK-2, S-BAK-3). The
administrator asks another node when the asked node stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Protocol

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
from dynamo_core.causality.codec import decode_record, merge_bytes
from dynamo_core.causality.records import History
from dynamo_core.keys import DATA, PREFIX_BYTES, partition_of, store_key
from dynamo_core.node import Node
from dynamo_core.protocol.backup_messages import PARTS, key_hash
from dynamo_core.protocol.messages import Message
from dynamo_core.ring.document import LEFT
from dynamo_core.testing.archives import Objects
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.history import OK, Attempt, Restored, Trouble
from dynamo_core.testing.plan import Plan
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

FAILS = 0.15
"""In half of the histories this share of the calls of the archive fails."""
LATE = 0.1
LOOK_S = 0.4
Forgotten = dict[bytes, list[tuple[str, History]]]


class Witness(Surroundings, Protocol):
    """A world that knows which disk holds which put."""

    plan: Plan
    dots_of: dict[int, list[tuple[int, int]]]
    written: list[tuple[bytes, int]]

    def holds(self, disk: Disk, key: bytes, value: int) -> bool:
        """Whether a disk holds a put, or a successor of the put."""

    def lost_with(self, name: str, value: int) -> bool:
        """Whether a disk of that node lost the put."""


class Backups:
    """The archive of one world, and the administrators who back up and restore."""

    def __init__(self, world: Witness) -> None:
        self.world = world
        self.objects = Objects()
        self._fails = Random(f"{world.plan.seed} archive").choice((0.0, FAILS))
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
        """The archive answers later. A request that fails may have been done all the same."""
        world, rng = self.world, self.world.rng
        fails = rng.random() < self._fails and not world.healed
        answer: Message = ArchiveFailed(0, "the archive says no")
        if not fails or rng.random() < 0.5:
            done = self.objects.answer(request, process.disk)
            answer = answer if fails else done
        if fails:
            world.count("the archive failed")

        def answered() -> None:
            if process.node is node:
                node.later(partial(reply, answer))

        late = rng.uniform(0.5, 2.0) if rng.random() < LATE else 0.0
        world.later(late + rng.uniform(0.001, 0.02), lambda: world.enter(process, answered))

    # ------------------------------------------------------------ administrators

    def back_up(self, process: Process) -> None:
        """Begin a backup. It must have every write that is acknowledged by now."""
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
        if any(p.older for p in world.processes):
            world.count("backup in a ring of two versions")
        world.count("backup begun")
        self._under_way.add(name)
        judge = partial(self._judge, name, acked, held, self._forgotten(), self._rotten())
        self._lead(process, name, self.done[-1] if self.done else "", judge)

    def _lead(
        self, process: Process, name: str, base: str, judge: Callable[[Manifest], None]
    ) -> None:
        """Asks this node and polls it. If the node stops, asks another one."""
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
        """Merge the last backup into the ring, which has changed since."""
        node = process.node
        if not _asked(process) or not self.done or node is None:
            return
        self._count += 1
        body = {"id": f"r{self._count}", "backup": self.done[-1], "archive": "sim"}
        self.world.count("restore begun")
        for key, values in sorted(self._values_in(self.done[-1]).items()):
            self.world.events.append(Restored(key, sorted(values)))
        self.world.enter(process, lambda: node.archive.restore(body, lambda status, said: None))

    def _values_in(self, name: str) -> dict[bytes, set[bytes]]:
        """What a backup has of each key."""
        found: dict[bytes, set[bytes]] = {}
        for stored, record in self._whole(name).items():
            values = (sibling.value for sibling in decode_record(record).siblings)
            found[stored[PREFIX_BYTES:]] = {value for value in values if value}
        return found

    def _whole(self, name: str) -> dict[bytes, bytes]:
        """All that a backup has of each key, merged."""
        manifest = decode_manifest(self.objects[manifest_name(name)])
        lww = manifest.ring.get("conflicts") == "LastWriteWins"
        whole: dict[bytes, bytes] = {}
        for stored, record in self._rows(manifest):
            whole[stored] = merge_bytes(stored[PREFIX_BYTES:], whole.get(stored), record, lww)
        return whole

    def _rows(self, manifest: Manifest) -> Iterator[tuple[bytes, bytes]]:
        """What a restore merges."""
        without, bits = manifest.forgotten(), len(manifest.pieces).bit_length() - 1
        for part in manifest.parts():
            if part.name not in self.objects:
                continue  # `_all_there` has told it
            for stored, record in decode_rows(self.objects[part.name]):
                if partition_of(stored, bits) not in without.get(part.name, ()):
                    yield stored, record
                else:
                    self.world.count("backup with hints from before a round")

    def forget(self) -> None:
        """Delete the oldest backup: first its manifest, then the parts that no other refers to."""
        bases = {f"{name}" for name in self.done[-1:]} if self._under_way else set()
        if len(self.done) < 2 or self.done[0] in bases:
            return
        gone = self.done.pop(0)
        del self.objects[manifest_name(gone)]
        self.objects.pop(progress_name(gone), None)
        if self._under_way:
            return  # a later call deletes the parts
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
        forgotten: Forgotten, rotten: set[bytes], manifest: Manifest,
    ) -> None:  # fmt: skip
        """S-BAK-1: the backup has each write that was acknowledged before its start."""
        world = self.world
        histories: dict[bytes, list[History]] = {}
        for stored, record in self._rows(manifest):
            histories.setdefault(stored, []).append(decode_record(record).history)
        whole = self._whole(name)
        self._nothing_back(manifest, forgotten, whole)
        self._damage_told(manifest, rotten - whole.keys())
        missed = set(manifest.missed())
        # A disk that was put back has lost its record of what it forgot, too.
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
        excused = missed | put_back
        told = {key for _, key in manifest.damaged()}
        for value, key in acked.items():
            dots = world.dots_of.get(value, [])
            stored = store_key(key)
            if any(h.covers_dot(dot) for h in histories.get(stored, ()) for dot in dots):
                continue
            if missed and key_hash(stored) in told:
                world.count("backup tells a damaged key while a node was down")
                continue  # a later hint of its owner may still have it; with all up, passes do
            holders = {
                holder
                for holder, node_id in held[value] & members
                if holder not in excused and not self._lost(holder, key, value)
            }
            if holders and dots and not self._buried(stored, dots):
                detail = f"{name} lacks v{value} of {key!r}, which {sorted(holders)} had"
                world.events.append(Trouble("S-BAK-1", detail))

    def _forgotten(self) -> Forgotten:
        """By key, what each node has forgotten by proof until now."""
        found: Forgotten = {}
        for process in self.world.processes:
            for stored, rows in process.disk.buried.items():
                known = [(process.name, decode_record(row).history) for row in rows]
                found.setdefault(stored, []).extend(known)
        for event in self.world.events:
            if isinstance(event, Restored):  # an administrator wants it back
                found.pop(store_key(event.key), None)
        return found

    def _rotten(self) -> set[bytes]:
        """Keys of which every owner has a damaged record, and no disk another one."""
        world = self.world
        ring = next(p.node.ring for p in world.processes if p.node is not None and p.node.member)
        disks = {p.name: p.disk for p in world.processes}
        found = set()
        for stored in {store_key(key) for key in world.plan.keys}:
            owners = ring.entries[partition_of(stored, ring.partition_bits)].owners
            damaged = all((DATA, stored) in disks[name].corrupt for name in owners)
            if damaged and not any(disk.records(stored) for disk in disks.values()):
                found.add(stored)
        return found

    def _damage_told(self, manifest: Manifest, lacking: set[bytes]) -> None:
        """S-DISK-7: a backup of a ring whose owners are all up tells what it lacks."""
        told = {key for _, key in manifest.damaged()}
        for stored in lacking:
            self.world.count("backup without a damaged key")
            if not manifest.missed() and key_hash(stored) not in told:
                detail = f"{manifest.id} does not tell that {stored[PREFIX_BYTES:]!r} was damaged"
                self.world.events.append(Trouble("S-DISK-7", detail))

    def _nothing_back(
        self, manifest: Manifest, forgotten: Forgotten, whole: dict[bytes, bytes]
    ) -> None:
        """A copy of the partition is of a node that had forgotten the deletion of the key before
        the start: then the backup has no deleted value of it."""
        bits = len(manifest.pieces).bit_length() - 1
        for stored, record in whole.items():
            saved = {piece.node for piece in manifest.pieces[partition_of(stored, bits)]}
            for sibling in decode_record(record).siblings:
                dot = (sibling.actor, sibling.counter)
                known = [n for n, history in forgotten.get(stored, ()) if history.covers_dot(dot)]
                if sibling.value is None or sibling.expires_ms or saved.isdisjoint(known):
                    continue
                key = stored[PREFIX_BYTES:]
                detail = f"{manifest.id} brings back {sibling.value!r} of {key!r}, deleted before"
                self.world.events.append(Trouble("S-BAK-1", detail))

    def _lost(self, holder: str, key: bytes, value: int) -> bool:
        """Whether this node's disk lost the put, or the disk to which this node handed it on."""
        if self.world.lost_with(holder, value):
            return True
        handed_on = not any(
            p.name == holder and self.world.holds(p.disk, key, value) for p in self.world.processes
        )
        return handed_on and any(self.world.lost_with(p.name, value) for p in self.world.processes)

    def _buried(self, stored: bytes, dots: list[tuple[int, int]]) -> bool:
        """Whether the owners forgot the write by proof meanwhile."""
        rows = [row for p in self.world.processes for row in p.disk.buried.get(stored, ())]
        return any(decode_record(row).history.covers_dot(dot) for row in rows for dot in dots)


def _asked(process: Process) -> bool:
    """Whether an administrator can ask this node."""
    node = process.node
    return node is not None and not process.paused and not process.older and node.member
