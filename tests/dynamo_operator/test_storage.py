"""Wrong sizes and classes can be corrected; what a person did by hand is not changed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from dynamo_operator.actions import Delete
from dynamo_operator.plan.storage import grow, without_volumes
from dynamo_operator.plan.table import plan
from tests.dynamo_operator.looks import asked, claim, settled
from tests.dynamo_operator.stories import edit, make
from tests.dynamo_operator.test_troubles import NOTHING, passes, shown
from tests.dynamo_operator.world import Scene, World

CLAIMS = "PersistentVolumeClaim"


def sizes(world: World) -> set[str]:
    """The sizes that the claims ask for."""
    found = world.found(CLAIMS).values()
    return {item["spec"]["resources"]["requests"]["storage"] for item in found}


def _limit(w: World) -> None:
    w.kube.size_max = "2Ti"


@pytest.mark.parametrize(("back", "asks"), [("2Gi", "2Gi"), ("1Gi", "1025Mi"), ("512Mi", "1025Mi")])
def test_a_size_with_a_zero_too_many_is_taken_back(back: str, asks: str) -> None:
    """As far as Kubernetes lets claims shrink: to more than their volumes have."""
    world = World()
    asyncio.run(world.play([make(), Scene(_limit), edit(0, storage={"size": "100Ti"})]))
    assert sizes(world) == {"100Ti"}
    assert (shown(world, "Ready")["status"], shown(world, "Ready")["reason"]) == (
        "False",
        "StorageNotGrown",
    )
    asyncio.run(world.play([edit(0, storage={"size": back})]))
    assert sizes(world) == {asks}
    assert shown(world, "Ready")["status"] == "True"
    larger = "VolumesLarger" if back != "2Gi" else "Valid"
    assert shown(world, "SpecValid")["reason"] == larger


def test_a_claim_that_a_person_made_larger_is_left() -> None:
    grown = claim(settled(), 1, size="8Gi")
    assert grow(grown) is None
    assert plan(grown).reason != "GrowingStorage"


def _no_such(w: World) -> None:
    w.kube.classes_unknown.add("gp3-typo")


@pytest.mark.parametrize("right", ["gp3", None])
def test_a_class_is_taken_back_while_no_volume_is_there(right: str | None) -> None:
    world = World()
    _no_such(world)
    world.make(storage={"size": "1Gi", "className": "gp3-typo"})
    passes(world, 5)
    assert world.found(CLAIMS)
    world.edit(storage={"className": right})
    asyncio.run(world.play([NOTHING]))
    assert shown(world, "Ready")["status"] == "True"
    named = {item["spec"].get("storageClassName") for item in world.found(CLAIMS).values()}
    assert named == {right}
    assert not world.ring.wrong


def test_a_first_size_is_taken_back_while_no_volume_is_there() -> None:
    world = World()
    _no_such(world)
    world.make(storage={"size": "100Ti", "className": "gp3-typo"})
    passes(world, 5)
    world.edit(storage={"size": "1Gi"})
    passes(world, 10)
    assert sizes(world) == {"1Gi"}


def test_a_class_is_fixed_once_a_volume_is_there() -> None:
    """Nothing is changed, and SpecValid says why."""
    step = plan(asked(settled(), storage={"size": "1Gi", "className": "gp3"}))
    assert (step.reason, step.invalid, step.actions) == ("FixedAtCreation", True, ())
    assert "spec.storage.className is gp3" in step.message


def test_a_claim_from_a_snapshot_is_never_deleted() -> None:
    """It has no volume until its pod has a machine, and may be the only copy of the data."""
    o = settled()
    assert not without_volumes(o)
    bare = structs.replace(o, ring=None, exact=False, nodes={}, objects={}, workload=None)
    claims = {
        i: structs.replace(c, annotations={}, phase="Pending", capacity="", class_name="other")
        for i, c in o.claims.items()
    }
    empty = structs.replace(bare, claims=claims)
    assert without_volumes(empty)
    restored = structs.replace(
        empty, claims={**claims, 1: structs.replace(claims[1], sourced=True)}
    )
    assert not without_volumes(restored)
    deletions = [a for a in plan(restored).actions if isinstance(a, Delete)]
    assert deletions == []


def test_a_volume_that_binds_meanwhile_is_kept() -> None:
    """The deletion names the claim in the version of the look."""
    world = World()
    _no_such(world)
    world.make(storage={"size": "1Gi", "className": "gp3-typo"})
    passes(world, 5)
    before = {item["metadata"]["uid"] for item in world.found(CLAIMS).values()}
    world.kube.classes_unknown.clear()
    world.step()
    world.edit(storage={"className": "gp3"})
    passes(world, 5)
    assert {item["metadata"]["uid"] for item in world.found(CLAIMS).values()} == before
    assert shown(world, "SpecValid")["reason"] == "FixedAtCreation"
