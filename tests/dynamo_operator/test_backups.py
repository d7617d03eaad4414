"""Backups and restores as the operator asks for them: what waits, what fails, what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from dynamo_operator.archive_runs import BACKUP, RESTORE, SCHEDULED, Run
from dynamo_operator.backup_conditions import backed_up
from dynamo_operator.parse import read_by_others
from dynamo_operator.plan.backups import base, beyond, body, due_backup, retention, unrestored
from dynamo_operator.plan.schedule import last_due
from dynamo_operator.quantity import stamp
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import backup_spec, restore_spec
from dynamo_operator.spec_types import Part
from tests.dynamo_operator.looks import asked, settled
from tests.dynamo_operator.simulated_archive import REFUSED
from tests.dynamo_operator.stories import (
    ARCHIVE,
    NIGHTLY,
    STORIES,
    archive_fails,
    archive_heals,
    make,
    night,
)
from tests.dynamo_operator.world import NAMESPACE, Scene, World

HOUR, DAY = 3600.0, 86_400.0


def run(name: str, began: float, how: str = "Complete", **fields: Any) -> Run:
    """A scheduled backup, as its status tells it."""
    ended = [{"type": how, "status": "True"}] if how else []
    status = {"startTime": stamp(began), "message": f"about {name}", "conditions": ended}
    spec = backup_spec({"clusterName": "cart", "target": ARCHIVE})
    made = Run(
        kind=BACKUP, name=name, uid=f"uid-{name}", resource_version="1", created=began, spec=spec,
        labels={SCHEDULED: "cart"}, status=status, archive=ARCHIVE,
    )  # fmt: skip
    return structs.replace(made, **fields)


def look(*runs: Run, after_due: float = 0.0, **backup: Any) -> Snapshot:
    """A look some seconds after three at night, a week after the ring was made."""
    o = asked(settled(), backup={**NIGHTLY["backup"], **backup})
    three = (last_due("0 3 * * *", o.now) or 0.0) + 7 * DAY
    return structs.replace(o, runs=runs, now=three + after_due)


THREE = look().now
DAYS = [run(f"day-{n}", THREE - n * DAY) for n in range(3)]
MADE = {"resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("o", "holds", "reason"),
    [
        (structs.replace(look(), runs_fault="forbidden"), None, "NotListed"),
        (look(schedule=None), None, "NotScheduled"),
        (look(suspend=True), None, "Suspended"),
        (look(run("a", THREE + 5), after_due=60), True, "Complete"),
        (look(run("a", THREE - DAY + 5), after_due=60), True, "Complete"),
        (look(run("a", THREE - DAY + 5), after_due=2 * HOUR), False, "Late"),
        (
            look(run("a", THREE - DAY + 5), run("b", THREE, ""), after_due=2 * HOUR),
            True,
            "Complete",
        ),
        (look(run("a", THREE - 2 * DAY), after_due=60), False, "Late"),
        (look(run("a", THREE + 5), run("b", THREE + 9, "Failed"), after_due=60), False, "Failed"),
        (look(after_due=2 * HOUR), False, "Late"),
        (structs.replace(look(after_due=60), created=THREE - HOUR), None, "NoneYet"),
    ],
)
def test_backup_up_to_date(o: Snapshot, holds: bool | None, reason: str) -> None:
    told = backed_up(o)
    assert (told.holds, told.reason) == (holds, reason), told.message


def test_both_rules_of_the_retention_have_to_let_a_backup_go() -> None:
    days = [run(f"day-{n}", THREE - n * DAY) for n in range(6)]
    failed = [run(f"failed-{n}", THREE - n * DAY - HOUR, "Failed") for n in range(6)]
    by_hand = run("by-hand", THREE - 300 * DAY, labels={})

    def gone(**retention: int) -> list[str]:
        o = look(*days, *failed, by_hand, after_due=60, retention=retention)
        return sorted(r.name for r in beyond(o) if r.ended == "Complete")

    assert gone(count=2) == ["day-2", "day-3", "day-4", "day-5"]
    assert gone(count=2, days=4) == ["day-4", "day-5"]
    assert gone(count=7) == []
    o = look(*days, *failed, after_due=60, retention={"count": 2})
    assert sorted(r.name for r in beyond(o) if r.ended == "Failed") == [
        f"failed-{n}" for n in range(2, 6)
    ]


def test_a_backup_builds_on_the_newest_complete_one_of_its_archive() -> None:
    older, newer = run("older", THREE - 2 * DAY), run("newer", THREE - DAY)
    elsewhere = run("elsewhere", THREE - HOUR, archive="s3://other")
    now = run("now", THREE, "")
    o = look(older, newer, elsewhere, run("bad", THREE - HOUR, "Failed"), now)
    assert base(o, now) == newer.id
    assert body(o, now) == {"id": now.id, "archive": ARCHIVE, "base": newer.id}
    whole = structs.replace(now, spec=backup_spec({"clusterName": "cart", "whole": True}))
    assert base(o, whole) == ""
    assert base(look(now), now) == ""


def test_what_a_restore_asks_for() -> None:
    def asks(**spec: Any) -> dict[str, Any]:
        made: Part = restore_spec({"clusterName": "cart", "from": {"target": ARCHIVE}, **spec})
        it = run("back", THREE, "", kind=RESTORE, spec=made)
        return {k: v for k, v in body(look(it), it).items() if k not in ("id", "archive")}

    assert asks() == {}
    assert asks(prefix="cart-ü") == {"prefix": "Y2FydC3DvA=="}
    assert asks(mode="IntoPast") == {"into_past": True}


def test_an_id_is_of_one_object() -> None:
    one, again = run("now", THREE, uid="1a2b3c4d-5e6f"), run("now", THREE, uid="9f8e7d6c-5b4a")
    assert (one.id, again.id) == ("now-1a2b3c4d", "now-9f8e7d6c")
    assert len(run("x" * 253, THREE, uid="1a2b3c4d-5e6f").id) <= 128


def told(world: World, kind: str, name: str) -> dict[str, Any]:
    return dict(world.found(kind)[name]["status"])


def test_a_backup_says_why_it_failed() -> None:
    refused, silent = World(), World()
    asyncio.run(refused.play(STORIES["backup to where no node may write"]))
    status = told(refused, "DynamoBackup", "before")
    assert status["state"] == "Failed"
    assert (status["conditions"][0]["reason"], "backup_targets" in status["message"]) == (
        "Refused",
        True,
    )
    asyncio.run(silent.play(STORIES["backup into an archive that never answers"]))
    status = told(silent, "DynamoBackup", "before")
    assert (status["conditions"][0]["reason"], status["failures"]) == ("GivenUp", 1)
    assert status["message"] == f"the nodes gave up: {ARCHIVE} does not answer"
    (event,) = [e for e in silent.found("Event").values() if e["reason"] == "BackupFailed"]
    assert event["type"] == "Warning" and status["message"] in event["note"]


def _damaged(world: World) -> None:
    world.ring.archives.damaged, world.ring.archives.missed = 2, ["cart-1"]


def test_a_backup_tells_the_keys_and_the_nodes_that_it_lacks() -> None:
    world = World()
    backup = Scene(lambda w: w.run("DynamoBackup", "before", target=ARCHIVE))
    asyncio.run(world.play([make(), Scene(_damaged), backup]))
    status = told(world, "DynamoBackup", "before")
    assert (status["state"], status["damaged"], status["missed"]) == ("Complete", 2, ["cart-1"])
    (end,) = status["conditions"]
    assert (end["type"], end["reason"]) == ("Complete", "KeysLost")
    lacks = (
        "down: cart-1, so writes that only they held are missing; 2 keys are lost: damaged on all"
        " nodes, `dynamoctl backup show` lists which"
    )
    assert end["message"].endswith(lacks)
    (event,) = [e for e in world.found("Event").values() if e["reason"] == "BackupComplete"]
    assert event["type"] == "Warning" and event["note"] == f"before: {end['message']}"
    ring = world.found("DynamoCluster")["cart"]["status"]
    assert (ring["lastBackup"]["damaged"], ring["lastBackup"]["missed"]) == (2, ["cart-1"])
    (kept,) = [c for c in ring["conditions"] if c["type"] == "BackupUpToDate"]
    assert kept["message"].endswith(lacks)
    world.ring.archives.damaged, world.ring.archives.missed = 0, []
    again = Scene(lambda w: w.run("DynamoBackup", "again", target=ARCHIVE))
    asyncio.run(world.play([again]))
    (end,) = told(world, "DynamoBackup", "again")["conditions"]
    assert end["reason"] == "Done" and "lost" not in end["message"]


SNAPSHOTS: dict[str, Any] = {"method": "VolumeSnapshot"}


def _restored_from(*scenes: Scene, name: str = "before") -> World:
    world = World()
    back = Scene(lambda w: w.run("DynamoRestore", "back", **{"from": {"name": name}}))
    asyncio.run(world.play([make(), *scenes, back]))
    return world


def test_a_restore_of_volume_snapshots_fails_at_once_and_says_what_to_do() -> None:
    world = _restored_from(Scene(lambda w: w.run("DynamoBackup", "before", **SNAPSHOTS)))
    status = told(world, "DynamoRestore", "back")
    assert (status["state"], status["conditions"][0]["reason"]) == ("Failed", "CannotBegin")
    assert "make a DynamoCluster with spec.bootstrap.fromBackup.name" in status["message"]
    assert status.get("durationSeconds", 0) == 0 and "startTime" not in status
    (event,) = [e for e in world.found("Event").values() if e["reason"] == "RestoreFailed"]
    assert event["type"] == "Warning" and status["message"] in event["note"]


def test_it_fails_at_once_also_while_the_snapshots_are_not_made() -> None:
    world = World()
    world.kube.driver.broken = "rpc error: the pool is full"
    asyncio.run(world.play([make()]))
    world.run("DynamoBackup", "before", **SNAPSHOTS)
    world.run("DynamoRestore", "back", **{"from": {"name": "before"}})
    passes(world, 3)
    assert told(world, "DynamoRestore", "back")["state"] == "Failed"


def test_a_restore_of_a_backup_that_failed_fails_at_once_and_says_why() -> None:
    nowhere = Scene(lambda w: w.run("DynamoBackup", "before", target=REFUSED))
    status = told(_restored_from(nowhere), "DynamoRestore", "back")
    assert (status["state"], status["conditions"][0]["reason"]) == ("Failed", "CannotBegin")
    assert status["message"].startswith("DynamoBackup before failed, so there is nothing")
    assert "backup_targets" in status["message"]


def passes(world: World, seconds: int) -> None:
    for _ in range(seconds):
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        world.step()


def test_what_can_change_waits_and_says_for_what() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    world.run("DynamoRestore", "back", **{"from": {"name": "before"}})
    passes(world, 3)
    status = told(world, "DynamoRestore", "back")
    assert (status["state"], status["message"]) == ("Waiting", "there is no DynamoBackup before")
    world.run("DynamoBackup", "before")  # without a target
    passes(world, 3)
    status = told(world, "DynamoRestore", "back")
    assert status["state"] == "Waiting"
    assert status["message"] == (
        "waits until DynamoBackup before is complete: spec.target is not set, nor"
        " spec.backup.target of the ring"
    )
    world.kube.change("DynamoBackup", NAMESPACE, "before", spec={"target": ARCHIVE})
    passes(world, 20)
    assert told(world, "DynamoRestore", "back")["state"] == "Complete"


def test_a_restore_of_a_backup_that_is_being_deleted_names_its_archive() -> None:
    world = World()
    before = Scene(lambda w: w.run("DynamoBackup", "before", target=ARCHIVE))
    asyncio.run(world.play([make(), before]))
    backup = world.object("DynamoBackup", "before")
    assert backup is not None
    backup["metadata"]["deletionTimestamp"] = stamp(0.0)
    world.run("DynamoRestore", "back", **{"from": {"name": "before"}})
    passes(world, 3)
    status = told(world, "DynamoRestore", "back")
    assert status["state"] == "Waiting"
    assert "is being deleted; name target s3://" in status["message"]


def test_a_backup_without_a_target_waits_and_delays_no_other() -> None:
    world = World()
    asyncio.run(world.play([make()]))
    world.run("DynamoBackup", "nowhere")
    world.run("DynamoBackup", "somewhere", target=ARCHIVE)
    for _ in range(12):
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        world.step()
    assert told(world, "DynamoBackup", "somewhere")["state"] == "Complete"
    status = told(world, "DynamoBackup", "nowhere")
    assert status["state"] == "Waiting"
    assert status["message"] == "spec.target is not set, nor spec.backup.target of the ring"


def test_a_ring_that_begins_from_a_backup_has_all_of_it_when_it_is_ready() -> None:
    world = World()
    asyncio.run(world.play(STORIES["begun from a backup"]))
    (saved,) = world.ring.archives.whole[ARCHIVE].values()
    uid = world.found("DynamoCluster")["cart"]["metadata"]["uid"]
    assert saved.cluster != uid
    assert saved.values <= set().union(*world.ring.acked[uid].values())
    last = world.found("DynamoCluster")["cart"]["status"]["lastBackup"]
    assert (last["name"], last["target"]) == ("before", ARCHIVE)


def deletions(o: Snapshot) -> dict[str, list[str]]:
    """By archive, the backups that the operator wants deleted, one archive after the other."""
    found: dict[str, list[str]] = {}
    for _ in range(3):
        step = retention(o)
        if step is None:
            return found
        first = step.actions[0]
        found[first.body["archive"]] = sorted(first.body["backups"])
        o = structs.replace(o, settled=o.settled | {first.key})
    raise AssertionError("it is asked for without an end")


def test_what_failed_backups_left_goes_with_those_that_they_build_on() -> None:
    """In the archive; of the objects, only those beyond the retention."""
    failed = run("failed", THREE - DAY / 2, "Failed")
    by_hand = run("by-hand", THREE - DAY / 3, "Failed", labels={})
    elsewhere = run("elsewhere", THREE - DAY / 3, "Failed", archive="s3://other")
    o = look(*DAYS, failed, by_hand, elsewhere, after_due=60, retention={"count": 2})
    assert deletions(o) == {ARCHIVE: sorted([DAYS[2].id, failed.id, by_hand.id])}
    step = retention(o)
    assert step is not None and [a.name for a in step.actions[1:]] == ["day-2"]


def test_an_archive_that_is_gone_delays_no_other() -> None:
    there = [run(f"day-{n}", THREE - n * DAY) for n in range(3)]
    gone = [run(f"gone-{n}", THREE - (9 + n) * DAY, archive="s3://gone") for n in range(2)]
    o = look(*there, *gone, after_due=60, retention={"count": 2})
    assert deletions(o) == {"s3://gone": sorted(r.id for r in gone), ARCHIVE: [there[2].id]}


def test_a_backup_that_failed_does_not_keep_older_ones_for_ever() -> None:
    world = World()
    nights = [make(**NIGHTLY), Scene(night), Scene(archive_fails), Scene(night)]
    asyncio.run(world.play([*nights, Scene(archive_heals), Scene(night), Scene(night)]))
    ended = [told(world, "DynamoBackup", name)["state"] for name in world.found("DynamoBackup")]
    assert sorted(ended) == ["Complete", "Failed"], ended
    assert len(world.ring.archives.whole[ARCHIVE]) == 1
    assert not world.ring.archives.unfinished[ARCHIVE]


def test_backups_that_cannot_be_deleted_are_told_and_nothing_waits_for_them() -> None:
    world = World()
    asyncio.run(world.play([make(**NIGHTLY), Scene(night)]))
    archive_fails(world)
    backup = {**NIGHTLY["backup"], "target": "s3://second"}
    world.kube.change("DynamoCluster", NAMESPACE, "cart", spec={"backup": backup})
    for second in range(150):
        if second % 50 == 0:
            night(world)
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        world.step()
    assert len(world.ring.archives.whole["s3://second"]) == 1
    assert len(world.ring.archives.whole[ARCHIVE]) == 1, "it does not answer"
    (event,) = [e for e in world.found("Event").values() if e["reason"] == "BackupsNotDeleted"]
    assert event["type"] == "Warning" and f"{ARCHIVE} does not answer" in event["note"]


def test_a_ring_that_has_not_its_keys_yet_is_not_backed_up_by_the_clock() -> None:
    """Its backup would be the newest of the archive, and empty: a restore that is made again would
    take it."""
    begins = asked(look(after_due=60), **NIGHTLY, bootstrap={"fromBackup": {"target": ARCHIVE}})
    assert begins.ring is not None
    assert unrestored(begins) and due_backup(begins) is None
    on_kept_claims = structs.replace(begins.ring, cluster_id="former")
    assert due_backup(structs.replace(begins, ring=on_kept_claims)) is not None


def test_nothing_is_deleted_while_a_restore_may_read_it() -> None:
    spec: Part = restore_spec({"clusterName": "cart", "from": {"name": "day-2"}})
    back = run("back", THREE, "", kind=RESTORE, spec=spec, labels={}, backup=DAYS[2].id)
    assert deletions(look(*DAYS, back, after_due=60, retention={"count": 2})) == {}
    ended = run("back", THREE, kind=RESTORE, spec=spec, labels={}, backup=DAYS[2].id)
    o = look(*DAYS, ended, after_due=60, retention={"count": 2})
    assert deletions(o) == {ARCHIVE: [DAYS[2].id]}


@pytest.mark.parametrize(
    ("source", "how", "kept"),
    [
        ({"name": "day-2"}, "", True),
        ({"target": ARCHIVE}, "", True),
        ({"target": "s3://other"}, "", False),
        ({"name": "day-2"}, "Complete", False),
        ({"name": "nothing"}, "", False),
    ],
)
def test_nor_while_a_restore_of_another_ring_may_read_it(
    source: Part, how: str, kept: bool
) -> None:
    """A new ring begins with the archive of this one."""
    o = look(*DAYS, after_due=60, retention={"count": 2})
    backups = [
        {
            "metadata": {**MADE, "name": day.name, "uid": day.uid},
            "spec": {"clusterName": "cart", "target": ARCHIVE},
            "status": {**day.status, "target": ARCHIVE, "backupId": day.id},
        }
        for day in DAYS
    ]
    ended = [{"type": how, "status": "True"}] if how else []
    restore = {
        "metadata": {**MADE, "name": "back", "uid": "b"},
        "spec": {"clusterName": "other", "from": source},
        "status": {"conditions": ended},
    }
    own = {**restore, "spec": {"clusterName": "cart", "from": {"target": ARCHIVE}}}
    assert read_by_others(o, backups, [own]) == frozenset()
    read = read_by_others(o, backups, [restore])
    gone = deletions(structs.replace(o, read_by_others=read))
    assert gone == ({} if kept else {ARCHIVE: [DAYS[2].id]})
