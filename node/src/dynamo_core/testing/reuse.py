"""Clients that send the request id of one write again with another write (S-REQ-2)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from dynamo_core.errors import RequestIdReused
from dynamo_core.protocol.operations import Outcome, Put
from dynamo_core.testing.history import FAIL, OK, UNKNOWN, Attempt, Ending
from dynamo_core.testing.plan import Plan, Step
from dynamo_core.testing.process import Process
from dynamo_core.testing.world import World

REUSED = 0.06
"""Share of histories with such clients."""
REUSE_S = 0.2
Answered = Callable[[Outcome | None], None]
Submit = Callable[[Process, Attempt, Put, Answered], None]


def add_to(rng: Random, plan: Plan) -> None:
    """In few histories some ids come again after their write is acked."""
    if plan.quiet or rng.random() >= REUSED:
        return
    for step in plan.steps:
        if step.kind in ("put", "update") and rng.random() < 0.5:
            step.named, step.reuse = True, rng.randrange(8)


def type_of(sent: bytes) -> str:
    """The content type that belongs to these bytes, so that a reader notices a wrong one."""
    return f"text/{len(sent)}" if sent else ""


class Reuse:
    """The step after an acked write whose id will come again."""

    def __init__(self, world: World, submit: Submit, fresh_value: Callable[[], int]) -> None:
        self.world = world
        self._submit = submit
        self._fresh_value = fresh_value

    def after(self, step: Step, first: Attempt, operation: Put) -> None:
        """Called with each answer to a write."""
        if step.reuse >= 0 and first.outcome == OK and operation.request_id:
            self.world.later(REUSE_S, lambda: self._again(step, first, operation))

    def _again(self, step: Step, first: Attempt, operation: Put) -> None:
        world, key = self.world, first.key
        if world.healed:
            return
        value = self._fresh_value()
        sent = b"v%d under the id of v%d" % (value, first.value)
        world.written.append((key, value))
        world.value_of[key, sent] = value
        world.shared_ids |= {first.value, value}
        process = world.processes[step.reuse % len(world.processes)]
        attempt = Attempt(
            kind="put",
            key=key,
            node=process.name,
            value=value,
            sent=sent,
            reuses=first.value,
            r=first.r,
            w=first.w,
            dw=first.dw,
        )
        put = msgspec.structs.replace(
            operation,
            value=sent,
            content_type=type_of(sent),
            context=None,
            expires_in_s=0,
            expires_ms=0,
            answer_record=False,
        )

        def answered(outcome: Outcome | None) -> None:
            attempt.outcome = self._ending(attempt, outcome)

        self._submit(process, attempt, put, answered)

    def _ending(self, attempt: Attempt, outcome: Outcome | None) -> Ending:
        """A refusal is certain if the asked node itself has made it. A node that was asked by
        another node may have stored the write at the first call and refused the second."""
        if outcome is None:
            return UNKNOWN
        if outcome.status < 300:
            self.world.count("a reused request id was acked")
            return OK
        if outcome.status >= 500:
            return FAIL if outcome.applied == "no" else UNKNOWN
        if outcome.problem == RequestIdReused.slug:
            self.world.count("a reused request id was refused")
        return FAIL if outcome.node == attempt.node else UNKNOWN
