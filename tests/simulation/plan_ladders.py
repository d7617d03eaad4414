"""Stored plans as ladders: faults that long runs met, and what was mended for them left out again.

Random seeds meet each of these states once in tens of thousands of histories.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ladders import ladder
from mutants import LADDER_OF, Patch, mutant

from dynamo_core import coordination, post, replica
from dynamo_core.codec import encode_record
from dynamo_core.errors import NotHere
from dynamo_core.testing.plan import load_plan
from dynamo_core.testing.simulation import run
from dynamo_core.versions import EMPTY

SEEDS = Path(__file__).with_name("seeds")


def _holds(name: str) -> Callable[[], None]:
    def hold() -> None:
        assert run(load_plan(SEEDS / f"{name}.json")).violations == []

    return hold


for stored in (
    "answers_to_two_lives_at_one_address",
    "delete_retried_where_nothing_is",
    "read_after_a_switch_to_one_that_joins",
):
    ladder(stored.replace("_", " "))(_holds(stored))


@mutant("one frame to each address")
def _() -> list[Patch]:
    original = post.Post.frames
    return [(post.Post, "frames", lambda self: list(dict(original(self)).items()))]


@mutant("a retried delete is acked by whoever has nothing of it")
def _() -> list[Patch]:
    original = coordination.Coordination.coordinate

    def coordinate(self: Any, put: Any, stored: bytes, target: str, *rest: Any) -> Any:
        try:
            return original(self, put, stored, target, *rest)
        except NotHere:
            empty = encode_record(put.key, EMPTY)
            self.replica.take(stored, empty, target)
            return coordination.Minted(stored, empty, put.context.history, 0)

    return [(coordination.Coordination, "coordinate", coordinate)]


@mutant("a receiver switches before its numbers are compared")
def _() -> list[Patch]:
    original = replica.Replica.provable

    def provable(self: Any, partition: int, others: Any) -> bool:
        return not self.flags(partition) & replica.OWNER or original(self, partition, others)

    return [(replica.Replica, "provable", provable)]


LADDER_OF |= {
    "a receiver switches before its numbers are compared": "read after a switch to one that joins",
    "a retried delete is acked by whoever has nothing of it": "delete retried where nothing is",
    "one frame to each address": "answers to two lives at one address",
}
