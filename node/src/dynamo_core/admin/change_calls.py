"""The calls of a change to other nodes: ask joining nodes for their ids, announce the document.

Each is a machine with a time limit. A change is refused if a joining node does not answer in time.
A member that has not taken the new document in time learns of it by gossip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from dynamo_core.membership.bootstrap import ASK_AGAIN_S, STANDS
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason
from dynamo_core.protocol.ring_messages import Announce, Announced, Prepare, Prepared
from dynamo_core.protocol.route import At
from dynamo_core.ring.document import JOINING, LEFT, Member, RingParts
from dynamo_core.runtime.machine import Effects, Machine, MachineTo, View

JOIN_S = 10.0
ANNOUNCE_S = 2.0


class Joining(MachineTo[At]):
    """Asks joining nodes for their ids. Each must be up and empty, or be joining already."""

    def __init__(
        self,
        view: View,
        members: Collection[Member],
        done: Callable[[dict[str, Prepared], str], None],
    ) -> None:
        """`done` gets all answers and ""; or the reason of a refusal. Without answers, the reason
        is that a node is silent."""
        super().__init__()
        self.view = view
        self.routes = {At(member.address): member.name for member in members}
        """The nodes are asked by address, because another node may be there."""
        self._done = done
        self._heard: dict[str, Prepared] = {}

    def start(self, now: float) -> Effects:
        self._until = now + JOIN_S
        return self._ask(now)

    def _ask(self, now: float) -> Effects:
        if not self.routes:
            return self._end("")
        self.wake_at = min(now + ASK_AGAIN_S, self._until)
        cluster_id = self.view.ring.identity.cluster_id
        return [
            (route, Prepare(0, cluster_id, name, route.address))
            for route, name in sorted(self.routes.items())
            if name not in self._heard
        ]

    def replied(self, node: At, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Prepared)
        name = self.routes[node]
        self._heard[name] = reply
        if reason := self._refusal(name, reply):
            return self._end(f"{name}: {reason}")
        return self._end("") if len(self._heard) == len(self.routes) else []

    def _refusal(self, name: str, reply: Prepared) -> str:
        line = self.view.ring.members.get(name)
        joining = line is not None and line.state == JOINING and line.id == reply.node_id
        if reply.refusal and not (joining and reply.refusal == STANDS):
            return reply.refusal
        if line is not None and line.state == JOINING and not joining:
            return "it has another id than the one that joins under its name"
        if line is not None and line.state == LEFT and line.id == reply.node_id:
            return "it has left under this id; restart it to get a new id"
        return ""

    def failed(self, node: At, request: Message, reason: Reason, now: float) -> Effects:
        return []  # it may be starting: ask again until the time is over

    def expired(self, now: float) -> Effects:
        if now < self._until:
            return self._ask(now)
        silent = ", ".join(name for name in sorted(self.routes.values()) if name not in self._heard)
        self._heard.clear()
        return self._end(f"no answer from {silent}")

    def _end(self, reason: str) -> Effects:
        self.finished = True
        self._done(self._heard, reason)
        return []


class Announcing(Machine):
    """Sends the changed document to every member that is up, and waits until they have it."""

    def __init__(self, view: View, parts: RingParts, done: Callable[[], None]) -> None:
        super().__init__()
        self.view = view
        self.parts = parts
        self._done = done
        self._left: set[str] = set()

    def start(self, now: float) -> Effects:
        self._until = now + ANNOUNCE_S
        names = self.view.ring.live_names()
        self._left = {name for name in names if name != self.view.name and self.view.up(name)}
        return self._ask(now)

    def _ask(self, now: float) -> Effects:
        self.wake_at = min(now + ASK_AGAIN_S, self._until)
        effects: Effects = [(name, Announce(0, self.parts)) for name in sorted(self._left)]
        return effects or self._end()

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Announced)
        return self._gone(node)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        return self._gone(node)

    def _gone(self, node: str) -> Effects:
        self._left.discard(node)
        return [] if self._left else self._end()

    def expired(self, now: float) -> Effects:
        return self._ask(now) if now < self._until else self._end()

    def _end(self) -> Effects:
        self.finished = True
        self._done()
        return []
