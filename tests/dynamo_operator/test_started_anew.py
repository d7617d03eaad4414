"""The theorem of progress: a node that has left and should be in the ring again gets there, however
long its volume attaches, it starts and it empties its disk.

S-MEM-3: its id never returns. Its pod is evicted when the disk is empty. A pod that is evicted
before that starts again, and for ever if each start takes longer than the patience.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamo_operator import actions as do
from dynamo_operator.plan.anew import EMPTYING_S, PAUSE_S_MAX
from dynamo_operator.plan.ring import PATIENCE_S
from dynamo_operator.plan.table import plan
from dynamo_operator.quantity import stamp
from dynamo_operator.snapshot import RESTARTS, Snapshot
from tests.dynamo_operator.looks import asked, claim, left, node, pod, settled, unjoined, without
from tests.dynamo_operator.stories import STORIES, edit, make
from tests.dynamo_operator.world import World

SECONDS_MAX = 3600
AGAIN = [make(size=4), edit(size=3), edit(size=4)]
BY_HAND = STORIES["left by hand"]


def slow(attach_s: float, start_s: float, emptying_s: float, older: bool = False) -> World:
    """A world whose volumes, nodes and disks take their time."""
    world = World(seconds_max=SECONDS_MAX)
    world.kube.attach_s = attach_s
    world.ring.start_s, world.ring.emptying_s, world.ring.older = start_s, emptying_s, older
    return world


def evictions(world: World, pod: str = "cart-3") -> int:
    """How often that pod was evicted so that its node starts as a new one."""
    return world.log.count(f"evict {pod}")


def grown(world: World, story: list[Any]) -> None:
    """The story, at whose end all four are members."""
    asyncio.run(world.play(story))
    assert not world.ring.wrong, world.ring.wrong[:3]
    (ring,) = world.end()["rings"]
    names = {f"cart-{ordinal}" for ordinal in range(4)}
    assert {name for name, (state, _, _) in ring["members"].items() if state == "MEMBER"} == names


@pytest.mark.parametrize("story", [AGAIN, BY_HAND], ids=["shrunk and grown", "left by hand"])
@pytest.mark.parametrize("attach_s", [0, 12, 60])
@pytest.mark.parametrize("start_s", [0, 12, 60])
def test_a_node_that_has_left_comes_back(attach_s: float, start_s: float, story: list[Any]) -> None:
    """A pod that the operator stops has an empty disk, so its next start is that of a new node."""
    world = slow(attach_s, start_s, 5.0)
    grown(world, story)
    assert evictions(world) == (1 if story is BY_HAND else 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    attach_s=st.floats(0, 60),
    start_s=st.floats(0, 60),
    emptying_s=st.floats(0.05, 30),
    story=st.sampled_from([AGAIN, BY_HAND]),
)
def test_it_comes_back_whatever_takes_how_long(
    attach_s: float, start_s: float, emptying_s: float, story: list[Any]
) -> None:
    """Where the disk is empty before the pod is stopped, not even one eviction is needed."""
    world = slow(attach_s, start_s, emptying_s)
    grown(world, story)
    assert evictions(world) <= 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attach_s=st.floats(0, 60), start_s=st.floats(0, 60), emptying_s=st.floats(0.05, 30))
def test_older_nodes_that_do_not_say_when_they_are_empty_come_back_too(
    attach_s: float, start_s: float, emptying_s: float
) -> None:
    """By patience that doubles: 10, 20, 40, 80, 160 s of each process."""
    world = slow(attach_s, start_s, emptying_s, older=True)
    grown(world, AGAIN)
    assert evictions(world) <= 5


@pytest.mark.parametrize("seed", range(6))
def test_it_comes_back_while_the_operator_dies_again_and_again(seed: int) -> None:
    draw = random.Random(seed)
    world = slow(12, 15, 7)
    world.kills = frozenset(p for p in range(5000) if draw.random() < 0.2)
    grown(world, AGAIN)


def gone(**word: Any) -> Snapshot:
    """cart-3 has left, should be in the ring, and reports the given disk state and time."""
    o = unjoined(left(settled(4), 3), 3, "left")
    notes = {**o.claims[3].annotations, "dynamo-ring.dev/node-state": "LEFT"}
    return node(claim(o, 3, annotations=notes), 3, **{"emptied": None, "uptime_s": None} | word)


def tried(o: Snapshot, text: str) -> Snapshot:
    """With that note on its claim."""
    return claim(o, 3, annotations={**o.claims[3].annotations, RESTARTS: text})


def evicted(o: Snapshot) -> bool:
    """Whether this look leads to its eviction, which is noted on its claim first."""
    step = plan(o)
    assert step.reason == "ScalingUp"
    kinds = [type(action) for action in step.actions]
    assert kinds in ([], [do.PatchClaim, do.Evict])
    return bool(kinds)


def test_it_is_evicted_when_its_disk_is_empty_and_not_before() -> None:
    assert evicted(gone(emptied=True, uptime_s=0.1))
    assert not evicted(gone(emptied=False, uptime_s=1e6))
    assert not evicted(pod(gone(emptied=True, uptime_s=0.1), 3, deleting_since=1.0))


def stopped(o: Snapshot) -> bool:
    """Whether this look leads to one pod fewer, when three are wanted."""
    step = plan(asked(o, size=3))
    assert step.reason == "ScalingDown"
    return bool(step.actions)


def test_a_removed_node_is_not_stopped_before_it_has_handed_over_its_data() -> None:
    """A person has removed it by force while it was cut off, so it may have acknowledged writes
    that no other node has. With `whenScaled: Delete` its claim would go next, and they with it."""
    assert not stopped(gone(emptied=False, uptime_s=1e6))
    step = plan(asked(gone(emptied=False), size=3))
    assert "first it hands over the data" in step.message
    assert stopped(gone(emptied=True))
    assert stopped(gone(emptied=None)), "an older node cannot say"
    assert stopped(pod(gone(emptied=False), 3, running=False)), "nor one whose machine is gone"


def test_patience_with_an_older_node_counts_from_its_own_start() -> None:
    """Not from the creation of its pod, which was long ago."""
    o = gone()
    assert evicted(o)
    began = o.now - EMPTYING_S
    assert not evicted(pod(o, 3, started=began + 1))
    assert evicted(pod(o, 3, started=began - 1))
    assert evicted(gone(uptime_s=EMPTYING_S))
    assert not evicted(gone(uptime_s=EMPTYING_S - 1))


@pytest.mark.parametrize(("count", "pause_s"), [(1, 10.0), (2, 20.0), (3, 40.0), (40, PAUSE_S_MAX)])
def test_each_eviction_is_a_longer_pause(count: int, pause_s: float) -> None:
    o = gone(emptied=True, uptime_s=1.0)
    assert not evicted(tried(o, f"{count} {stamp(o.now - pause_s + 1)}"))
    late = tried(o, f"{count} {stamp(o.now - pause_s)}")
    assert evicted(late)
    noted = plan(late).actions[0].body["metadata"]["annotations"]
    assert noted == {RESTARTS: f"{count + 1} {stamp(o.now)}"}


@pytest.mark.parametrize(
    "text", ["", "often", "2", "x 2026-01-01T00:00:00Z", "3 2099-01-01T00:00:00Z"]
)
def test_a_note_without_meaning_delays_nothing(text: str) -> None:
    """Another user's text, or the time of a clock that was set back."""
    assert evicted(tried(gone(emptied=True), text))


def test_the_note_goes_when_the_node_is_a_member_again() -> None:
    o = tried(settled(4), f"1 {stamp(settled(4).now)}")
    (act,) = plan(o).actions
    assert isinstance(act, do.PatchClaim)
    assert act.body["metadata"]["annotations"][RESTARTS] is None


def test_one_that_does_not_get_empty_holds_up_the_others_for_a_while_only() -> None:
    """Nor does a node that does not answer; if it is the only one, the operator waits for it."""
    o = left(gone(emptied=False, uptime_s=PATIENCE_S - 1), 2)
    notes = {**o.claims[2].annotations, "dynamo-ring.dev/node-state": "LEFT"}
    o = claim(unjoined(o, 2), 2, annotations=notes)
    assert not plan(o).actions
    for late in (node(o, 3, uptime_s=PATIENCE_S), without(o, "nodes", 3)):
        (act,) = plan(late).actions
        assert [line["name"] for line in act.wishes["join"]] == ["cart-2"]
    silent = pod(without(o, "nodes", 3), 3, started=o.now - 1)
    assert not plan(silent).actions
    assert not plan(gone(emptied=False, uptime_s=PATIENCE_S)).actions
