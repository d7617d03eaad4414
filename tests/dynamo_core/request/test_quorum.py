"""Quorum verdicts against a dumb twin that tries every future."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.request.quorum import (
    IMPOSSIBLE,
    MET,
    PENDING,
    on_distinct_nodes,
    read_verdict,
    write_verdict,
)

NODES = 4
LOST, OPEN, ACKED, ACKED_SYNC_LOST, SYNCED = range(5)
"""States of a node: refused; may still do all; acked, sync open; acked, no sync to come; synced."""
FUTURES = {
    LOST: {LOST},
    OPEN: {LOST, ACKED_SYNC_LOST, SYNCED},
    ACKED: {ACKED_SYNC_LOST, SYNCED},
    ACKED_SYNC_LOST: {ACKED_SYNC_LOST},
    SYNCED: {SYNCED},
}


def twin_met(states: tuple[int, ...], w: int, dw: int) -> bool:
    acked = {i for i, s in enumerate(states) if s in (ACKED, ACKED_SYNC_LOST, SYNCED)}
    synced = {i for i, s in enumerate(states) if s == SYNCED}
    return len(acked) >= w and len(synced) >= dw


@given(
    states=st.tuples(*[st.integers(LOST, SYNCED)] * NODES),
    w=st.integers(1, 4),
    dw=st.integers(0, 4),
)
def test_a_write_verdict_is_what_the_best_future_says(
    states: tuple[int, ...], w: int, dw: int
) -> None:
    acked = sum(s in (ACKED, ACKED_SYNC_LOST, SYNCED) for s in states)
    could_ack = states.count(OPEN)
    could_sync = could_ack + states.count(ACKED)
    if twin_met(states, w, dw):
        expected = MET
    elif any(twin_met(future, w, dw) for future in product(*(FUTURES[s] for s in states))):
        expected = PENDING
    else:
        expected = IMPOSSIBLE
    assert write_verdict(acked, states.count(SYNCED), w, dw, could_ack, could_sync) is expected


@pytest.mark.parametrize(
    ("acks", "w", "dw", "could_ack", "could_sync", "expected"),
    [
        pytest.param((0, 0), 2, 1, 3, 3, PENDING, id="nothing-yet"),
        pytest.param((2, 0), 2, 1, 0, 1, PENDING, id="waits-for-the-fsync"),
        pytest.param((2, 0), 2, 1, 1, 0, IMPOSSIBLE, id="fsync-out-of-reach"),
        pytest.param((2, 1), 2, 1, 0, 0, MET, id="two-acks-one-durable"),
        pytest.param((1, 1), 2, 1, 0, 0, IMPOSSIBLE, id="one-node-alone-is-not-two"),
        pytest.param((1, 0), 1, 0, 0, 0, MET, id="no-durable-asked"),
    ],
)
def test_write_verdicts(acks, w, dw, could_ack, could_sync, expected) -> None:
    assert write_verdict(*acks, w, dw, could_ack, could_sync) is expected


@given(answers=st.integers(0, 5), r=st.integers(1, 5), open_=st.integers(0, 5))
def test_a_read_verdict_is_what_the_best_future_says(answers: int, r: int, open_: int) -> None:
    best = range(answers, answers + open_ + 1)
    expected = MET if answers >= r else PENDING if any(a >= r for a in best) else IMPOSSIBLE
    assert read_verdict(answers, r, open_) is expected


def test_copies_on_one_node_count_once() -> None:
    """S-RW-2: a stand-in that became a writer, or a coordinator that stands in besides."""
    a, b, c, d = 1, 2, 4, 8
    assert on_distinct_nodes(a | b, 0, [(a, a), (b, b)]) == a | b
    assert on_distinct_nodes(a | b, b, [(d, a), (d, b)]) == b, "the durable one is the one to keep"
    assert on_distinct_nodes(a | b, 0, [(d, a), (d, b), (b, b)]) == a | b
    assert on_distinct_nodes(a | b, 0, [(a, a), (b, b), (b, c)]) == a | b
    assert on_distinct_nodes(c, c, [(c, c), (c, b)]) == c, "others do not take the place of these"


kept_pairs = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3)).map(lambda p: (1 << p[0], 1 << p[1])),
    max_size=7,
)


@given(kept=kept_pairs, synced=st.integers(0, 15))
def test_no_more_copies_are_reported_than_lie_on_different_nodes(kept, synced: int) -> None:
    there = {copy for _, copy in kept}
    found = on_distinct_nodes(sum(there), synced, kept)
    chosen = {copy for copy in there if copy & found}
    assert found == sum(chosen)
    ways = product(*([node for node, other in kept if other == copy] for copy in sorted(chosen)))
    assert any(len(set(way)) == len(chosen) for way in ways)
    assert found or not there
