"""A deliberate fault in counting durable copies, and the history that shows it (S-RW-3)."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.protocol.operations import Acks
from dynamo_core.request.put import PutOperation
from dynamo_core.testing.town import SETTINGS, Town
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant

MIXED = "a node that keeps nothing beside two disks"
LADDER_OF |= {"memory counts as durable": MIXED}
KEY = b"cart"


@ladder(MIXED)
def two_disks_and_a_memory() -> None:
    """A coordinator with a disk counts disks; there are not three of them."""
    town = Town("a b c")
    town.kill("c")
    town.settings = msgspec.structs.replace(SETTINGS, volatile=True)
    town.start("c")
    town.run(3.0)
    put = town.put("a", KEY, b"v", w=3, dw=2)
    assert (put.status, put.acks) == (204, Acks(3, 3, 0, 2))
    put = town.put("a", KEY, b"v", w=3, dw=3)
    assert (put.status, put.problem, put.acks) == (503, "quorum-not-met", Acks(3, 3, 0, 2))


@mutant("memory counts as durable")
def _() -> list[Patch]:
    def worth(self: Any, node: str, target: str, flags: int) -> int:
        return flags

    return [(PutOperation, "_worth", worth)]
