"""Write one key (S-DOT-4, S-RW-2..5, [P 4.5, 4.6]).

A node that keeps the key coordinates. Its local replica makes the event. After that is persisted,
the node sends the record, never the request, to the first N reachable nodes of the preference list.
A stand-in takes a hinted replica for each owner that is down, fails or stays silent. A node that
does not keep the key forwards the request once, with a request id. If no answer comes within the
hedge delay, it coordinates as a stand-in: two events with one request id count as one (S-REQ-1).

The answer needs W distinct nodes, `dw` of them fsynced, and this node's own part persisted. Without
them the answer is 503 with what is known; `Dynamo-Applied: no` only if no node stored anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.context import Context, context_of
from dynamo_core.keys import PREFIX_BYTES, partition_of, store_key
from dynamo_core.protocol.arrivals import expiry_digest, put_digest
from dynamo_core.protocol.messages import (
    VOLATILE,
    Fetch,
    Fetched,
    Forward,
    Forwarded,
    Message,
    Store,
    Stored,
)
from dynamo_core.protocol.operations import Done, Explanation, Outcome, Put
from dynamo_core.protocol.refusal import Reason, Refusal
from dynamo_core.request.copies import Copies
from dynamo_core.request.quorum import IMPOSSIBLE, MET, Verdict
from dynamo_core.request.replication import Replication
from dynamo_core.runtime.machine import (
    NEVER,
    Coordinate,
    Coordinated,
    Effects,
    Rejected,
    View,
    fresh_id,
)
from dynamo_core.runtime.slow import Slow

NO_PUT = Put(key=b"", value=None)
"""Takes the place of a put that has ended, so that its value is freed (T-4)."""
CONFLICTS = (Refusal.TOO_MANY_SIBLINGS, Refusal.REQUEST_ID_REUSED)
"""Refusals by the local replica that the client can resolve; the answer is 409."""
RENEWALS_MAX = 8  # a few nodes may refuse, each once for each of the three changes of a move


class PutOperation(Replication):
    """One write or delete whose options are settled. `forwarded`: another node forwarded it, so
    this node must coordinate it."""

    __slots__ = (
        "context", "coordinating", "done", "earlier_s", "forward", "forwarded_to", "known",
        "known_seen", "renewals", "stale",
    )  # fmt: skip

    def __init__(
        self,
        view: View,
        put: Put,
        done: Done,
        forwarded: bool = False,
        known: bytes | None = None,
        known_seen: int = 0,
    ) -> None:
        self.finished = self.coordinating = False
        self.wake_at = self.scheduled_at = NEVER
        self.calls = set()
        self.view = view
        self.me = view.name  # the name at the beginning: it changes if this node is replaced
        self.put = put
        self.done: Done | None = done
        self.known, self.known_seen = known, known_seen
        self.stored = store_key(put.key)
        ring, preference = view.ring, view.preference
        self.partition = partition_of(self.stored, ring.partition_bits)
        self.entry_id = ring.entries[self.partition].id
        self.place = preference.places[self.partition]
        self.renewals = self.syncs = self.seen = 0
        self.earlier_s = 0.0
        """`syncs`: how many fsyncs other nodes must make; this node's own one counts unless strict
        forbids it. `earlier_s`: the time of a read before this write."""
        self.w, self.dw, self.strict = put.w, put.dw, bool(put.strict)
        self.copies = Copies(preference.bits)
        self.stale: Sequence[tuple[str, str]] = ()  # calls that wait for the record read again
        self.missed: Collection[str] = ()
        self.spare: list[str] | None = None
        self.record = self.context = b""
        self.target = self.forwarded_to = ""
        self.forward = not forwarded
        self.explanation = Explanation(self.partition, self.me) if put.explain else None

    def _renew(self, now: float) -> None:
        """Take the partition's owners from the present ring. The wait for a silent node starts
        again."""
        self.wake_at = min(self.wake_at, self._hedge_at(now))
        view = self.view
        self.entry_id = view.ring.entries[self.partition].id
        self.place = view.preference.places[self.partition]

    def start(self, now: float) -> Effects:
        self.started = now
        view = self.view
        keeps = self.me in self.place.writers and view.writable
        if not self.forward or (keeps and not view.stalled):
            return self._coordinate(now)
        up = [o for o in self.place.owners if o != self.me and view.up(o)]
        # S-RW-8: a coordinator waits for its own fsync first. So an owner whose fsyncs stall is
        # asked last, and this node goes before it if it keeps the key.
        quick = [o for o in up if not view.stalls(o)]
        up = quick if quick or keeps else up
        if not up:
            return self._coordinate(now)
        preferred = self.put.context.node if self.put.context is not None else ""
        self.forwarded_to = preferred if preferred in up else up[0]
        if not self.put.request_id:
            self.put = msgspec.structs.replace(self.put, request_id=fresh_id(view.draw))
        self.wake_at = now + min(view.hedging.after_s(self.put.timeout_s), self.put.timeout_s)
        return [
            (self.forwarded_to, Forward(0, self.put, put_digest(self.put), expiry_digest(self.put)))
        ]

    # ------------------------------------------------------------ coordination

    def _coordinate(self, now: float) -> Effects:
        """Make the event here, as owner, or as stand-in for the first owner that is not up."""
        view = self.view
        self.coordinating = True
        self.wake_at = min(self._hedge_at(now), self.started + self.put.timeout_s)
        if self.me not in self.place.writers:
            owners = self.place.owners
            absent = [o for o in owners if not view.up(o) or o == self.forwarded_to]
            self.target = absent[0] if absent else owners[0]
        known, seen = self.known, self.known_seen
        place = (self.partition, self.stored, self.target)
        return [(self.me, Coordinate(0, self.put, *place, known, seen, self.dw > 0))]

    # ------------------------------------------------------------ events

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if type(reply) is Stored and type(request) is Store:
            target, flags = request.target, reply.flags
            if flags & VOLATILE:
                flags = self._worth(node, target, flags)
            self.copies.acked(node, target, flags)
            if self.explanation is not None:
                self._explain(node, "stored", now)
            return self._decide(now)
        if type(reply) is Coordinated:
            return self._coordinated(reply, now)
        if type(reply) is Forwarded:
            return self._forwarded(node, reply.outcome, now)
        assert type(reply) is Fetched
        return self._resend(reply.record, reply.seen, now)

    def _coordinated(self, reply: Coordinated, now: float) -> Effects:
        flags = reply.flags
        if flags & VOLATILE:
            flags = self._worth(self.me, self.target, flags)
        self.copies.acked(self.me, self.target, flags)
        if self.record:
            return self._decide(now)  # it is fsynced as well
        if self.explanation is not None:
            self._explain(self.me, "coordinated", now)
        self.record, self.seen = reply.record, reply.seen
        self.context = reply.context
        self.syncs = self.dw - self._own_syncs(flags)
        effects = self._replicate()
        if not self.copies.pending(self.w):
            effects += self._decide(now)
        return effects

    def _forwarded(self, node: str, outcome: Outcome, now: float) -> Effects:
        self._explain(node, outcome.problem or "forwarded", now)
        if self.done is None:
            return []
        if outcome.status < 300 or (outcome.status < 500 and not self.coordinating):
            self._answer(outcome)
            self.finished = not self.copies.open
            return []
        return [] if self.coordinating else self._coordinate(now)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self._explain(node, reason.words, now)
        if isinstance(request, Forward):
            return [] if self.coordinating else self._coordinate(now)
        if isinstance(request, Coordinate):
            return self._rejected(reason)
        if isinstance(request, Fetch):
            return self._resend(b"", 0, now)
        assert isinstance(request, Store)
        if not self.copies.waits_for(node, request.target):
            self.copies.no_fsync((node, request.target))
            return self._decide(now)
        if reason is Refusal.STALE and self.renewals < RENEWALS_MAX:
            self.renewals += 1
            self.stale = (*self.stale, (node, request.target))
            return [(self.me, Fetch(0, self.partition, self.entry_id, self.stored, self.put.trace))]
        return self._without(node, request.target, now)

    @property
    def waits_until(self) -> float:
        """S-NET-2: the deadline, as long as the client has no answer. A forwarded put does not wait
        for its link; this node coordinates it instead."""
        waits = self.coordinating and self.done is not None
        return self.started + self.put.timeout_s if waits else -NEVER

    def wants(self, request: Message) -> bool:
        """Once this node coordinates the put, no other node is asked to do so any more."""
        return not (self.coordinating and isinstance(request, Forward))

    def delayed(self, node: str, request: Message, now: float) -> Effects:
        """The ack of the copy may still come in time; meanwhile a stand-in is asked."""
        if not isinstance(request, Store) or not self.copies.waits_for(node, request.target):
            return []
        self._explain(node, "link lost: waits for the link", now)
        copy = request.target or node
        if self.copies.elsewhere(node, copy):
            return []
        return self._stand_in(copy) if self._spare() else self._double(copy)

    def heard_from(self, node: str) -> bool:
        """Whether the node has acked a copy."""
        return self.copies.heard_from(node)

    def _without(self, node: str, target: str, now: float) -> Effects:
        copies, copy = self.copies, target or node
        copies.ended(node, target)
        wanted = copy in self.place.writers and not copies.bits[copy] & copies.counted(False)[0]
        return (self._stand_in(copy) if wanted else []) + self._decide(now)

    def _resend(self, record: bytes, seen: int, now: float) -> Effects:
        """S-DEL-3: send the record as it is here now to the nodes for which the earlier one was too
        old. If this put is no longer in it, this node itself is stale."""
        stale, self.stale = self.stale, ()
        mine = decode_record(self.record).history
        if record and decode_record(record).history.descends(mine):
            self.record, self.seen = record, seen
            return [self._store(*call) for call in stale]
        return [effect for call in stale for effect in self._without(*call, now)]

    def outdated(self, node: str, request: Message, now: float) -> Effects:
        """The entry has changed: the record goes to the present writers, with the new entry."""
        if not isinstance(request, Store) or self.renewals == RENEWALS_MAX:
            return self.failed(node, request, Refusal.ENTRY, now)
        self.renewals += 1
        self._explain(node, "refused entry: asked again", now)
        self.copies.forget((node, request.target))
        self._renew(now)
        again: Effects = []  # the node answers, and did not refuse the copy
        if node in self.place.writers and not request.target:
            again = [self._store(node, "")]  # also if another node keeps a hint for it
        elif node not in self.place.writers and node != self.me:
            self.spare = [node, *self._spare()]
        return again + self._cover() + self._decide(now)

    def rejected(self, reply: Rejected) -> Effects:
        """The local replica refused the put before any effect. But a silent node to which this node
        forwarded the put may have made the event."""
        if reply.reason not in CONFLICTS or self.forwarded_to:
            return self._rejected(reply.reason, reply.detail)
        context = context_of(decode_record(reply.record), self.me) if reply.record else None
        self._answer(self._outcome(409, reply.reason.value, reply.detail, context=context))
        self.finished = True
        return []

    def _rejected(self, reason: Reason, detail: str = "") -> Effects:
        """This node could not persist its own part. No other node has the put, unless it was
        forwarded."""
        self.finished = True
        if self.done is not None:
            unsure = reason is Refusal.UNCERTAIN
            why = (unsure and detail) or f"this node cannot write: {reason.value}"
            self._refuse("unknown" if unsure or self.forwarded_to else "no", why)
        return []

    def expired(self, now: float) -> Effects:
        deadline = self.started + self.put.timeout_s
        if now >= deadline:
            self.finished = True
            late = (target or node for node, target in self.copies.under_way())
            self.missed = {*self.missed, *late}
            if self.done is not None:
                self._refuse("unknown", "the deadline has passed")
            return []
        self.wake_at = deadline
        self._watch()
        if self.done is None:
            return []
        if not self.coordinating:
            return self._coordinate(now)
        return self._hedge(now)

    # ------------------------------------------------------------ verdict

    def _decide(self, now: float) -> Effects:
        copies = self.copies
        if self.done is not None:
            if copies.pending(self.w):
                return []
            effects: Effects = []
            if self.view.ring.entries[self.partition].id != self.entry_id:
                self._renew(now)  # S-RW-4: against the entry known at the decision
                effects = self._cover()
            verdict = self._verdict()
            if self.record and verdict is MET:
                self._answer(self._success())
            elif self.record and verdict is IMPOSSIBLE:
                self._refuse("unknown", "no further node can be asked")
            if effects:
                return effects
        if self.done is None and not copies.open:
            self.finished = True
        return []

    def unserved(self) -> Iterable[tuple[int, str]]:
        if not self.missed:
            return ()
        missed = set(self.missed).intersection(self.place.owners)
        return [(self.partition, owner) for owner in sorted(missed)]

    def let_go(self) -> None:
        self.record, self.known = b"", None
        self.put = NO_PUT

    def _verdict(self) -> Verdict:
        wanted, lists = (self.w, self.dw, self.strict), self.place.lists
        verdict = self.copies.verdict(lists, wanted, 0)
        if verdict is IMPOSSIBLE:
            return self.copies.verdict(lists, wanted, len(self._spare()))
        return verdict

    def _success(self) -> Outcome:
        context = Context(self.context, self.me)
        outcome = self._outcome(204, context=context, acks=self.copies.counts())
        if self.put.answer_record:
            record = decode_record(self.record)
            outcome.status = 200
            outcome.values = record.values(self.view.wall_ms)
            outcome.context = context_of(record, self.me)
        return outcome

    def _refuse(self, applied: str, detail: str) -> None:
        acks = self.copies.counts()
        detail = f"{acks.total} of w={self.w} acks, {acks.durable} of dw={self.dw}: {detail}"
        self._answer(self._outcome(503, "quorum-not-met", detail, acks=acks, applied=applied))

    def _outcome(self, status: int, problem: str = "", detail: str = "", **more: Any) -> Outcome:
        return Outcome(status=status, problem=problem, detail=detail, node=self.me, **more)

    def _answer(self, outcome: Outcome) -> None:
        done, self.done = self.done, None
        assert done is not None
        view = self.view
        if (took_s := view.now - self.started + self.earlier_s) >= view.slow.limit_s:
            self._slow(took_s, outcome, self._asked())
        if self.put.explain:
            self._conclude(outcome, self._asked())
        done(outcome)

    def _asked(self) -> list[str]:
        """The nodes that have not answered yet, including this one while it coordinates."""
        asked = [node for node, _ in self.copies.under_way()]
        own = self.coordinating and not self.copies.heard_from(self.me)
        return [self.me, *asked] if own else asked

    def _describe(self, line: Slow) -> None:
        acks, copies = self.copies.counts(), self.copies
        line.kind = "put" if self.put.value is not None else "delete"
        line.position, line.trace = self.stored[:PREFIX_BYTES].hex(), self.put.trace
        line.answers, line.wanted = acks.total, self.w
        line.durable, line.dw, line.forwarded_to = acks.durable, self.dw, self.forwarded_to
        aside = copies.aside_or_none
        line.hedged = bool(aside and (aside.asked or acks.hinted or aside.tried or aside.fsyncs))
