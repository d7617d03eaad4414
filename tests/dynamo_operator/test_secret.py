"""A cluster secret that nodes refuse, such as a short one, is found before a pod ends."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from dynamo_node.keyring import BadSecret, read_secrets
from dynamo_operator.tokens import secret_fault
from tests.dynamo_operator.stories import edit, make
from tests.dynamo_operator.test_protection import CALM, looked, played, pods, told
from tests.dynamo_operator.world import NAMESPACE, World

LONG, OTHER = "a secret of 32 characters or more", "and another one of as many, or more"
SHORT = "short of version 0.1"


@pytest.mark.parametrize(
    "text",
    [
        LONG, f"{LONG}\n", f"{LONG}\r\n{OTHER}\n", f"\n\n{LONG}\n\n", "x" * 32, "x" * 4096,
        "", "\n", SHORT, "x" * 31, "x" * 4097, f"{LONG}\n{SHORT}", f"{LONG}\n{LONG}",
        f"{LONG} \xe9", f"{LONG}\t{LONG}", "".join(f"{LONG}{n}\n" for n in range(9)),
        " " * 40, f"  {LONG}",
    ],
)  # fmt: skip
def test_the_operator_refuses_what_nodes_refuse(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(text.encode("latin-1"))
    try:
        read_secrets(file)
        assert not secret_fault(text)
    except BadSecret:
        fault = secret_fault(text)
        assert fault and not (text.strip() and text.strip() in fault), "it shows no secret"


def write(world: World, text: str | None, name: str = "mine") -> None:
    """kubectl apply of the Secret; None: without the key that nodes read."""
    data = {"other": ""} if text is None else {"secret": b64encode(text.encode()).decode()}
    meta = {"name": name, "namespace": NAMESPACE}
    world.kube.put({"kind": "Secret", "metadata": meta, "data": data})


def condition(world: World, kind: str) -> str:
    """True, False or Unknown."""
    found = world.found("DynamoCluster")["cart"]["status"]["conditions"]
    return next(str(each["status"]) for each in found if each["type"] == kind)


def test_an_update_waits_for_a_longer_secret_and_the_ring_goes_on() -> None:
    """The nodes of 0.1.0 run with it; a node of the new image would not start."""
    world = World()
    write(world, LONG)
    played(world, make(auth={"secretName": "mine"}))
    before, template = pods(world), world.found("StatefulSet")["cart"]["spec"]["template"]
    write(world, SHORT)
    played(world, CALM)
    assert condition(world, "Ready") == "True", "nothing is asked of the pods"
    reason, text = told(world, "Degraded")
    assert reason == "SecretUnusable" and "Secret mine, line 1: has 20 characters" in text
    world.edit(image="node:2", service={"type": "NodePort"})
    looked(world, 30)
    assert pods(world) == before
    assert world.found("StatefulSet")["cart"]["spec"]["template"] == template
    assert world.found("Service")["cart"]["spec"]["type"] == "NodePort", "all else goes on"
    assert condition(world, "Available") == "True"
    for kind in ("SpecValid", "Degraded"):
        reason, text = told(world, kind)
        assert reason == "SecretUnusable" and SHORT not in text
        assert "kubectl patch secret mine -n shop --type=merge" in text
        assert "kubectl patch dring cart -n shop" in text and '"stopped": true' in text
    world.edit(stopped=True)
    played(world, CALM)
    assert not pods(world)
    world.edit(stopped=False)
    looked(world, 10)
    assert told(world, "SpecValid")[0] == "SecretUnusable" and not pods(world)
    write(world, LONG)
    played(world, CALM)
    assert condition(world, "Ready") == "True" and condition(world, "Degraded") == "False"
    images = {item["spec"]["containers"][0]["image"] for item in world.found("Pod").values()}
    assert images == {"node:2"}


def test_a_rollout_that_has_begun_stops_at_the_next_pod() -> None:
    world = World()
    write(world, LONG)
    played(world, make(auth={"secretName": "mine"}))
    world.edit(image="node:2")
    first = pods(world)
    for _ in range(100):
        looked(world, 1)
        if {*pods(world).values()} - {*first.values()}:
            break
    write(world, SHORT)
    second = pods(world)
    looked(world, 60)
    assert pods(world) == second != first
    assert told(world, "SpecValid")[0] == "SecretUnusable"
    write(world, LONG)
    played(world, CALM)
    assert not {*first.values()} & {*pods(world).values()}


@pytest.mark.parametrize("text", [SHORT, None])
def test_a_new_ring_is_not_made_with_it(text: str | None) -> None:
    world = World()
    write(world, text)
    world.make(auth={"secretName": "mine"})
    looked(world)
    reason, said = told(world, "SpecValid")
    assert reason == "SecretUnusable" and "Secret mine" in said and "stopped" not in said
    assert not world.found("StatefulSet")
    write(world, LONG)
    played(world, CALM)
    assert condition(world, "Ready") == "True"


def test_another_secret_of_the_spec_is_looked_at_before_pods_get_it() -> None:
    world = World()
    played(world, make())
    before = pods(world)
    write(world, SHORT)
    world.edit(auth={"secretName": "mine"})
    looked(world, 20)
    assert told(world, "SpecValid")[0] == "SecretUnusable" and pods(world) == before
    played(world, edit(auth=None))
    assert pods(world) == before and condition(world, "SpecValid") == "True"
