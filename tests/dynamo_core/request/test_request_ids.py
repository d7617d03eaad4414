"""A request id that comes again with another request (S-REQ-2)."""

from __future__ import annotations

from typing import Any

import pytest

from dynamo_core.protocol.operations import Outcome, Put
from dynamo_core.replica.coordination import EXPIRIES_APART_MS_MAX
from dynamo_core.testing.town import Town

KEY = b"k"
HOUR_MS = 3_600_000


def again(town: Town, at: str, **fields: Any) -> Outcome:
    usual = {"key": KEY, "value": b"paid", "content_type": "t/p", "request_id": "r", "w": 2}
    return town.ask(at, Put(**usual | fields))


OTHERS: list[dict[str, Any]] = [
    {"value": b"refunded"}, {"value": b""}, {"value": None}, {"content_type": "t/q"},
    {"content_type": "t/p\tgzip"}, {"expires_in_s": 60},
]  # fmt: skip


@pytest.mark.parametrize("fields", OTHERS)
def test_another_request_under_the_id_is_refused_and_changes_nothing(
    fields: dict[str, Any],
) -> None:
    town = Town("a b c")
    assert again(town, "a").status == 204
    rows = {name: dict(disk.rows[0]) for name, disk in town.disks.items()}
    for at in town.names:
        refused = again(town, at, **fields)
        assert (refused.status, refused.problem) == (409, "request-id-reused")
        assert town.nodes[at].counters["request_ids_reused"] == 1
    assert {name: dict(disk.rows[0]) for name, disk in town.disks.items()} == rows
    assert again(town, "b").status == 204, "the same again is a retry"


def test_a_node_that_keeps_nothing_of_the_key_hears_it_from_an_owner() -> None:
    town = Town("a b c d")
    (outside,) = town.others(KEY)
    assert again(town, outside).status == 204
    refused = again(town, outside, value=b"refunded")
    assert (refused.status, refused.problem) == (409, "request-id-reused")
    assert refused.node in town.owners(KEY)


def test_a_superseded_request_is_acked_as_done() -> None:
    """The record does not show any more what the first write was."""
    town = Town("a b c")
    first = again(town, "a")
    assert town.put("a", KEY, b"later", context=first.context, w=3).status == 204
    for at in town.names:
        assert again(town, at, value=b"refunded").status == 204
        assert [s.value for s in town.get(at, KEY).values] == [b"later"]


@pytest.mark.parametrize(
    ("later_ms", "other_s", "status"),
    [
        (600_000, 3600, 204), (-HOUR_MS, 3600, 204), (HOUR_MS + 600_000, 3600, 204),
        (0, 3600 + EXPIRIES_APART_MS_MAX // 1000 + 1, 409), (0, 0, 409), (0, 86_400, 409),
    ],
)  # fmt: skip
def test_an_expiry_is_another_only_beyond_what_clocks_and_retries_explain(
    later_ms: int, other_s: int, status: int
) -> None:
    town = Town("a b c")
    assert again(town, "a", expires_in_s=3600).status == 204
    town.wall_ms += later_ms
    town.run(0.1)
    assert again(town, "b", expires_in_s=other_s).status == status


def test_deletes_have_ids_too() -> None:
    town = Town("a b c")
    assert town.put("a", KEY, b"before", w=3).status == 204
    assert again(town, "a", value=None, content_type="").status == 204
    assert again(town, "b", value=None, content_type="").status == 204
    assert again(town, "b").problem == "request-id-reused"


def test_a_stand_in_that_has_the_first_does_not_say_that_nothing_is_stored() -> None:
    """The owner that was asked before is silent: it may not have the first request, and so may have
    stored the second."""
    town = Town("a b c d")
    (outside,) = town.others(KEY)
    town.cut = {(outside, name) for name in town.owners(KEY)}
    assert again(town, outside, w=1).status == 204, "kept as a hint"
    refused = again(town, outside, value=b"refunded", w=1)
    assert (refused.status, refused.applied) == (503, "unknown")
    town.run(3.0)  # by now no owner seems to be up, so none is asked before
    refused = again(town, outside, value=b"refunded", w=1)
    assert (refused.status, refused.problem) == (409, "request-id-reused")
