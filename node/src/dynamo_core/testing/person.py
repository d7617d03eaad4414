"""A person who approves the replacement of lost disks, and the approvals (S-MEM-6)."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from dynamo_core.membership.bootstrap import REACH_S
from dynamo_core.ring.document import LEFT, Ring
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.plan import KEYS, Plan, Step
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

AGAIN_S = 1.0
"""After healing, the person asks at this interval until no disk waits."""


class PromiseGiven(NamedTuple):
    """The content of a node's 202 answer to the person."""

    name: str
    lost: int
    at: float


class Person:
    """Approves at any member, and knows the approvals that are valid."""

    def __init__(self, world: Surroundings) -> None:
        self.world = world
        self._given: list[PromiseGiven] = []
        self._lives: set[tuple[str, int]] = set()

    def approve(self, lost: Process, at: Process) -> None:
        """Asks the node of `at` to let an empty disk take the place of `lost`."""
        world, node = self.world, at.node
        if node is None or at.paused or not node.member or lost.name not in node.ring.members:
            return
        line = node.ring.members[lost.name]

        def answered(status: int, body: dict[str, Any]) -> None:
            world.note(f"{at.name} answers {status} to the replacement of {lost.name}")
            if status == 202:
                self._given.append(PromiseGiven(lost.name, line.id, world.now))
            if status == 202 and node.up(lost.name):
                detail = f"{at.name} hears {lost.name}, and approves its replacement"
                world.events.append(Trouble("S-MEM-6", detail))

        world.enter(at, lambda: node.admin.replace(lost.name, answered))

    def insist(self) -> None:
        """Approves waiting disks again and again, until none waits."""
        waiting = [
            p for p in self.world.processes if p.node is not None and p.node.ring_or_none is None
        ]
        for lost in waiting:
            for process in self.world.processes:
                self.approve(lost, process)
        if waiting:
            self.world.later(AGAIN_S, self.insist)

    def ring_changed(self, before: Ring, after: Ring) -> None:
        """A name has another life: a valid approval must exist for it, and is used up."""
        world = self.world
        for name, line in after.members.items():
            old = before.members.get(name)
            if old is None or old.id == line.id or LEFT in (old.state, line.state):
                continue
            self._lives.add((name, old.id))  # a disk that was rolled back may show it again
            if (name, line.id) in self._lives:
                continue
            self._lives.add((name, line.id))
            since = world.now - world.settings.approval_s - 2 * REACH_S
            fitting = [g for g in self._given if g[:2] == (name, old.id) and g.at >= since]
            if not fitting:
                detail = f"{name} was replaced without the approval of a person"
                world.events.append(Trouble("S-MEM-6", detail))
            self._given = [g for g in self._given if g not in fitting]


def approved(rng: Random, plan: Plan) -> list[Step]:
    """The mix of that name: a disk is lost, approved and lost again; or approved too early; or so
    long before that the approval has lapsed. A disk that waits at the end waits for the person."""
    plan.approved = True
    plan.n = min(3, plan.nodes)
    victim = rng.randrange(plan.nodes)
    other = (victim + rng.randrange(1, plan.nodes)) % plan.nodes
    first = rng.uniform(2.0, 3.0)
    plan.faults = [Fault(first - 0.5, "approve", victim, other)]
    if rng.random() < 0.5:
        told = first + rng.uniform(3.5, 4.5)
        again = told + rng.uniform(3.0, 4.0)
        plan.faults += [
            Fault(first, "wipe", victim, lasts=0.2),
            Fault(told, "approve", victim, other),
            Fault(again, "wipe", victim, lasts=0.2),
        ]
    else:
        back = first + 6.0
        again = back + rng.uniform(2.5, 3.5)
        plan.faults += [
            Fault(first, "crash", victim, lasts=6.0),
            Fault(first + rng.uniform(3.5, 4.5), "approve", victim, other),
            Fault(again, "wipe", victim, lasts=0.2),
        ]
    plan.ends_at = again + 5.0
    return [
        Step(rng.uniform(0.2, plan.ends_at), kind, at % KEYS, rng.randrange(plan.nodes))
        for at, kind in enumerate(("put", "get") * 12)
    ]
