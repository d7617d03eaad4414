"""When the operator restarts a pod whose node has left the ring and should be in it again.

S-MEM-3: an id that has left never comes back. The node gets a new id when it starts on a disk that
it has emptied. While the disk is not empty, a start only continues to empty it. So a pod that is
evicted too early makes no progress, for ever if a start takes longer than the wait. The operator
therefore evicts the pod only after the node says that its disk is empty.

Progress (`test_started_anew.py`): a node that starts and empties its disk in any finite time comes
back, with one eviction. An older node cannot say that its disk is empty. The operator gives it as
much time as its process has run, twice as long after each eviction. The number and the time of the
evictions are noted on the claim *before* the eviction, so the next operator process knows them. A
node that does not improve is evicted more and more rarely.
"""

from __future__ import annotations

from dynamo_operator.actions import Note, Step
from dynamo_operator.node_answers import Node
from dynamo_operator.plan.pods import evict, patch
from dynamo_operator.quantity import instant, stamp
from dynamo_operator.snapshot import RESTARTS, Claim, Pod, Snapshot

EMPTYING_S = 10.0
PAUSE_S_MAX = 600.0
"""Seconds that an older node gets at first, and the longest pause."""


FIRST = "first it hands over the data that its disk still has"


def hands_over(node: Node) -> bool:
    """Whether the node has left, and says that its disk is not empty yet (S-MEM-3)."""
    return node.disk == "left" and node.emptied is False


def anew(o: Snapshot, pod: Pod) -> Step:
    """The eviction, noted before it is done; or the step that says what it waits for."""
    node, claim = o.nodes[pod.ordinal], o.claims.get(pod.ordinal)
    text = f"{pod.name} has left the ring and should join again"
    count, last = restarts(claim)
    if hands_over(node):
        return Step("ScalingUp", f"{text}: {FIRST}")
    if pod.deleting_since is not None:
        return Step("ScalingUp", f"{text}: its pod ends")
    lacks_s = 0.0
    if node.emptied is None:
        lacks_s = _pause_s(count) - o.ran_s(pod)
    if last is not None and last <= o.now:  # a time in the future is of another clock
        lacks_s = max(lacks_s, last + _pause_s(count - 1) - o.now)
    if lacks_s > 0:
        times = f" after {count} times" if count else ""
        return Step("ScalingUp", f"{text}: it starts again{times}, in {lacks_s:.0f} s")
    note = Note("NodeRestarted", f"{text}: it starts again, as a new node")
    taken = evict(pod, note)
    if claim is None or claim.deleting:
        return Step("ScalingUp", note.message, (taken,))
    noted = {"metadata": {"annotations": {RESTARTS: f"{count + 1} {stamp(o.now)}"}}}
    return Step("ScalingUp", note.message, (patch(claim, noted), taken))


def restarts(claim: Claim | None) -> tuple[int, float | None]:
    """How often the pod was evicted for this, and when last."""
    text = claim.annotations.get(RESTARTS, "") if claim is not None else ""
    count, _, when = text.partition(" ")
    try:
        return int(count), instant(when)
    except ValueError:
        return 0, None  # none, or somebody else's words


def _pause_s(count: int) -> float:
    return float(min(PAUSE_S_MAX, EMPTYING_S * 2 ** min(max(count, 0), 10)))
