"""How a ring begins, and how a lost node comes back under its name (S-RING-5, S-MEM-4).

Founding is one explicit command. The node with the command asks every founder first. A founder must
have an empty disk, and reserves itself for this cluster. Then each founder takes the whole document
and its complete marks in one batch. Admission: a node with an empty disk asks for its name's place.
A member that knows the name with another id asks all others whether one of them still hears the old
id. Only if none does, it writes the next incarnation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from dynamo_core.bounds import PARTITIONS_MAX
from dynamo_core.errors import BadRequest
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason
from dynamo_core.protocol.ring_messages import FirstRing, Founded, Prepare, Prepared, Reach, Reached
from dynamo_core.ring.change_request import parse_members
from dynamo_core.ring.document import (
    LEFT,
    MEMBER,
    PARTITIONS_MIN,
    Identity,
    Member,
    Ring,
    RingTarget,
)
from dynamo_core.ring.placement import first_ring
from dynamo_core.runtime.machine import Effects, Machine, View

CREATE_S = 10.0
LINK_S = 2.5
"""A founder that has just started may refuse its link for this time."""
ASK_AGAIN_S = 1.0
"""Frames may be lost, so the node asks again after this time; both questions may come twice."""
REACH_S = 1.5
STANDS = "it has this ring already; its members learn of it by gossip, ask again"
"""A founder that has lost its disk meanwhile must not be founded again: that would make its empty
copies complete."""
Verdict = Callable[[int, str, str], None]
"""Called with (status, problem slug, detail); 201 when the ring stands."""


class Founding(Machine):
    """One create command, run by the node that got it."""

    def __init__(
        self,
        view: View,
        identity: Identity,
        members: list[Member],
        ring_target: RingTarget,
        done: Verdict,
    ) -> None:
        super().__init__()
        self.view = view
        self.identity = identity
        self.members = {m.name: m for m in members}
        self.target = ring_target
        self.ring: Ring | None = None
        self._done = done
        self._prepared: dict[str, Prepared] = {}
        self._founded: set[str] = set()
        self._outdated = False

    def give_way(self, later: Founding) -> None:
        """A later command to this node names other members or addresses. Both commands would dial a
        name at the later address, so this one stops asking. Nodes that it has founded stay so."""
        self._outdated = self.members != later.members

    def start(self, now: float) -> Effects:
        self._until = now + CREATE_S
        return self._ask(now)

    def _ask(self, now: float) -> Effects:
        """Ask the founders that have not answered yet."""
        self.wake_at = min(now + ASK_AGAIN_S, self._until)
        if self.ring is None:
            cluster_id = self.identity.cluster_id
            silent = self._silent(self._prepared)
            return [(n, Prepare(0, cluster_id, n, self.members[n].address)) for n in silent]
        parts = self.ring.parts_differing(())
        return [(name, FirstRing(0, parts)) for name in self._silent(self._founded)]

    def _silent(self, heard: Collection[str]) -> list[str]:
        return [name for name in self.members if name not in heard]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, Prepared):
            if self.ring is not None:
                return []  # the second answer to a repeated question
            if self._outdated:
                return self._give_way()
            if reply.refusal == STANDS:
                return self._end(503, "insufficient-owners", f"members: {node}: {STANDS}")
            if reply.refusal:
                return self._end(409, "wrong-cluster", f"members: {node}: {reply.refusal}")
            self._prepared[node] = reply
            return self._make_ring(now) if len(self._prepared) == len(self.members) else []
        assert isinstance(reply, Founded)
        if reply.refusal:
            return self._end(409, "wrong-cluster", f"members: {node}: {reply.refusal}")
        self._founded.add(node)
        if len(self._founded) == len(self.members):
            return self._end(201, "", "")
        return []

    def _make_ring(self, now: float) -> Effects:
        lines = [
            Member(
                m.name,
                1,
                self._prepared[m.name].node_id,
                m.address,
                self._prepared[m.name].client,
                m.zone,
                m.weight,
                MEMBER,
                0,
            )
            for m in self.members.values()
        ]
        self.ring = first_ring(self.identity, {m.name: m for m in lines}, self.target)
        return self._ask(now)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        if now < self._until - CREATE_S + LINK_S:
            return []  # perhaps a call from before the node listened has failed; it is asked again
        return self._end(503, "insufficient-owners", f"members: {node} does not answer ({reason})")

    def expired(self, now: float) -> Effects:
        if self._outdated and self.ring is None:
            return self._give_way()
        if now < self._until:
            return self._ask(now)
        silent = ", ".join(sorted(self._silent(self._founded if self.ring else self._prepared)))
        return self._end(503, "insufficient-owners", f"members: no answer from {silent}")

    def _give_way(self) -> Effects:
        detail = "members: a later command to this node names other members or addresses"
        return self._end(503, "insufficient-owners", detail)

    def _end(self, status: int, problem: str, detail: str) -> Effects:
        self.finished = True
        self._done(status, problem, detail)
        return []


class Admission(Machine):
    """Asks every other member whether it still hears the old life of a name."""

    def __init__(self, view: View, line: Member, done: Callable[[bool], None]) -> None:
        super().__init__()
        self.view = view
        self.line = line
        self._done = done
        self._waiting: set[str] = set()

    def start(self, now: float) -> Effects:
        self.wake_at = now + REACH_S
        if self.view.up(self.line.name):
            return self._end(False)
        names = [
            n for n in self.view.ring.live_names() if n not in (self.view.name, self.line.name)
        ]
        self._waiting = {n for n in names if self.view.up(n)}
        if not self._waiting:
            return self._end(True)
        return [(n, Reach(0, self.line.name, self.line.id)) for n in sorted(self._waiting)]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Reached)
        if reply.up:
            return self._end(False)
        return self._gone(node)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        return self._gone(node)

    def _gone(self, node: str) -> Effects:
        self._waiting.discard(node)
        return [] if self._waiting else self._end(True)

    def expired(self, now: float) -> Effects:
        return self._end(False)  # a silent member may hear the old life: wait for the next knock

    def _end(self, gone: bool) -> Effects:
        self.finished = True
        self._done(gone)
        return []


def next_life(line: Member, node_id: int, address: str, client: str) -> Member:
    """The name's next incarnation: entries stay as they are (S-MEM-4)."""
    return Member(
        line.name, line.incarnation + 1, node_id, address, client, line.zone, line.weight, MEMBER, 0
    )


def parse_creation(
    body: dict[str, Any], cluster_id: str
) -> tuple[Identity, list[Member], RingTarget]:
    """The create command of docs/http-api.md. Raises BadRequest naming the field."""
    members = parse_members("members", body.get("members", []))
    partitions, n = body.get("partitions", 256), body.get("n", 3)
    r, w = body.get("r", min(2, n)), body.get("w", min(2, n))
    dw = body.get("dw", min(1, w))
    conflicts = body.get("conflicts", "Siblings")
    if not PARTITIONS_MIN <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise BadRequest(f"partitions: a power of two, {PARTITIONS_MIN} to {PARTITIONS_MAX}")
    if not 1 <= n <= len(members):
        raise BadRequest(f"n: 1 to the number of members, {len(members)}")
    for field, value, name, most in (("r", r, "n", n), ("w", w, "n", n), ("dw", dw, "w", w)):
        if not 1 <= value <= most:
            raise BadRequest(f"{field}: 1 to {name}={most}")
    if conflicts not in ("Siblings", "LastWriteWins"):
        raise BadRequest("conflicts: Siblings or LastWriteWins")
    ring_target = RingTarget(0, (), r, w, dw, body.get("sloppy", True))
    return Identity(cluster_id, partitions, n, conflicts), members, ring_target


def is_candidate(ring: Ring, name: str, node_id: int) -> str:
    """The reason why the id may not take the name's place, "" if it may (S-MEM-3, S-MEM-4)."""
    line = ring.members.get(name)
    if line is None:
        return "not-a-member: no member of the ring has that name"
    if line.state == LEFT:
        return "not-a-member: the member of that name has left"
    return ""
