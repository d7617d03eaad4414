"""Counts hard states that answers show, so that a long run can tell which it never reached."""

from __future__ import annotations

from dynamo_core.keys import partition_of, store_key
from dynamo_core.node import Node
from dynamo_core.protocol.operations import Acks, Outcome
from dynamo_core.testing.history import OK, Attempt
from dynamo_core.testing.world import World

NOT_FOUND = 404


def sight(world: World, node: Node, attempt: Attempt, outcome: Outcome) -> None:
    """Examine one answer of `node`."""
    attempt.earliest_ms = world.clocks.earliest_ms(attempt.began)
    attempt.latest_ms = world.clocks.latest_ms
    for sibling in outcome.values:
        if sibling.value is not None:
            world.judge_expiry(world.value_of.get((attempt.key, sibling.value), 0), sibling)
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
    if attempt.final and any(sibling.expires_ms for sibling in outcome.values):
        world.count("expiring value shown at the end")
    if world.expiring:
        _expired(world, node, attempt)
    why = outcome.explanation
    if why is not None:
        answered = {line.node for line in why.asked} | {line["node"] for line in why.skipped}
        if not answered.issuperset(node.preference.list(why.partition)):
            world.count("hedged read answered first")


def _expired(world: World, node: Node, attempt: Attempt) -> None:
    """Values that the asked node itself holds and does not show."""
    disks = [process.disk for process in world.processes if process.node is node]
    held = [s for disk in disks for s in world.siblings_on(disk, attempt.key)]
    if any(s.value is not None and not s.live(node.wall_ms) for s in held):
        world.count("expired value behind a read")
        if attempt.shown:
            world.count("expired sibling beside a living one")


def _written(world: World, node: Node, attempt: Attempt, outcome: Outcome) -> None:
    if attempt.kind == "delete" and not attempt.known:
        world.count("delete without context")
    elif attempt.kind == "delete" and not attempt.covered:
        world.count("delete after a 404 with context")
    elif len(attempt.covered) > 1:
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
        if attempt.expires:
            world.count("expiring put forwarded and answered")
    elif node.name not in node.preference.owners(partition) and acks.owners:
        silent = world.now - attempt.began >= world.settings.hedge_s
        world.count(f"put coordinated by a stand-in after a {SENT[silent]} forward")


SENT = {True: "silent", False: "refused"}
