"""Scripted histories of backups whose id is used once more (S-BAK-1), and of restores during which
clients delete what is restored (S-BAK-2)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dynamo_core.backup import archive, restore
from dynamo_core.backup.archive_calls import Unpack
from dynamo_core.backup.manifest import manifest_name
from dynamo_core.keys import DATA
from dynamo_core.protocol.messages import Message
from dynamo_core.runtime.machine import copied
from dynamo_core.testing.town import known
from tests.dynamo_core.archived import KEYS, Archived, filled
from tests.simulation.ladders import ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant

LATE = 40
"""Keys that clients write after the first backup of that id."""


def delete_backup(archived: Archived, name: str, kept: Collection[str] = ()) -> None:
    """As `dynamoctl backup delete`: also its parts, but for those that another one refers to."""
    for each in list(archived.objects):
        ours = each.startswith((f"backups/{name}/", f"parts/{name}/"))
        if ours and each not in kept:
            del archived.objects[each]


def write_late(archived: Archived) -> None:
    for index in range(LATE):
        assert archived.town.put("b", b"late %d" % index, b"v").status == 204


@ladder("the id of a deleted backup, at the node that led it")
def the_id_of_a_deleted_backup_at_the_node_that_led_it() -> None:
    """It does not say of what was deleted that it is done; of what is there it says so."""
    archived = filled("a b c")
    archived.back_up("a")
    archived.begin_backup("a")
    assert archived.back_up("a")["records"] == len(KEYS)
    delete_backup(archived, "one")
    write_late(archived)
    assert archived.back_up("a")["records"] == len(KEYS) + LATE
    assert manifest_name("one") in archived.objects


@ladder("the id of a deleted backup to whose parts another one refers")
def the_id_of_a_deleted_backup_to_whose_parts_another_one_refers() -> None:
    """The old parts are still there, and the nodes remember their answers to the old orders."""
    archived = filled("a b c")
    archived.back_up("a")
    archived.back_up("a", "two", base="one")
    delete_backup(archived, "one", {part.name for part in archived.manifest("two").parts()})
    write_late(archived)
    assert archived.back_up("b")["records"] == len(KEYS) + LATE


ROUNDS = {"tombstone_age_min_s": 12.0, "collect_s": 0.5}
ROUNDS_S = 60.0
"""Long enough to forget every tombstone."""


def delete_all(archived: Archived, at: str) -> None:
    town = archived.town
    for key in KEYS:
        assert town.put(at, key, None, context=known(town.get(at, key))).status == 204


def stay_deleted(archived: Archived) -> None:
    """Rounds go on after the restore, and nothing is there."""
    town = archived.town
    town.until(lambda: all(not disk.rows[DATA] for disk in town.disks.values()), 300.0)
    assert all(town.values("c", key) == [] for key in KEYS)


@ladder("keys deleted while the archive refuses a restore")
def keys_deleted_while_the_archive_refuses_a_restore() -> None:
    """No part is being merged, but the run goes on."""
    archived = filled("a b c", settings=ROUNDS)
    archived.back_up("a")
    archived.fails = lambda request: isinstance(request, Unpack)
    run = archived.begin_restore("a")
    delete_all(archived, "c")
    archived.town.run(ROUNDS_S)
    archived.fails = lambda request: False
    assert archived.ended("a", run, restore.ClusterRestore)["state"] == "done"
    stay_deleted(archived)


@ladder("a part that is merged after its leader has ended")
def a_part_that_is_merged_after_its_leader_has_ended() -> None:
    """Clients delete keys while a node waits for its part. The leader is back and agrees to rounds
    again; the node that still merges does not."""
    archived = filled("a b c", settings=ROUNDS)
    town = archived.town
    archived.back_up("a")
    archived.silent_to = {"b"}
    archived.begin_restore("a")

    def waits(at: str, request: Message) -> bool:
        return at == "b" and isinstance(request, Unpack)

    town.until(lambda: any(waits(*each) for each in archived.asked))
    town.kill("a")
    delete_all(archived, "c")
    town.start("a")
    archived.connect()
    town.run(ROUNDS_S)
    before = town.nodes["b"].counters["records_restored"]
    archived.silent_to = set()
    town.until(lambda: town.nodes["b"].counters["records_restored"] > before)
    stay_deleted(archived)


@mutant("the leader of a restore agrees to rounds")
def _() -> list[Patch]:
    original = restore.ClusterRestore._begin

    def begin(self: Any, manifest: Any, now: float) -> Any:
        effects = original(self, manifest, now)
        self.view.replica.restores.discard((self.id, ""))
        return effects

    return [(restore.ClusterRestore, "_begin", begin)]


@mutant("a node that merges a part agrees to rounds")
def _() -> list[Patch]:
    original = archive.Archive._load

    def load(self: Any, order: Any, reply: Any) -> None:
        original(self, order, reply)
        self.node.replica.restores.discard((order.restore, order.part.name))

    return [(archive.Archive, "_load", load)]


@mutant("a backup that is done does not look into the archive")
def _() -> list[Patch]:
    return [(archive.Archive, "_look", lambda self, run, url, then: then())]


@mutant("orders of two backups of one id are one order")
def _() -> list[Patch]:
    original = archive.Archive._save

    def save(self: Any, order: Any, reply: Any) -> None:
        original(self, copied(order, again=0), reply)

    return [(archive.Archive, "_save", save)]


LADDER_OF |= {
    "the leader of a restore agrees to rounds": "keys deleted while the archive refuses a restore",
    "a node that merges a part agrees to rounds": (
        "a part that is merged after its leader has ended"
    ),
    "a backup that is done does not look into the archive": (
        "the id of a deleted backup, at the node that led it"
    ),
    "orders of two backups of one id are one order": (
        "the id of a deleted backup to whose parts another one refers"
    ),
}
