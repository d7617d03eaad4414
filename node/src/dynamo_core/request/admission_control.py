"""Whether a node takes or refuses a client's operation; it refuses before any effect (C16)."""

from __future__ import annotations

from typing import Protocol

import msgspec

from dynamo_core.errors import PeerCorrupt
from dynamo_core.protocol.arrivals import outcome_digest, verified_put
from dynamo_core.protocol.messages import Forward, Forwarded, Refused
from dynamo_core.protocol.operations import Done, Get, Operation, Outcome, Put, fill_in
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.route import Route
from dynamo_core.request.get import GetOperation
from dynamo_core.request.put import PutOperation
from dynamo_core.runtime.host import Traced
from dynamo_core.runtime.shares import ALL_USED, Shares

BACKGROUND = "(background)"
"""The principal of operations that the node does for its own work. No client waits for them, so
the budget of background work does not count them (S-BG-1): such work would slow itself down."""


class ServingHost(Traced, Protocol):
    """A host that says whether operations of clients are for it."""

    @property
    def serving(self) -> bool:
        """A member that stays one, at the address where the ring has it."""

    @property
    def draining(self) -> bool:
        """The process is about to end."""


class AdmissionControl:
    """Starts the machine of each operation and counts those under way."""

    def __init__(self, node: ServingHost) -> None:
        self.node = node
        self.slots = Shares(node.settings.in_flight_max)

    @property
    def in_flight(self) -> int:
        """Operations under way."""
        return self.slots.used

    def refusal(self) -> str:
        """The reason to refuse every operation now, before any effect; "" if the node takes
        them."""
        node = self.node
        if not node.serving:
            return "not-a-member"
        if node.draining:
            return "draining"
        return "overloaded" if self.slots.used >= self.slots.total else ""

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """Start a client's operation, after its options are settled. `done` is called exactly once.
        The operation takes a slot from the share of the client `principal` (T-5)."""
        refusal = self.refusal()
        node = self.node
        status = ALL_USED if refusal else self.slots.refusal(principal)
        if status:
            refusal = refusal or "overloaded"
            node.counters["shares_used_up"] += status != ALL_USED
            done(Outcome(status=status, problem=refusal, applied="no", node=node.identity.name))
            return
        self.slots.take(principal)
        fill_in(operation, node.ring.target, node.wall_ms)
        if isinstance(operation, Get):
            node.spawn(self._get(operation, done, principal))
            return
        done = self._ending(principal, done)
        if operation.value is None and operation.context is None:
            self._delete_what_is_there(operation, done, principal)
        else:
            node.spawn(PutOperation(node, operation, done))

    def forwarded(self, route: Route, message: Forward) -> None:
        """Coordinate a put that another node forwarded; this node never forwards it again
        (S-DOT-4). A put with a wrong digest is refused before any effect (T-1)."""
        node = self.node

        def done(outcome: Outcome) -> None:
            node.send(route, Forwarded(message.id, outcome, outcome_digest(outcome)))

        try:
            verified_put(message.put, message.digest, message.expiry)
        except PeerCorrupt:
            node.sent_corrupt(route)
            node.send(route, Refused(message.id, Refusal.CORRUPT))
            return
        principal = f"peer {route}"
        refusal = self.refusal()
        if not refusal and self.slots.refusal(principal):
            refusal = "overloaded"  # 503: the node that forwarded it coordinates it then
        if refusal:
            done(Outcome(status=503, problem=refusal, applied="no", node=node.identity.name))
        else:
            self.slots.take(principal)
            # An older node forwards it as it got it.
            fill_in(message.put, node.ring.target, node.wall_ms)
            answered = self._ending(principal, done)
            if node.spans is not None:
                answered = node.spans.coordinating(route, message.put, answered)
            node.spawn(PutOperation(node, message.put, answered, forwarded=True))

    def _get(self, operation: Get, done: Done, principal: str) -> GetOperation:
        node, slots = self.node, self.slots

        def answered(outcome: Outcome) -> None:
            now = node.now
            if principal != BACKGROUND:
                node.throttle.read(now - get.started, now, get.hedged)
            slots.give(principal)
            done(outcome)

        get = GetOperation(node, operation, answered, principal)
        return get

    def _ending(self, principal: str, done: Done) -> Done:
        slots = self.slots

        def answered(outcome: Outcome) -> None:
            slots.give(principal)
            done(outcome)

        return answered

    def _delete_what_is_there(self, put: Put, done: Done, principal: str) -> None:
        """S-DEL-1: for a delete without a context, the coordinator reads a quorum and uses that
        context. A strict delete reads strictly; otherwise it could miss, and so not delete, what a
        strict put has just written (C9)."""
        node = self.node
        get = Get(key=put.key, strict=put.strict, timeout_s=put.timeout_s, trace=put.trace)
        fill_in(get, node.ring.target, node.wall_ms)
        operation = GetOperation(node, get, None, principal)
        began = node.now

        def read(outcome: Outcome) -> None:
            if outcome.problem and outcome.status != 404:
                outcome.applied = "no"
                done(outcome)
            elif outcome.context is None:
                done(Outcome(status=204, node=node.identity.name))
            else:
                left = max(0.0, put.timeout_s - (node.now - began))
                known = msgspec.structs.replace(put, context=outcome.context, timeout_s=left)
                write = PutOperation(node, known, done, False, operation.merged, operation.seen)
                write.earlier_s = node.now - began
                node.spawn(write)

        operation.done = read
        node.spawn(operation)
