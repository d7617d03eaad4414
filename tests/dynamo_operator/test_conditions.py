"""Conditions, status and Events for people, with the sentence for each trouble."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from dynamo_operator.act import Outcome
from dynamo_operator.conditions import facts
from dynamo_operator.node_answers import Backlog, Owned
from dynamo_operator.plan.table import plan
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.status import changes, cluster_status
from dynamo_operator.status_fields import ClusterStatus
from tests.dynamo_operator.looks import (
    claim,
    line,
    lost,
    node,
    old,
    pod,
    ring,
    settled,
    silent,
    without,
)
from tests.dynamo_operator.stories import SLOW, edit, make
from tests.dynamo_operator.world import Scene, World

GOOD = {
    "Ready": True, "Available": True, "Progressing": False, "Degraded": False, "RingStable": True,
    "QuorumSafe": True, "Converged": True, "RepairUpToDate": None, "SpecValid": True,
    "BackupUpToDate": None, "Paused": False, "CertificatesReady": False, "AccessReady": False,
}  # fmt: skip


def told(o: Snapshot) -> dict[str, Any]:
    """Conditions that are not in the good state, with reason and sentence."""
    return {
        fact.type: (fact.reason, fact.message)
        for fact in facts(o, plan(o))
        if fact.holds != GOOD[fact.type]
    }


def test_all_is_well() -> None:
    assert told(settled()) == {}


TROUBLES: dict[str, tuple[Callable[[], Snapshot], dict[str, str], str]] = {
    "a node is down": (
        lambda: without(pod(settled(), 1, ready_since=None), "nodes", 1),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes", "Degraded": "NodeDown",
         "QuorumSafe": "NoSpareNode", "Converged": "NodeSilent"},
        "cart-1"),
    "two nodes are down": (
        lambda: pod(pod(settled(), 1, ready_since=None), 2, ready_since=None),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes", "Degraded": "NodeDown",
         "Available": "BelowQuorum", "QuorumSafe": "NoSpareNode"},
        "16 of 16 partitions"),
    "one is being rebuilt": (
        lambda: node(settled(), 1, partitions=Owned(16, 3)),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes",
         "QuorumSafe": "NoSpareNode", "Converged": "Rebuilding"},
        "comparing with its peers"),
    "hints wait": (
        lambda: node(settled(), 1, hints={"cart-2": Backlog(7)}),
        {"Converged": "HintsWaiting"},
        "7 hints"),
    "volume lost": (
        lambda: lost(settled(3, "Never")),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes", "Degraded": "VolumeLost",
         "QuorumSafe": "NoSpareNode", "Converged": "NodeSilent"},
        "set spec.recovery.autoReplace"),
    "claim being deleted": (
        lambda: claim(settled(), 1, deleting=True),
        {"Degraded": "ClaimTerminating"},
        "the node then copies its data from the other owners"),
    "pod does not end": (
        lambda: pod(settled(), 1, deleting_since=settled().now - 300, machine="m-1"),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes",
         "Degraded": "PodTerminating", "QuorumSafe": "NoSpareNode"},
        "its machine m-1"),
    "storage does not grow": (
        lambda: claim(settled(), 1, size="2Gi"),
        {"Ready": "StorageNotGrown", "Degraded": "StorageNotGrown"},
        "from 1Gi to 2Gi"),
    "not scheduled": (
        lambda: pod(without(settled(), "nodes", 1), 1, ready_since=None, trouble="cart-1: no room"),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes",
         "Degraded": "PodNotRunning", "QuorumSafe": "NoSpareNode", "Converged": "NodeSilent"},
        "no room"),
    "foreign member": (
        lambda: ring(settled(), members=(*settled().ring.members,  # type: ignore[union-attr]
                                         structs.replace(settled().ring.members[0],  # type: ignore[union-attr]
                                                         name="guest"))),
        {"Ready": "MovingPartitions", "Progressing": "MovingPartitions",
         "Degraded": "ForeignMember", "Converged": "NodeSilent"},
        "guest"),
    "ring unreadable": (
        lambda: structs.replace(silent(settled()), unreadable="1 member answers"),
        {"Ready": "RingUnreadable", "Available": "RingUnreadable", "Progressing": "RingUnreadable",
         "RingStable": "RingUnreadable", "QuorumSafe": "RingUnreadable",
         "Converged": "RingUnreadable", "Degraded": "NodeDown"},
        "1 member answers"),
    "leaving": (
        lambda: line(settled(4), 3, state="LEAVING"),
        {"Ready": "Cancelling", "Progressing": "Cancelling", "RingStable": "Changing",
         "Converged": "Changing"},
        "cart-3 is leaving but should stay"),
    "not Ready any more, a moment ago": (
        lambda: pod(settled(), 1, ready_since=None, unready_since=settled().now - 1),
        {"Ready": "WaitingForNodes", "Progressing": "WaitingForNodes",
         "QuorumSafe": "NoSpareNode"},
        "cart-1 is not Ready"),
    "rollout waits": (
        lambda: pod(old(settled(), 2), 0, ready_since=settled().now - 1),
        {"Ready": "RollingUpdate", "Progressing": "RollingUpdate"},
        "cart-0 has been Ready for 1 s only"),
    "quorums changed": (
        lambda: ring(settled(), r=1, w=3),
        {"Ready": "ChangingDefaults", "Progressing": "ChangingDefaults"},
        "r from 1 to 2, w from 3 to 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLES)
def test_each_trouble_has_its_sentence(name: str) -> None:
    look, wanted, sentence = TROUBLES[name]
    found = told(look())
    assert {kind: reason for kind, (reason, _) in found.items()} == wanted
    assert any(sentence in message for _, message in found.values()), found


def test_what_has_not_changed_keeps_its_time() -> None:
    first = settled()
    step = plan(first)
    before = msgspec.to_builtins(cluster_status(first, step, Outcome()))
    later = structs.replace(
        first, now=first.now + 60, resource={**first.resource, "status": _from_json(before)}
    )
    assert changes(cluster_status(later, step, Outcome()), later.resource["status"]) == {}
    down = pod(later, 1, ready_since=None)
    after = cluster_status(down, plan(down), Outcome())
    times = {c.type: c.last_transition_time for c in after.conditions}
    assert times["Ready"] > times["Available"]


@pytest.mark.parametrize(("cluster", "falls"), [("the same", 0), ("another", 3)])
def test_the_epoch_never_falls(cluster: str, falls: int) -> None:
    """While nodes learn of a change, a look may see the older document; a new ring starts at 0."""
    first = ring(settled(), cluster_id="the same")
    before = cluster_status(first, plan(first), Outcome())
    resource = {**first.resource, "status": _from_json(msgspec.to_builtins(before))}
    assert first.ring is not None
    older = ring(first, epoch=first.ring.epoch - 3, cluster_id=cluster)
    older = structs.replace(older, resource=resource)
    after = cluster_status(older, plan(older), Outcome()).ring
    assert after is not None
    assert after.epoch == first.ring.epoch - falls


ROOT = Path(__file__).parents[2]
GOOD_REASONS = {
    "Ready", "Valid", "QuorumUp", "Agreed", "SpareNode", "NothingMissing", "NotAllReady",
    "Complete", "NoneYet", "Encrypted", "Required",
}  # fmt: skip
"""Conditions whose sentence says everything."""


def test_every_reason_has_its_row_in_the_documentation() -> None:
    """Every reason of a Step, a fault, a trouble or a condition."""
    sources = [*(ROOT / "operator/src/dynamo_operator").glob("plan/*.py")]
    told = ("conditions.py", "troubles.py", "trust_conditions.py", "backup_conditions.py")
    sources += [ROOT / "operator/src/dynamo_operator" / name for name in told]
    given = re.compile(
        r'(?:Step\(|yield \(?|Fact\("\w+", \w+,|(?:Protected|Kept)\((?:True|False|None),)'
        r'\s*"([A-Z]\w+)"'
    )
    reasons = {reason for path in sources for reason in given.findall(path.read_text())}
    page = (ROOT / "docs/kubernetes/conditions.md").read_text()
    assert len(reasons) > 40
    assert {reason for reason in reasons if f"`{reason}`" not in page} <= GOOD_REASONS


def _from_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def test_fields_that_go_are_taken_away() -> None:
    old_status = {"plan": {"hash": "a", "before": {"x": 1}}, "ready": "3/3", "members": 3}
    body = changes(ClusterStatus(ready="3/3", members=2), old_status)
    assert body["plan"] is None
    assert body["members"] == 2
    assert "ready" not in body


def test_a_status_is_what_the_schema_has() -> None:
    """Decoded again by the structs that make the CRD."""
    status = cluster_status(settled(), plan(settled()), Outcome())
    assert msgspec.convert(_from_json(msgspec.to_builtins(status)), ClusterStatus) == status
    assert (status.ready, status.members, status.replicas) == ("3/3", 3, 3)
    assert {n.state for n in status.nodes} == {"MEMBER"}
    assert status.ring is not None
    assert status.ring.agreed


def events(*story: Scene) -> list[str]:
    """Reasons of the Events of a story, in the order in which they were told."""
    world = World()
    asyncio.run(world.play(list(story)))
    items = world.found("Event").values()
    order = sorted(items, key=lambda e: (e["eventTime"], int(e["metadata"]["uid"][4:])))
    return [event["reason"] for event in order]


def test_the_story_of_a_ring_in_events() -> None:
    told = events(make(size=4, update=SLOW), edit(size=3), edit(image="node:2"))
    assert told == [
        "RingFounded",
        "ScalingUp",
        "Ready",
        "ScalingDown",
        "PodRemoved",
        "Ready",
        "PodUpdated",
        "PodUpdated",
        "PodUpdated",
    ]
