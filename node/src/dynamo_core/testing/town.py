"""Start here to add a test: a few real nodes on simulated disks, frames carried by hand.

A test of one rule of the protocol needs five lines:

    town = Town("a b c d")                    # four nodes, N = 3, all of them up
    first, second, third = town.owners(b"k")
    town.kill(third)
    assert town.put(first, b"k", b"v", w=3).acks.hinted == 1
    town.run(5.0)                             # time moves only here

Nothing is random, and no frame is lost unless the test says so (`cut`, `lost`, `stalled`). With
`draw(...)` a town draws the messages that its nodes send.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from dynamo_core.causality.context import Context
from dynamo_core.keys import partition_of, store_key
from dynamo_core.node import Node, NodeIdentity
from dynamo_core.protocol.frames import Frame, decode_frame
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.ring.change_request import parse_change_request
from dynamo_core.ring.document import Identity, Member, Ring, RingTarget
from dynamo_core.ring.placement import first_ring
from dynamo_core.ring.planning import Plan, applied, plan
from dynamo_core.settings import Settings
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.ladder import Ladder
from dynamo_core.testing.message_text import message_text

PARTITIONS = 16
SETTINGS = Settings(
    hedge_s=0.05,
    heartbeat_s=0.5,
    suspect_s=2.0,
    hint_scan_s=0.5,
    exchange_s=0.5,
    confirm_s=0.1,
    call_s=1.0,
    leaf_bits=2,
    delay_samples_per_minute=0,
)


class Town:
    """Nodes by name; a node that is not in `nodes` is down, its disk stays in `disks`."""

    def __init__(
        self,
        names: str,
        n: int = 3,
        founded: bool = True,
        settings: Settings = SETTINGS,
        conflicts: Any = "Siblings",
        members: str = "",
    ) -> None:
        self.now = 100.0
        self.wall_ms = 1_000_000
        self.settings = settings
        self._draw = count(7_000_000_000)
        self._drawn_by: dict[int, str] = {}
        self._actor_names: dict[int, str] = {}
        self.ladder: Ladder | None = None
        self.names = names.split()
        self.disks = {name: Disk(index) for index, name in enumerate(self.names, 1)}
        self.nodes: dict[str, Node] = {}
        self.where = {name + ":1": name for name in self.names}
        """The node at an address."""
        self.cut: set[tuple[str, str]] = set()
        self.stalled: set[str] = set()
        """Nodes whose fsyncs do not end."""
        self.lost: Callable[[str, str, Frame], bool] = lambda sender, receiver, frame: False
        self.frames: list[tuple[str, str, bytes]] = []
        for name in self.names:
            self.start(name)
        if founded:
            founders = members.split() or self.names
            lines = {x: Member(x, 1, self.disks[x].node_id, x + ":1") for x in founders}
            ring_target = RingTarget(r=min(2, n), w=min(2, n))
            ring = first_ring(Identity("town", PARTITIONS, n, conflicts), lines, ring_target)
            for name in founders:
                self.nodes[name].ring_state.take(ring, founding=True)
            self.run(3.0)

    @property
    def ring(self) -> Ring:
        return next(node.ring for node in self.nodes.values() if node.member)

    # ------------------------------------------------------------ processes

    def start(self, name: str, /, trusted: bool = True, **fields: Any) -> Node:
        """`fields` of its identity; a disk under another name than its node's is a copy."""
        disk = self.disks[name]
        seeds = tuple(other + ":1" for other in self.names if other != name)
        usual = NodeIdentity(name, disk.node_id, name + ":1", seeds=seeds)
        identity = msgspec.structs.replace(usual, **fields)
        self.where = {x: other for x, other in self.where.items() if other != name}
        self.where[identity.address] = name
        node = Node(identity, disk, self.settings, lambda: self._drawn(name))
        self.nodes[name] = node
        node.start(self.now, self.wall_ms, trusted)
        self._turn(name)
        return node

    def kill(self, *names: str) -> None:
        for name in names:
            del self.nodes[name]
            for node in self.nodes.values():
                node.link_lost(name)
        self.deliver()

    def wipe(self, name: str) -> None:
        self.disks[name] = Disk(next(self._draw))

    def _drawn(self, name: str) -> int:
        drawn = next(self._draw) << 20
        self._drawn_by[drawn] = name
        return drawn

    # ------------------------------------------------------------ drawing

    def draw(self, ladder: Ladder | None) -> None:
        """Draws every frame from now on in this ladder; None ends it."""
        self.ladder = ladder

    def note(self, text: str) -> None:
        """Adds a line to the ladder that is not a message."""
        if self.ladder is not None:
            self.ladder.note(self.now, text)

    def actor_name(self, actor: int) -> str:
        """The letter of the node with this actor; each later actor of the node has one stroke more:
        a, a', a''."""
        if actor not in self._actor_names:
            name = self._drawn_by.get(actor, f"{actor:x}")
            while name in self._actor_names.values():
                name += "'"
            self._actor_names[actor] = name
        return self._actor_names[actor]

    # ------------------------------------------------------------ turns

    def _turn(self, name: str) -> None:
        node, disk = self.nodes[name], self.disks[name]
        for _ in range(10):
            for address, frame in node.flush():
                self.frames.append((name, self.where.get(address, ""), frame))
            if not (node.writable and node.sync_wanted) or name in self.stalled:
                return
            disk.synced(disk.written)
            node.synced(disk.written)

    def deliver(self) -> None:
        """Carries frames until no node sends any more."""
        for name in list(self.nodes):
            self._turn(name)
        while self.frames:
            sender, receiver, frame = self.frames.pop(0)
            node = self.nodes.get(receiver)
            lost = (
                node is None
                or (sender, receiver) in self.cut
                or self.lost(sender, receiver, decode_frame(frame))
            )
            if self.ladder is not None and receiver:
                self.ladder.frame(self.now, sender, receiver, frame, "lost:" if lost else "")
            if node is None or lost:
                continue
            node.receive(frame)
            self._turn(receiver)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        self.deliver()
        while self.now < end:
            due = min((node.wake_at for node in self.nodes.values()), default=end)
            self.now = min(end, max(due, self.now + 0.001))
            for node in self.nodes.values():
                node.tick(self.now, self.wall_ms)
            self.deliver()

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        end = self.now + seconds
        while not condition():
            assert self.now < end, "it did not come true"
            self.run(0.1)

    # ------------------------------------------------------------ administrators

    def change(self, at: str, operation_id: str = "op", **body: Any) -> Plan:
        """Plan and apply at one node, as its administrator does; `join` takes names."""
        joining = body.pop("join", ())
        body["join"] = [{"name": x, "address": x + ":1"} for x in joining]
        node, wishes = self.nodes[at], parse_change_request(body)
        made = plan(node.ring, wishes)
        ids = {x: (self.disks[x].node_id, "") for x in joining}
        node.ring_state.take(applied(node.ring, made, wishes, ids, operation_id))
        self.deliver()
        return made

    def moved(self) -> bool:
        """Every node has the target ring, and no change is under way."""
        rings = [node.ring for node in self.nodes.values() if node.member]
        return all(
            ring.digests() == rings[0].digests()
            and all(not entry.move and not entry.old for entry in ring.entries)
            and all(
                set(entry.owners) == set(wanted)
                for entry, wanted in zip(ring.entries, ring.target.owners, strict=False)
            )
            for ring in rings
        )

    # ------------------------------------------------------------ clients

    def ask(self, at: str, operation: Operation) -> Outcome:
        answers: list[Outcome] = []
        self.note(f"client -> {at}: {message_text(operation, self.actor_name)}")
        self.nodes[at].submit(operation, answers.append)
        self.deliver()
        self.until(lambda: bool(answers), 5.0)
        assert len(answers) == 1
        self.note(f"client <- {at}: {message_text(answers[0], self.actor_name)}")
        return answers[0]

    def put(self, at: str, key: bytes, value: bytes | None, **fields: Any) -> Outcome:
        return self.ask(at, Put(key=key, value=value, **fields))

    def get(self, at: str, key: bytes, **fields: Any) -> Outcome:
        return self.ask(at, Get(key=key, **fields))

    def values(self, at: str, key: bytes, **fields: Any) -> list[bytes | None]:
        outcome = self.get(at, key, **fields)
        assert outcome.status in (200, 404), outcome
        return [sibling.value for sibling in outcome.values]

    # ------------------------------------------------------------ looking inside

    def owners(self, key: bytes) -> tuple[str, ...]:
        return self.ring.entries[partition_of(store_key(key), self.ring.partition_bits)].owners

    def others(self, key: bytes) -> list[str]:
        """The nodes that do not own the key."""
        return [name for name in self.names if name not in self.owners(key)]

    def counters(self, name: str) -> int:
        return sum(node.counters[name] for node in self.nodes.values())


def known(outcome: Outcome) -> Context:
    """The context of an answer."""
    assert outcome.context is not None
    return msgspec.structs.replace(outcome.context)
