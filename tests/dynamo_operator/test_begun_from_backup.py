"""A ring that begins with a backup takes it once."""

from __future__ import annotations

import asyncio

from msgspec import structs

from dynamo_operator.archive_runs import BOOTSTRAPS, RESTORE, Run
from dynamo_operator.plan.backups import first_restore, unrestored
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import restore_spec
from dynamo_operator.spec_types import Part
from tests.dynamo_operator.looks import asked
from tests.dynamo_operator.stories import ARCHIVE, STORIES, night
from tests.dynamo_operator.test_backups import THREE, look, run
from tests.dynamo_operator.world import NAMESPACE, Scene, World


def test_a_ring_takes_the_backup_that_it_begins_with_once() -> None:
    """A person tidies up, perhaps months later. Merged again, the backup would bring back what
    clients have deleted since."""
    world = World()

    def tidies(w: World) -> None:
        w.kube.remove("DynamoRestore", NAMESPACE, "cart-bootstrap")

    asyncio.run(world.play([*STORIES["begun from a backup"], Scene(tidies), Scene(night)]))
    assert not world.found("DynamoRestore")
    assert world.found("DynamoCluster")["cart"]["status"]["conditions"][0]["status"] == "True"
    workload = world.object("StatefulSet", "cart")
    assert workload is not None
    world.kube.remove("StatefulSet", NAMESPACE, "cart")
    asyncio.run(world.play([Scene(night)]))
    assert not world.found("DynamoRestore"), "the note outlives the StatefulSet"


def test_a_restore_that_failed_is_made_again_when_it_is_deleted() -> None:
    failed = structs.replace(begun_with(), runs=(bootstrap("Failed"),))
    assert "failed" in unrestored(failed)
    made = first_restore(structs.replace(failed, runs=()))
    assert made is not None and made["metadata"]["name"] == "cart-bootstrap"


def begun_with() -> Snapshot:
    """A ring that its resource has founded and that begins with a backup."""
    return asked(look(), bootstrap={"fromBackup": {"target": ARCHIVE}})


def bootstrap(how: str) -> Run:
    """The restore that it begins with."""
    spec: Part = restore_spec({"clusterName": "cart", "from": {"target": ARCHIVE}})
    labels = {BOOTSTRAPS: begun_with().uid}
    return run("cart-bootstrap", THREE, how, kind=RESTORE, spec=spec, labels=labels)
