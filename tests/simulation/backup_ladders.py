"""Scripted histories of backups whose id is used once more (S-BAK-1)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dynamo_core.backup import archive
from dynamo_core.backup.manifest import manifest_name
from dynamo_core.runtime.machine import copied
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
    "a backup that is done does not look into the archive": (
        "the id of a deleted backup, at the node that led it"
    ),
    "orders of two backups of one id are one order": (
        "the id of a deleted backup to whose parts another one refers"
    ),
}
