"""C18: the operator may die. It is killed before and after its requests, killed again and again,
and two run at once: each schedule ends in the state of the undisturbed one.

This file runs a part of the schedules; `schedules.py` tries all kills, and as many more as asked.
"""

from __future__ import annotations

import pytest

from dynamo_operator.snapshot import NODE_STATE
from tests.dynamo_operator.schedules import ended, killed_again, killed_at_each, once, two_at_once
from tests.dynamo_operator.stories import STORIES
from tests.dynamo_operator.world import World

EVERY = 13
"""Coprime to the two points of a request, so both are tried."""


@pytest.mark.parametrize("name", STORIES)
def test_every_schedule_ends_alike(name: str) -> None:
    wanted, points = once(name)
    for worlds in (killed_at_each(points, EVERY), killed_again(2), two_at_once(2)):
        for world in worlds:
            assert ended(name, world) == wanted, (world.kills, world.seed)


def claims(world: World) -> dict[str, str | None]:
    """Claims and their members."""
    return {
        name: item["metadata"].get("annotations", {}).get(NODE_STATE)
        for name, item in world.found("PersistentVolumeClaim").items()
    }


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("scale down", {"data-cart-3": "LEFT", "data-cart-4": "LEFT"}),
        ("scale down and delete claims", {}),
    ],
)
def test_claims_of_nodes_that_left(name: str, beyond: dict[str, str | None]) -> None:
    """Kept and marked, or deleted if asked; never deleted unless the node has left."""
    for world in (World(), *killed_again(5), *two_at_once(2)):
        ended(name, world)
        members = {f"data-cart-{ordinal}": "MEMBER" for ordinal in range(3)}
        assert claims(world) == members | beyond, (world.kills, world.seed)


def test_claims_that_somebody_else_made_are_kept() -> None:
    """They held no data; how many there are depends on how soon the set is put back."""
    for world in (World(), *killed_again(5), *two_at_once(2)):
        ended("scaled up by somebody else", world)
        beyond = {n: s for n, s in claims(world).items() if int(n.rpartition("-")[2]) >= 3}
        assert beyond and set(beyond.values()) == {None}, (world.kills, world.seed)
        deleted = [what for what in world.log if what.startswith("delete PersistentVolumeClaim")]
        assert deleted == [], (world.kills, world.seed)


def test_a_pod_that_will_leave_is_not_updated_first() -> None:
    """It would restart only to hand over its partitions."""
    world = World()
    ended("update and shrink at once", world)
    evicted = [what for what in world.log if what.startswith("evict")]
    assert evicted == ["evict cart-2", "evict cart-1", "evict cart-0"]
