"""Troubles that need a person are shown, the worst first, each with a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from dynamo_operator.act import Outcome
from dynamo_operator.conditions import Fact, facts
from dynamo_operator.metrics import Metrics
from dynamo_operator.outages import STARTING_S_MAX
from dynamo_operator.plan.table import plan
from dynamo_operator.reconcile import RESYNC_S
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.troubles import not_grown
from tests.dynamo_operator.looks import asked, claim, left, line, pod, settled, silent, without
from tests.dynamo_operator.stories import DELETE_MACHINE, REMOVE, make
from tests.dynamo_operator.world import NAMESPACE, Scene, World

NOTHING = Scene(lambda w: None, 0)


def told(o: Snapshot, refused: str = "") -> dict[str, Fact]:
    """The conditions of a look."""
    return {fact.type: fact for fact in facts(o, plan(o), refused=refused)}


def passes(world: World, seconds: int) -> None:
    """This many seconds with an operator that looks each second."""
    for _ in range(seconds):
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        world.step()


def shown(world: World, which: str) -> dict[str, Any]:
    """A condition as it stands in the status."""
    conditions = world.found("DynamoCluster")["cart"]["status"]["conditions"]
    (found,) = [c for c in conditions if c["type"] == which]
    return dict(found)


def _no_room(w: World) -> None:
    w.kube.pods_max = 2


def _room(w: World) -> None:
    w.kube.pods_max = None


def _no_volume(w: World) -> None:
    w.kube.attach_s = 1e9


def _volume(w: World) -> None:
    w.kube.attach_s = 0.0


def _no_class(w: World) -> None:
    w.kube.classes_unknown.add("gp3-typo")


def _class(w: World) -> None:
    w.kube.classes_unknown.clear()


BARRED: dict[str, tuple[Callable[[World], None], Callable[[World], None], str, str]] = {
    "a quota or a security level refuses a pod": (
        _no_room, _room, "PodNotMade", "kubectl describe statefulset cart -n shop"),
    "a Secret or a volume is missing": (
        _no_volume, _volume, "PodNotStarted", "kubectl describe pod cart-0 -n shop"),
    "the class does not exist": (
        _no_class, _class, "PodNotStarted",
        "class gp3-typo has no volume: kubectl describe pvc data-cart-0 -n shop"),
}  # fmt: skip


@pytest.mark.parametrize("name", BARRED)
def test_a_pod_that_does_not_come_is_told_after_a_minute(name: str) -> None:
    bar, lift, reason, command = BARRED[name]
    world = World()
    bar(world)
    world.make(storage={"size": "1Gi", "className": "gp3-typo"})
    passes(world, int(STARTING_S_MAX) - 10)
    assert shown(world, "Degraded")["status"] == "False"
    passes(world, 20)
    found = shown(world, "Degraded")
    assert (found["status"], found["reason"]) == ("True", reason)
    assert command in found["message"]
    lift(world)
    asyncio.run(world.play([NOTHING]))
    assert shown(world, "Degraded")["reason"] == "AllWell"


def test_the_minute_is_by_the_operators_own_clock() -> None:
    """The clocks of the API server and of the operator's machine may be hours apart."""
    world = World()
    world.operators[0].clock = lambda: world.kube.now + 7200
    world.kube.attach_s = STARTING_S_MAX / 2
    world.make()
    for _ in range(int(STARTING_S_MAX)):
        passes(world, 1)
        assert shown(world, "Degraded")["reason"] != "PodNotStarted"


def test_the_minute_begins_anew_with_each_pod() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    world.kube.pods_max = 2
    world.kube.remove("Pod", NAMESPACE, "cart-1")
    passes(world, int(STARTING_S_MAX) + 5)
    assert shown(world, "Degraded")["reason"] == "PodNotMade"
    world.kube.pods_max, world.kube.attach_s = None, 20.0
    passes(world, 5)
    assert shown(world, "Degraded")["status"] == "False"


def test_a_secret_that_is_gone_needs_a_person() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    world.kube.remove("Secret", NAMESPACE, "cart-secret")
    passes(world, 2)
    assert shown(world, "Degraded")["reason"] == "SecretMissing"
    assert shown(world, "Degraded")["status"] == "True"


def _removed_by_force() -> Snapshot:
    """cart-1 was removed, its machine is dead: its pod object stays and does not answer."""
    return without(pod(left(settled(4), 1), 1, ready_since=None, machine="m-1"), "nodes", 1)


def _grows_beside_a_dead_node() -> Snapshot:
    return claim(without(pod(settled(), 1, ready_since=None), "nodes", 1), 2, size="2Gi")


WORST: dict[str, tuple[Callable[[], Snapshot], str, str]] = {
    "removed by force": (_removed_by_force, "NodeDown", "on machine m-1"),
    "a growing claim hides nothing": (_grows_beside_a_dead_node, "NodeDown", "cart-1"),
    "a fixed field": (
        lambda: asked(settled(), conflicts="LastWriteWins"),
        "FixedAtCreation", "spec.conflicts"),
    "a ring that nobody shows": (
        lambda: structs.replace(settled(), ring=None, exact=False, unreadable="3 rings",
                                waited={"ring": 61.0}),
        "RingUnreadable", "kubectl get pods -n shop"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORST)
def test_the_worst_is_told_first(name: str) -> None:
    look, reason, words = WORST[name]
    found = told(look())["Degraded"]
    assert (found.holds, found.reason) == (True, reason), found
    assert words in found.message


def test_what_cannot_be_known_is_unknown() -> None:
    """No node shows the ring, and one minute has not passed."""
    o = structs.replace(silent(settled()), now=settled().pods[0].created + 1)
    found = told(o)
    for kind in ("Available", "Degraded", "RingStable", "QuorumSafe", "Converged"):
        assert (found[kind].holds, found[kind].reason) == (None, "RingUnreadable")
    assert found["Ready"].holds is False
    stopped = told(asked(silent(settled()), stopped=True))
    assert {stopped[kind].holds for kind in ("Available", "Converged")} == {False}


def test_what_is_refused_needs_a_person() -> None:
    found = told(settled(), refused="pods are forbidden")["Degraded"]
    assert (found.holds, found.reason) == (True, "Refused")


def test_the_smallest_step_above_what_the_spec_asks_for_is_not_waited_for() -> None:
    """Kubernetes takes no smaller claim, once a size with zeros too many was taken back."""
    o = asked(settled(), storage={"size": "1Gi"})
    assert not list(not_grown(claim(o, 1, size="1025Mi")))
    assert list(not_grown(claim(o, 1, size="1026Mi")))


NOT_READY: dict[str, tuple[Callable[[], Snapshot], str, str, str]] = {
    "refused": (settled, "pods are forbidden", "Refused", "pods are forbidden"),
    "a claim that is smaller than the spec": (
        lambda: claim(asked(settled(), storage={"size": "2Gi"}), 1, phase="Bound"),
        "not by this class", "Refused", "not by this class"),
    "a volume that is smaller than its claim": (
        lambda: claim(settled(), 1, size="2Gi"), "", "StorageNotGrown", "from 1Gi to 2Gi"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_READY)
def test_what_is_not_carried_out_is_not_ready(name: str) -> None:
    """`kubectl wait`, Flux and Argo rely on Ready."""
    look, refused, reason, words = NOT_READY[name]
    o = look()
    rest = structs.replace(plan(settled()), reason="AsWanted", progressing=False)
    found = {fact.type: fact for fact in facts(o, rest, refused=refused)}["Ready"]
    assert (found.holds, found.reason) == (False, reason)
    assert words in found.message


def _dead(o: Snapshot, ordinal: int) -> Snapshot:
    """Its machine is off: the kubelet reports nothing, the pod object stays and is silent."""
    return without(pod(o, ordinal, ready_since=None), "nodes", ordinal)


def test_the_way_out_when_a_machine_never_comes_back_is_told() -> None:
    """A leaving node cannot hand over the data of its dead machine: that waits for ever."""
    o = _dead(line(asked(settled(4), size=3), 3, state="LEAVING"), 3)
    leaving = plan(o)
    assert leaving.reason == "ScalingDown"
    assert f"{REMOVE}, then {DELETE_MACHINE}" in leaving.message
    assert REMOVE in told(o)["Degraded"].message
    removed = plan(_dead(left(asked(settled(4), size=3), 3), 3))
    assert removed.reason == "ScalingDown"
    assert REMOVE not in removed.message
    assert DELETE_MACHINE in removed.message


def test_a_node_that_restarts_is_not_to_be_removed() -> None:
    o = line(asked(settled(4), size=3), 3, state="LEAVING")
    away = without(pod(o, 3, ready_since=None, unready_since=o.now - 5), "nodes", 3)
    assert "remove" not in plan(away).message


def test_gauges_tell_it_to_prometheus() -> None:
    metrics = Metrics()
    o = _removed_by_force()
    metrics.saw(o, plan(o), Outcome())
    bad = asked(structs.replace(settled(), name="other"), conflicts="LastWriteWins")
    metrics.saw(bad, plan(bad), Outcome())
    text = metrics.text(0, {}).decode()
    assert 'dynamo_cluster_degraded{name="cart",namespace="shop"} 1.0' in text
    assert 'dynamo_cluster_spec_valid{name="cart",namespace="shop"} 1.0' in text
    assert 'dynamo_cluster_spec_valid{name="other",namespace="shop"} 0.0' in text


def test_nothing_is_told_of_a_ring_that_rests() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    assert asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart")) == RESYNC_S
    assert world.operators[0].observer.waits._since[NAMESPACE, "cart"] == {}


def test_a_paused_ring_without_pods_rests() -> None:
    """Nothing can change there without an event."""
    world = World()
    asyncio.run(world.play([make(paused=True)]))
    assert not world.found("Pod")
    assert asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart")) == RESYNC_S
