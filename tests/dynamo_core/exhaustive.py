"""The fewest moves to a balanced placement, by an exhaustive search: for small rings."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import ceil, floor

from dynamo_core.ring.placement import shares, zone_cap

Members = dict[str, tuple[str, int]]
Owners = tuple[tuple[str, ...], ...]


def moves(before: Owners, after: Owners) -> int:
    return sum(len(set(new) - set(old)) for old, new in zip(before, after, strict=True))


def fewest_moves(members: Members, before: Owners, n: int) -> int:
    """Every placement that keeps the rules, by exhaustive search over loads."""
    partitions = len(before)
    cap = zone_cap(members, partitions, n)
    share = shares(members, partitions, n, cap)
    names = sorted(members)
    rows = [
        row
        for row in combinations(range(len(names)), n)
        if max(Counter(members[names[i]][0] for i in row).values()) <= cap
    ]
    states = {(0,) * len(names): 0}
    for old in before:
        following: dict[tuple[int, ...], int] = {}
        for load, cost in states.items():
            for row in rows:
                after = tuple(x + (i in row) for i, x in enumerate(load))
                if any(after[i] > ceil(share[names[i]]) for i in row):
                    continue
                total = cost + sum(names[i] not in old for i in row)
                following[after] = min(total, following.get(after, total))
        states = following
    least = [floor(share[name]) for name in names]
    return min(
        cost
        for load, cost in states.items()
        if all(x >= y for x, y in zip(load, least, strict=True))
    )
