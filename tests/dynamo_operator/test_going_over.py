"""Theorem 4: a plain node and one that takes TLS only never run at once. What people are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from dynamo_operator import trust_conditions
from dynamo_operator.node_answers import TlsWord
from dynamo_operator.plan import certificates, going_over
from dynamo_operator.plan.going_over import TARGETS, phase
from dynamo_operator.plan.table import plan
from dynamo_operator.snapshot import ASKS, TLS, Snapshot
from dynamo_operator.tokens import tokens_of
from dynamo_operator.trust import Certificate, Trust
from tests.dynamo_operator.looks import asked, node, pod, settled
from tests.dynamo_operator.stories import PLAIN, SLOW, edit, make
from tests.dynamo_operator.stories import TLS as SECURE
from tests.dynamo_operator.world import NAMESPACE, Scene, World

SOON = 3 * 86_400.0
NAMES = tuple(f"cart-{ordinal}" for ordinal in range(16))


def good(o: Snapshot, ends_s: float = 90 * 86_400.0) -> Snapshot:
    """The certificate is there, and is of the authority beside it."""
    shown = Certificate("leaf", o.now - 300, o.now + ends_s, NAMES, "ca")
    return structs.replace(o, trust=Trust(shown, "PEM", ("ca",), "7"))


def at(applied: str, pods: str, said: str = "") -> Snapshot:
    """A ring whose StatefulSet, pods and nodes are so; a letter for off, allow and require."""
    words = {"o": "off", "a": "allow", "r": "require"}
    o = good(settled())
    assert o.workload is not None
    notes = {**o.workload.annotations, TLS: words[applied]}
    o = structs.replace(o, workload=structs.replace(o.workload, annotations=notes))
    for ordinal, letter in enumerate(pods):
        o = pod(o, ordinal, tls=words[letter], https=letter != "o")
    for ordinal, letter in enumerate(said or pods):
        o = node(
            o, ordinal, tls=TlsWord(words[letter], "leaf", ("ca",)) if letter in words else None
        )
    return o


WISH = {"off": "Disabled", "allow": "Allowed", "require": "Required"}


@pytest.mark.parametrize(
    ("applied", "pods", "said", "wish", "then"),
    [
        ("o", "ooo", "ooo", "require", "allow"),
        ("a", "ooa", "ooa", "require", "allow"),
        ("a", "aaa", "aaa", "require", "require"),
        ("a", "aaa", "aao", "require", "allow"),
        ("a", "aaa", "aa-", "require", "allow"),
        ("r", "aar", "aar", "require", "require"),
        ("r", "aar", "aar", "off", "allow"),
        ("a", "aar", "aar", "off", "allow"),
        ("a", "aaa", "aaa", "off", "off"),
        ("a", "oao", "oao", "off", "off"),
        ("o", "oao", "oao", "require", "allow"),
        ("r", "rrr", "rrr", "allow", "allow"),
        ("o", "ooo", "oo-", "require", "off"),
    ],
)
def test_the_next_phase(applied: str, pods: str, said: str, wish: str, then: str) -> None:
    o = asked(at(applied, pods, said), tls={"mode": WISH[wish]})
    assert phase(o) == then


@pytest.mark.parametrize("missing", ["pods", "nodes"])
def test_a_node_that_cannot_be_asked_keeps_plain_links(missing: str) -> None:
    o = asked(at("a", "aaa"), tls={"mode": "Required"})
    assert phase(o) == "require"
    gone = {i: v for i, v in getattr(o, missing).items() if i != 1}
    assert phase(structs.replace(o, **{missing: gone})) == "allow"


def test_a_certificate_that_has_ended_ends_the_way_to_tls_only() -> None:
    o = asked(at("a", "aaa"), tls={"mode": "Required", "secretName": "mine"})
    assert (phase(o), phase(good(o, ends_s=-1.0))) == ("require", "allow")


def test_no_token_goes_to_a_node_whose_certificate_cannot_be_checked() -> None:
    o = structs.replace(at("r", "rrr"), secret_text="new\nold")
    derived = tokens_of("new\nold")[:2]
    assert (o.way(1).tokens, o.way(1).name) == (derived, "cart-1")
    assert structs.replace(o, trust=Trust()).way(1).tokens == ()
    imposter = pod(o, 1, tls="off", https=False)
    assert imposter.way(1).tokens == ()
    plain = structs.replace(at("o", "ooo"), secret_text="new\nold").way(1)
    assert (plain.tokens, plain.believed) == ((*derived, "new"), "")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda o: structs.replace(o, trust=Trust()),
        lambda o: good(o, ends_s=-1.0),
        lambda o: structs.replace(o, trust=structs.replace(o.trust, fault="no PEM")),
        lambda o: structs.replace(
            o, trust=structs.replace(o.trust, certificate=Certificate("l", 0.0, 9e9, ("x",), "ca"))
        ),
        lambda o: structs.replace(
            o, trust=structs.replace(o.trust, certificate=Certificate("l", 0.0, 9e9, NAMES, ""))
        ),
    ],
)
def test_without_a_good_certificate_no_pod_is_touched(
    wrong: Callable[[Snapshot], Snapshot],
) -> None:
    o = wrong(asked(at("o", "ooo"), tls={"mode": "Required", "secretName": "mine"}))
    assert phase(o) == "off"
    assert plan(o).reason == "AsWanted"
    told = trust_conditions.certificates(o)
    assert (told.holds, told.reason) == (False, "NotUsable")
    assert [reason for reason, _ in trust_conditions.troubles(o)] == ["CertificateUnusable"]


def test_a_new_ring_warns_of_no_certificate_that_is_about_to_be_made() -> None:
    o = structs.replace(asked(settled(), tls={"mode": "Required"}), trust=Trust())
    assert not list(trust_conditions.troubles(o))
    lost = structs.replace(o, trust=Trust(fault="no PEM"))
    assert [reason for reason, _ in trust_conditions.troubles(lost)] == ["CertificateUnusable"]


def too_soon(o: Snapshot) -> Any:
    """Goes on as soon as one pod takes both."""
    begun = any(each.tls == "allow" for each in o.pods.values())
    return "allow" if phase(o) == "allow" and not begun else going_over.wished(o)


@pytest.mark.parametrize("leap", [going_over.wished, too_soon])
@pytest.mark.parametrize("story", [(PLAIN, SECURE), (SECURE, PLAIN)], ids=["over", "back"])
def test_the_simulator_catches_a_leap(
    leap: Callable[[Snapshot], Any], story: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(going_over, "phase", leap)
    world = World(seconds_max=120)
    with pytest.raises(AssertionError, match=r"wrong|not settled"):
        asyncio.run(world.play([make(update=SLOW, **story[0]), edit(**story[1])]))
        assert not world.ring.wrong, "wrong"
    assert any("plain" in wrong for wrong in world.ring.wrong)


@pytest.mark.parametrize("gate", ["believed", "shown"])
def test_the_simulator_catches_an_authority_that_changes_too_soon(
    gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, gate, lambda *_: True)
    world = World(seconds_max=200)
    notes = {"annotations": {"dynamo-ring.dev/rotate-authority": "1"}}
    ask = Scene(lambda w: w.kube.change("DynamoCluster", NAMESPACE, "cart", metadata=notes))
    soon = {"tls": {"mode": "Required", "overlap": "1s"}}
    with pytest.raises(AssertionError):
        asyncio.run(world.play([make(**soon), ask]))
        assert not world.ring.wrong
    assert any("does not believe" in wrong for wrong in world.ring.wrong)


def test_what_is_told_on_the_way() -> None:
    def told(o: Snapshot) -> tuple[bool, str]:
        found = trust_conditions.certificates(o)
        return found.holds, found.reason

    required = {"mode": "Required"}
    assert told(settled()) == (False, "Plain")
    assert told(asked(at("a", "ooa"), tls=required)) == (False, "GoingOver")
    assert told(asked(at("a", "aaa"), tls={"mode": "Allowed"})) == (False, "PlainAllowed")
    assert told(asked(at("r", "rrr"), tls=required)) == (True, "Encrypted")
    assert told(asked(at("a", "arr"), tls={"mode": "Disabled"})) == (False, "GoingOver")
    late = asked(good(at("r", "rrr"), ends_s=SOON), tls=required)
    assert told(late) == (False, "EndsSoon")
    assert [reason for reason, _ in trust_conditions.troubles(late)] == ["CertificateEndsSoon"]


def test_rights_are_told_by_the_nodes_words() -> None:
    def told(o: Snapshot) -> tuple[bool, str]:
        found = trust_conditions.access(o)
        return found.holds, found.reason

    o = asked(settled(), access={"mode": "Required"})
    assert told(settled()) == (False, "Open")
    assert told(o) == (False, "NotYet")
    for ordinal in range(3):
        o = node(o, ordinal, access="2 rules")
    assert told(o) == (True, "Required")
    assert told(node(o, 1, access=None)) == (False, "NotYet")
    assert told(structs.replace(o, nodes={0: o.nodes[0]})) == (False, "NodeSilent")


def unsaid(o: Snapshot) -> tuple[str | None, str | None]:
    """The modes of TLS and of access, where the spec says none."""
    spec = going_over.completed(asked(o, tls={}, access={}))
    return spec.tls.mode, spec.access.mode


def test_a_spec_that_says_nothing_makes_a_new_ring_secure_and_keeps_another_as_it_is() -> None:
    secure, plain = ("Required", "Required"), ("Disabled", "Open")
    o = settled()
    nothing = structs.replace(o, workload=None, pods={}, claims={})
    blank = {i: structs.replace(claim, annotations={}) for i, claim in o.claims.items()}
    assert unsaid(nothing) == unsaid(structs.replace(nothing, claims=blank)) == secure
    # By the claims of members, then by pods, then by the StatefulSet.
    assert unsaid(structs.replace(nothing, claims=o.claims)) == plain
    noted = {TLS: "require", ASKS: "true"}
    ours = {
        i: structs.replace(claim, annotations={**claim.annotations, **noted})
        for i, claim in o.claims.items()
    }
    assert unsaid(structs.replace(nothing, claims=ours)) == secure
    assert unsaid(structs.replace(nothing, claims={**ours, 1: o.claims[1]})) == plain
    assert unsaid(structs.replace(nothing, claims=ours, pods=o.pods)) == plain
    assert unsaid(structs.replace(o, claims=ours)) == plain
    assert unsaid(at("a", "aao")) == ("Allowed", "Open")
    assert o.workload is not None
    asks = structs.replace(o, workload=structs.replace(o.workload, asks=True))
    assert unsaid(asks) == ("Disabled", "Required")
    # What the spec says holds.
    spec = going_over.completed(asked(nothing, tls={"mode": "Allowed"}, access={"mode": "Open"}))
    assert (spec.tls.mode, spec.access.mode) == ("Allowed", "Open")


def test_a_ring_that_was_plain_before_is_told_how_to_change_that() -> None:
    o = settled()
    assert "spec.tls.mode is Disabled" in trust_conditions.certificates(o).message
    silent = structs.replace(o, resource={**o.resource, "spec": {}})
    for word in (trust_conditions.certificates(silent), trust_conditions.access(silent)):
        assert "the ring stays as it was" in word.message


def test_every_mode_has_a_phase() -> None:
    assert set(TARGETS.values()) == {"off", "allow", "require"} == set(WISH)
