"""Backups by volume snapshots, and new rings that begin with them (S-BAK-4)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from dynamo_core.ring import planning
from dynamo_core.ring.change_request import parse_change_request
from dynamo_operator.node_answers import Backlog, Owned
from dynamo_operator.origins import beginner
from dynamo_operator.plan.snapshots import ERROR_S, restless
from dynamo_operator.snapshot import COPY_OF
from tests.dynamo_operator.looks import node, settled
from tests.dynamo_operator.schedules import killed_again, killed_at_each, two_at_once
from tests.dynamo_operator.stories import edit, make, night
from tests.dynamo_operator.world import NAMESPACE, Scene, World

SNAP: dict[str, Any] = {"method": "VolumeSnapshot"}
NIGHTLY = {"backup": {**SNAP, "schedule": "0 3 * * *", "retention": {"count": 1}}}
FROM = {"bootstrap": {"fromBackup": {"name": "before"}}}
BOTH = ("cart", "again")


def snap(after: int | None = None, name: str = "before", **spec: Any) -> Scene:
    return Scene(lambda w: w.run("DynamoBackup", name, **SNAP, **spec), after)


def again(**spec: Any) -> Scene:
    return Scene(lambda w: w.make("again", **FROM, **spec))


def played(*scenes: Scene) -> World:
    world = World()
    asyncio.run(world.play(list(scenes)))
    assert not world.ring.wrong, world.ring.wrong[:3]
    return world


def told(world: World, name: str = "before") -> dict[str, Any]:
    return dict(world.found("DynamoBackup")[name]["status"])


def failed(world: World, name: str = "before") -> tuple[str, str]:
    status = told(world, name)
    assert status["state"] == "Failed", status
    return status["conditions"][0]["reason"], status["message"]


def condition(world: World, name: str, kind: str) -> dict[str, Any]:
    conditions = world.found("DynamoCluster")[name]["status"]["conditions"]
    return next(dict(each) for each in conditions if each["type"] == kind)


def passes(world: World, seconds: int, name: str = "cart") -> None:
    for _ in range(seconds):
        asyncio.run(world.operators[0].reconcile(NAMESPACE, name))
        world.step()


def test_one_snapshot_of_each_claim_and_the_secret_are_one_backup() -> None:
    world = World()
    world.kube.driver.classes.add("fast")
    asyncio.run(world.play([make(), snap(snapshotClassName="fast")]))
    status = told(world)
    assert (status["state"], status["message"]) == ("Complete", "3 volume snapshots are ready")
    made = world.found("VolumeSnapshot")
    assert [each["name"] for each in status["snapshots"]] == list(made)
    assert {each["ready"] for each in status["snapshots"]} == {True}
    assert status["snapshotsReady"] == "3/3" and status["cutTime"]
    assert {each["size"] for each in status["snapshots"]} == {"1Gi"}
    sources = {item["spec"]["source"]["persistentVolumeClaimName"] for item in made.values()}
    assert sources == {f"data-cart-{ordinal}" for ordinal in range(3)}
    assert {item["spec"]["volumeSnapshotClassName"] for item in made.values()} == {"fast"}
    secrets = world.found("Secret")
    assert secrets[status["secretName"]]["data"] == secrets["cart-secret"]["data"]
    ring = status["ring"]
    assert (ring["cluster"], ring["partitions"], ring["factor"]) == ("shop/cart", 16, 3)
    last = world.found("DynamoCluster")["cart"]["status"]["lastBackup"]
    assert last["name"] == "before"


def test_the_snapshots_go_with_the_backup_unless_they_are_retained() -> None:
    world = played(make(), snap(), snap(name="kept", deletionPolicy="Retain"))
    secrets = [told(world, name)["secretName"] for name in ("before", "kept")]
    assert len(world.found("VolumeSnapshot")) == 6
    for name in ("before", "kept"):
        world.kube.remove("DynamoBackup", NAMESPACE, name)
    passes(world, 3)
    left = world.found("VolumeSnapshot")
    assert {name.partition("-uid")[0] for name in left} == {"kept"} and len(left) == 3
    assert [name in world.found("Secret") for name in secrets] == [False, True]


def _uninstalled(w: World) -> None:
    w.kube.driver.installed = False


def _forbidden(w: World) -> None:
    w.kube.driver.forbidden = "admission webhook says no"


def _broken(w: World) -> None:
    w.kube.driver.broken = "rpc error: the pool is full"


def _mended(w: World) -> None:
    driver = w.kube.driver
    driver.installed, driver.forbidden, driver.broken = True, "", ""


@pytest.mark.parametrize(
    ("change", "spec", "reason", "words"),
    [
        (_uninstalled, {}, "NotAvailable", "install the CRDs of snapshot.storage.k8s.io/v1"),
        (_forbidden, {}, "Refused", "admission webhook says no"),
        (_broken, {}, "SnapshotFailed", "rpc error: the pool is full"),
        (lambda w: None, {"snapshotClassName": "none"}, "SnapshotFailed", "'none' not found"),
    ],
)
def test_a_backup_that_fails_names_what_refused(
    change: Callable[[World], None], spec: dict[str, Any], reason: str, words: str
) -> None:
    world = played(make(), Scene(change), snap(**spec))
    found = failed(world)
    assert found[0] == reason and words in found[1], found
    (event,) = [e for e in world.found("Event").values() if e["reason"] == "BackupFailed"]
    assert words in event["note"]
    asyncio.run(world.play([Scene(_mended), snap(0, name="later")]))
    assert told(world, "later")["state"] == "Complete", "it delays no other"


def test_an_error_that_passes_does_not_fail_the_backup() -> None:
    world = played(make(), Scene(_broken))
    world.run("DynamoBackup", "before", **SNAP)
    passes(world, int(ERROR_S) // 2)
    assert "the pool is full" in told(world)["message"] and told(world)["state"] == "Running"
    asyncio.run(world.play([Scene(_mended)]))
    assert told(world)["state"] == "Complete"


def test_it_begins_when_the_ring_is_at_rest_and_holds_it_until_all_is_cut() -> None:
    world = World()
    world.kube.driver.cut_s = 20.0
    shrinks = Scene(lambda w: w.edit(size=4), sees=_being_cut)
    asyncio.run(world.play([make(), edit(size=5), snap(2), shrinks]))
    assert not world.ring.wrong
    status = told(world)
    assert status["state"] == "Complete" and len(status["snapshots"]) == 5
    assert len(world.found("Pod")) == 4


def _being_cut(w: World) -> bool:
    return bool(w.found("VolumeSnapshot"))


def _moved_by_a_person(w: World) -> None:
    node = next(n for n in w.ring.nodes.values() if n.name == "cart-0")
    ring = node.disk.ring
    assert ring is not None
    owners = ring.entries[3].owners
    (other,) = {f"cart-{n}" for n in range(4)} - set(owners)
    move = {"partition": 3, "from": owners[0], "to": other}
    wishes = parse_change_request({"moves": [move]})
    node.disk.ring = planning.applied(ring, planning.plan(ring, wishes), wishes, {}, "by-hand")


def test_a_ring_that_a_person_changes_meanwhile_makes_it_fail() -> None:
    world = World()
    world.kube.driver.cut_s = 30.0
    moves = Scene(_moved_by_a_person, sees=_being_cut)
    asyncio.run(world.play([make(size=4), snap(), moves]))
    assert failed(world)[0] == "RingChanged"


def test_snapshots_that_are_cut_far_apart_do_not_fit() -> None:
    world = World()
    world.kube.driver.late["data-cart-1"] = 400.0
    asyncio.run(world.play([make(), snap()]))
    assert failed(world)[0] == "TooFarApart"


@pytest.mark.parametrize(("ready_s", "state"), [(3.0, "Complete"), (400.0, "Failed")])
def test_a_driver_that_does_not_tell_when_it_cuts(ready_s: float, state: str) -> None:
    """Then a snapshot may be as late as the look that finds it ready."""
    world = World()
    world.kube.driver.tells, world.kube.driver.ready_s = False, ready_s
    asyncio.run(world.play([make(), snap()]))
    assert told(world)["state"] == state
    assert state == "Complete" or failed(world)[0] == "TooFarApart"


def test_the_schedule_makes_them_and_the_retention_deletes_them() -> None:
    world = played(make(**NIGHTLY), Scene(night), Scene(night), Scene(night))
    (name,) = world.found("DynamoBackup")
    passes(world, 3)
    assert {each.rpartition("-uid")[0] for each in world.found("VolumeSnapshot")} == {name}
    assert len(world.found("VolumeSnapshot")) == 3
    assert condition(world, "cart", "BackupUpToDate")["status"] == "True"


@pytest.mark.parametrize("unbound", [("again-0", "again-1", "again-2"), ("again-2",)])
def test_the_retention_keeps_a_backup_until_a_ring_has_begun_with_it(
    unbound: tuple[str, ...],
) -> None:
    """A driver makes no volume of a snapshot that is being deleted: the ring would wait in vain."""
    world = World(names=BOTH)
    asyncio.run(world.play([make(**NIGHTLY), Scene(night)]))
    (first,) = world.found("DynamoBackup")
    world.kube.homeless |= set(unbound)
    world.make("again", bootstrap={"fromBackup": {"name": first}})
    for _ in range(2):
        night(world)
        passes(world, 20, "again")
        passes(world, 20)
    made = world.found("DynamoBackup")
    assert first in made and len(made) == 2, "one that no ring needs goes all the same"
    assert len(world.found("VolumeSnapshot")) == 6
    world.kube.homeless.clear()
    asyncio.run(world.play([Scene(night)]))
    assert not world.ring.wrong and len(world.ring.newest()) == 2
    assert first not in world.found("DynamoBackup")


def test_a_ring_that_begins_has_every_claim_of_the_backup_bound() -> None:
    def bound(*claims: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": each}, "status": {"phase": "Bound"}} for each in claims]

    def ring(name: str, backup: str = "monday", **meta: str) -> dict[str, Any]:
        spec = {"bootstrap": {"fromBackup": {"name": backup}}}
        return {"metadata": {"name": name, **meta}, "spec": spec}

    begun, half = bound("data-a-0", "data-a-1"), bound("data-a-0", "data-b-1")
    for rings, claims, who in (
        ([], begun, ""),
        ([ring("a", "tuesday"), {"metadata": {"name": "c"}, "spec": {}}], [], ""),
        ([ring("a")], begun, ""),
        ([ring("b"), ring("a")], begun, "b"),
        ([ring("a")], half, "a"),
        ([ring("a")], [], "a"),
        ([ring("a", deletionTimestamp="now")], [], ""),
    ):
        assert beginner("monday", (0, 1), rings, claims) == who, (rings, claims)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ring_fsynced": False}, "cart-1 has not fsynced the ring document"),
        ({"ring_fsynced": None}, ""),
        ({"hints": {"cart-0": Backlog(3)}}, "3 hints are still to be delivered"),
        ({"partitions": Owned(9, 8)}, "cart-1 is not Ready, or is comparing with its peers"),
    ],
)
def test_no_snapshot_is_asked_for_before_the_ring_is_at_rest(
    fields: dict[str, Any], why: str
) -> None:
    """A copy has what a power cut leaves: also of the ring document (S-BAK-4)."""
    o = settled()
    assert not restless(o)
    assert restless(node(o, 1, **fields)) == why


def values(world: World, name: str) -> set[int]:
    """Of a ring, on the disks of its claims."""
    claims = world.found("PersistentVolumeClaim").items()
    disks = [
        world.ring.disks[item["metadata"]["uid"]]
        for claim, item in claims
        if claim.startswith(f"data-{name}-")
    ]
    return {value for disk in disks for held in disk.data.values() for value in held}


def test_a_new_ring_begins_with_snapshots_beside_the_old_one_and_they_never_mix() -> None:
    world = World(names=BOTH)
    asyncio.run(world.play([make(size=4)]))
    (old,) = world.ring.newest()
    saved = set().union(*world.ring.acked[old].values())
    asyncio.run(world.play([snap()]))
    asyncio.run(world.play([again(size=5)]))
    assert not world.ring.wrong, world.ring.wrong[:3]
    rings = world.ring.newest()
    uid = world.found("DynamoCluster")["again"]["metadata"]["uid"]
    assert set(rings) == {old, uid}
    assert {n.rpartition("-")[0] for n in rings[old].members} == {"cart"}
    assert set(rings[uid].members) == {f"again-{n}" for n in range(5)}
    ids = [{m.id for m in ring.members.values()} for ring in rings.values()]
    assert not ids[0] & ids[1]
    addresses = [m.address for m in rings[uid].members.values()]
    assert all(".again-nodes.shop.svc:" in address for address in addresses)
    assert saved <= values(world, "again")
    assert not world.found("DynamoRestore")
    assert condition(world, "again", "Ready")["status"] == "True"
    assert world.found("Secret")["again-secret"] != world.found("Secret")["cart-secret"]


def test_it_waits_for_its_backup_and_founds_no_empty_ring() -> None:
    world = World(names=BOTH)
    asyncio.run(world.play([make()]))
    world.make("again", **FROM)
    passes(world, 10, "again")
    assert not [name for name in world.found("Pod") if name.startswith("again")]
    assert "there is no DynamoBackup before" in condition(world, "again", "Progressing")["message"]
    asyncio.run(world.play([snap(0)]))
    assert not world.ring.wrong and len(world.ring.newest()) == 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"size": 3}, "spec.size is 3, DynamoBackup before is of 4 nodes"),
        ({"size": 4, "ring": {"partitions": 32}}, "spec.ring.partitions is 32"),
        ({"size": 4, "conflicts": "LastWriteWins"}, "spec.conflicts is LastWriteWins"),
        ({"size": 4, "storage": {"size": "500Mi"}}, "a snapshot of DynamoBackup before needs 1Gi"),
    ],
)
def test_a_spec_that_does_not_fit_the_snapshots_is_told(spec: dict[str, Any], words: str) -> None:
    world = played(make(size=4), snap())
    world.make("again", **FROM, **spec)
    passes(world, 5, "again")
    assert words in condition(world, "again", "SpecValid")["message"]
    assert not [name for name in world.found("PersistentVolumeClaim") if "again" in name]


def test_made_again_on_kept_claims_it_keeps_its_id_and_its_pods_the_note() -> None:
    world = World(names=BOTH)
    asyncio.run(world.play([make(), snap(), again()]))
    before = world.found("StatefulSet")["again"]["spec"]["template"]
    (ring,) = [uid for uid in world.ring.newest() if uid != _uid(world, "cart")]
    world.kube.remove("DynamoCluster", NAMESPACE, "again")
    world.kube.remove("DynamoBackup", NAMESPACE, "before")
    asyncio.run(world.play([Scene(lambda w: w.make("again"))]))
    assert not world.ring.wrong
    assert set(world.ring.newest()) == {ring, _uid(world, "cart")}
    assert world.found("StatefulSet")["again"]["spec"]["template"] == before
    notes = {
        item["metadata"]["annotations"][COPY_OF]
        for name, item in world.found("PersistentVolumeClaim").items()
        if "again" in name
    }
    assert notes == {f"shop/cart {ring}"}


def _uid(world: World, name: str) -> str:
    return str(world.found("DynamoCluster")[name]["metadata"]["uid"])


STORIES: dict[str, list[Scene]] = {
    "snapshots": [make(), snap()],
    "snapshots before it grows": [
        make(),
        snap(),
        Scene(lambda w: w.edit(size=5), sees=_being_cut),
    ],
    "begun with snapshots of another ring": [make(), snap(), again(size=4)],
}
EVERY = 7


@pytest.mark.parametrize("name", STORIES)
def test_every_schedule_ends_alike(name: str) -> None:
    def ended(world: World) -> str:
        world.names = BOTH
        world._unsettle()
        asyncio.run(world.play(STORIES[name]))
        assert not world.ring.wrong, world.ring.wrong[:3]
        text = json.dumps(world.end(), sort_keys=True, default=str)
        return re.sub(r"uid-\d+|(?<=again-)[0-9a-f]{8}", "", text)

    first = World()
    wanted = ended(first)
    for worlds in (killed_at_each(first.points, EVERY), killed_again(2), two_at_once(2)):
        for world in worlds:
            assert ended(world) == wanted, (world.kills, world.seed)
