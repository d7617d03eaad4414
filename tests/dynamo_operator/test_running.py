"""A new version of the operator restarts no pod by itself; if asked, one ring after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from dynamo_operator import children
from dynamo_operator.plan import running
from dynamo_operator.pod import PEER_PROTOCOL_MIN
from dynamo_operator.snapshot import TEMPLATE
from dynamo_operator.turns import PAUSE_S
from tests.dynamo_operator.stories import PLAIN, SLOW, edit, make
from tests.dynamo_operator.test_troubles import NOTHING
from tests.dynamo_operator.world import NAMESPACE, Scene, World

ASKED = {"update": {"template": "WithOperator"} | SLOW}


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next version: its template for the same spec has one more variable."""
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


TWO: dict[str, Any] = {"update": {"peerProtocolMin": 2} | SLOW}


def protocol(world: World) -> str | None:
    """The minimum of the pods' template."""
    template = world.found("StatefulSet")["cart"]["spec"]["template"]
    env = {v["name"]: v.get("value") for v in template["spec"]["containers"][0]["env"]}
    return env.get(PEER_PROTOCOL_MIN)


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
    """Scaling restarts none either; with the next change of a pod's field they get the new one."""
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


def test_another_archive_restarts_no_pod_and_another_secret_each() -> None:
    world = World()
    target = {"target": "s3://shop/carts", "secretName": "archive"}
    asyncio.run(world.play([make(backup=target, update=SLOW)]))
    before = pods(world)
    schedule = {"target": "s3://shop/other", "schedule": "0 3 * * *", "retention": {"count": 2}}
    asyncio.run(world.play([edit(backup=schedule)]))
    assert pods(world) == before
    asyncio.run(world.play([edit(backup={"secretName": "another"})]))
    assert all(pods(world)[name] != uid for name, uid in before.items())


def test_a_newer_protocol_is_asked_for_and_kept_and_taken_back() -> None:
    """A node that is down has not said what it speaks: no reason to take back what it has."""
    world = World()
    asyncio.run(world.play([make()]))
    before = pods(world)
    assert protocol(world) is None
    asyncio.run(world.play([edit(**TWO)]))
    assert protocol(world) == "2"
    assert not before.items() & pods(world).items()
    world.kube.dead.add("machine-1")
    for _ in range(5):
        world.step()
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        assert protocol(world) == "2"
    world.kube.delete_machine("machine-1")
    asyncio.run(world.play([edit(update={"peerProtocolMin": 1} | SLOW)]))
    assert protocol(world) is None
    assert not world.ring.wrong


def test_nodes_that_take_only_tls_refuse_the_first_protocol() -> None:
    """Unless the spec says another minimum; and a ring that goes back to plain takes it again."""
    world = World()
    secure: dict[str, Any] = {"tls": {"mode": "Required"}}
    asyncio.run(world.play([make(update=SLOW, **PLAIN)]))
    assert protocol(world) is None
    asyncio.run(world.play([edit(**secure)]))
    assert protocol(world) == "2"
    asyncio.run(world.play([edit(update={"peerProtocolMin": 1} | SLOW)]))
    assert protocol(world) is None
    asyncio.run(world.play([edit(update={"peerProtocolMin": None} | SLOW)]))
    assert protocol(world) == "2"
    asyncio.run(world.play([edit(**PLAIN)]))
    assert protocol(world) is None
    assert not world.ring.wrong


def test_another_image_comes_before_a_newer_protocol() -> None:
    """Both in one edit: what the nodes of the new image speak is not known yet."""
    world = World()
    asyncio.run(world.play([make()]))
    world.edit(image="node:2", **TWO)
    asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
    template = world.found("StatefulSet")["cart"]["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "node:2"
    assert protocol(world) is None
    asyncio.run(world.play([NOTHING]))
    assert protocol(world) == "2"
