"""What nodes that keep nothing over a restart are worth to a put (S-RW-3)."""

from __future__ import annotations

import msgspec
import pytest
from town import SETTINGS, Town

from dynamo_core.operations import Acks

KEY = b"cart"
MEMORY = msgspec.structs.replace(SETTINGS, volatile=True)


@pytest.mark.parametrize("dw", [0, 1, 3])
def test_a_ring_in_memory_takes_puts_and_calls_none_durable(dw: int) -> None:
    town = Town("a b c d", settings=MEMORY)
    for name in town.names:
        put = town.put(name, KEY, b"v", w=3, dw=dw)
        assert put.status == 204 and put.acks is not None
        assert (put.acks.total, put.acks.durable) == (3, 0)


def mixed() -> Town:
    """The disk of `c` is memory."""
    town = Town("a b c")
    town.kill("c")
    town.settings = MEMORY
    town.start("c")
    town.run(3.0)
    return town


def test_a_coordinator_in_memory_tells_which_copies_are_durable() -> None:
    town = mixed()
    put = town.put("c", KEY, b"v", w=3, dw=3)
    assert put.status == 204 and put.acks is not None
    assert (put.acks.total, put.acks.durable) == (3, 2)


def test_a_coordinator_with_a_disk_waits_for_no_fsync_of_memory() -> None:
    """Its own fsync stalls, b is down, and c keeps nothing: no other fsync can come."""
    town = mixed()
    town.kill("b")
    town.run(3.0)
    town.stalled.add("a")
    put = town.put("a", KEY, b"v", w=2, dw=1)
    assert (put.status, put.problem, put.acks) == (503, "quorum-not-met", Acks(2, 2, 0, 0))
    assert town.nodes["a"].counters["fsyncs_asked_elsewhere"] == 0
