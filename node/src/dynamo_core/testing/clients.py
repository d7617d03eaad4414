"""The clients of a simulated history: they send contexts, retry, and record what they saw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dynamo_core.causality.context import Context
from dynamo_core.causality.records import SUPERSEDED_WRITES_MAX
from dynamo_core.errors import BadContext
from dynamo_core.keys import partition_of, store_key
from dynamo_core.protocol.operations import Get, Outcome, Put
from dynamo_core.testing.attempts import TIMEOUT_S, Attempts
from dynamo_core.testing.expiries import absolute_ms
from dynamo_core.testing.greed import Greed
from dynamo_core.testing.history import FAIL, OK, UNKNOWN, Attempt, Trouble
from dynamo_core.testing.plan import KEYS, Step
from dynamo_core.testing.process import Call, Process
from dynamo_core.testing.reuse import Reuse, type_of
from dynamo_core.testing.rotation import Gone, Rotation
from dynamo_core.testing.world import World

LATEST = 1.0
LATER_WRITES_MAX = SUPERSEDED_WRITES_MAX // 2
"""Later writes of the key, twins included, after which S-REQ-1 still knows a request."""
SPACE_S, CALM_S = 0.05, 0.7
VALUES_OF_OTHERS = 10_000
"""A second ring numbers its values from here, so no value is of both rings."""
EXPLAINED = 4
"""One read in this number asks for an explanation."""
Then = Callable[[Attempt, str], None]


class Clients(Attempts):
    """Carries out the plan's steps."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._contexts: dict[bytes, list[tuple[str, list[int]]]] = {}
        self._values = 0
        self._free_at = 0.0
        self._who = ""
        """The client of the step that begins."""
        self._greed = Greed(world)
        self._rotation = Rotation(world)
        self._reuse = Reuse(world, self.submit, self._fresh_value)
        self._entries: list[tuple[Process, Call]] | None = None
        """The calls of the turn that is being prepared."""
        self._batches = world.plan.lag_s > 0 or any(step.joined for step in world.plan.steps)
        """Whether operations may share one batch of the store."""
        self._doubles = bool(world.plan.weather.duplicate or world.plan.weather.late)

    def known_contexts(self) -> dict[bytes, list[tuple[str, list[int]]]]:
        """By key, the contexts so far, each with what its client had seen."""
        return {key: list(known) for key, known in self._contexts.items()}

    def go_on_from(
        self, other: Clients, known: dict[bytes, list[tuple[str, list[int]]]], one_secret: bool
    ) -> None:
        """These clients are of a ring of copies, and bring contexts of the other ring."""
        self._contexts = known
        self._values = other._values + VALUES_OF_OTHERS
        names = [process.name for process in self.world.processes]
        self._rotation.go_on_from(other._rotation, names, one_secret)

    def begin(self, steps: list[Step]) -> None:
        """Schedule all steps."""
        self._rotation.begin()
        self.later(steps, self.world.steps_after)

    def later(self, steps: list[Step], after_s: float) -> None:
        """Schedule these steps; their times count from so many seconds after now."""
        turns: list[list[Step]] = []
        for step in steps:
            last = turns[-1][0] if turns else None
            if step.joined and last and (step.at, step.node) == (last.at, last.node):
                turns[-1].append(step)
            else:
                turns.append([step])
        for turn in turns:
            self.world.later(turn[0].at + after_s, partial(self._turn, turn))

    def _turn(self, steps: list[Step]) -> None:
        """All these steps in one entry of the node, in their order."""
        if len(steps) == 1:
            return self._step(steps[0])
        world = self.world
        entries = self._entries = []
        for step in steps:
            self._step(step)
        self._entries = None
        if not entries:
            return None
        world.count("several operations in one turn")
        if len({step.key for step in steps}) < len(steps):
            world.count("one key twice in a turn")

        def begin() -> None:
            for _, call in entries:
                call()

        return world.enter(entries[0][0], begin)

    def _step(self, step: Step) -> None:
        self._who = step.client
        self._begin(step)
        self._who = ""

    def _begin(self, step: Step) -> None:
        key = self.world.plan.keys[step.key % KEYS]
        process = self.world.processes[step.node % len(self.world.processes)]
        if step.kind == "get":
            self.get(process, key, step.r, step.strict)
        elif step.kind in ("update", "remove"):

            def write(read: Attempt, context: str) -> None:
                if read.outcome == OK:
                    covered = [self.world.value_of.get((key, data), 0) for data in read.shown]
                    self._write(step, process, key, (context, covered))

            self.get(process, key, step.r, step.strict, then=write)
        else:
            known = self._contexts.get(key, [])
            chosen: tuple[str, list[int]] = ("", [])
            if known and step.context >= 0:
                at = -1 if step.context == LATEST else int(step.context * len(known))
                chosen = known[at]
            self._write(step, process, key, chosen)

    def look(self) -> None:
        """Reads while nodes rebuild their data: a missing record must not read as "not found"."""
        world = self.world
        for process in world.processes:
            key = world.rng.choice(world.plan.keys)
            self.get(process, key, world.rng.randint(1, world.plan.n), world.rng.random() < 0.5)

    def write_everywhere(self) -> None:
        """After healing, every node must accept every put (C8)."""
        world = self.world
        serving = [p for p in world.processes if p.node is not None and p.node.member]
        for process, key in zip(serving, world.plan.keys, strict=False):
            ring = process.node.ring  # type: ignore[union-attr]
            owners = ring.entries[partition_of(store_key(key), ring.partition_bits)].owners
            w = min(world.plan.n, len(ring.live(owners)))
            step = Step(at=0.0, kind="put", key=0, node=0, w=w, strict=True)
            known = self._contexts.get(key, [("", [])])[-1]
            self.in_turn(partial(self._write, step, process, key, known))

    def in_turn(self, call: Callable[[], None]) -> None:
        """Calls now, or one after another if a node accepts few operations at once."""
        world = self.world
        if world.plan.in_flight_max < KEYS * len(world.processes):
            self._free_at = max(self._free_at, world.now) + SPACE_S
            world.later(self._free_at - world.now, call)
        else:
            call()

    def wait(self) -> None:
        """Waits until the operations under way are answered and their repairs done."""
        self.world.run_until(max(self._free_at, self.world.now) + CALM_S)

    # ------------------------------------------------------------ operations

    def get(
        self,
        process: Process,
        key: bytes,
        r: int,
        strict: bool | None,
        final: bool = False,
        then: Then | None = None,
    ) -> None:
        """Read one key through a node; `then` is called with the attempt and the context."""
        plan = self.world.plan
        attempt = Attempt(
            kind="get",
            key=key,
            node=process.name,
            r=r or plan.r,
            final=final,
            due=final or plan.quiet,
        )
        explain = self._serials % EXPLAINED == 0
        operation = Get(key=key, r=r, strict=strict, timeout_s=TIMEOUT_S, explain=explain)

        def answered(outcome: Outcome | None) -> None:
            context = ""
            if outcome is not None and outcome.status in (200, 404):
                attempt.outcome = OK
                context = self._learn(attempt, outcome)
            else:
                attempt.outcome = FAIL if outcome is not None else UNKNOWN
            if then is not None:
                then(attempt, context)

        self.submit(process, attempt, operation, answered)

    def _fresh_value(self) -> int:
        self._values += 1
        return self._values

    def _write(
        self, step: Step, process: Process, key: bytes, known: tuple[str, list[int]]
    ) -> None:
        value = self._fresh_value()
        deletes = step.kind in ("delete", "remove")
        length = max(step.bytes, value * 7 % 23)
        sent = b"" if deletes else b"v%d%s" % (value, b"." * length)
        request_id = f"request-{value}" if step.named else ""
        self.world.written.append((key, value))
        if sent or request_id:
            self.world.value_of[key, sent or request_id] = value
        self._put(step, process, (key, value, sent, request_id), known, False)

    def _put(
        self,
        step: Step,
        process: Process,
        event: tuple[bytes, int, bytes, str],
        known: tuple[str, list[int]],
        again: bool,
    ) -> None:
        key, value, sent, request_id = event
        text, covered = known
        context: Context | None = None
        refused = False
        if text:
            try:
                context = self._rotation.unseal(process.name, key, text)
            except Gone:
                if again:
                    return
                text, covered = known = "", []
            except BadContext:
                refused = True
        later = again and sum(k == key and v > value for k, v in self.world.written)
        if again and (self.world.healed or later > LATER_WRITES_MAX):
            return
        plan = self.world.plan
        deletes = step.kind in ("delete", "remove")
        attempt = Attempt(
            kind="delete" if deletes else "put",
            key=key,
            node=process.name,
            value=value,
            sent=sent,
            covered=list(covered),
            known=bool(text) or not deletes,
            r=step.r or plan.r,
            w=step.w or plan.w,
            dw=min(plan.dw, step.w or plan.w),
            expires=step.expires,
            due=plan.quiet or (self.world.converged and "overload" not in plan.families),
        )
        if refused:
            attempt.outcome, attempt.status, attempt.problem = FAIL, 400, "bad-context"
            self.world.events.append(attempt)
            return
        if context is not None and context.node != process.name:
            self.world.count("context used through another node")
        operation = self._operation(step, attempt, context, request_id)

        def answered(outcome: Outcome | None) -> None:
            told = False
            if outcome is not None and attempt.known:
                told = self.world.acknowledged(value, sent, context, outcome)
            self._put_answered(attempt, outcome, told)
            failed = attempt.outcome != OK and attempt.status != 409
            self._reuse.after(step, attempt, operation)
            if again and not failed:
                self.world.count("retry under the same request id succeeded")
            if failed and step.retry >= 0 and not again and not self.world.healed:
                other = self.world.processes[step.retry % len(self.world.processes)]
                self.world.count("retried under the same request id")
                self.world.later(step.retry_s, lambda: self._put(step, other, event, known, True))

        self.submit(process, attempt, operation, answered)

    def _operation(
        self, step: Step, attempt: Attempt, context: Context | None, request_id: str
    ) -> Put:
        return Put(
            key=attempt.key,
            value=None if attempt.kind == "delete" else attempt.sent,
            context=context,
            request_id=request_id,
            w=step.w,
            dw=attempt.dw if step.w else 0,
            strict=step.strict,
            timeout_s=TIMEOUT_S,
            answer_record=step.show,
            content_type=type_of(attempt.sent),
            expires_in_s=step.expires_s,
            expires_ms=absolute_ms(self.world.now, step.until_s),
        )

    def _put_answered(self, attempt: Attempt, outcome: Outcome | None, told: bool) -> None:
        if outcome is None:
            attempt.outcome = UNKNOWN
        elif outcome.status < 300:
            attempt.outcome = OK
            self._learn(attempt, outcome)
            if outcome.acks is not None:
                # Without acks there was no value to delete.
                self._count_holders(attempt, told)
        elif outcome.status < 500 and outcome.node != attempt.node and self._doubles:
            # The forwarded put may have come twice and been stored; TCP repeats no frame.
            attempt.outcome = UNKNOWN
        elif outcome.status < 500 or outcome.applied == "no":
            attempt.outcome = FAIL
        else:
            attempt.outcome = UNKNOWN

    def _learn(self, attempt: Attempt, outcome: Outcome) -> str:
        """Keep the context, and what the client knows from it."""
        attempt.shown = [s.value for s in outcome.values if s.value is not None]
        if any(s.content_type != type_of(s.value or b"") for s in outcome.values):
            self.world.events.append(Trouble("C14", f"content types of {outcome.values}"))
        if outcome.context is None:
            return ""
        key = attempt.key
        covered = [self.world.value_of.get((key, data), 0) for data in attempt.shown]
        if attempt.kind != "get" and not attempt.shown:
            covered = [attempt.value]
        text = self._rotation.seal(attempt.node, key, outcome.context)
        self._contexts.setdefault(key, []).append((text, covered))
        return text

    def _count_holders(self, attempt: Attempt, told: bool) -> None:
        """C7, checked when the ack arrives: which disks hold the put, or held it until they were
        lost. `told`: the answer shows the put's dot."""
        world = self.world
        value = attempt.value
        unseen = attempt.kind == "delete" and value not in world.dots_of
        shared = value in world.shared_ids
        if world.plan.lossy or unseen or shared or (self._batches and not told):
            # In lossy rings a later stamp may replace a put at once. In a shared batch, a put may
            # be superseded before any record shows its dot, only its twin's dot may be known, and
            # the answer to a delete without a context does not show it. A delete without an id has
            # no name.
            return
        attempt.holders = attempt.synced = 0
        for process in world.processes:
            if world.lost_with(process.name, value):
                attempt.holders += 1
                attempt.synced += 1
            elif world.holds(process.disk, attempt.key, value):
                attempt.holders += 1
                attempt.synced += world.holds(process.disk, attempt.key, value, durable=True)
