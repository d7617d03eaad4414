"""Hard states that an answer shows: counted, so that a long run can tell what it never met."""

from __future__ import annotations

from dynamo_core.ids import partition_of, store_key
from dynamo_core.node import Node
from dynamo_core.operations import Acks, Outcome
from dynamo_core.testing.history import OK, Attempt
from dynamo_core.testing.world import World

NOT_FOUND = 404


def sight(world: World, node: Node, attempt: Attempt, outcome: Outcome) -> None:
    """Look at one answer of `node`."""
    if attempt.outcome == OK and attempt.kind == "get":
        _read(world, node, attempt, outcome)
    elif attempt.outcome == OK:
        _written(world, node, attempt, outcome)


def _read(world: World, node: Node, attempt: Attempt, outcome: Outcome) -> None:
    if len(attempt.shown) > 1:
        world.count("siblings returned")
    if len(attempt.shown) > 2:
        world.count("three siblings returned")
    if outcome.status == NOT_FOUND and outcome.context is not None:
        world.count("404 over a tombstone")
    why = outcome.explanation
    if why is not None:
        answered = {line.node for line in why.asked} | {line["node"] for line in why.skipped}
        if not answered.issuperset(node.preference.list(why.partition)):
            world.count("hedged read answered first")


def _written(world: World, node: Node, attempt: Attempt, outcome: Outcome) -> None:
    if attempt.kind == "delete" and not attempt.known:
        world.count("delete without context")
    elif attempt.kind == "delete" and not attempt.seen:
        world.count("delete after a 404 with context")
    elif len(attempt.seen) > 1:
        world.count("siblings superseded by one put")
    if outcome.acks is not None:
        _acked(world, node, attempt, outcome, outcome.acks)


def _acked(world: World, node: Node, attempt: Attempt, outcome: Outcome, acks: Acks) -> None:
    if not acks.owners:
        world.count("acked with no owner")
    if acks.hinted:
        world.count("acked with a hinted replica")
    if acks.total == 1 and world.plan.n > 1:
        world.count("acked by one node alone")
    partition = partition_of(store_key(attempt.key), node.ring.partition_bits)
    here = outcome.node == node.identity.name
    if not here:
        world.count("put forwarded and answered")
    elif node.name not in node.preference.owners(partition) and acks.owners:
        silent = world.now - attempt.began >= world.settings.hedge_s
        world.count(f"put coordinated by a stand-in after a {SENT[silent]} forward")


SENT = {True: "silent", False: "refused"}
