"""The ring's own authority, by what real nodes make of it."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dynamo_node.certificates import BadCertificates, Certificates, TlsFiles
from dynamo_operator import authority
from dynamo_operator.authority import advanced, certified, encoded, trust_of
from dynamo_operator.owner import Owner
from dynamo_operator.protection import names_of
from dynamo_operator.spec import cluster_spec

OWNER = Owner("shop", "rings", "u")
NOW = time.time()
DAY = 86_400.0
Data = dict[str, bytes]


def secret(data: Data) -> dict[str, Any]:
    """As the API server has it."""
    return {"metadata": {"name": "s", "resourceVersion": "1"}, "data": encoded(data)}


def after(data: Data, *changes: Any, now: float = NOW) -> Data:
    """The authority's Secret after these."""
    for change in changes:
        merged = {**data, **advanced(data, change, "dynamo-ring rings/shop", now)}
        data = {name: value for name, value in merged.items() if value is not None}
    return data


def nodes(data: Data, **spec: Any) -> Data:
    """The Secret of the nodes."""
    return certified(data, names_of(OWNER, cluster_spec(spec), 3), NOW)


def files(place: Path, mounted: Data) -> TlsFiles:
    """As the kubelet writes them."""
    for name, value in mounted.items():
        (place / name).write_bytes(value)
    return TlsFiles(place / "tls.crt", place / "tls.key", place / "ca.crt")


def test_a_node_takes_its_certificate_and_says_the_same_marks(tmp_path: Path) -> None:
    """Both uses, its name, the authority: a node checks its own certificate as peers would."""
    further = ["Shop.example", "192.0.2.7", "2001:DB8::0:7"]
    mounted = nodes(after({}, "first"), tls={"names": further})
    trust = trust_of(secret(mounted), None)
    assert trust.certificate is not None and not trust.fault
    for name in ("shop-0", "shop-2", "shop-15"):
        read = Certificates(files(tmp_path, mounted), name)
        assert (read.mark, read.authorities) == (trust.certificate.mark, trust.marks)
        assert read.ends_s == trust.certificate.ends
    with pytest.raises(BadCertificates, match="peers require shop-16"):
        Certificates(files(tmp_path, mounted), "shop-16")
    dialled = {
        "*.shop-nodes.rings.svc",
        "shop.rings.svc",
        "127.0.0.1",
        "Shop.example",
        "192.0.2.7",
        "2001:db8::7",
    }
    assert dialled <= set(trust.certificate.names)
    wanted = names_of(OWNER, cluster_spec({"tls": {"names": further}}), 3)
    assert set(wanted) == set(trust.certificate.names), "or it would be renewed for ever"


def test_what_is_believed_changes_in_steps_without_a_gap(tmp_path: Path) -> None:
    """At each step nodes show a certificate of an authority that is believed by all that have read
    this step or the one before."""
    steps = [after({}, "first")]
    for change in ("next", "switch", "drop"):
        steps.append(after(steps[-1], change))
    shown = [trust_of(secret(nodes(step)), secret(step)) for step in steps]
    for before, now in pairwise(shown):
        assert before.certificate and now.certificate
        assert now.certificate.signer in before.marks
        assert before.certificate.signer in now.marks
    assert len({trust.certificate.signer for trust in shown if trust.certificate}) == 2
    assert [len(trust.marks) for trust in shown] == [1, 2, 2, 1]
    last = shown[-1].authority
    assert last is not None and (last.next, last.previous) == (None, None)
    for step in steps:
        assert Certificates(files(tmp_path, nodes(step)), "shop-0").mark


def test_an_authority_whose_key_is_lost_is_believed_a_while() -> None:
    old, new = nodes(after({}, "first")), after({}, "first")
    new |= {n: v for n, v in authority.still_believed(old).items() if v is not None}
    before, now = trust_of(secret(old), None), trust_of(secret(nodes(new)), None)
    assert before.certificate is not None and before.certificate.signer in now.marks
    assert authority.still_believed({}) == {}


def test_two_thirds_of_a_life_are_enough() -> None:
    found = trust_of(secret(nodes(after({}, "first"))), None).certificate
    assert found is not None
    assert found.made == int(NOW)
    assert not found.due(NOW + 59 * DAY) and found.due(NOW + 61 * DAY)
    assert found.ends - NOW > 89 * DAY


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"tls.key": b""}, "has no tls.key"),
        ({"tls.crt": b"nothing"}, "tls.crt: no certificate in PEM"),
        ({"ca.crt": b"nothing"}, "ca.crt: no certificate in PEM"),
    ],
)
def test_a_secret_that_cannot_be_used_is_a_fault(broken: Data, said: str) -> None:
    trust = trust_of(secret(nodes(after({}, "first")) | broken), None)
    assert trust.certificate is None and said in trust.fault


@pytest.mark.parametrize("broken", [{"ca.key": b"nothing"}, {"ca.crt": b""}, {"next.crt": b"x"}])
def test_an_authority_that_cannot_sign_is_a_fault(broken: Data) -> None:
    assert trust_of(None, secret(after({}, "first") | broken)).fault


def test_a_certificate_of_another_authority_has_no_signer() -> None:
    mixed = nodes(after({}, "first")) | {"ca.crt": after({}, "first")["ca.crt"]}
    found = trust_of(secret(mixed), None).certificate
    assert found is not None and found.signer == ""
