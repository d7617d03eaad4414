"""Operations of clients at the door of a node: taken or refused before any effect (C16)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from dynamo_core.arrivals import outcome_digest, verified_put
from dynamo_core.errors import PeerCorrupt
from dynamo_core.get import GetOperation
from dynamo_core.messages import Forward, Forwarded, Refused
from dynamo_core.operations import Get, Operation, Outcome, Put, settle
from dynamo_core.put import PutOperation

if TYPE_CHECKING:
    from dynamo_core.node import Node

Done = Callable[[Outcome], None]


class Clients:
    """Starts the machine of each operation and counts those under way."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.in_flight = 0

    def refusal(self) -> str:
        """Why no operation is taken now, before any effect; "" when it is."""
        node = self.node
        if not node.member or node.moves.departing or node.whereabouts.yields:
            return "not-a-member"
        if node.draining:
            return "draining"
        return "overloaded" if self.in_flight >= node.settings.in_flight_max else ""

    def submit(self, operation: Operation, done: Done) -> None:
        """A client's operation, settled here; `done` is called exactly once."""
        refusal = self.refusal()
        node = self.node
        if refusal:
            done(Outcome(status=503, problem=refusal, applied="no", node=node.identity.name))
            return
        self.in_flight += 1
        settle(operation, node.ring.target)
        if isinstance(operation, Get):
            node.spawn(GetOperation(node, operation, partial(self._read, node.now, done)))
            return
        done = partial(self._answered, done)
        if operation.value is None and operation.context is None:
            self._delete_what_is_there(operation, done)
        else:
            node.spawn(PutOperation(node, operation, done))

    def forwarded(self, route: str, message: Forward) -> None:
        """A put that another node sent on; it is coordinated here and nowhere else (S-DOT-4). One
        that is not what its client sent is refused before any effect (T-1)."""
        node = self.node

        def done(outcome: Outcome) -> None:
            node.say(route, Forwarded(message.id, outcome, outcome_digest(outcome)))

        try:
            verified_put(message.put, message.digest)
        except PeerCorrupt:
            node.sent_corrupt(route)
            node.say(route, Refused(message.id, "corrupt"))
            return
        refusal = self.refusal()
        if refusal:
            done(Outcome(status=503, problem=refusal, applied="no", node=node.identity.name))
        else:
            self.in_flight += 1
            settle(message.put, node.ring.target)  # an older node forwards it as it got it
            answered = partial(self._answered, done)
            node.spawn(PutOperation(node, message.put, answered, forwarded=True))

    def _read(self, began: float, done: Done, outcome: Outcome) -> None:
        self.node.background.read(self.node.now - began, self.node.now)
        self._answered(done, outcome)

    def _answered(self, done: Done, outcome: Outcome) -> None:
        self.in_flight -= 1
        done(outcome)

    def _delete_what_is_there(self, put: Put, done: Done) -> None:
        """S-DEL-1: without a context the coordinator reads a quorum and uses that context. A strict
        delete reads strictly, or it would leave what a strict put has just written (C9)."""
        node = self.node
        get = Get(key=put.key, strict=put.strict, timeout_s=put.timeout_s)
        settle(get, node.ring.target)
        operation = GetOperation(node, get, None)
        began = node.now

        def read(outcome: Outcome) -> None:
            if outcome.status == 503:
                outcome.applied = "no"
                done(outcome)
            elif outcome.context is None:
                done(Outcome(status=204, node=node.identity.name))
            else:
                left = max(0.0, put.timeout_s - (node.now - began))
                known = msgspec.structs.replace(put, context=outcome.context, timeout_s=left)
                node.spawn(PutOperation(node, known, done, False, operation.merged, operation.seen))

        operation.done = read
        node.spawn(operation)
