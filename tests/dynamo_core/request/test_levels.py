"""How many copies a put needs, and how copies in memory count (S-RW-3)."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.protocol.operations import Acks, Put, fill_in
from dynamo_core.ring.document import RingTarget
from dynamo_core.testing.town import SETTINGS, Town

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


@pytest.mark.parametrize(
    ("asked", "settled"),
    [((0, 0), (2, 2)), ((1, 0), (1, 1)), ((3, 0), (3, 2)), ((0, 1), (2, 1)), ((0, 3), (3, 3)),
     ((1, 1), (1, 1)), ((3, 1), (3, 1))],
)  # fmt: skip
def test_what_a_put_leaves_open_fits_what_it_says(asked, settled) -> None:
    """W=1 asks for one node only (C8), and an fsynced copy is a copy."""
    put = Put(key=KEY, value=b"v", w=asked[0], dw=asked[1])
    fill_in(put, RingTarget(r=2, w=2, dw=2), 0)
    assert (put.w, put.dw) == settled


def test_a_put_at_w_1_needs_one_node_whatever_the_ring_says_of_fsyncs() -> None:
    town = Town("a b c")
    target = msgspec.structs.replace(town.ring.target, version=1, w=3, dw=3)
    for node in town.nodes.values():
        node.ring_state.take(town.ring.with_target(target))
    one, two, three = town.owners(KEY)
    town.kill(two, three)
    put = town.put(one, KEY, b"v", w=1)
    assert (put.status, put.acks) == (204, Acks(1, 1, 0, 1))
