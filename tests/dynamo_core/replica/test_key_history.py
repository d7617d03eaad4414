"""The history of watched keys: bounded, and free where it is off."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import NOTHING, Record, Sibling
from dynamo_core.keys import store_key
from dynamo_core.protocol.look_messages import SHOWN_BYTES_MAX
from dynamo_core.replica import key_history
from dynamo_core.replica.key_history import KeyHistory
from dynamo_core.settings import Settings
from dynamo_core.testing.town import SETTINGS, Town


def history(bytes_max: int, prefixes: tuple[bytes, ...] = (), one_in: int = 1) -> KeyHistory:
    settings = Settings(
        history_bytes_max=bytes_max, history_prefixes=prefixes, history_one_in=one_in
    )
    return KeyHistory(settings, lambda: 1_000)


def put(here: KeyHistory, key: bytes, counter: int, value: bytes = b"v" * 100) -> None:
    made = Sibling(7, counter, value)
    here.made(store_key(key), NOTHING, ((), made, (made,)), "")


def measured(here: KeyHistory) -> int:
    """The bytes of the objects that are kept."""
    lines = here._kept
    return sys.getsizeof(lines) + sum(
        sys.getsizeof(line) + sum(map(sys.getsizeof, line)) for line in lines
    )


@pytest.mark.parametrize("value_bytes", [0, 100, 100_000])
def test_its_bound_is_kept_under_ten_thousand_writes(value_bytes: int) -> None:
    """A second of 10,000 puts, and as many records of other nodes; by the bytes of the objects too.
    Only the beginning of a value is kept."""
    here, value = history(64 * 1024), b"v" * value_bytes
    for n in range(1, 10_001):
        put(here, b"k%d" % (n % 7), n, value)
        record = encode_record(b"other", Record((Sibling(8, n, value),), NOTHING))
        here.came(store_key(b"other"), None, record, "put")
        assert here.bytes <= here.bytes_max
    assert measured(here) <= here.bytes_max
    assert here.dropped + len(here._kept) == 20_000 and len(here._kept) > 50
    body = here.of(store_key(b"k4"), 1 << 20)
    assert body.changes[-1].made == (7, 10_000)
    assert len(body.changes[-1].value) == min(value_bytes, SHOWN_BYTES_MAX)
    assert body.changes[-1].size == value_bytes


def test_a_bound_below_one_change_keeps_none() -> None:
    here = history(1)
    put(here, b"k", 1)
    assert (here.bytes, here.dropped, len(here._kept)) == (0, 1, 0)


def test_prefixes_and_a_sample_choose_the_keys() -> None:
    some = history(1 << 20, (b"cart:",))
    assert some.watches(store_key(b"cart:1")) and not some.watches(store_key(b"x"))
    put(some, b"x", 1)
    assert not some._kept and not some.of(store_key(b"x"), 1 << 20).watched
    one_in_four = history(1 << 20, (), 4)
    watched = sum(one_in_four.watches(store_key(b"%d" % n)) for n in range(4000))
    assert 800 < watched < 1200


def test_an_answer_has_the_newest_changes_within_its_bytes() -> None:
    here = history(1 << 20)
    for n in range(1, 1001):
        put(here, b"k", n)
    body = here.of(store_key(b"k"), 10_000)
    numbers = [change.made[1] for change in body.changes if change.made]
    assert numbers == list(range(1001 - len(numbers), 1001)) and 40 < len(numbers) < 100
    here.clear()
    assert (here.bytes, here.of(store_key(b"k"), 10_000).changes) == (0, [])


def calls(town: Town) -> tuple[int, int]:
    """How many functions of the history are called by a put and a get, and how many at all."""
    found = [0, 0]

    def count(frame: Any, event: str, argument: object) -> None:
        if event == "call":
            found[0] += frame.f_code.co_filename == key_history.__file__
            found[1] += 1

    before: Callable[..., Any] | None = sys.getprofile()
    sys.setprofile(count)
    try:
        town.put("a", b"k", b"v", w=3)
        town.values("b", b"k", r=3)
    finally:
        sys.setprofile(before)
    return found[0], found[1]


def test_where_it_is_off_nothing_is_kept_and_nothing_called() -> None:
    town = Town("a b c")
    assert all(node.replica.history is None for node in town.nodes.values())
    assert calls(town)[0] == 0
    watching = msgspec.structs.replace(SETTINGS, history_bytes_max=1 << 20)
    assert calls(Town("a b c", settings=watching))[0] > 3


def test_a_store_that_refuses_writes_empties_it() -> None:
    watching = msgspec.structs.replace(SETTINGS, history_bytes_max=1 << 20)
    node = Town("a b c", settings=watching).nodes["a"]
    assert node.replica.history is not None
    put(node.replica.history, b"k", 1)
    node.replica.reload()
    assert node.replica.history.bytes == 0
