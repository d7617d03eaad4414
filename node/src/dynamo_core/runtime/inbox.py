"""The messages of a frame: which part of the node answers each, and which are refused.

A message that makes no sense is refused before it is handled (S-IN-2). Requests of members go to
the local copy, the moves or the administration. Replies go to the machine that asked. All other
messages go to the membership.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, Protocol, cast

from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.intake import CHECKS, fault
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.messages import Store as StoreRequest
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.registry import ANSWER_OF, MEMBERSHIP_REPLIES, REPLIES
from dynamo_core.protocol.ring_messages import Admitted
from dynamo_core.protocol.route import At, Route
from dynamo_core.runtime.dispatcher import Dispatcher
from dynamo_core.runtime.failure_detector import FailureDetector
from dynamo_core.runtime.host import Copy, Reply, Traced
from dynamo_core.runtime.outbox import Outbox
from dynamo_core.runtime.traced import Say

Replying = Callable[[Any, Reply], None]
Routed = Callable[[Route, Any], None]


class RingTalk(Protocol):
    """What takes the messages about the ring."""

    def answers(self, message: Message) -> bool:
        """Whether the message is about membership."""

    def answer(self, frame: Frame, route: Route, message: Message) -> None:
        """Serve one such message."""

    def admitted(self, frame: Frame, message: Admitted) -> None:
        """The answer to a knock."""

    def greet(self, route: Route) -> None:
        """A node has not heard this process yet."""


class Inbox:
    """The incoming messages of one node. `replying` has the calls that a part of the node answers
    through a reply, also when this node calls itself. `routed` has the messages for parts that must
    know which node sent them."""

    def __init__(
        self,
        node: Traced,
        detector: FailureDetector,
        outbox: Outbox,
        dispatcher: Dispatcher,
        *,
        copy: Copy,
        membership: RingTalk,
        replying: dict[type, Replying],
        routed: dict[type, Routed],
    ) -> None:
        self.node = node
        self.detector = detector
        self.outbox = outbox
        self.dispatcher = dispatcher
        self.copy = copy
        self.membership = membership
        self.replying = replying
        self.routed = routed

    def take(self, frame: Frame) -> None:
        """Handle the messages of a frame in order; neighbours of one kind together."""
        node = self.node
        detector, local = self.detector, self.copy
        route = self.outbox.route_of(frame)
        known = route == frame.name or node.ring_or_none is None
        fresh = detector.heard(frame, frame.name if known else At(frame.address)) and known
        if detector.returned:
            for name, same_life in detector.take_returned():
                self.dispatcher.send_again(name, same_life)
        member = fresh and node.member
        send: Say = partial(self.outbox.send, route)
        if node.spans is not None:
            send = node.spans.serving(frame.name, frame.messages, send)
        messages = frame.messages
        runs = ((type(messages[0]), messages),) if len(messages) == 1 else groupby(messages, type)
        for kind, run in runs:
            if kind is StoreRequest:
                run = self._sensible(frame, route, run)
            elif kind in CHECKS and (run is not messages or fault(messages[0], node)):
                run = self._sifted(frame, route, run)
            if kind in REPLIES:
                if fresh or kind in MEMBERSHIP_REPLIES:
                    self._replies(frame, run)
            elif member and kind is StoreRequest:
                corrupt = partial(node.sent_corrupt, route)
                local.stores(cast(Iterator[StoreRequest], run), send, corrupt)
            elif member and kind in local.kinds:
                for message in run:
                    local.answer(message, send)
            else:
                for message in run:
                    self._other(frame, route, fresh, message)
                member = fresh and node.member

    def _sensible(self, frame: Frame, route: Route, run: Iterable[Message]) -> Iterator[Any]:
        """The Stores that make sense. Of a Store only its target is checked here, and most have
        none. Its key and record are verified together later (T-1)."""
        stores = cast(list[StoreRequest], list(run))
        if any(request.target for request in stores):
            return self._sifted(frame, route, stores)
        return iter(stores)

    def _sifted(self, frame: Frame, route: Route, run: Iterable[Message]) -> Iterator[Message]:
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
        for reply in self.dispatcher.answered(frame, replies):
            if isinstance(reply, Admitted) and reply.id == 0:
                self.membership.admitted(frame, reply)

    def _other(self, frame: Frame, route: Route, fresh: bool, message: Message) -> None:
        if self.membership.answers(message):
            self.membership.answer(frame, route, message)
        elif fresh and self.node.member:
            self._request(route, message)
        elif self.outbox.is_offer(frame, message):
            self._request(At(frame.address), message)
        else:
            self.node.counters["frames_refused"] += 1
            if route == frame.name:
                self.membership.greet(route)

    def _request(self, route: Route, message: Message) -> None:
        node, kind = self.node, type(message)
        if isinstance(message, StoreRequest):
            corrupt = partial(node.sent_corrupt, route)
            self.copy.stores((message,), partial(node.send, route), corrupt)
        elif self.copy.answers(message):
            self.copy.answer(message, partial(node.send, route))
        elif kind in self.replying:
            self.replying[kind](message, partial(node.send, route))
        elif kind in self.routed:
            self.routed[kind](route, message)
