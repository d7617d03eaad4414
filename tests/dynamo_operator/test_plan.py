"""The state table, row by row: a look in the wanted state, one change, one action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import structs

from dynamo_operator import actions as do
from dynamo_operator.node_answers import LEFT, Backlog, Member, Node, Ring
from dynamo_operator.plan.objects import floor
from dynamo_operator.plan.table import TABLE, plan
from dynamo_operator.snapshot import NODE_ID, NODE_STATE, Claim, Pod, Snapshot
from tests.dynamo_operator.looks import (
    asked,
    claim,
    empty,
    left,
    line,
    lost,
    node,
    old,
    pod,
    ring,
    settled,
    silent,
    snapped,
    unjoined,
    without,
)

FROM_MONDAY = {
    "size": "1Gi",
    "claimTemplate": {"dataSource": {"name": "monday-$(ordinal)", "count": 3}},
}
DELETE = {"storage": {"size": "1Gi", "retention": {"whenScaled": "Delete"}}}


Case = tuple[Callable[[], Snapshot], str, list[type[do.Act]]]
THREE, FOUR, FIVE = settled, lambda: settled(4), lambda: settled(5)
# fmt: off


def _claims(**template: Any) -> dict[str, Any]:
    return {"size": "1Gi", "claimTemplate": template}


def _gone(*ordinals: int) -> Snapshot:
    """Machines have no Node object; their pods wait for their local volumes."""
    o = settled(3, "NodeGone")
    for ordinal in ordinals:
        o = pod(o, ordinal, running=False, ready_since=None, machine="")
        o = without(o, "nodes", ordinal)
    return structs.replace(o, gone={ordinal: f"machine-{ordinal}" for ordinal in ordinals})


def _nothing(o: Snapshot) -> Snapshot:
    """As before the operator has made a StatefulSet."""
    bare = structs.replace(silent(o), workload=None, pods={}, claims={})
    others = {key: item for key, item in o.objects.items() if key[0] != "StatefulSet"}
    return structs.replace(bare, objects=others)


def _bare(o: Snapshot) -> Snapshot:
    """As before any claim has a volume."""
    o = structs.replace(empty(o), nodes={})
    for ordinal in o.claims:
        o = claim(o, ordinal, phase="Pending", capacity="")
    return o


def recorded(emptied: bool | None) -> Snapshot:
    """The highest of four nodes has left, and its claim says so."""
    o = node(unjoined(left(FOUR(), 3), 3, "left"), 3, emptied=emptied)
    return asked(claim(o, 3, annotations=o.claims[3].annotations | {NODE_STATE: LEFT}), size=3)


def _late(o: Snapshot, **fields: Any) -> Snapshot:
    """Before the founding; two of five pods have no machine, so there are no volumes for them."""
    o = empty(o)
    for ordinal in (3, 4):
        o = pod(without(o, "nodes", ordinal), ordinal, running=False, ready_since=None)
        o = claim(o, ordinal, **({"phase": "Pending", "capacity": ""} | fields))
    return o


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
    "short Secret, nothing to start": (lambda: structs.replace(THREE(), secret_text="short"),
                                       "AsWanted", []),
    "short Secret, image changed": (
        lambda: structs.replace(asked(THREE(), image="node:2"), secret_text="short"),
        "SecretUnusable", []),
    "short Secret, old": (lambda: structs.replace(old(THREE(), 2), secret_text="short"),
                          "SecretUnusable", []),
    "short Secret, stopping": (
        lambda: structs.replace(asked(THREE(), stopped=True), secret_text="short"),
        "Stopping", [do.Apply]),
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
    "a node does not speak it": (lambda: node(asked(THREE(), update={"peerProtocolMin": 2}), 1,
                                              speaks=1), "OldProtocol", []),
    "all nodes speak it": (lambda: asked(THREE(), update={"peerProtocolMin": 2}),
                           "MakingObjects", [do.Apply]),
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
                     hints={"cart-2": Backlog(3)}),
        "RollingUpdate", []),
    "old, hints for a pod whose machine's clock is behind": (
        lambda: node(old(THREE(), 1), 0, hints={"cart-2": Backlog(3)}),
        "RollingUpdate", []),
    "old, controller behind": (
        lambda: structs.replace(old(THREE(), 2), workload=structs.replace(
            THREE().workload, caught_up=False)),  # type: ignore[type-var]
        "RollingUpdate", []),
    "storage to grow": (lambda: asked(THREE(), storage={"size": "2Gi"}), "GrowingStorage",
                        [do.PatchClaim] * 3),
    "machine gone with its disk": (lambda: _gone(1), "ReplacingVolume", [do.Delete]),
    "two machines gone": (lambda: _gone(1, 2), "WaitingForNodes", []),
    "machine gone, ring unreadable": (lambda: silent(_gone(1)), "RingUnreadable", []),
    "claim without a label": (
        lambda: asked(THREE(), storage=_claims(labels={"team": "carts"})), "ChangingClaims",
        [do.PatchClaim] * 3),
    "claims with other attributes": (
        lambda: asked(THREE(), storage=_claims(volumeAttributesClassName="gold")), "ChangingClaims",
        [do.PatchClaim] * 3),
    "another access mode": (
        lambda: asked(THREE(), storage=_claims(accessMode="ReadWriteOncePod")), "FixedAtCreation",
        []),
    "a label of the operator": (
        lambda: asked(THREE(), storage=_claims(labels={"app.kubernetes.io/name": "mine"})),
        "SpecInvalid", []),
    "nothing there, data to begin with": (
        lambda: _nothing(asked(THREE(), storage=FROM_MONDAY)), "MakingObjects",
        [do.MakeClaim] * 3),
    "more data than nodes": (
        lambda: _nothing(asked(THREE(), size=2, storage=FROM_MONDAY)), "SpecInvalid", []),
    "a lost claim, data to begin with": (
        lambda: without(asked(THREE(), storage=FROM_MONDAY), "claims", 1), "AsWanted", []),
    "no volume, another class": (
        lambda: asked(_bare(THREE()), storage={"size": "1Gi", "className": "fast"}),
        "MakingObjects", [do.Delete]),
    "all empty": (lambda: empty(THREE()), "Founding", [do.Found]),
    "two of five never ran": (lambda: _late(FIVE()), "Founding", [do.Found]),
    "two of five never ran, older than the resource": (
        lambda: _late(FIVE(), created=0.0), "Founding", [do.Found]),
    "two of five are silent on volumes": (
        lambda: _late(FIVE(), phase="Bound"), "RingUnreadable", []),
    "two of five are silent on a snapshot": (
        lambda: _late(FIVE(), sourced=True), "RingUnreadable", []),
    "two of five run and are silent": (
        lambda: pod(_late(FIVE()), 4, running=True), "RingUnreadable", []),
    "one of the founders never ran": (
        lambda: pod(without(_late(FIVE()), "nodes", 2), 2, running=False), "RingUnreadable", []),
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
    "beyond size, all old": (lambda: asked(old(FIVE(), 3, 4), size=3), "ScalingDown", [do.Change]),
    "beyond size, old and not Ready": (
        lambda: asked(pod(old(FIVE(), 3, 4), 4, ready_since=None), size=3), "RollingUpdate",
        [do.Evict]),
    "has left, old and not Ready": (
        lambda: asked(pod(old(unjoined(left(FOUR(), 3), 3, "left"), 3), 3, ready_since=None),
                      size=3),
        "RecordingClaims", [do.PatchClaim]),
    "has left": (lambda: asked(unjoined(left(FOUR(), 3), 3, "left"), size=3), "RecordingClaims",
                 [do.PatchClaim]),
    "has left, hands over": (lambda: recorded(emptied=False), "ScalingDown", []),
    "has left, is recorded": (lambda: recorded(emptied=True), "ScalingDown", [do.Apply]),
    "has left, an older node": (lambda: recorded(emptied=None), "ScalingDown", [do.Apply]),
    "has left, does not know yet": (lambda: asked(left(FOUR(), 3), size=3), "ScalingDown", []),
    "not joined": (lambda: unjoined(left(FOUR(), 3), 3), "ScalingUp", [do.Change]),
    "not joined, does not answer": (
        lambda: pod(without(left(FOUR(), 3), "nodes", 3), 3, created=FOUR().now),
        "ScalingUp", []),
    "weight": (lambda: pod(THREE(), 1, weight=3), "MovingPartitions", [do.Change]),
    "another quorum": (lambda: asked(THREE(), replication={"writeQuorum": 3}), "ChangingDefaults",
                       [do.Change]),
    "no stand-ins": (lambda: asked(THREE(), replication={"sloppyQuorum": False}),
                     "ChangingDefaults", [do.Change]),
    "other quorums, beyond size": (
        lambda: asked(FOUR(), size=3, replication={"writeQuorum": 3}), "ScalingDown", [do.Change]),
    "volume snapshots": (lambda: snapped(THREE()), "BackingUp",
                         [do.CopySecret, *[do.MakeSnapshot] * 3]),
    "volume snapshots, half asked for": (lambda: snapped(THREE(), None, None), "BackingUp",
                                         [do.MakeSnapshot]),
    "volume snapshots, hints": (
        lambda: node(snapped(THREE()), 0, hints={"cart-1": Backlog(2)}), "BackingUp", []),
    "volume snapshots, one down": (
        lambda: pod(snapped(THREE()), 0, ready_since=None), "WaitingForNodes", []),
    "volume snapshots, to be larger meanwhile": (
        lambda: snapped(asked(FIVE(), size=3), *[None] * 5), "BackingUp", []),
    "volume snapshots, cut": (
        lambda: snapped(asked(FIVE(), size=3), *[1.0] * 5, cutTime="2026-11-30T12:00:00Z"),
        "ScalingDown", [do.Change]),
    "volume snapshots, cut, not written yet": (
        lambda: snapped(asked(FIVE(), size=3), *[1.0] * 5), "BackingUp", []),
    "other quorums, already refused": (
        lambda: structs.replace(asked(THREE(), replication={"sloppyQuorum": False}),
                                settled=frozenset({"Change defaults"})), "AsWanted", []),
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
    told_in_stories = {
        "repairs", "stopped", "claim of a node that has left",
        "authority absent, old, or on its way", "certificate absent, old, or of other names",
        "backup due, backup or restore that waits", "backups beyond the retention",
    }  # fmt: skip
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
def test_theorem_1(look: Callable[[], Snapshot], replicas: int) -> None:
    assert floor(look()) == replicas


def beyond(**fields: Any) -> Snapshot:
    """cart-3 has left under the id on its claim, and its pod is gone."""
    o = structs.replace(left(settled(4), 3), spec=asked(settled(4), size=3, **DELETE).spec)
    workload = structs.replace(o.workload, replicas=3)  # type: ignore[type-var]
    o = structs.replace(without(without(o, "pods", 3), "nodes", 3), workload=workload)
    o = claim(o, 3, annotations={**o.claims[3].annotations, NODE_STATE: LEFT})
    return structs.replace(o, **fields)


def forgotten(o: Snapshot) -> bool:
    """Whether the row about claims beyond the replicas deletes one."""
    step = dict(TABLE)["claim of a node that has left"](o)
    return step is not None and any(isinstance(act, do.Delete) for act in step.actions)


def test_theorem_2() -> None:
    """If one fact is less than certain, the claim is kept."""
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


def test_nodes_that_know_no_sloppy_are_told_and_asked_nothing_of_it() -> None:
    """An older image does not show it, and refuses words that it does not know."""
    o = settled()
    document = msgspec.to_builtins(o.ring)
    del document["sloppy"]
    older = msgspec.convert(document, Ring)
    assert plan(structs.replace(o, ring=older)).reason == "AsWanted"
    (act,) = plan(empty(settled())).actions
    assert "sloppy" not in act.body
    strict = asked(empty(settled()), replication={"sloppyQuorum": False})
    assert plan(strict).actions[0].body["sloppy"] is False


def test_only_the_defaults_that_differ_are_asked_for() -> None:
    wish = {"readQuorum": 3, "writeQuorum": 3, "durableWrites": 2}
    (act,) = plan(asked(ring(settled(), r=3), replication=wish)).actions
    assert act.wishes == {"defaults": {"w": 3, "dw": 2}}
    words = "the ring's defaults change: w from 2 to 3, dw from 1 to 2"
    assert (act.note.reason, act.note.message) == ("DefaultsChanged", words)


def test_names_of_other_sets_have_no_ordinal() -> None:
    o = settled()
    names = ("cart-2", "cart-02", "cart-x", "cart", "cart-a-2", "other-2")
    assert [o.ordinal(name) for name in names] == [2, None, None, None, None, None]


def test_shapes_of_the_contract_are_read() -> None:
    """Values of a look, decoded from the text of docs/http-api.md."""
    assert isinstance(settled().ring, Ring)
    assert isinstance(settled().nodes[0], Node)
    assert all(isinstance(pod, Pod) and pod.ready for pod in settled().pods.values())
    assert all(isinstance(claim, Claim) and claim.member for claim in settled().claims.values())
    assert all(isinstance(member, Member) for member in settled().ring.members)  # type: ignore[union-attr]
