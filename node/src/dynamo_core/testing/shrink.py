"""Makes a failing plan small: drops operations, then faults, then nodes, while it fails alike."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import msgspec

from dynamo_core.testing.plan import Plan
from dynamo_core.testing.simulation import run

T = TypeVar("T")
NODES_MIN = 3


def claims_of(plan: Plan) -> set[str]:
    """The claims that the plan breaks."""
    return {violation.claim for violation in run(plan).violations}


def shrink(plan: Plan, seconds_max: float = 60.0) -> Plan:
    """The smallest plan found in the time that still breaks one of the same claims."""
    wanted = claims_of(plan)
    deadline = monotonic() + seconds_max

    def fails(candidate: Plan) -> bool:
        return monotonic() < deadline and bool(claims_of(candidate) & wanted)

    def with_steps(steps: list[object]) -> Plan:
        return msgspec.structs.replace(plan, steps=steps)

    def with_faults(faults: list[object]) -> Plan:
        return msgspec.structs.replace(plan, faults=faults)

    if not wanted:
        return plan
    plan = with_steps(_fewer(list(plan.steps), lambda steps: fails(with_steps(steps))))
    plan = with_faults(_fewer(list(plan.faults), lambda faults: fails(with_faults(faults))))
    while plan.nodes > max(NODES_MIN, plan.n):
        fewer = msgspec.structs.replace(plan, nodes=plan.nodes - 1)
        if not fails(fewer):
            break
        plan = fewer
    return plan


def _fewer(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """Delta debugging: leaves out smaller and smaller slices while the plan still fails."""
    size = max(1, len(items) // 2)
    while items:
        at, dropped = 0, False
        while at < len(items):
            candidate = items[:at] + items[at + size :]
            if fails(candidate):
                items, dropped = candidate, True
            else:
                at += size
        if size == 1 and not dropped:
            break
        size = max(1, size // 2)
    return items
