"""A client that wants all of a node, together with one that wants little (T-5).

The greedy client asks for slow operations while one node is frozen; the modest client asks now and
then. A client without an operation under way at a node is refused there only if no slot is free,
and no client ever holds almost all slots.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from dynamo_core.testing.evidence import Evidence
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.plan import KEYS, READY_S, Plan, Step

GREEDY, MODEST = "greedy", "modest"
SLOTS = 18
ALONE = 16
"""The number of these slots that one client may hold: eight ninths."""


class Greed:
    """The operations under way by client and node, counted independently of the node."""

    def __init__(self, world: Evidence) -> None:
        self._world = world
        self._held: Counter[tuple[str, int, str]] = Counter()

    def begin(self, name: str, life: int, client: str) -> None:
        """A client asks the node."""
        if client:
            self._held[name, life, client] += 1

    def end(self, name: str, life: int, client: str) -> None:
        """The node has answered the client."""
        if client:
            self._held[name, life, client] -= 1

    def judge(self, place: tuple[str, int, str], refused: bool, free: int) -> None:
        """Called right after a client has asked."""
        client, held = place[2], self._held[place]
        if not client:
            return
        if client == GREEDY and refused:
            self._world.count("a greedy client was refused")
        if client == MODEST and not refused and self._held[(*place[:2], GREEDY)] >= ALONE:
            self._world.count("a modest client was served beside a greedy one")
        detail = ""
        if refused and not held and free > 0:
            detail = f"{place[0]} refuses {client}, who has nothing there, with {free} slots free"
        elif held > ALONE:
            detail = f"{client} has {held} of {SLOTS} slots of {place[0]}"
        if detail:
            self._world.events.append(Trouble("T-5", detail))


def greedy(rng: Random, plan: Plan) -> list[Step]:
    """The steps of both clients, and the freeze."""
    plan.nodes = rng.choice((3, 4))
    plan.n, plan.r, plan.w, plan.dw = 3, 2, 2, 1
    plan.in_flight_max = SLOTS
    plan.families = [f for f in plan.families if f != "overload"]
    frozen = rng.randrange(plan.nodes)
    node = (frozen + 1) % plan.nodes
    steps = []
    for at in (1.0, 4.0):
        now = at + rng.random()
        plan.faults.append(Fault(READY_S + now - 0.1, "pause", frozen, lasts=2.0))
        if at > 1.0:  # the node itself is late when its gets might ask more (S-RW-9)
            plan.faults.append(Fault(READY_S + now - 0.01, "pause", node, lasts=0.1))
            for index in range(6):
                step = Step(now - 0.03 + 0.001 * index, "get", rng.randrange(KEYS), node, r=2)
                steps.append(step)
        for index in range(2 * SLOTS):
            step = Step(now + 0.001 * index, "get", rng.randrange(KEYS), node, r=3, strict=True)
            step.client = GREEDY
            steps.append(step)
        for index in range(12):
            kind = rng.choice(("get", "put"))
            step = Step(now + 0.05 + 0.07 * index, kind, rng.randrange(KEYS), node, r=1, w=1)
            step.client = MODEST
            steps.append(step)
    plan.ends_at = 8.0
    return steps
