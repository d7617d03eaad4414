"""Read one key (S-RW-1, S-RW-4, [P 4.5]).

Asks the first R reachable nodes of the preference list, one more whenever one fails, and the rest
when one is silent for the hedge delay. Answers at R. "Not found" needs R answers from complete
owners: what a stand-in or an incomplete owner does not have proves nothing, so the remaining owners
are asked, and without proof the answer is 503 `insufficient-owners`, never 404. After the answer
the operation lives on until everybody asked has answered, then sends the merged record to the
owners that lack part of it (read repair, S-RW-6).
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.ids import partition_of, store_key
from dynamo_core.machine import Effects, Machine, View
from dynamo_core.messages import COMPLETE, CORRUPT, OWNER, Fetch, Fetched, Message, Store
from dynamo_core.operations import Asked, Context, Explanation, Get, Outcome
from dynamo_core.quorum import IMPOSSIBLE, MET, PENDING, read_verdict
from dynamo_core.versions import EMPTY, Sibling, body_of, decode_record, merge_bytes

PROVEN = OWNER | COMPLETE


class GetOperation(Machine):
    """One read. `merged` holds the bytes of the answer, for whoever goes on from it."""

    __slots__ = (
        "answers", "candidates", "done", "entry", "explanation", "fastest", "get", "hedged",
        "merged", "node", "outstanding", "partition", "r", "seen", "started", "stored", "view",
    )  # fmt: skip

    def __init__(self, view: View, get: Get, done: Callable[[Outcome], None] | None) -> None:
        super().__init__()
        self.view = view
        self.get = get
        self.done = done
        self.stored = store_key(get.key)
        ring = view.ring
        self.partition = partition_of(self.stored, ring.partition_bits)
        self.entry = ring.entries[self.partition].number
        self.r = get.r or ring.target.r
        self.answers: dict[str, tuple[bytes, int]] = {}
        self.outstanding: set[str] = set()
        self.candidates: list[str] = []
        self.merged: bytes | None = None
        self.seen = 0
        self.fastest = ""
        self.hedged = False
        self.explanation = Explanation(self.partition, view.name) if get.explain else None

    def start(self, now: float) -> Effects:
        self.started = now
        view = self.view
        owners = view.preference.owners(self.partition)
        near = [o for o in owners if view.up(o)]
        if view.name in near:
            near.remove(view.name)
            near.insert(0, view.name)
        missing = len(owners) - len(near)
        others = [o for o in view.preference.list(self.partition)[len(owners) :] if view.up(o)]
        down = [o for o in owners if o not in near]
        self.candidates = near + others[:missing] + down
        self.wake_at = now + min(view.settings.hedge_s, self.get.timeout_s)
        return self._ask(self.r)

    def _ask(self, count: int) -> Effects:
        """Call the next `count` candidates."""
        now, self.candidates = self.candidates[:count], self.candidates[count:]
        self.outstanding.update(now)
        return [(node, Fetch(0, self.partition, self.entry, self.stored)) for node in now]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        if isinstance(request, Store):
            return []
        assert isinstance(reply, Fetched)
        self.outstanding.discard(node)
        if reply.flags & CORRUPT:
            return self.failed(node, request, "corrupt", now)
        if not self.fastest and node != self.view.name:
            self.fastest = node
        self._explain(node, "record" if reply.record else "nothing", now)
        self.answers[node] = (reply.record, reply.flags)
        self.seen = min(self.seen, reply.seen) if len(self.answers) > 1 else reply.seen
        if reply.record:
            key = self.get.key
            self.merged = merge_bytes(key, self.merged, reply.record, self.view.lww)
        return self._decide()

    def failed(self, node: str, request: Message, reason: str, now: float) -> Effects:
        if isinstance(request, Store):
            return []
        self.outstanding.discard(node)
        self._explain(node, reason, now)
        return self._decide()

    def expired(self, now: float) -> Effects:
        deadline = self.started + self.get.timeout_s
        if now >= deadline:
            if self.done is not None:
                self._answer_late()
            return self._finish()
        self.wake_at = deadline
        if self.done is None or self.hedged:
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
            context = Context(record.context().encode(), self.fastest or self.view.name)
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
        if self.explanation is not None:
            self.explanation.decided = outcome.problem or str(outcome.status)
            asked = {line.node for line in self.explanation.asked} | self.outstanding
            for node in self.view.preference.list(self.partition):
                if node not in asked:
                    reason = "not needed" if self.view.up(node) else "down"
                    self.explanation.skipped.append({"node": node, "reason": reason})
            outcome.explanation = self.explanation
        done(outcome)

    def _explain(self, node: str, answer: str, now: float) -> None:
        if self.explanation is None:
            return
        owner = node in self.view.preference.owners(self.partition)
        took_ms = round((now - self.started) * 1000, 3)
        role = "owner" if owner else "stand-in"
        self.explanation.asked.append(Asked(node, role, answer, took_ms))

    # ------------------------------------------------------------ read repair

    def _finish(self) -> Effects:
        """Everybody has answered or the time is over: repair the owners that lack something."""
        self.finished = True
        if self.merged is None:
            return []
        body = body_of(self.merged)
        return [
            (
                node,
                Store(
                    0, self.partition, self.entry, self.stored, self.merged,
                    cause="repair", seen=self.seen,
                ),
            )
            for node, (record, flags) in self.answers.items()
            if flags & OWNER and (not record or body_of(record) != body)
        ]  # fmt: skip
