"""People who look inside a simulated ring, together with all other faults (docs/console.md).

The judge checks: a look ends once, and within its time, while its node runs; it changes nothing;
nodes send no look to a node of an older version; the history of watched keys stays within its
bound; after convergence a look shows copies that agree.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from dynamo_core.keys import partition_of, store_key
from dynamo_core.node import Node
from dynamo_core.protocol.look_messages import BODIES, RECORD, Look, decode_body
from dynamo_core.replica.key_history import CHANGE_BYTES
from dynamo_core.ring.document import LEFT
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.plan import READY_S, Plan
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

LOOKED = 0.06
"""In this share of histories people look."""
OLDER = 0.4
"""In this share of these, some nodes are of the version before."""
DAMAGED = 0.3
"""Share of looks before which a record of the asked node is damaged."""
JUST_BEFORE_S = 0.01
SLACK_S = 1.0
CLAIM = "look"
QUESTIONS = ("cluster", "records", "records", "history", "trees", "hints")


class Looked(Surroundings, Protocol):
    """A world with its plan."""

    plan: Plan


def add_to(rng: Random, plan: Plan) -> None:
    """In a few histories people look, and nodes remember what changed each key."""
    if plan.quiet or rng.random() >= LOOKED:
        return
    plan.families.append("looks")
    plan.history_bytes = rng.choice((1, 1500, 1 << 20))
    for _ in range(rng.randint(6, 16)):
        at = rng.uniform(READY_S, READY_S + plan.ends_at)
        node, question = rng.randrange(plan.nodes), rng.randrange(len(QUESTIONS))
        plan.faults.append(Fault(at, "look", node, question, amount=rng.random()))
        if rng.random() < DAMAGED and not plan.lossy:
            plan.faults.append(Fault(at - JUST_BEFORE_S, "corrupt", node, amount=rng.random()))
    if not plan.older and rng.random() < OLDER:
        plan.older = rng.sample(range(plan.nodes), rng.randint(1, max(1, plan.nodes - 1)))
        for node in plan.older:
            at = rng.uniform(READY_S + 0.5, READY_S + plan.ends_at)
            plan.faults.append(Fault(at, "update", node, lasts=0.2))
    plan.faults.sort(key=lambda f: f.at)


def look(world: Looked, process: Process, fault: Fault) -> None:
    """A person asks the node of `process`; `peer` is the question, `amount` chooses a key."""
    node = process.node
    if node is None or process.paused or process.older or not node.member:
        return
    key = world.plan.keys[int(fault.amount * len(world.plan.keys))]
    question = QUESTIONS[fault.peer % len(QUESTIONS)]
    if any(p.older and p.node is not None for p in world.processes):
        world.count("look while a node is of an older version")

    def shown(document: dict[str, Any]) -> None:
        world.count(f"look at {question}")
        if document["no_answer"]:
            world.count("look without the answer of a node")
        if any(copy.get("target") for copy in document.get("copies", ())):
            world.count("look shows a hint")
        if document.get("owners_agree") is False:
            world.count("look shows copies that differ")
        if any(event["parents"] for event in document.get("events", ())):
            world.count("look shows a history with parents")

    ask(world, process, question, key, shown)
    world.enter(process, lambda: _look_alone(world, process, node))


def ask(
    world: Looked,
    process: Process,
    question: str,
    key: bytes,
    shown: Callable[[dict[str, Any]], None],
) -> None:
    """Ask a node, and check that the answer comes once."""
    node = process.node
    assert node is not None
    ended: list[int] = []
    partition = partition_of(store_key(key), node.ring.partition_bits)
    of_key = question in ("records", "history")
    arguments: dict[str, tuple[Any, ...]] = {"trees": (partition,), "hints": (process.name, 9)}

    def done(status: int, document: dict[str, Any]) -> None:
        ended.append(status)
        if len(ended) > 1:
            world.events.append(Trouble(CLAIM, f"{question} was answered twice"))
        elif status == 200:
            shown(document)

    def overdue() -> None:
        if process.node is not node or ended:
            return None
        if process.paused or process.disturbed_at > world.now - world.settings.call_s - SLACK_S:
            return world.later(SLACK_S, overdue)
        return world.events.append(Trouble(CLAIM, f"{process.name} did not answer {question}"))

    call = getattr(node.inside, question)
    given = (key,) if of_key else arguments.get(question, ())
    world.enter(process, lambda: call(*given, done))
    world.later(world.settings.call_s + SLACK_S, overdue)


def _look_alone(world: Looked, process: Process, node: Node) -> None:
    """Asks only this node every question about every key. Nothing on the node may change, also if a
    record is damaged: a look does not give it up, though S-DISK-7 does so elsewhere."""
    if not node.member:
        return
    before = _state(node)
    said: list[Any] = []
    for key in world.plan.keys:
        stored = store_key(key)
        partition = partition_of(stored, node.ring.partition_bits)
        for what in BODIES:
            node.inside.own.answer(Look(0, what, partition, stored, process.name, 9), said.append)
            if what == RECORD and decode_body(RECORD, said[-1].body).damaged:
                world.count("look at a damaged record")
    if len(said) != len(BODIES) * len(world.plan.keys) or _state(node) != before:
        world.events.append(Trouble(CLAIM, f"a look has changed {process.name}"))
    bounded(world, process)


def _state(node: Node) -> tuple[Any, ...]:
    """The state that a node must not change when it only answers."""
    changes = [dict(family) for family in node.write_batch.changes]
    replica = node.replica
    return changes, set(replica.damaged), set(replica.marks), node.hints.by_name()


def bounded(world: Looked, process: Process) -> None:
    """The history of a node has at most the bytes of its setting."""
    history = process.node.replica.history if process.node is not None else None
    if history is None:
        return
    size = sum(CHANGE_BYTES + len(key) + len(data) for key, data in history._kept)
    if size > world.settings.history_bytes_max or size != history.bytes:
        world.events.append(Trouble(CLAIM, f"{process.name} remembers {size} bytes of changes"))
    if history.dropped:
        world.count("history forgot its oldest change")


def agreed(world: Looked) -> None:
    """After convergence: all members answer, and the copies of every key are equal."""
    if "looks" not in world.plan.families:
        return
    for process in world.processes:
        bounded(world, process)
    asked = [p for p in world.processes if p.node is not None and p.node.member]
    if not asked or any(p.older for p in world.processes):
        return
    first = asked[0]
    assert first.node is not None
    ring = first.node.ring
    if len(ring.live_names()) != len(asked) or any(m.state == LEFT for m in ring.members.values()):
        return  # a member that has left may still be down

    def shown(document: dict[str, Any]) -> None:
        world.count("look after convergence")
        siblings = [s for c in document["copies"] for s in c["siblings"]]
        if document["without"] and all(s["kind"] == "tombstone" for s in siblings):
            # A round was committed meanwhile: its members drop the tombstone one after the other.
            return world.count("look while a round forgets")
        odd = [c for c in document["copies"] if c["lacks"] or c["superseded"]]
        if document["no_answer"] or odd or not document["owners_agree"]:
            world.events.append(Trouble(CLAIM, f"after convergence: {document}"))
        return None

    for key in world.plan.keys:
        ask(world, first, "records", key, shown)
