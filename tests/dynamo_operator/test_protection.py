"""Certificates and rights of a whole ring: what is not ours, what is missing, what time does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamo_operator.authority import data_of, trust_of
from dynamo_operator.trust import Trust
from tests.dynamo_operator.stories import SLOW, TLS, edit, make
from tests.dynamo_operator.world import NAMESPACE, Scene, World

DAY = 86_400.0
RULE = {"serviceAccount": "shop/checkout", "prefixes": ["cart:"], "verbs": ["get"]}
RIGHTS: dict[str, Any] = {"access": {"mode": "Required", "rules": [RULE]}}
CALM = Scene(lambda w: None, 0)


def played(world: World, *scenes: Scene) -> World:
    """Until all is as wanted, and no theorem was broken."""
    asyncio.run(world.play(list(scenes)))
    assert not world.ring.wrong, world.ring.wrong[:3]
    return world


def looked(world: World, times: int = 5) -> None:
    """Some passes, for what cannot come to rest."""
    for _ in range(times):
        asyncio.run(world.operators[0].reconcile(NAMESPACE, "cart"))
        world.step()


def told(world: World, kind: str) -> tuple[str, str]:
    """Reason and sentence of a condition."""
    return next((reason, text) for each, reason, text in world.told() if each == kind)


def pods(world: World) -> dict[str, str]:
    """Each pod's uid."""
    return {name: item["metadata"]["uid"] for name, item in world.found("Pod").items()}


def trust(world: World) -> Trust:
    """What the Secret of the nodes says."""
    return trust_of(world.found("Secret")["cart-tls"], None)


@pytest.mark.parametrize("name", ["cart-tls", "cart-ca"])
def test_a_secret_of_somebody_else_is_left_alone(name: str) -> None:
    theirs = {"metadata": {"name": name, "namespace": NAMESPACE}, "data": {"tls.key": "eA=="}}
    world = World()
    world.kube.put({"kind": "Secret", **theirs})
    world.make(**TLS)
    looked(world)
    reason, text = told(world, "SpecValid")
    assert reason == "SecretUnusable" and name in text
    assert world.found("Secret")[name]["data"] == theirs["data"]
    assert not world.found("StatefulSet")
    world.edit(tls={"mode": "Disabled"})
    played(world, CALM)
    assert world.found("Secret")[name]["data"] == theirs["data"]


def test_a_config_map_of_somebody_else_is_left_alone() -> None:
    world = World()
    meta = {"name": "cart-access", "namespace": NAMESPACE}
    world.kube.put({"kind": "ConfigMap", "metadata": meta, "data": {"mine": "x"}})
    world.make(**RIGHTS)
    looked(world)
    assert told(world, "SpecValid")[0] == "NameTaken"
    assert world.found("ConfigMap")["cart-access"]["data"] == {"mine": "x"}


def test_keys_that_cannot_be_read_are_told_and_those_that_were_read_stay() -> None:
    world = World()
    keys, world.kube.keys = world.kube.keys, None
    world.make(**RIGHTS)
    looked(world)
    assert told(world, "SpecValid")[0] == "KeysUnknown" and not world.found("StatefulSet")
    world.kube.keys = keys
    world.kube.now += 60
    played(world, CALM)
    assert told(world, "AccessReady")[0] == "Required"
    data = world.found("ConfigMap")["cart-access"]["data"]
    assert data["jwks.json"] == '{"keys":[{"kty":"EC"}]}' and data["issuer"]
    world.kube.keys = None
    world.operators = [world._operator(), world._operator()]
    played(world, CALM)
    assert world.found("ConfigMap")["cart-access"]["data"] == data
    assert told(world, "SpecValid")[0] == "Valid"


def test_other_keys_and_other_rules_restart_no_pod() -> None:
    world = played(World(), make(**RIGHTS))
    before = pods(world)
    world.kube.keys = {"keys": [{"kty": "RSA"}]}
    world.kube.now += 400
    played(world, CALM)
    played(world, edit(access={"rules": [{**RULE, "verbs": ["get", "put"]}]}))
    data = world.found("ConfigMap")["cart-access"]["data"]
    assert "RSA" in data["jwks.json"] and 'verbs = ["get", "put"]' in data["access.toml"]
    assert pods(world) == before


def test_an_image_that_knows_no_tls_is_not_touched() -> None:
    world = World()
    world.ring.older = True
    played(world, make(update=SLOW))
    before = pods(world)
    played(world, edit(**TLS))
    assert pods(world) == before
    reason, text = told(world, "CertificatesReady")
    assert reason == "NotUsable" and "update spec.image first" in text
    assert told(world, "Ready")[0] == "CertificateUnusable"
    world.ring.older = False
    played(world, CALM)
    assert told(world, "CertificatesReady")[0] == "Encrypted"


def test_certificates_are_renewed_at_two_thirds_without_a_restart() -> None:
    world = played(World(), make(**TLS))
    before, lives = trust(world), pods(world)
    world.kube.now += 59 * DAY
    played(world, CALM)
    assert trust(world) == before
    world.kube.now += 2 * DAY
    played(world, CALM)
    after = trust(world)
    assert before.certificate and after.certificate
    assert after.certificate.mark != before.certificate.mark and after.marks == before.marks
    assert after.certificate.ends - world.kube.now > 89 * DAY
    assert pods(world) == lives


def test_an_authority_is_renewed_at_two_thirds_without_a_restart() -> None:
    world = played(World(), make(**TLS))
    before, lives = trust(world), pods(world)
    for _ in range(13):  # a certificate lives for 90 days, and the authority for three years
        world.kube.now += 59 * DAY
        played(world, CALM)
    after = trust(world)
    assert len(after.marks) == 1 and after.marks != before.marks
    assert pods(world) == lives
    assert set(data_of(world.found("Secret")["cart-ca"])) == {"ca.crt", "ca.key"}


def test_a_ring_that_grows_beyond_its_certificate_gets_another_before_its_pods() -> None:
    world = played(World(), make(**TLS))
    world.edit(size=17)
    for _ in range(20):
        looked(world, 1)
        if "cart-16" in world.found("Pod"):
            break
    found = trust(world).certificate
    assert found is not None and "cart-16" in found.names
    assert "cart-16" in world.found("Pod")
