"""Read one key (S-RW-1, S-RW-4, [P 4.5]).

The get asks the first R reachable nodes of the preference list, one more node after each failure,
and the rest when one node is silent for the hedge delay. It answers after R answers. "Not found"
needs R answers from complete owners: if a stand-in or an incomplete owner lacks the key, that
proves nothing. Then the get asks the remaining owners. Without proof the answer is 503
`insufficient-owners`, never 404. After the answer the operation continues until all nodes it asked
have answered. Then it sends the merged record to the owners that lack a part of it (read repair,
S-RW-6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dynamo_core.causality.codec import body_of, decode_record, merge_bytes
from dynamo_core.causality.context import context_of
from dynamo_core.causality.records import EMPTY, Sibling
from dynamo_core.errors import Corrupt
from dynamo_core.keys import PREFIX_BYTES, partition_of, store_key
from dynamo_core.protocol.messages import COMPLETE, CORRUPT, OWNER, Fetch, Fetched, Message, Store
from dynamo_core.protocol.operations import Explanation, Get, Outcome
from dynamo_core.protocol.refusal import Failure, Reason, Refusal
from dynamo_core.request.quorum import IMPOSSIBLE, MET, PENDING, read_verdict
from dynamo_core.runtime.machine import NEVER, Effects, Explained, View
from dynamo_core.runtime.slow import Slow

PROVEN = OWNER | COMPLETE
SPOILT = (Failure.CORRUPT_ANSWER, Failure.DAMAGED)
"""The record of that node was damaged on its way, or on its disk (that node gives it up)."""
SMALL_BYTES_MAX = 4096
"""The usual memory of an operation includes records up to this size; larger ones are counted
(T-4)."""
RESTARTS_MAX = 4
"""A move changes the entry of its partition three times; further changes are of other moves."""


class GetOperation(Explained):
    """One read whose options are settled. `merged` has the bytes of the answer, for the put or
    delete that started this read."""

    __slots__ = (
        "answers", "asked_at", "candidates", "done", "entry_id", "fastest", "get", "hedged", "held",
        "merged", "node", "outstanding", "principal", "r", "restarts", "seen", "spoilt", "stored",
    )  # fmt: skip

    def __init__(
        self, view: View, get: Get, done: Callable[[Outcome], None] | None, principal: str = ""
    ) -> None:
        self.finished = self.hedged = False
        self.wake_at = self.scheduled_at = NEVER
        self.calls = set()
        self.view = view
        self.principal = principal
        self.held = 0
        self.get = get
        self.done = done
        self.stored = store_key(get.key)
        ring = view.ring
        self.partition = partition_of(self.stored, ring.partition_bits)
        self.entry_id = ring.entries[self.partition].id
        self.r = get.r
        self.answers: dict[str, tuple[bytes, int]] = {}
        self.outstanding: set[str] = set()
        self.candidates: Sequence[str] = ()
        self.merged: bytes | None = None
        self.spoilt: tuple[str, ...] = ()
        """The nodes whose record had a wrong digest: they get the merged record (T-1)."""
        self.seen = self.restarts = 0
        self.fastest = ""
        self.explanation = Explanation(self.partition, view.name) if get.explain else None

    def start(self, now: float) -> Effects:
        self.started = now
        self.view.hedging.begun()
        return self._begin(now)

    def _begin(self, now: float) -> Effects:
        view = self.view
        owners = view.preference.owners(self.partition)
        near: list[str] = []
        down: list[str] = []
        for owner in owners:
            if owner == view.name:
                near.insert(0, owner)
            else:
                (near if view.up(owner) else down).append(owner)
        if down:
            others = view.preference.list(self.partition)[len(owners) :]
            near += [o for o in others if view.up(o)][: len(down)] + down
        self.candidates = near
        deadline = self.started + self.get.timeout_s
        self.asked_at = now
        self.wake_at = min(now + view.hedging.after_s(self.get.timeout_s), deadline)
        return self._ask(self.r)

    def _ask(self, count: int) -> Effects:
        """Call the next `count` candidates."""
        asked, self.candidates = self.candidates[:count], self.candidates[count:]
        self.outstanding.update(asked)
        partition, entry_id, stored = self.partition, self.entry_id, self.stored
        trace = self.get.trace
        return [(node, Fetch(0, partition, entry_id, stored, trace)) for node in asked]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if type(request) is not Fetch or request.entry_id != self.entry_id:
            return []  # of a repair, or of a call before the restart of this get
        assert isinstance(reply, Fetched)
        self.outstanding.discard(node)
        record, flags = reply.record, reply.flags
        if flags & CORRUPT:
            return self.failed(node, request, Failure.DAMAGED, now)
        if not self.fastest and node != self.view.name:
            self.fastest = node
        if self.explanation is not None:
            self._explain(node, "record" if record else "nothing", now)
        if len(record) > SMALL_BYTES_MAX:
            if self.held < 0:
                record = b""  # this get was refused, and only waits for its nodes
            elif self.merged is not None and record == self.merged:
                record = self.merged  # keep equal records once in memory
            elif refusal := self._hold(len(record)):
                return self._overloaded(refusal)
        self.seen = min(self.seen, reply.seen) if self.answers else reply.seen
        self.answers[node] = (record, flags)
        if record:
            merged = self.merged
            if merged is None or merged == record:
                self.merged = record
            else:
                self._merge(record)
        answers = len(self.answers)
        if flags & PROVEN == PROVEN and answers < self.r <= answers + len(self.outstanding):
            return []  # as many are under way as are still needed
        return self._decide()

    def _merge(self, record: bytes) -> None:
        """Merge a record that differs from the earlier answers. Here only a record that this node
        read itself can be wrong: records of peers are verified before (T-1)."""
        merged, key, me = self.merged, self.get.key, self.view.name
        try:
            self.merged = merge_bytes(key, merged, record, self.view.lww)
        except Corrupt:
            good = [r for name, (r, _) in self.answers.items() if r and name != me]
            self.answers.pop(me, None)
            self.spoilt = (*self.spoilt, me)
            self.merged = None
            for other in good:
                self.merged = merge_bytes(key, self.merged, other, self.view.lww)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        if not isinstance(request, Fetch) or request.entry_id != self.entry_id:
            return []
        self.outstanding.discard(node)
        if reason in SPOILT:
            self.spoilt = (*self.spoilt, node)
        self._explain(node, reason.words, now)
        return self._decide()

    @property
    def waits_until(self) -> float:
        """S-NET-2: the deadline, as long as the client has no answer."""
        return self.started + self.get.timeout_s if self.done is not None else -NEVER

    def delayed(self, node: str, request: Message, now: float) -> Effects:
        """The answer may still come in time; meanwhile the get asks one more node."""
        if self.done is None or not isinstance(request, Fetch) or request.entry_id != self.entry_id:
            return []
        self._explain(node, "link lost: waits for the link", now)
        return self._ask(1)

    def outdated(self, node: str, request: Message, now: float) -> Effects:
        """The owners have changed. R answers must be from one owner list, so the get asks all
        again."""
        entry_id = self.view.ring.entries[self.partition].id
        if not isinstance(request, Fetch) or request.entry_id != self.entry_id:
            return []
        if self.done is None or self.restarts == RESTARTS_MAX:
            return self.failed(node, request, Refusal.ENTRY, now)
        self.restarts += 1
        if entry_id == self.entry_id:  # the node was behind
            return [(node, Fetch(0, self.partition, self.entry_id, self.stored, self.get.trace))]
        self._explain(node, "refused entry: asks all nodes again", now)
        self.entry_id = entry_id
        self.answers, self.outstanding = {}, set()
        self.merged, self.seen, self.hedged, self.spoilt = None, 0, False, ()
        return self._begin(now)

    def expired(self, now: float) -> Effects:
        deadline = self.started + self.get.timeout_s
        if now >= deadline:
            if self.done is not None:
                self._answer_late()
            return self._finish()
        self.wake_at = deadline
        self._watch()
        if self.done is None or self.hedged or not self.candidates:
            return []
        hedging, half = self.view.hedging, self.started + self.get.timeout_s / 2
        if now < half and not hedging.may(self.outstanding, self.asked_at, now):
            self.wake_at = min(half, now + hedging.again_s)
            return []
        self.hedged = True
        return self._ask(len(self.candidates))

    # ------------------------------------------------------------ verdict

    def _counted(self) -> int:
        return self._proofs() if self.get.strict else len(self.answers)

    def _proofs(self) -> int:
        return sum(flags & PROVEN == PROVEN for _, flags in self.answers.values())

    def _decide(self) -> Effects:
        if self.done is None:
            return [] if self.outstanding else self._finish()
        possible = len(self.outstanding) + len(self.candidates)
        verdict = read_verdict(self._counted(), self.r, possible)
        slug = "quorum-not-met"
        record = EMPTY
        live: list[Sibling] = []
        if verdict is MET:
            record = decode_record(self.merged) if self.merged is not None else EMPTY
            live = record.values(self.view.wall_ms)
            if not live:
                slug = "insufficient-owners"
                verdict = read_verdict(self._proofs(), self.r, possible)
        if verdict is PENDING:
            # As many calls under way as are still needed.
            short = self.r - min(self._counted(), self._proofs()) - len(self.outstanding)
            return self._ask(max(short, 0))
        if verdict is IMPOSSIBLE:
            self._answer(self._refusal(slug))
        else:
            context = context_of(record, self.fastest or self.view.name)
            self._answer(
                Outcome(
                    status=200 if live else 404,
                    problem="" if live else "not-found",
                    values=live,
                    context=context if self.merged is not None else None,
                    node=self.view.name,
                )
            )
        return [] if self.outstanding else self._finish()

    def _refusal(self, slug: str) -> Outcome:
        return Outcome(
            status=503,
            problem=slug,
            detail=f"{self._counted()} of r={self.r} answers, {self._proofs()} of complete owners",
            node=self.view.name,
        )

    def _answer_late(self) -> None:
        enough = read_verdict(self._counted(), self.r, 0) is MET
        self._answer(self._refusal("insufficient-owners" if enough else "quorum-not-met"))

    def _answer(self, outcome: Outcome) -> None:
        done, self.done = self.done, None
        assert done is not None
        view, outstanding = self.view, self.outstanding
        if (took_s := view.now - self.started) >= view.slow.limit_s:
            self._slow(took_s, outcome, outstanding)
        if self.get.explain:
            self._conclude(outcome, outstanding)
        done(outcome)

    def _describe(self, line: Slow) -> None:
        line.kind, line.position = "get", self.stored[:PREFIX_BYTES].hex()
        line.answers, line.wanted, line.hedged = self._counted(), self.r, self.hedged
        line.trace = self.get.trace

    # ------------------------------------------------------------ bytes in hand

    def _hold(self, size: int) -> int:
        """Counts a large record (T-4). Returns the status of a refusal if there is no room, else 0.
        A get that is the only one with large records goes on. So the largest keys can be read, one
        at a time."""
        records = self.view.records
        alone = records.used == self.held
        refusal = 0 if alone else records.refusal(self.principal, size)
        if not refusal:
            records.take(self.principal, size)
            self.held += size
        return refusal

    def _overloaded(self, status: int) -> Effects:
        """Refuse the get and drop what it has fetched. It still waits for the nodes that it asked,
        so that their answers do not count as missing."""
        if self.done is not None:
            self._answer(Outcome(status=status, problem="overloaded", node=self.view.name))
        self._let_go()
        self.answers, self.merged, self.held = {}, None, -1
        return [] if self.outstanding else self._finish()

    def _let_go(self) -> None:
        if self.held > 0:
            self.view.records.give(self.principal, self.held)
            self.held = 0

    def let_go(self) -> None:
        self.answers, self.merged = {}, None

    # ------------------------------------------------------------ read repair

    def _finish(self) -> Effects:
        """All nodes have answered, or the time is over: repair the owners that lack something."""
        self.finished = True
        self._let_go()
        if self.merged is None:
            return []
        merged, records = self.merged, self.answers.values()
        if not self.spoilt and all(record is merged or record == merged for record, _ in records):
            return []
        body = body_of(merged)
        lacking = [
            node
            for node, (record, flags) in self.answers.items()
            if flags & OWNER and (not record or body_of(record) != body)
        ]
        owners = self.view.preference.owners(self.partition)
        lacking += [n for n in dict.fromkeys(self.spoilt) if n in owners and n not in lacking]
        place = (self.partition, self.entry_id, self.stored, merged)
        trace = self.get.trace
        return [(n, Store(0, *place, cause="repair", seen=self.seen, trace=trace)) for n in lacking]
