"""C18: the operator may die. Killed before and after every request of every story, killed again and
again, and two at once: each schedule ends in the state that the undisturbed one ends in.

`SCHEDULES` says how many of the kills of each story are tried, spread over it; all when it is 0.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from stories import STORIES
from world import Scene, World

SCHEDULES = int(os.environ.get("SCHEDULES", "40"))


def ended(world: World, story: list[Scene]) -> dict[str, Any]:
    """Plays the story to its end; nothing that must not happen has happened."""
    asyncio.run(world.play(story))
    assert not world.ring.wrong
    return world.end()


@pytest.mark.parametrize("name", STORIES)
def test_killed_at_every_request(name: str) -> None:
    story = STORIES[name]
    world = World()
    wanted = ended(world, story)
    points = range(1, world.points + 1)
    step = max(1, len(points) // SCHEDULES) if SCHEDULES else 1
    for point in points[::step]:
        assert ended(World(frozenset({point})), story) == wanted, f"killed at point {point}"
    print(f"{name}: {len(points[::step])} of {len(points)} schedules, one end")


@pytest.mark.parametrize("name", STORIES)
def test_killed_again_and_again(name: str) -> None:
    """Every fourth request or so is the last of its operator."""
    story = STORIES[name]
    wanted = ended(World(), story)
    for seed in range(max(2, SCHEDULES // 10)):
        draw = random.Random(seed)
        kills = frozenset(point for point in range(2000) if draw.random() < 0.25)
        assert ended(World(kills), story) == wanted, f"seed {seed}"


@pytest.mark.parametrize("name", STORIES)
def test_two_at_once(name: str) -> None:
    """Each at its own pace, now and then stalled between its look and its act."""
    story = STORIES[name]
    wanted = ended(World(), story)
    for seed in range(max(2, SCHEDULES // 10)):
        assert ended(World(seed=seed), story) == wanted, f"seed {seed}"
