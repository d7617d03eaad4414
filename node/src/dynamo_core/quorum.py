"""Verdicts over counts: has the quorum been met, can it still be, or is it out of reach?

Three values, because "not yet" and "never" are different answers for a client that waits
(S-RW-2..4). Nothing here knows nodes or messages: the machines count, by node id against the entry
known at the decision, and ask. Under `strict` they count complete owners only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What the counts say."""

    PENDING = "pending"
    MET = "met"
    IMPOSSIBLE = "impossible"


PENDING, MET, IMPOSSIBLE = Verdict.PENDING, Verdict.MET, Verdict.IMPOSSIBLE


def write_verdict(
    acks: Mapping[str, bool], w: int, dw: int, could_still_ack: int, could_still_sync: int
) -> Verdict:
    """W distinct nodes of which `dw` durably (S-RW-2, S-RW-3).

    `acks` maps each node that acknowledged to whether its part is fsynced. `could_still_ack`
    counts other nodes, outstanding or not tried yet; `could_still_sync` those that may still
    confirm an fsync, whether they acknowledged already or not.
    """
    acked, synced = len(acks), sum(acks.values())
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


class Waiting(NamedTuple):
    """What may still come: copies that are asked for, by the owner whom each is for; nodes that
    could stand in besides; copies that are acked and may still turn out to be fsynced; and, where
    one node keeps two copies, who keeps which."""

    asked: set[str]
    spare: int
    syncs: Collection[str] = ()
    kept: Collection[tuple[str, str]] = ()


def joint_verdict(
    copies: Mapping[str, bool], lists: Iterable[Collection[str]], w: int, dw: int, waiting: Waiting
) -> Verdict:
    """W copies in each owner list, `dw` of them fsynced (S-RW-3, S-RW-8, S-MOVE-1). `copies` maps
    the owner whom a copy is for to whether that is fsynced."""
    more = len(waiting.asked) + waiting.spare
    everywhere = on_distinct_nodes(copies, waiting.kept)
    verdict = write_verdict(everywhere, w, dw, more, more + len(waiting.syncs))
    lists = tuple(lists)
    if len(lists) == 1 and waiting.asked.union(copies).issubset(lists[0]):
        return verdict  # the one list has them all
    for owners in lists:
        theirs = {copy: synced for copy, synced in copies.items() if copy in owners}
        here = on_distinct_nodes(theirs, waiting.kept)
        more = len(waiting.asked.intersection(owners)) + waiting.spare
        syncs = sum(copy in owners for copy in waiting.syncs)
        verdict = both(verdict, write_verdict(here, w, dw, more, more + syncs))
    return verdict


def on_distinct_nodes(
    copies: Mapping[str, bool], kept: Collection[tuple[str, str]]
) -> Mapping[str, bool]:
    """Of these copies as many as surely lie each on a node of its own (S-RW-2); `kept` are pairs of
    a node and the owner whom its copy is for, empty where no node keeps two."""
    if not kept:
        return copies
    holders = {copy: {node for node, other in kept if other == copy} for copy in copies}
    used: set[str] = set()
    found = {}
    for copy in sorted(copies, key=lambda copy: (len(holders[copy]), not copies[copy], copy)):
        if free := sorted(holders[copy] - used):
            used.add(free[0])
            found[copy] = copies[copy]
    return found


def both(a: Verdict, b: Verdict) -> Verdict:
    """The verdict of two quorums that are needed together: joint writes (S-MOVE-1)."""
    if a is IMPOSSIBLE or b is IMPOSSIBLE:
        return IMPOSSIBLE
    return MET if a is MET and b is MET else PENDING
