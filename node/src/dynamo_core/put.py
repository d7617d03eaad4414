"""Write one key (S-DOT-4, S-RW-2..5, [P 4.5, 4.6]).

A node that keeps the key coordinates: the local replica makes the event, and once that is
persisted its record, never the request, goes to the first N reachable nodes of the preference list;
a stand-in takes a hinted replica for each owner that is down, fails or stays silent. A node that
does not keep the key forwards the request once, under a request id, and coordinates here as a
stand-in when no answer comes within the hedge delay: twins under one id are one event (S-REQ-1).

The answer needs W distinct nodes, `dw` of them fsynced, and this node's own part persisted. Without
them: 503 with what is known, `Dynamo-Applied: no` only where nothing was stored anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dynamo_core.ids import partition_of, store_key
from dynamo_core.machine import (
    Coordinate,
    Coordinated,
    Effects,
    Machine,
    Rejected,
    View,
    fresh_id,
)
from dynamo_core.messages import (
    COMPLETE,
    HINTED,
    OWNER,
    SYNCED,
    Forward,
    Forwarded,
    Message,
    Store,
    Stored,
)
from dynamo_core.operations import Acks, Asked, Context, Explanation, Outcome, Put
from dynamo_core.quorum import IMPOSSIBLE, MET, write_verdict
from dynamo_core.versions import decode_record

PROVEN = OWNER | COMPLETE
Answer = Callable[[Outcome], None]


class PutOperation(Machine):
    """One write, a delete included. `forwarded`: it came from another node and stays here."""

    __slots__ = (
        "acks", "context", "coordinating", "done", "dw", "entry", "explanation", "forward",
        "forwarded_to", "known", "missed", "outstanding", "owners", "partition", "put", "record",
        "spare", "stands_for", "started", "stored", "syncs", "target", "view", "w",
    )  # fmt: skip

    def __init__(
        self, view: View, put: Put, done: Answer, forwarded: bool = False,
        known: bytes | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.view = view
        self.put = put
        self.done: Answer | None = done
        self.known = known
        self.stored = store_key(put.key)
        ring = view.ring
        self.partition = partition_of(self.stored, ring.partition_bits)
        self.entry = ring.entries[self.partition].number
        self.owners = view.preference.owners(self.partition)
        self.w = put.w or ring.target.w
        self.dw = put.dw or ring.target.dw
        self.acks: dict[str, int] = {}
        self.outstanding: dict[str, str] = {}
        self.stands_for: dict[str, str] = {}
        """Of nodes that acknowledged a hinted replica: the owner whom it is for."""
        self.missed: set[str] = set()
        self.record = b""
        self.target = ""
        self.syncs = 0
        """How many fsyncs the other nodes must do: this node's own counts unless strict forbids."""
        self.context = b""
        self.coordinating = False
        self.forward = not forwarded
        self.forwarded_to = ""
        self.spare: list[str] = []
        self.explanation = Explanation(self.partition, view.name) if put.explain else None

    def start(self, now: float) -> Effects:
        self.started = now
        view = self.view
        up = [o for o in self.owners if o != view.name and view.up(o)]
        keeps = view.name in self.owners and view.writable
        if keeps or not self.forward or not up:
            return self._coordinate(now)
        preferred = self.put.context.node if self.put.context is not None else ""
        self.forwarded_to = preferred if preferred in up else up[0]
        if not self.put.request_id:
            self.put = msgspec.structs.replace(self.put, request_id=fresh_id(view.draw))
        self.wake_at = now + min(view.settings.hedge_s, self.put.timeout_s)
        return [(self.forwarded_to, Forward(0, self.put))]

    # ------------------------------------------------------------ coordination

    def _coordinate(self, now: float) -> Effects:
        """Make the event here, as owner or as stand-in for the first owner that is not there."""
        view = self.view
        self.coordinating = True
        hedge_at = now + view.settings.hedge_s
        self.wake_at = min(hedge_at, self.started + self.put.timeout_s)
        if view.name not in self.owners:
            absent = [o for o in self.owners if not view.up(o) or o == self.forwarded_to]
            self.target = self.stands_for[view.name] = absent[0] if absent else self.owners[0]
        synced = self.dw > 0
        return [(view.name, Coordinate(0, self.put, self.stored, self.target, self.known, synced))]

    def _replicate(self) -> Effects:
        """The record to the owners that are up, hinted replicas for the others to stand-ins."""
        view = self.view
        others = view.preference.list(self.partition)[len(self.owners) :]
        self.spare = [n for n in others if n != view.name and view.up(n)]
        effects: Effects = []
        away = []
        for owner in self.owners:
            if owner == view.name:
                continue
            if view.up(owner):
                effects.append(self._store(owner, ""))
            elif owner != self.target:
                away.append(owner)
        for owner in away:
            effects += self._stand_in(owner)
        counting = 1 + len(effects)
        if self.put.strict:  # hinted replicas do not count, so an owner believed down is asked too
            counting = (view.name in self.owners) + list(self.outstanding.values()).count("")
        if counting < self.w:
            down = [n for n in view.preference.list(self.partition) if n not in self.outstanding]
            for node in down:
                role = "" if node in self.owners else self._unserved()
                if node != view.name and (role or node in self.owners):
                    effects.append(self._store(node, role))
        return effects

    def _unserved(self) -> str:
        """An owner that nobody stands in for yet and that is not asked itself; "" when none is."""
        served = set(self.outstanding.values()) | {self.target, self.view.name}
        served |= {node for node, target in self.outstanding.items() if not target}
        return next((owner for owner in self.owners if owner not in served), "")

    def _store(self, node: str, target: str) -> tuple[str, Message]:
        self.outstanding[node] = target
        return node, Store(
            0, self.partition, self.entry, self.stored, self.record, target, sync=self.syncs > 0
        )

    def _stand_in(self, owner: str) -> Effects:
        """A hinted replica for `owner` to the next node of the list, if one is left."""
        if not self.spare:
            self.missed.add(owner)
            return []
        return [self._store(self.spare.pop(0), owner)]

    # ------------------------------------------------------------ events

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(reply, Forwarded):
            return self._forwarded(node, reply.outcome, now)
        if isinstance(reply, Coordinated):
            return self._coordinated(reply, now)
        assert isinstance(reply, Stored)
        if target := self.outstanding.pop(node, ""):
            self.stands_for[node] = target
        self.acks[node] = self.acks.get(node, 0) | reply.flags
        self._explain(node, "stored", now)
        return self._decide()

    def _coordinated(self, reply: Coordinated, now: float) -> Effects:
        first = self.view.name not in self.acks
        self.acks[self.view.name] = self.acks.get(self.view.name, 0) | reply.flags
        if not first:
            return self._decide()
        self._explain(self.view.name, "coordinated", now)
        self.record = reply.record
        self.context = reply.context
        self.syncs = self.dw - (not self.put.strict or reply.flags & PROVEN == PROVEN)
        effects = self._replicate()
        return effects + self._decide()

    def _forwarded(self, node: str, outcome: Outcome, now: float) -> Effects:
        self._explain(node, outcome.problem or "forwarded", now)
        if self.done is None:
            return []
        if outcome.status < 300 or (outcome.status < 500 and not self.coordinating):
            self._answer(outcome)
            self.finished = not self.outstanding
            return []
        return [] if self.coordinating else self._coordinate(now)

    def failed(self, node: str, request: Message, reason: str, now: float) -> Effects:
        self._explain(node, reason, now)
        if isinstance(request, Forward):
            return [] if self.coordinating else self._coordinate(now)
        if isinstance(request, Coordinate):
            return self._rejected(reason)
        target = self.outstanding.pop(node, "")
        effects: Effects = []
        if (node in self.owners and target == "") or target:
            effects = self._stand_in(target or node)
        return effects + self._decide()

    def rejected(self, reply: Rejected) -> Effects:
        """The local replica said no before any effect of ours; a node that we forwarded to and
        that stays silent may have said yes."""
        if reply.reason != "too-many-siblings" or self.forwarded_to:
            return self._rejected(reply.reason)
        context = decode_record(reply.record).context()
        self._answer(
            Outcome(
                status=409,
                problem="too-many-siblings",
                detail=reply.detail,
                context=Context(context.encode(), self.view.name),
                node=self.view.name,
            )
        )
        self.finished = True
        return []

    def _rejected(self, reason: str) -> Effects:
        """Our own part could not be persisted: nobody else has it unless it was forwarded."""
        self.finished = True
        if self.done is not None:
            perhaps = bool(self.forwarded_to) or reason == "uncertain"
            self._refuse("unknown" if perhaps else "no", f"this node cannot write: {reason}")
        return []

    def expired(self, now: float) -> Effects:
        deadline = self.started + self.put.timeout_s
        if now >= deadline:
            self.finished = True
            self.missed.update(t or n for n, t in self.outstanding.items())
            if self.done is not None:
                self._refuse("unknown", "the deadline has passed")
            return []
        self.wake_at = deadline
        if self.done is None:
            return []
        if not self.coordinating:
            return self._coordinate(now)
        effects: Effects = []
        for node, target in list(self.outstanding.items()):
            if node in self.owners and target == "" and self.spare:
                effects += self._stand_in(node)
        return effects

    # ------------------------------------------------------------ verdict

    def _decide(self) -> Effects:
        if self.done is not None and len(self.acks) < self.w <= len(self.acks) + len(
            self.outstanding
        ):
            return []  # the usual case before the last ack: nothing can be said yet
        if self.done is not None:
            strict = self.put.strict
            # A hinted replica and its owner's own copy become one on delivery: they count once.
            counted: dict[str, bool] = {}
            for node, flags in self.acks.items():
                if not strict or flags & PROVEN == PROVEN:
                    copy = self.stands_for.get(node, node)
                    counted[copy] = counted.get(copy, False) or bool(flags & SYNCED)
            asked = {target or node for node, target in self.outstanding.items()}
            waiting = len(asked - counted.keys()) + len(self.spare)
            own = self.view.name in self.acks and not self.acks[self.view.name] & SYNCED
            verdict = write_verdict(counted, self.w, self.dw, waiting, waiting + own)
            if self.view.name in self.acks and verdict is MET:
                self._answer(self._success())
            elif self.view.name in self.acks and verdict is IMPOSSIBLE:
                self._refuse("unknown", "no further node can be asked")
        if self.done is None and not self.outstanding:
            self.finished = True
        return []

    def _counts(self) -> Acks:
        flags = self.acks.values()
        return Acks(
            total=len(self.acks),
            owners=sum(bool(f & OWNER) for f in flags),
            hinted=sum(bool(f & HINTED) for f in flags),
            durable=sum(bool(f & SYNCED) for f in flags),
        )

    def _success(self) -> Outcome:
        outcome = Outcome(
            status=204,
            context=Context(self.context, self.view.name),
            acks=self._counts(),
            node=self.view.name,
        )
        if self.put.answer_record:
            record = decode_record(self.record)
            outcome.status = 200
            outcome.values = record.values(self.view.wall_ms)
            outcome.context = Context(record.context().encode(), self.view.name)
        return outcome

    def _refuse(self, applied: str, detail: str) -> None:
        acks = self._counts()
        self._answer(
            Outcome(
                status=503,
                problem="quorum-not-met",
                detail=f"{acks.total} of w={self.w} acks, {acks.durable} of dw={self.dw}: {detail}",
                acks=acks,
                applied=applied,
                node=self.view.name,
            )
        )

    def _answer(self, outcome: Outcome) -> None:
        done, self.done = self.done, None
        assert done is not None
        if self.explanation is not None and outcome.explanation is not None:
            # The node that coordinated a forwarded put knows the rest.
            outcome.explanation.asked[:0] = self.explanation.asked
        elif self.explanation is not None:
            self.explanation.decided = outcome.problem or str(outcome.status)
            asked = {line.node for line in self.explanation.asked} | set(self.outstanding)
            for node in self.view.preference.list(self.partition):
                if node not in asked:
                    reason = "not needed" if self.view.up(node) else "down"
                    self.explanation.skipped.append({"node": node, "reason": reason})
            outcome.explanation = self.explanation
        done(outcome)

    def _explain(self, node: str, answer: str, now: float) -> None:
        if self.explanation is not None:
            role = "owner" if node in self.owners else "stand-in"
            took_ms = round((now - self.started) * 1000, 3)
            self.explanation.asked.append(Asked(node, role, answer, took_ms))
