"""Quorum verdicts against a dumb twin that tries every future."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.quorum import (
    IMPOSSIBLE,
    MET,
    PENDING,
    Verdict,
    Waiting,
    both,
    joint_verdict,
    read_verdict,
    write_verdict,
)

NODES = ("a", "b", "c", "d")
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
    states=st.tuples(*[st.integers(LOST, SYNCED)] * len(NODES)),
    w=st.integers(1, 4),
    dw=st.integers(0, 4),
)
def test_a_write_verdict_is_what_the_best_future_says(
    states: tuple[int, ...], w: int, dw: int
) -> None:
    acks = {
        name: s == SYNCED
        for name, s in zip(NODES, states, strict=True)
        if s in (ACKED, ACKED_SYNC_LOST, SYNCED)
    }
    could_ack = states.count(OPEN)
    could_sync = could_ack + states.count(ACKED)
    if twin_met(states, w, dw):
        expected = MET
    elif any(twin_met(future, w, dw) for future in product(*(FUTURES[s] for s in states))):
        expected = PENDING
    else:
        expected = IMPOSSIBLE
    assert write_verdict(acks, w, dw, could_ack, could_sync) is expected


@pytest.mark.parametrize(
    ("acks", "w", "dw", "could_ack", "could_sync", "expected"),
    [
        pytest.param({}, 2, 1, 3, 3, PENDING, id="nothing-yet"),
        pytest.param({"a": False, "b": False}, 2, 1, 0, 1, PENDING, id="waits-for-the-fsync"),
        pytest.param({"a": False, "b": False}, 2, 1, 1, 0, IMPOSSIBLE, id="fsync-out-of-reach"),
        pytest.param({"a": True, "b": False}, 2, 1, 0, 0, MET, id="two-acks-one-durable"),
        pytest.param({"a": True}, 2, 1, 0, 0, IMPOSSIBLE, id="one-node-alone-is-not-two"),
        pytest.param({"a": False}, 1, 0, 0, 0, MET, id="no-durable-asked"),
    ],
)
def test_write_verdicts(acks, w, dw, could_ack, could_sync, expected) -> None:
    assert write_verdict(acks, w, dw, could_ack, could_sync) is expected


@given(answers=st.integers(0, 5), r=st.integers(1, 5), open_=st.integers(0, 5))
def test_a_read_verdict_is_what_the_best_future_says(answers: int, r: int, open_: int) -> None:
    best = range(answers, answers + open_ + 1)
    expected = MET if answers >= r else PENDING if any(a >= r for a in best) else IMPOSSIBLE
    assert read_verdict(answers, r, open_) is expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (MET, MET, MET),
        (MET, PENDING, PENDING),
        (PENDING, PENDING, PENDING),
        (MET, IMPOSSIBLE, IMPOSSIBLE),
        (PENDING, IMPOSSIBLE, IMPOSSIBLE),
        (IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE),
    ],
)
def test_joint_quorums_need_both(a: Verdict, b: Verdict, expected: Verdict) -> None:
    assert both(a, b) is expected
    assert both(b, a) is expected


def test_a_node_with_two_copies_counts_once() -> None:
    """S-RW-2: a stand-in that became a writer, or a coordinator that stands in besides."""
    lists = (("a", "b", "c"),)
    copies = {"a": True, "b": True}
    none = Waiting(set(), 0)
    assert joint_verdict(copies, lists, 2, 2, none) is MET
    same = none._replace(kept={("d", "a"), ("d", "b")})
    assert joint_verdict(copies, lists, 2, 1, same) is IMPOSSIBLE
    both_of_b = none._replace(kept={("d", "a"), ("d", "b"), ("b", "b")})
    assert joint_verdict(copies, lists, 2, 2, both_of_b) is MET
    apart = (("a", "b"), ("a", "c"))
    each = none._replace(kept={("a", "a"), ("b", "b"), ("b", "c")})
    assert joint_verdict({"a": True, "b": True, "c": False}, apart, 2, 1, each) is MET
    assert joint_verdict({"a": True, "b": True, "c": False}, apart, 2, 2, each) is IMPOSSIBLE
    durable = none._replace(kept={("c", "c"), ("c", "b")})
    assert (
        joint_verdict({"b": False, "c": True}, (("b", "d"), ("c", "d")), 1, 1, durable)
        is IMPOSSIBLE
    )
