"""Another version of the operator restarts no pod by itself; asked to, one ring after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from stories import SLOW, edit, make
from test_troubles import NOTHING
from world import NAMESPACE, Scene, World

from dynamo_operator import children
from dynamo_operator.plan import running
from dynamo_operator.snapshot import TEMPLATE
from dynamo_operator.turns import PAUSE_S

ASKED = {"update": {"template": "WithOperator"} | SLOW}


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version: its template of the same spec has one variable more."""
    old = children.pod_template

    def newer(*of: Any, **more: Any) -> Any:
        made = old(*of, **more)
        made["spec"]["containers"][0]["env"].append({"name": "DYNAMO_NEW", "value": "1"})
        return made

    monkeypatch.setattr(children, "pod_template", newer)
    monkeypatch.setattr(running, "VERSION", "0.2.0")


def pods(world: World) -> dict[str, str]:
    """Each pod's uid."""
    return {name: item["metadata"]["uid"] for name, item in world.found("Pod").items()}


def newer(world: World, name: str = "cart") -> bool:
    """Whether a ring has the next version's template."""
    template = world.found("StatefulSet")[name]["spec"]["template"]
    return any(v["name"] == "DYNAMO_NEW" for v in template["spec"]["containers"][0]["env"])


def by(world: World) -> str:
    """The version that the status names."""
    return str(world.found("DynamoCluster")["cart"]["status"]["renderedBy"])


def _forget_record(w: World) -> None:
    w.kube.change("StatefulSet", NAMESPACE, "cart", metadata={"annotations": {TEMPLATE: None}})


@pytest.mark.parametrize("before", [lambda w: None, _forget_record], ids=["recorded", "first"])
def test_a_newer_operator_restarts_no_pod(
    before: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when it scales; with the next change of what pods are made of they get the new one."""
    world = World()
    asyncio.run(world.play([make(update=SLOW)]))
    assert by(world) == "0.1.0"
    was = pods(world)
    before(world)
    upgrade(monkeypatch)
    asyncio.run(world.play([NOTHING, edit(size=4)]))
    assert pods(world).items() >= was.items()
    assert not newer(world)
    assert by(world) != "0.2.0"
    asyncio.run(world.play([edit(0, image="node:2")]))
    assert newer(world)
    assert by(world) == "0.2.0"
    assert not was.items() & pods(world).items()


def test_an_edit_of_a_kept_template_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    asyncio.run(world.play([make()]))
    upgrade(monkeypatch)
    asyncio.run(world.play([NOTHING]))
    template = world.found("StatefulSet")["cart"]["spec"]["template"]
    wrong = {"spec": template["spec"] | {"terminationGracePeriodSeconds": 0}}
    world.kube.change("StatefulSet", NAMESPACE, "cart", spec={"template": wrong})
    asyncio.run(world.play([NOTHING]))
    assert world.found("StatefulSet")["cart"]["spec"]["template"] == template


def test_asked_to_one_ring_after_the_other_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("cart", "list", "wish")
    world = World(names=names)
    scenes = [Scene(lambda w, name=name: w.make(name, **ASKED), 0) for name in names]  # type: ignore[misc]
    asyncio.run(world.play(scenes))
    upgrade(monkeypatch)
    took: dict[str, float] = {}
    for _ in range(900):
        for name in names:
            asyncio.run(world.operators[0].reconcile(NAMESPACE, name))
            if newer(world, name):
                took.setdefault(name, world.kube.now)
        world.step()
    times = sorted(took.values())
    assert len(times) == len(names)
    assert all(after - before >= PAUSE_S for before, after in pairwise(times))
    assert not world.ring.wrong


def test_a_field_that_only_the_next_version_knows_is_no_change() -> None:
    known = running.wish_of(running.ClusterSpec())
    assert not running.changed({k: v for k, v in known.items() if k != "topology.spread"}, known)
    assert running.changed(known, known | {"topology.spread": "Required"})
