"""Claims beyond their size: labels, annotations, attributes, and the data with which they begin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamo_operator import claims
from dynamo_operator.owner import Object, Owner
from dynamo_operator.plan.claims import dress
from dynamo_operator.plan.table import plan
from dynamo_operator.ports import failure
from dynamo_operator.snapshot import GIVEN
from dynamo_operator.spec import ClusterSpec
from dynamo_operator.troubles import troubles
from tests.dynamo_operator.looks import asked, claim, settled
from tests.dynamo_operator.stories import STORIES, edit, make
from tests.dynamo_operator.story_scenes import FROM_MONDAY
from tests.dynamo_operator.test_troubles import passes, shown
from tests.dynamo_operator.world import NAMESPACE, Scene, World

CLAIMS = "PersistentVolumeClaim"


def storage(**template: Any) -> dict[str, Any]:
    return {"size": "1Gi", "claimTemplate": template}


def metas(world: World) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Labels and annotations that the spec gave, claim by claim."""
    return [
        (
            {k: v for k, v in item["metadata"]["labels"].items() if "kubernetes.io" not in k},
            {
                k: v
                for k, v in item["metadata"].get("annotations", {}).items()
                if not k.startswith("dynamo-ring.dev/")
            },
        )
        for item in world.found(CLAIMS).values()
    ]


def _by_hand(w: World) -> None:
    meta = {"labels": {"mine": "1", "team": "theirs"}}
    w.kube.change(CLAIMS, NAMESPACE, "data-cart-0", metadata=meta)


def test_labels_follow_the_spec_and_those_of_people_stay() -> None:
    world = World()
    first = storage(labels={"team": "carts", "tier": "1"})
    then = storage(labels={"tier": None, "team": "shop"})  # a merge patch
    asyncio.run(world.play([make(storage=first), Scene(_by_hand)]))
    assert metas(world) == [
        ({"mine": "1", "team": "carts", "tier": "1"}, {}),
        *[({"team": "carts", "tier": "1"}, {})] * 2,
    ]
    world.edit(storage=then)
    asyncio.run(world.play([Scene(lambda w: None, 0), edit(size=4)]))
    assert metas(world) == [({"mine": "1", "team": "shop"}, {}), *[({"team": "shop"}, {})] * 3]
    assert not world.ring.wrong


def test_a_pod_template_of_claims_never_changes() -> None:
    """Kubernetes refuses the whole StatefulSet otherwise."""
    world = World()
    asyncio.run(world.play(STORIES["claims labelled"]))
    (template,) = world.found("StatefulSet")["cart"]["spec"]["volumeClaimTemplates"]
    assert template["metadata"]["labels"]["tier"] == "one"
    assert shown(world, "Ready")["status"] == "True"


def test_attributes_are_asked_for_once_where_the_api_server_does_not_know_them() -> None:
    gold = asked(settled(), storage=storage(volumeAttributesClassName="gold"))
    step = dress(gold)
    assert step is not None
    assert [act.body["spec"] for act in step.actions] == [{"volumeAttributesClassName": "gold"}] * 3
    note = step.actions[0].body["metadata"]["annotations"][GIVEN]
    assert note == '{"attributes":"gold"}'
    for ordinal in range(3):  # an older API server dropped the field
        gold = claim(gold, ordinal, annotations=gold.claims[ordinal].annotations | {GIVEN: note})
    assert dress(gold) is None
    ((reason, text), *more) = troubles(gold, plan(gold))
    assert (reason, len(more)) == ("AttributesNotChanged", 2)
    assert "older than 1.34 (kubectl describe pvc data-cart-0 -n shop)" in text
    silver = claim(gold, 0, attributes="silver")
    assert len(dress(silver).actions) == 1  # type: ignore[union-attr]


def test_attributes_that_the_driver_cannot_give_are_told() -> None:
    gold = asked(settled(), storage=storage(volumeAttributesClassName="gold"))
    for ordinal in range(3):
        gold = claim(gold, ordinal, attributes="gold", modifying="Infeasible" * (ordinal == 1))
    ((reason, text),) = troubles(gold, plan(gold))
    assert (reason, "data-cart-1 the attributes of class gold" in text) == (
        "AttributesNotChanged",
        True,
    )


def test_a_mode_is_taken_back_while_no_volume_is_there() -> None:
    world = World()
    world.kube.classes_unknown.add("typo")
    world.make(storage=storage(accessMode="ReadWriteOncePod") | {"className": "typo"})
    passes(world, 5)
    world.edit(storage=storage(accessMode="ReadWriteOnce") | {"className": None})
    asyncio.run(world.play([Scene(lambda w: None, 0)]))
    modes = [item["spec"]["accessModes"] for item in world.found(CLAIMS).values()]
    assert modes == [["ReadWriteOnce"]] * 3


def test_a_ring_begins_with_its_snapshots_and_not_a_second_time() -> None:
    """A claim that is lost later does not begin with the old data: its node rebuilds."""
    world = World()
    asyncio.run(world.play(STORIES["begun with snapshots"]))
    before = world.ring.newest()
    sources = [item["spec"].get("dataSource") for item in world.found(CLAIMS).values()]
    named = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot"}
    assert sources == [named | {"name": f"monday-{ordinal}"} for ordinal in range(4)]

    def lose(w: World) -> None:
        w.kube.remove(CLAIMS, NAMESPACE, "data-cart-2")
        w.kube.remove("Pod", NAMESPACE, "cart-2")

    asyncio.run(world.play([Scene(lose, 0)]))
    assert "dataSource" not in world.found(CLAIMS)["data-cart-2"]["spec"]
    assert world.ring.newest().keys() == before.keys()
    assert not world.ring.wrong


def test_the_audit_sees_claims_that_begin_empty_in_the_place_of_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test of the story: its copies excuse a claim only until the claim is bound."""
    whole = claims.from_source

    def of_the_first(owner: Owner, spec: ClusterSpec, ordinal: int) -> Object:
        made = whole(owner, spec, ordinal)
        if ordinal:
            del made["spec"]["dataSource"]
        return made

    monkeypatch.setattr(claims, "from_source", of_the_first)
    world = World()
    asyncio.run(world.play(STORIES["begun with snapshots"]))
    assert any(wrong.startswith("lost of partition") for wrong in world.ring.wrong)


def test_no_empty_ring_is_made_where_claims_are_refused() -> None:
    """Without the right to create claims the operator waits, and says why."""
    world = World()
    make_claim = world.kube.create

    async def create(body: Any) -> Any:
        if body["kind"] == CLAIMS:
            raise failure(403, "persistentvolumeclaims is forbidden")
        return await make_claim(body)

    world.kube.create = create  # type: ignore[method-assign]
    world.make(size=4, storage=FROM_MONDAY)
    passes(world, 5)
    assert "StatefulSet" not in {key[0] for key in world.kube.objects}
    assert "forbidden" in shown(world, "SpecValid")["message"]


@pytest.mark.parametrize("key", ["dynamo-ring.dev/x", "no key", "/x", "a" * 64])
def test_a_key_that_is_not_the_users_is_refused(key: str) -> None:
    step = plan(asked(settled(), storage=storage(annotations={key: "x"})))
    assert (step.reason, step.invalid) == ("SpecInvalid", True)
    assert "spec.storage.claimTemplate.annotations" in step.message
