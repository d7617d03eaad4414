"""What a frame says, message by message: who is to answer it, and what is not believed.

A message that makes no sense is not begun (S-IN-2). Requests of members go to the local copy, the
moves, the administration; replies to the machine that asked; the rest is the ring's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from dynamo_core.answers import ANSWER_OF
from dynamo_core.frames import MEMBERSHIP_REPLIES, REPLIES, AnyMessage, Frame
from dynamo_core.intake import CHECKS, fault
from dynamo_core.messages import Forward, Message, Order, Refused
from dynamo_core.messages import Store as StoreRequest
from dynamo_core.move_messages import Promise, Settle, Still
from dynamo_core.ring_messages import Admitted, Announce, Entries
from dynamo_core.round_messages import Numbers, NumbersTold

if TYPE_CHECKING:
    from dynamo_core.node import Node


class Reception:
    """The incoming messages of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def take(self, frame: Frame) -> None:
        """Messages in their order; those of one kind together."""
        node = self.node
        detector, local = node.detector, node.local
        route = node.post.route_of(frame)
        known = route == frame.name or node.ring_or_none is None
        fresh = detector.heard(frame, frame.name if known else "@" + frame.address) and known
        if detector.returned:
            returned, detector.returned = detector.returned, []
            for name, same_life in returned:
                node.calls.say_again(name, same_life)
        member = fresh and node.member
        say = partial(node.post.say, route)
        corrupt = partial(node.sent_corrupt, route)
        for kind, run in groupby(frame.messages, type):
            if kind in CHECKS:
                run = self._sensible(frame, route, kind, run)
            if kind in REPLIES:
                if fresh or kind in MEMBERSHIP_REPLIES:
                    self._replies(frame, run)
            elif member and kind is StoreRequest:
                local.stores(cast(Iterator[StoreRequest], run), say, corrupt)
            elif member and kind in local.kinds:
                for message in run:
                    local.answer(message, say)
            else:
                for message in run:
                    self._other(frame, route, fresh, message)
                member = fresh and node.member

    def _sensible(
        self, frame: Frame, route: str, kind: type, run: Iterator[AnyMessage]
    ) -> Iterator[Any]:
        """Those that make sense. Of a Store only a target is to be looked at, and most have none:
        its key and record are proven together (T-1)."""
        if kind is not StoreRequest:
            return self._sifted(frame, route, run)
        stores = cast(list[StoreRequest], list(run))
        if any(request.target for request in stores):
            return self._sifted(frame, route, stores)
        return iter(stores)

    def _sifted(self, frame: Frame, route: str, run: Iterable[Message]) -> Iterator[Message]:
        """Those that make sense, each looked at when its turn comes; a call is told that it does
        not."""
        for message in run:
            why = fault(message, self.node)
            if not why:
                yield message
                continue
            self.node.refuse(frame.name, message, why)
            if route and type(message) in ANSWER_OF:
                self.node.say(route, Refused(message.id, "senseless"))

    def _replies(self, frame: Frame, replies: Iterable[Message]) -> None:
        for reply in self.node.calls.answered(frame, replies):
            if isinstance(reply, Admitted) and reply.id == 0:
                self.node.membership.admitted(frame, reply)

    def _other(self, frame: Frame, route: str, fresh: bool, message: Message) -> None:
        if self.node.membership.answers(message):
            self.node.membership.answer(frame, route, message)
        elif fresh and self.node.member:
            self._request(route, message)
        elif self.node.post.is_offer(frame, message):
            self._request("@" + frame.address, message)
        else:
            self.node.counters["frames_refused"] += 1
            if route == frame.name:
                self.node.membership.gossip_to(route)

    def learn(self, name: str, refusal: Refused) -> None:
        """S-RING-4: a peer refused. Whoever has the older entry of the partition takes the newer
        one first."""
        ring, partition = self.node.ring, refusal.partition
        if refusal.reason == "stale":
            self.node.apart.heard(name, partition, refusal.seen, refusal.floor)
        if refusal.entry is None:
            return
        mine, theirs = ring.entries[partition], refusal.entry
        # Nobody takes an entry from an id that is gone: what it alone has never was (S-MOVE-4).
        behind = mine != theirs and (self.node.membership.gone or mine.later(theirs) is not mine)
        if behind and not ring.knows(theirs):
            self.node.membership.gossip_to(name)
        elif behind:
            self.node.membership.take(ring.with_entries({partition: theirs}))
        elif mine != theirs:
            self.node.say(name, Entries(0, [(partition, mine)]))

    def _request(self, route: str, message: Message) -> None:
        if isinstance(message, StoreRequest):
            corrupt = partial(self.node.sent_corrupt, route)
            self.node.local.stores((message,), partial(self.node.say, route), corrupt)
        elif self.node.local.answers(message):
            self.node.local.answer(message, partial(self.node.say, route))
        elif isinstance(message, Forward):
            self.node.clients.forwarded(route, message)
        elif isinstance(message, Order):
            self.node.admin.order(message, partial(self.node.say, route))
        elif isinstance(message, Announce):
            self.node.admin.planner.announced(route, message, partial(self.node.say, route))
        elif isinstance(message, Promise):
            self.node.promises.promise(message, partial(self.node.say, route))
        elif isinstance(message, Still):
            self.node.moves.still(message, partial(self.node.say, route))
        elif isinstance(message, Settle):
            self.node.settling.settle(message, partial(self.node.say, route))
        elif isinstance(message, Numbers):
            self.node.apart.asked(route, message)
        elif isinstance(message, NumbersTold):
            self.node.apart.told(route, message)
