"""`spec.access` as a file, by what real nodes read in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_node.access import may
from dynamo_node.rights import Rights, read_rights
from dynamo_operator.rights_file import access_toml
from dynamo_operator.spec import BadSpec, cluster_spec

TOKEN = b"a token of 32 characters or more"
DIGEST = "a7a2f6bff4c9c54bb4b4a9e0d0f4a7bd0c1d1d6ef0c7c2f0c62b1f3ef4d2b9d1"


def read(**access: Any) -> Rights:
    """What a node makes of it."""
    spec = cluster_spec({"access": {"mode": "Required", **access}}).access
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "access.toml"
        path.write_text(access_toml(spec))
        return read_rights(path)


def test_rules_mean_to_a_node_what_they_say() -> None:
    rights = read(
        rules=[
            {"serviceAccount": "shop/checkout", "prefixes": ["cart:"], "verbs": ["get", "put"]},
            {"certificate": "anna", "prefixes": [""], "verbs": ["list"]},
            {"tokenSha256": DIGEST, "name": "reports", "prefixes": ["r:"], "verbs": ["get"]},
        ],
        administrators=["ops/on-call"],
    )
    assert rights.rules == 4
    checkout = rights.of_account("shop/checkout")
    assert may(checkout, "put", b"cart:1") and not may(checkout, "put", b"other")
    assert not may(checkout, "delete", b"cart:1") and not checkout.admin
    assert may(rights.of_certificate(("anna",)), "list", b"anything")
    assert rights.of_account("ops/on-call").admin and not rights.of_account("ops/other").anything


def test_no_rule_allows_nothing() -> None:
    assert read().rules == 0


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1))
def test_every_prefix_arrives_as_it_is(prefixes: list[str]) -> None:
    rule = {"serviceAccount": "a/b", "prefixes": prefixes, "verbs": ["get"]}
    who = read(rules=[rule]).of_account("a/b")
    assert set(who.get) == {prefix.encode() for prefix in prefixes}


@pytest.mark.parametrize("letter", ["a", "\u20ac", "\U0001f600"])
def test_a_node_takes_every_prefix_that_a_resource_may_have(letter: str) -> None:
    """The resource counts letters, a node counts bytes. One prefix too long would have the node
    refuse the whole file: it would not start, or keep rights that were taken away."""
    taken = 0
    for size in (1, 255, 256, 257, 512, 1024):
        rule = {"serviceAccount": "a/b", "prefixes": [letter * size], "verbs": ["get"]}
        try:
            cluster_spec({"access": {"rules": [rule]}})
        except BadSpec:
            continue
        assert read(rules=[rule]).of_account("a/b").get == ((letter * size).encode(),)
        taken += 1
    assert taken == 3
