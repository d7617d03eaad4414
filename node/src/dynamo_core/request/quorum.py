"""Verdicts over counts: is the quorum met, can it still be met, or is it out of reach?

Three values, because "not yet" and "never" are different answers for a client that waits
(S-RW-2..4). This module knows no nodes and no messages. The machines count node ids, against the
entry known at the decision, and ask for a verdict. Under `strict` they count only complete owners.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Verdict(Enum):
    """What the counts say."""

    PENDING = "pending"
    MET = "met"
    IMPOSSIBLE = "impossible"


PENDING, MET, IMPOSSIBLE = Verdict.PENDING, Verdict.MET, Verdict.IMPOSSIBLE


def write_verdict(
    acked: int, synced: int, w: int, dw: int, could_still_ack: int, could_still_sync: int
) -> Verdict:
    """W distinct nodes, `dw` of them durable (S-RW-2, S-RW-3).

    `acked` counts the nodes that acknowledged, `synced` those whose part is fsynced.
    `could_still_ack` counts other nodes, outstanding or not tried yet. `could_still_sync` counts
    the nodes that may still confirm an fsync, with or without an acknowledgement so far.
    """
    if acked >= w and synced >= dw:
        return MET
    if acked + could_still_ack < w or synced + could_still_sync < dw:
        return IMPOSSIBLE
    return PENDING


def read_verdict(answers: int, r: int, could_still_answer: int) -> Verdict:
    """R distinct nodes answered."""
    if answers >= r:
        return MET
    return IMPOSSIBLE if answers + could_still_answer < r else PENDING


def on_distinct_nodes(copies: int, synced: int, kept: Iterable[tuple[int, int]]) -> int:
    """How many of these copies are certainly on distinct nodes (S-RW-2). Nodes and copies are bits;
    a copy has the bit of the writer that it is for. `kept` has pairs of a node and a copy that the
    node keeps."""
    holders: dict[int, int] = {}
    for node, copy in kept:
        if copy & copies:
            holders[copy] = holders.get(copy, 0) | node
    used = found = 0
    for copy in sorted(holders, key=lambda c: (holders[c].bit_count(), not c & synced, c)):
        if free := holders[copy] & ~used:
            used |= free & -free
            found |= copy
    return found
