"""The messages of a frame: which part of the node answers each, and which are refused.

A message that makes no sense is refused before it is handled (S-IN-2). Requests of members go to
the local copy, the moves or the administration. Replies go to the machine that asked. All other
messages go to the membership.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.intake import CHECKS, fault
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.messages import Store as StoreRequest
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.registry import ANSWER_OF, MEMBERSHIP_REPLIES, REPLIES
from dynamo_core.protocol.ring_messages import Admitted, Entries
from dynamo_core.runtime.traced import Say

if TYPE_CHECKING:
    from dynamo_core.node import Node

Reply = Callable[[Message], None]
Replying = Callable[[Any, Reply], None]
Routed = Callable[[str, Any], None]


class Inbox:
    """The incoming messages of one node. `replying` has the calls that a part of the node answers
    through a reply, also when this node calls itself. `routed` has the messages for parts that must
    know which node sent them."""

    def __init__(
        self, node: Node, replying: dict[type, Replying], routed: dict[type, Routed]
    ) -> None:
        self.node = node
        self.replying = replying
        self.routed = routed

    def take(self, frame: Frame) -> None:
        """Handle the messages of a frame in order; neighbours of one kind together."""
        node = self.node
        detector, local = node.detector, node.local
        route = node.outbox.route_of(frame)
        known = route == frame.name or node.ring_or_none is None
        fresh = detector.heard(frame, frame.name if known else "@" + frame.address) and known
        if detector.returned:
            returned, detector.returned = detector.returned, []
            for name, same_life in returned:
                node.dispatcher.send_again(name, same_life)
        member = fresh and node.member
        send: Say = partial(node.outbox.send, route)
        if node.spans is not None:
            send = node.spans.serving(frame.name, frame.messages, send)
        corrupt = partial(node.sent_corrupt, route)
        for kind, run in groupby(frame.messages, type):
            if kind in CHECKS:
                run = self._sensible(frame, route, kind, run)
            if kind in REPLIES:
                if fresh or kind in MEMBERSHIP_REPLIES:
                    self._replies(frame, run)
            elif member and kind is StoreRequest:
                local.stores(cast(Iterator[StoreRequest], run), send, corrupt)
            elif member and kind in local.kinds:
                for message in run:
                    local.answer(message, send)
            else:
                for message in run:
                    self._other(frame, route, fresh, message)
                member = fresh and node.member

    def _sensible(
        self, frame: Frame, route: str, kind: type, run: Iterator[Message]
    ) -> Iterator[Any]:
        """The messages that make sense. Of a Store only its target is checked here, and most have
        none. Its key and record are verified together later (T-1)."""
        if kind is not StoreRequest:
            return self._sifted(frame, route, run)
        stores = cast(list[StoreRequest], list(run))
        if any(request.target for request in stores):
            return self._sifted(frame, route, stores)
        return iter(stores)

    def _sifted(self, frame: Frame, route: str, run: Iterable[Message]) -> Iterator[Message]:
        """The messages that make sense. Each is checked when its turn comes. A call that makes no
        sense gets a refusal."""
        for message in run:
            why = fault(message, self.node)
            if not why:
                yield message
                continue
            self.node.refuse(frame.name, message, why)
            if route and type(message) in ANSWER_OF:
                self.node.send(route, Refused(message.id, Refusal.SENSELESS))

    def _replies(self, frame: Frame, replies: Iterable[Message]) -> None:
        for reply in self.node.dispatcher.answered(frame, replies):
            if isinstance(reply, Admitted) and reply.id == 0:
                self.node.membership.admitted(frame, reply)

    def _other(self, frame: Frame, route: str, fresh: bool, message: Message) -> None:
        if self.node.membership.answers(message):
            self.node.membership.answer(frame, route, message)
        elif fresh and self.node.member:
            self._request(route, message)
        elif self.node.outbox.is_offer(frame, message):
            self._request("@" + frame.address, message)
        else:
            self.node.counters["frames_refused"] += 1
            if route == frame.name:
                self.node.membership.gossip_to(route)

    def learn(self, name: str, refusal: Refused) -> None:
        """S-RING-4: a peer refused a call. If its entry of the partition is newer, this node takes
        it; if it is older, this node sends its own entry to the peer."""
        ring, partition = self.node.ring, refusal.partition
        if refusal.reason is Refusal.STALE:
            self.node.quarantine.heard(name, partition, refusal.seen, refusal.floor)
        if refusal.entry is None:
            return
        mine, theirs = ring.entries[partition], refusal.entry
        # No node takes an entry from an id that is gone: an entry that only it has does not count
        # (S-MOVE-4).
        behind = mine != theirs and (self.node.membership.gone or mine.later(theirs) is not mine)
        if behind and not ring.knows(theirs):
            self.node.membership.gossip_to(name)
        elif behind:
            self.node.membership.take(ring.with_entries({partition: theirs}))
        elif mine != theirs:
            self.node.send(name, Entries(0, [(partition, mine)]))

    def _request(self, route: str, message: Message) -> None:
        node, kind = self.node, type(message)
        if isinstance(message, StoreRequest):
            corrupt = partial(node.sent_corrupt, route)
            node.local.stores((message,), partial(node.send, route), corrupt)
        elif node.local.answers(message):
            node.local.answer(message, partial(node.send, route))
        elif kind in self.replying:
            self.replying[kind](message, partial(node.send, route))
        elif kind in self.routed:
            self.routed[kind](route, message)
