"""Expiries for clients: put, update, batch, and the text of times (S-TTL-2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_client import BadParameter, GetOp, PutOp, set_union
from dynamo_client.batch import Op, batch
from dynamo_client.expiry import longest, outlives, time_of, time_text
from dynamo_client.steps import Ask, Reply
from dynamo_node.expiry import ms_of
from dynamo_node.expiry import time_of as shown_by_nodes
from tests.dynamo_client.stepping import LOST, World, absent, record, refused, stored

SOON, LATER = "2130-01-01T00:00:00.250Z", "2130-06-01T00:00:00.000Z"
AT, IN = "Dynamo-Expires-At", "Dynamo-Expires-In"
BELGRADE = timezone(timedelta(hours=2))


def expiring(*ends: str | None) -> Reply:
    """Siblings [0], [1] and so on, each with its expiry or none."""
    shown: list[dict[str, Any]] = [
        {"data": b"[%d]" % at, "content_type": "t/p", "dot": str(at)}
        | ({"expires_at": end} if end else {})
        for at, end in enumerate(ends)
    ]
    body = msgspec.json.encode({"key": b"k", "context": "ctx", "values": shown})
    return Reply(200, {"dynamo-node": "a"}, body)


def put_of(world: World) -> Ask:
    return next(ask for ask in reversed(world.asked) if ask.method == "PUT")


def expiry_headers(ask: Ask) -> dict[str, str]:
    return {name: text for name, text in ask.headers.items() if name in (AT, IN)}


def test_a_read_shows_when_each_value_expires() -> None:
    world = World()
    found = world.run(world.client.get("k"), expiring(SOON, None))
    assert [version.expires_at for version in found.values] == [
        datetime(2130, 1, 1, microsecond=250_000, tzinfo=UTC),
        None,
    ]


def test_a_put_sends_the_time_in_utc_to_the_millisecond() -> None:
    world = World()
    at = datetime(2130, 1, 1, 2, 0, 0, 250_999, tzinfo=BELGRADE)
    world.run(world.client.put("k", "v", expires_at=at), stored())
    assert expiry_headers(world.asked[0]) == {AT: SOON}


BAD = [
    ({"expires_in_s": 9, "expires_at": datetime(2130, 1, 1, tzinfo=UTC)}, "expires_at: not with"),
    ({"expires_in_s": 1.5}, "expires_in_s: needs whole seconds"),
    ({"expires_in_s": True}, "expires_in_s: needs whole seconds"),
    ({"expires_at": datetime(2130, 1, 1)}, "expires_at: needs a datetime with a zone"),
    ({"expires_at": SOON}, "expires_at: needs a datetime with a zone"),
    ({"expires_at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))}, "expires_at: "),
    ({"expires_in_s": "soon"}, "expires_in_s: "),
]


@pytest.mark.parametrize(("fields", "words"), BAD)
def test_what_cannot_be_an_expiry_is_refused_before_anything_is_sent(
    fields: dict[str, Any], words: str
) -> None:
    world = World()
    for begin in (
        lambda: world.client.put("k", "v", **fields),
        lambda: world.client.update("k", set_union(add=[1]), **fields),
        lambda: batch(world.client, [PutOp("k", "v", **fields)]),
    ):
        with pytest.raises(BadParameter, match=words):
            world.run(begin(), absent())
    assert not world.asked


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        ([SOON], {AT: SOON}),
        ([SOON, LATER], {AT: LATER}),
        ([LATER, None, SOON], {}),
        ([None], {}),
    ],
)
def test_an_update_keeps_the_longest_life_of_what_it_merges(
    there: list[str | None], kept: dict[str, str]
) -> None:
    """An updated session does not live for ever, and no value ends too early."""
    world = World()
    world.run(world.client.update("k", set_union(add=[9])), expiring(*there), stored())
    assert expiry_headers(put_of(world)) == kept


def test_an_update_of_what_is_not_there_has_nothing_to_keep() -> None:
    world = World()
    world.run(world.client.update("k", set_union(add=[9])), absent(), stored())
    assert expiry_headers(put_of(world)) == {}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"expires_in_s": 60}, {IN: "60"}),
        ({"expires_in_s": "never"}, {}),
        ({"expires_in_s": None}, {AT: SOON}),
        ({"expires_at": time_of(LATER)}, {AT: LATER}),
    ],
)
def test_an_update_sets_another_expiry_or_none_where_the_caller_says_so(
    given: dict[str, Any], sent: dict[str, str]
) -> None:
    world = World()
    world.run(world.client.update("k", set_union(add=[9]), **given), expiring(SOON), stored())
    assert expiry_headers(put_of(world)) == sent


def test_an_update_that_begins_again_keeps_what_it_has_read_then() -> None:
    """A repeated write is unchanged; after a write that was not stored, the merge runs again."""
    world = World("http://e1", attempts_max=1)
    no = refused(503, "draining", {"dynamo-applied": "no", "retry-after": "1"})
    steps = world.client.update("k", set_union(add=[9]))
    world.run(steps, expiring(SOON), LOST, LOST, stored())
    puts = [ask for ask in world.asked if ask.method == "PUT"]
    assert [expiry_headers(ask) for ask in puts] == [{AT: SOON}] * 3
    world = World("http://e1", attempts_max=1)
    world.run(
        world.client.update("k", set_union(add=[9])), expiring(SOON), no, expiring(LATER), stored()
    )
    puts = [ask for ask in world.asked if ask.method == "PUT"]
    assert [expiry_headers(ask) for ask in puts] == [{AT: SOON}, {AT: LATER}]


def test_a_batch_says_and_shows_it() -> None:
    world = World()
    value = {"data": b"v", "content_type": "t/p", "dot": "1", "expires_at": SOON}
    answers = [{"status": 204}, {"status": 204}, {"status": 200, "context": "c", "values": [value]}]
    body = msgspec.msgpack.encode({"results": answers})
    asked: list[Op] = [
        PutOp("a", "v", expires_in_s=60),
        PutOp("b", "v", expires_at=time_of(LATER)),
        GetOp("k"),
    ]
    *_, got = world.run(batch(world.client, asked), Reply(200, {}, body))
    sent = msgspec.msgpack.decode(world.asked[0].content)["operations"]
    assert [(one.get("expires_in_s"), one.get("expires_at")) for one in sent] == [
        (60, None),
        (None, LATER),
        (None, None),
    ]
    assert got.found is not None and got.found.values[0].expires_at == time_of(SOON)


def test_records_without_an_expiry_read_as_before() -> None:
    world = World()
    found = world.run(world.client.get("k"), record(b"1"))
    assert found.values[0].expires_at is None


# ---------------------------------------------------------------- times

TIMES = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)).map(
    lambda naive: naive.replace(tzinfo=UTC)
)


@given(TIMES, st.integers(-14 * 60, 14 * 60))
def test_a_time_is_the_same_to_the_last_millisecond_wherever_it_goes(
    time: datetime, minutes: int
) -> None:
    """Caller, header, node, answer, client, file and back."""
    zoned = time.astimezone(timezone(timedelta(minutes=minutes)))
    text = time_text(zoned)
    assert shown_by_nodes(ms_of("expires_at", text)) == text
    assert ms_of("expires_at", zoned.isoformat()) == ms_of("expires_at", text)
    assert time_text(time_of(text)) == text
    assert timedelta() <= time - time_of(text) < timedelta(milliseconds=1)


@given(st.lists(st.none() | TIMES, min_size=1))
def test_the_longest_life_outlives_all(ends: list[datetime | None]) -> None:
    expiry = longest(ends)
    whole = [None if end is None else time_of(time_text(end)) for end in ends]
    end = None if expiry.at is None else time_of(expiry.at)
    assert end in whole and all(outlives(end, other) for other in whole)


@pytest.mark.parametrize("text", ["", "soon", "2130-01-01", "2130-01-01T00:00:00", "1700000000"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        time_of(text)
