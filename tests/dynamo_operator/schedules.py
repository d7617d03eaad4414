"""C18, the schedules: which operator is killed when, and that all schedules end alike.

Run as a program, it tries every kill of every story and many random schedules, and prints the
numbers: `python -m tests.dynamo_operator.schedules [random schedules a story [every so-manieth
kill]]`.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tests.dynamo_operator.stories import STORIES
from tests.dynamo_operator.world import World

POINTS_MAX = 5000


def ended(name: str, world: World) -> dict[str, Any]:
    """The end of a story; checks that nothing forbidden has happened before it."""
    asyncio.run(world.play(STORIES[name]))
    assert not world.ring.wrong, world.ring.wrong[:3]
    return world.end()


def once(name: str) -> tuple[dict[str, Any], int]:
    """The end of the undisturbed story, and the number of points for a kill."""
    world = World()
    return ended(name, world), world.points


def killed_at_each(points: int, every: int = 1) -> Iterator[World]:
    """The operator dies once: before or after each of its requests that change something."""
    for point in range(1, points + 1, every):
        yield World(frozenset({point}))


def killed_again(seeds: int) -> Iterator[World]:
    """About every fourth request is the last one of its operator."""
    for seed in range(seeds):
        draw = random.Random(seed)
        yield World(frozenset(p for p in range(POINTS_MAX) if draw.random() < 0.25))


def two_at_once(seeds: int) -> Iterator[World]:
    """Each has its own pace and sometimes stalls between look and act; in every other schedule they
    are killed as well."""
    for seed in range(seeds):
        draw = random.Random(seed)
        share = 0.05 if seed % 2 else 0.0
        kills = frozenset(p for p in range(POINTS_MAX) if draw.random() < share)
        yield World(kills, seed=seed)


def try_all(name: str, seeds: int, every: int) -> tuple[str, int, int, list[str]]:
    """Points and schedules of one story, and those with another end."""
    wanted, points = once(name)
    tried, wrong = 0, []
    for worlds in (killed_at_each(points, every), killed_again(seeds), two_at_once(seeds)):
        for world in worlds:
            tried += 1
            try:
                if ended(name, world) != wanted:
                    wrong.append(f"another end: {sorted(world.kills)[:3]} {world.seed}")
            except AssertionError as error:
                wrong.append(f"{sorted(world.kills)[:3]} {world.seed}: {error}"[:400])
    return name, points, tried, wrong


def main() -> int:
    """Exit 0 if every schedule of every story has ended like the undisturbed one."""
    seeds, every = (int(given) for given in [*sys.argv[1:3], *("25", "1")[len(sys.argv) - 1 :]])
    total, bad = 0, 0
    with ProcessPoolExecutor(2) as pool:
        for name, points, tried, wrong in pool.map(
            try_all, STORIES, [seeds] * len(STORIES), [every] * len(STORIES)
        ):
            total, bad = total + tried, bad + len(wrong)
            told = "one end" if not wrong else f"{len(wrong)} WRONG: {wrong[:3]}"
            print(f"{name:36} {points:4} requests {tried:5} schedules  {told}", flush=True)
    print(f"{len(STORIES)} stories, {total} schedules tried, {bad} ended otherwise")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
