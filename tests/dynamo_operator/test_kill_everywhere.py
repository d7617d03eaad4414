"""C18: the operator may die. Killed before and after its requests, killed again and again, and two
at once: each schedule ends in the state that the undisturbed one ends in.

Here a part of the schedules; `schedules.py` tries all kills, and as many more as asked.
"""

from __future__ import annotations

import pytest
from schedules import ended, killed_again, killed_at_each, once, two_at_once
from stories import STORIES

EVERY = 13
"""Coprime to the two points of a request, so both sides of it are met."""


@pytest.mark.parametrize("name", STORIES)
def test_every_schedule_ends_alike(name: str) -> None:
    wanted, points = once(name)
    for worlds in (killed_at_each(points, EVERY), killed_again(2), two_at_once(2)):
        for world in worlds:
            assert ended(name, world) == wanted, (world.kills, world.seed)
