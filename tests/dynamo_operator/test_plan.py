"""The state table, row by row: a look that is as wanted, one thing changed, one thing to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from msgspec import structs
from stories import make
from world import NAMESPACE, World

from dynamo_operator import actions as do
from dynamo_operator.observed import (
    LEFT,
    NODE_ID,
    NODE_STATE,
    Backlog,
    Claim,
    Entry,
    Member,
    Node,
    Observed,
    Pod,
    Ring,
)
from dynamo_operator.plan import TABLE, plan
from dynamo_operator.plan_objects import floor
from dynamo_operator.spec import cluster_spec

DELETE = {"storage": {"size": "1Gi", "retention": {"whenScaled": "Delete"}}}


@cache
def settled(size: int = 3, replace: str = "VolumeLost") -> Observed:
    """A look at a ring that is as wanted, and has been for a while."""
    world = World()
    asyncio.run(world.play([make(size=size, recovery={"autoReplace": replace})]))
    look = world.operators[0].observer.look
    seen = asyncio.run(look(NAMESPACE, "cart", world.kube.now + 600))
    assert seen is not None
    return seen


def asked(o: Observed, **spec: Any) -> Observed:
    """The same look, another wish."""
    return structs.replace(o, spec=cluster_spec({**o.resource["spec"], **spec}))


def pod(o: Observed, ordinal: int, **fields: Any) -> Observed:
    """The same look, one pod different."""
    return structs.replace(o, pods={**o.pods, ordinal: structs.replace(o.pods[ordinal], **fields)})


def claim(o: Observed, ordinal: int, **fields: Any) -> Observed:
    """The same look, one claim different."""
    changed = structs.replace(o.claims[ordinal], **fields)
    return structs.replace(o, claims={**o.claims, ordinal: changed})


def node(o: Observed, ordinal: int, **fields: Any) -> Observed:
    """The same look, one node's word different."""
    changed = structs.replace(o.nodes[ordinal], **fields)
    return structs.replace(o, nodes={**o.nodes, ordinal: changed})


def line(o: Observed, ordinal: int, **fields: Any) -> Observed:
    """The same look, one line of the ring different."""
    assert o.ring is not None
    name = o.pod_name(ordinal)
    members = tuple(structs.replace(m, **fields) if m.name == name else m for m in o.ring.members)
    return ring(o, members=members)


def ring(o: Observed, **fields: Any) -> Observed:
    """The same look, another document."""
    assert o.ring is not None
    return structs.replace(o, ring=structs.replace(o.ring, **fields))


def without(o: Observed, what: str, ordinal: int) -> Observed:
    """The same look, without a pod, a claim or a node's answer."""
    return structs.replace(o, **{what: {i: v for i, v in getattr(o, what).items() if i != ordinal}})


def silent(o: Observed) -> Observed:
    """Nobody shows a ring."""
    return structs.replace(o, ring=None, exact=False, unanimous=False, nodes={})


def old(o: Observed, *ordinals: int) -> Observed:
    """Pods at an old revision."""
    for ordinal in ordinals:
        o = pod(o, ordinal, revision="cart-old")
    return o


def empty(o: Observed, age: float = -1.0) -> Observed:
    """As before the founding; claims are so many seconds older than the resource."""
    nodes = {i: Node(name=n.name, id=n.id, disk="empty") for i, n in o.nodes.items()}
    claims = {
        i: structs.replace(c, annotations={}, created=o.created - age) for i, c in o.claims.items()
    }
    return structs.replace(silent(o), nodes=nodes, claims=claims)


def left(o: Observed, ordinal: int) -> Observed:
    """A node that has left: the ring says so, and nobody owns through it."""
    assert o.ring is not None
    name = o.pod_name(ordinal)
    others = [m.name for m in o.ring.members if m.name != name]
    entries = tuple(Entry(tuple(others[:3])) for _ in o.ring.entries)
    return line(ring(o, entries=entries, target=None), ordinal, state=LEFT)


def lost(o: Observed, **fields: Any) -> Observed:
    """The volume of cart-1 is gone, its pod does not run."""
    gone = pod(o, 1, running=False, ready_since=None)
    return without(claim(gone, 1, phase="Lost", **fields), "nodes", 1)


def unjoined(o: Observed, ordinal: int, disk: Any = "empty") -> Observed:
    """A node that says that it is in no ring."""
    return node(o, ordinal, disk=disk, state=None, cluster_id=None, digest="")


Case = tuple[Callable[[], Observed], str, list[type[do.Act]]]
THREE, FOUR, FIVE = settled, lambda: settled(4), lambda: settled(5)
# fmt: off
CASES: dict[str, Case] = {
    "as wanted": (THREE, "AsWanted", []),
    "being deleted": (lambda: structs.replace(THREE(), deleting=True), "Deleting", []),
    "paused": (lambda: asked(old(THREE(), 2), paused=True), "Paused", []),
    "another factor": (lambda: asked(FIVE(), replication={"factor": 5}), "FixedAtCreation", []),
    "two rings' disks": (lambda: node(THREE(), 0, cluster_id="x"), "DisksOfSeveralRings", []),
    "Secret gone": (lambda: structs.replace(THREE(), secret=False), "SecretMissing", []),
    "Secret absent": (lambda: structs.replace(empty(THREE()), secret=False), "MakingObjects",
                      [do.MakeSecret]),
    "user's Secret absent": (
        lambda: asked(structs.replace(empty(THREE()), secret=False), auth={"secretName": "mine"}),
        "SecretMissing", []),
    "bad schedule": (lambda: asked(THREE(), repair={"schedule": "often"}), "SpecInvalid", []),
    "service type changed": (lambda: asked(THREE(), service={"type": "NodePort"}),
                             "MakingObjects", [do.Apply]),
    "budget not wanted": (lambda: asked(THREE(), podDisruptionBudget={"enabled": False}),
                          "MakingObjects", [do.Delete]),
    "claim not recorded": (lambda: claim(THREE(), 1, annotations={}), "RecordingClaims",
                           [do.PatchClaim]),
    "claims to be owned": (
        lambda: asked(THREE(), storage={"size": "1Gi", "retention": {"whenDeleted": "Delete"}}),
        "RecordingClaims", [do.PatchClaim] * 3),
    "image changed": (lambda: asked(THREE(), image="node:2"), "MakingObjects", [do.Apply]),
    "stopping": (lambda: asked(THREE(), stopped=True), "Stopping", [do.Apply]),
    "volume lost": (lambda: lost(THREE()), "ReplacingVolume", [do.Delete]),
    "volume lost, claim going": (lambda: lost(THREE(), deleting=True), "ReplacingVolume",
                                 [do.Evict]),
    "claim absent, pod pending": (lambda: without(lost(THREE()), "claims", 1), "ReplacingVolume",
                                  [do.Evict]),
    "volume lost, another down": (lambda: pod(lost(THREE()), 0, ready_since=None),
                                  "WaitingForNodes", []),
    "volume lost, never replace": (lambda: lost(settled(3, "Never")), "WaitingForNodes", []),
    "claim Lost, pod runs": (lambda: claim(THREE(), 1, phase="Lost"), "AsWanted", []),
    "old and unready": (lambda: pod(old(THREE(), 1, 2), 1, ready_since=None), "RollingUpdate",
                        [do.Evict]),
    "old": (lambda: old(THREE(), 0, 1, 2), "RollingUpdate", [do.Evict]),
    "old, canary reached": (lambda: asked(old(THREE(), 0, 1), update={"canary": 1}),
                            "CanaryReached", []),
    "old, claim going": (lambda: claim(old(THREE(), 2), 2, deleting=True), "RollingUpdate", []),
    "old, another unready": (lambda: pod(old(THREE(), 2), 0, ready_since=None), "RollingUpdate",
                             []),
    "old, another rebuilds": (
        lambda: node(old(THREE(), 2), 0, partitions=structs.replace(THREE().nodes[0].partitions,
                                                                    complete=1)),
        "RollingUpdate", []),
    "old, hints for the last pod": (
        lambda: node(pod(old(THREE(), 1), 2, ready_since=THREE().now - 6), 0,
                     hints={"cart-2": Backlog(3, 300)}),
        "RollingUpdate", []),
    "old, controller behind": (
        lambda: structs.replace(old(THREE(), 2), workload=structs.replace(
            THREE().workload, caught_up=False)),  # type: ignore[type-var]
        "RollingUpdate", []),
    "storage to grow": (lambda: asked(THREE(), storage={"size": "2Gi"}), "GrowingStorage",
                        [do.PatchClaim] * 3),
    "all empty": (lambda: empty(THREE()), "Founding", [do.Found]),
    "one does not answer": (lambda: without(empty(THREE()), "nodes", 2), "RingUnreadable", []),
    "one is not empty": (lambda: unjoined(empty(THREE()), 1, "foreign"), "RingUnreadable", []),
    "recorded claim": (
        lambda: claim(empty(THREE()), 1, annotations={NODE_ID: "a", NODE_STATE: "MEMBER"}),
        "RingUnreadable", []),
    "an old claim beyond": (
        lambda: structs.replace(empty(THREE()), claims={
            **empty(THREE()).claims,
            4: structs.replace(THREE().claims[0], name="data-cart-4", ordinal=4, annotations={},
                               created=0.0)}),
        "Founding", []),
    "ring unreadable": (lambda: silent(THREE()), "RingUnreadable", []),
    "leaving, is to stay": (lambda: line(FOUR(), 3, state="LEAVING"), "Cancelling", [do.Cancel]),
    "leaving": (lambda: asked(line(FOUR(), 3, state="LEAVING"), size=3), "ScalingDown", []),
    "joining, is to go": (
        lambda: asked(ring(line(FOUR(), 3, state="JOINING"), target=tuple(
            ("cart-1", "cart-2", "cart-3") for _ in range(16))), size=3),
        "Cancelling", [do.Cancel]),
    "lines agree, entries do not": (lambda: structs.replace(THREE(), exact=False),
                                    "MovingPartitions", []),
    "beyond size": (lambda: asked(FIVE(), size=3), "ScalingDown", [do.Change]),
    "has left": (lambda: asked(unjoined(left(FOUR(), 3), 3, "left"), size=3), "RecordingClaims",
                 [do.PatchClaim]),
    "has left, is recorded": (
        lambda: asked(claim(unjoined(left(FOUR(), 3), 3, "left"), 3,
                            annotations=FOUR().claims[3].annotations | {NODE_STATE: LEFT}), size=3),
        "ScalingDown", [do.Apply]),
    "has left, does not know yet": (lambda: asked(left(FOUR(), 3), size=3), "ScalingDown", []),
    "not joined": (lambda: unjoined(left(FOUR(), 3), 3), "ScalingUp", [do.Change]),
    "not joined, does not answer": (
        lambda: pod(without(left(FOUR(), 3), "nodes", 3), 3, created=FOUR().now),
        "ScalingUp", []),
    "weight": (lambda: pod(THREE(), 1, weight=3), "MovingPartitions", [do.Change]),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_row(name: str) -> None:
    look, reason, actions = CASES[name]
    step = plan(look())
    assert (step.reason, [type(action) for action in step.actions]) == (reason, actions)
    assert step.message


def test_every_row_is_met() -> None:
    """By a case above, or by a story."""
    told_in_stories = {"repairs", "stopped", "claim of a node that has left"}
    met = {
        next(name for name, row in TABLE if row(look()) is not None)
        for look, _, _ in CASES.values()
    }
    assert {name for name, _ in TABLE} - met == told_in_stories


def test_the_highest_old_pod_goes_first() -> None:
    (evict,) = plan(old(settled(), 0, 1, 2)).actions
    assert (evict.name, evict.uid) == ("cart-2", settled().pods[2].uid)


@pytest.mark.parametrize(
    ("look", "replicas"),
    [
        (lambda: asked(settled(5), size=3), 5),
        (lambda: asked(left(settled(5), 4), size=3), 4),
        (lambda: asked(silent(settled(5)), size=3), 5),
        (lambda: structs.replace(asked(silent(settled(5)), size=3), workload=None), 5),
        (lambda: asked(settled(3), size=5), 5),
    ],
    ids=["all live", "one has left", "unreadable", "set gone, claims recorded", "grows"],
)
def test_theorem_1(look: Callable[[], Observed], replicas: int) -> None:
    assert floor(look()) == replicas


def beyond(**fields: Any) -> Observed:
    """cart-3 has left under the id on its claim, and its pod is gone."""
    o = structs.replace(left(settled(4), 3), spec=asked(settled(4), size=3, **DELETE).spec)
    workload = structs.replace(o.workload, replicas=3)  # type: ignore[type-var]
    o = structs.replace(without(without(o, "pods", 3), "nodes", 3), workload=workload)
    o = claim(o, 3, annotations={**o.claims[3].annotations, NODE_STATE: LEFT})
    return structs.replace(o, **fields)


def forgotten(o: Observed) -> bool:
    """Whether the row about claims beyond the replicas deletes one."""
    step = dict(TABLE)["claim of a node that has left"](o)
    return step is not None and any(isinstance(act, do.Delete) for act in step.actions)


def test_theorem_2() -> None:
    """One thing less than certain, and the claim is kept."""
    sure = beyond()
    assert forgotten(sure)
    annotations = sure.claims[3].annotations
    for unsure in (
        beyond(unanimous=False),
        structs.replace(sure, spec=asked(settled(4), size=3).spec),
        claim(sure, 3, annotations={**annotations, NODE_ID: "another"}),
        claim(sure, 3, annotations={}),
        claim(sure, 3, deleting=True),
        line(sure, 3, state="LEAVING"),
        structs.replace(sure, pods=settled(4).pods),
        structs.replace(sure, workload=settled(4).workload),
    ):
        assert not forgotten(unsure)


def test_a_look_is_not_changed_by_planning() -> None:
    o = asked(settled(5), size=3, image="node:2")
    before = structs.asdict(o)
    plan(o)
    assert structs.asdict(o) == before


def test_names_of_other_sets_have_no_ordinal() -> None:
    o = settled()
    names = ("cart-2", "cart-02", "cart-x", "cart", "cart-a-2", "other-2")
    assert [o.ordinal(name) for name in names] == [2, None, None, None, None, None]


def test_shapes_of_the_contract_are_read() -> None:
    """Values that a look is made of, straight from the words of contract.md."""
    assert isinstance(settled().ring, Ring)
    assert isinstance(settled().nodes[0], Node)
    assert all(isinstance(pod, Pod) and pod.ready for pod in settled().pods.values())
    assert all(isinstance(claim, Claim) and claim.member for claim in settled().claims.values())
    assert all(isinstance(member, Member) for member in settled().ring.members)  # type: ignore[union-attr]
