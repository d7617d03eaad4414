"""Random stories: people do anything at any time, and the operator dies in between.

In every story the theorems hold, no acked value is lost, and when people stop, the ring becomes
what the spec says.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamo_operator.plan.going_over import TARGETS
from tests.dynamo_operator.stories import SLOW, make
from tests.dynamo_operator.world import NAMESPACE, Scene, World

SPECS = st.one_of(
    st.builds(dict, size=st.integers(3, 6)),
    st.builds(dict, image=st.sampled_from(["node:1", "node:2", "node:3"])),
    st.builds(dict, stopped=st.booleans()),
    st.builds(dict, paused=st.booleans()),
    st.builds(dict, storage=st.sampled_from([{"size": "2Gi"}, {"size": "3Gi"}])),
    st.builds(dict, service=st.sampled_from([{"type": "NodePort"}, {"type": "ClusterIP"}])),
    st.builds(dict, exposure=st.sampled_from([{"type": "NodePort"}, {"type": "Disabled"}])),
    st.builds(dict, tls=st.builds(dict, mode=st.sampled_from(["Disabled", "Allowed", "Required"]))),
    st.builds(dict, access=st.builds(dict, mode=st.sampled_from(["Open", "Required"]))),
)


def _scaled(replicas: int) -> Any:
    def change(w: World) -> None:
        """kubectl scale, upwards only: downwards, Kubernetes deletes pods before the operator can
        act."""
        found = w.found("StatefulSet").get("cart")
        if found is not None and found["spec"]["replicas"]:
            more = max(replicas, found["spec"]["replicas"])
            w.kube.change("StatefulSet", NAMESPACE, "cart", spec={"replicas": more})

    return change


def _restarted(ordinal: int) -> Any:
    def change(w: World) -> None:
        """A pod is deleted; its claim stays."""
        if w.object("Pod", f"cart-{ordinal}") is not None:
            w.kube.remove("Pod", NAMESPACE, f"cart-{ordinal}")

    return change


def _deleted(w: World) -> None:
    """The StatefulSet is deleted, its pods stay: the next StatefulSet takes them over."""
    if w.object("StatefulSet", "cart") is not None:
        w.kube.remove("StatefulSet", NAMESPACE, "cart")


CHANGES = st.one_of(
    SPECS.map(lambda spec: lambda w: w.edit(**spec)),
    st.integers(3, 7).map(_scaled),
    st.integers(0, 5).map(_restarted),
    st.just(_deleted),
)
SCENES = st.lists(st.builds(Scene, CHANGES, st.integers(1, 12)), max_size=6)
REST = [Scene(lambda w: w.edit(stopped=False, paused=False), 15)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.integers(3, 5),
    scenes=SCENES,
    kills=st.frozensets(st.integers(1, 400), max_size=12),
    seed=st.none() | st.integers(0, 2**16),
)
def test_any_story_ends_as_the_spec_says(
    size: int, scenes: list[Scene], kills: frozenset[int], seed: int | None
) -> None:
    world = World(kills, seed=seed)
    asyncio.run(world.play([make(size=size, update=SLOW), *scenes, *REST]))
    assert not world.ring.wrong
    spec = world.found("DynamoCluster")["cart"]["spec"]
    end = world.end()
    (ring,) = end["rings"]
    names = {f"cart-{ordinal}" for ordinal in range(spec["size"])}
    assert set(ring["members"]) == set(end["pods"]) == names
    assert {state for state, _, _ in ring["members"].values()} == {"MEMBER"}
    assert ring["quiet"]
    assert all(ready for ready, _ in end["pods"].values())
    assert len({revision for _, revision in end["pods"].values()}) == 1
    image = world.found("StatefulSet")["cart"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == spec.get("image", image)
    ways = {node.mount.tls for node in world.ring.nodes.values()}
    assert ways == {TARGETS[spec.get("tls", {}).get("mode", "Disabled")]}
    conditions = end["conditions"]["cart"]
    assert (conditions["Ready"], conditions["Converged"]) == ("True", "True")
