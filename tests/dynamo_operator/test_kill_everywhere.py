"""C18: the operator may die. Killed before and after its requests, killed again and again, and two
at once: each schedule ends in the state that the undisturbed one ends in.

Here a part of the schedules; `schedules.py` tries all kills, and as many more as asked.
"""

from __future__ import annotations

import pytest
from schedules import ended, killed_again, killed_at_each, once, two_at_once
from stories import STORIES
from world import World

from dynamo_operator.snapshot import NODE_STATE

EVERY = 13
"""Coprime to the two points of a request, so both sides of it are met."""


@pytest.mark.parametrize("name", STORIES)
def test_every_schedule_ends_alike(name: str) -> None:
    wanted, points = once(name)
    for worlds in (killed_at_each(points, EVERY), killed_again(2), two_at_once(2)):
        for world in worlds:
            assert ended(name, world) == wanted, (world.kills, world.seed)


def claims(world: World) -> dict[str, str | None]:
    """Claims and whose they are."""
    return {
        name: item["metadata"].get("annotations", {}).get(NODE_STATE)
        for name, item in world.found("PersistentVolumeClaim").items()
    }


@pytest.mark.parametrize(
    ("name", "beyond"),
    [
        ("scale down", {"data-cart-3": "LEFT", "data-cart-4": "LEFT"}),
        ("scale down and delete claims", {}),
        ("scaled up by somebody else", dict.fromkeys(f"data-cart-{i}" for i in (3, 4, 5))),
    ],
)
def test_claims_of_nodes_that_left(name: str, beyond: dict[str, str | None]) -> None:
    """Kept and marked, or deleted where that is asked for; and never deleted unless a node left."""
    for world in (World(), *killed_again(5), *two_at_once(2)):
        ended(name, world)
        members = {f"data-cart-{ordinal}": "MEMBER" for ordinal in range(3)}
        assert claims(world) == members | beyond, (world.kills, world.seed)


def test_a_pod_that_will_leave_is_not_updated_first() -> None:
    """It would be started again only to hand over what it owns."""
    world = World()
    ended("update and shrink at once", world)
    evicted = [what for what in world.log if what.startswith("evict")]
    assert evicted == ["evict cart-2", "evict cart-1", "evict cart-0"]
