"""Merges: the order and the number of merges do not matter."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_client import (
    BadParameter,
    Merge,
    NotMergeable,
    cart_union,
    counter,
    counter_value,
    last_value,
    last_writer,
    set_union,
)

words = st.text("abcä", max_size=2)
contents = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
tallies = st.lists(st.integers(0, 9), min_size=2, max_size=2)
UNIONS: list[tuple[Callable[[], Merge], st.SearchStrategy[object]]] = [
    (cart_union, st.dictionaries(words, contents, max_size=4)),
    (lambda: cart_union(add={"a": 1}, remove=["b"]), st.dictionaries(words, contents, max_size=4)),
    (set_union, st.lists(contents, max_size=4)),
    (lambda: set_union(add=["a"], remove=["b", 1]), st.lists(contents, max_size=4)),
    (lambda: counter(by=0, actor="me"), st.dictionaries(words, tallies, max_size=4)),
]
stamped = st.builds(
    lambda data, now_ms: last_writer(data, now_ms)([]), st.binary(max_size=3), st.integers(0, 9)
)


@pytest.mark.parametrize(("factory", "strategy"), UNIONS)
@settings(deadline=None)
@given(data=st.data())
def test_unions(
    factory: Callable[[], Merge], strategy: st.SearchStrategy[object], data: st.DataObject
) -> None:
    values = [json.dumps(data.draw(strategy)).encode() for _ in range(3)]
    holds(factory(), *values)


@settings(deadline=None)
@given(stamped, stamped, stamped, st.integers(0, 9))
def test_last_writer_is_a_union_too(a: bytes, b: bytes, c: bytes, now_ms: int) -> None:
    holds(last_writer(b"mine", now_ms), a, b, c)


def holds(merge: Merge, a: bytes, b: bytes, c: bytes) -> None:
    def m(*values: bytes) -> bytes:
        merged = merge(list(values))
        assert merged is not None
        return merged

    assert m(a, b, c) == m(c, a, b) == m(b, a, c), "commutative"
    assert m(m(a, b), c) == m(a, m(b, c)) == m(a, b, c), "associative"
    assert m(m(a), a) == m(a, a) == m(a) == m(m(a)), "idempotent"


def test_a_cart_never_loses_what_was_added() -> None:
    with_tea, with_milk = b'{"tea":{"n":1}}', b'{"milk":{"n":1},"old":{"n":1}}'
    merged = cart_union(add={"bread": 1}, remove=["old"])([with_tea, with_milk])
    assert json.loads(merged or b"") == {"tea": {"n": 1}, "milk": {"n": 1}, "bread": 1}
    # A removal that another sibling has not seen comes back, as the paper has it [P 4.4].
    assert cart_union()([b"{}", b'{"tea":1}']) == b'{"tea":1}'
    assert cart_union(add={"tea": 2}, remove=["tea"])([b'{"tea":9}']) == b'{"tea":2}'


def test_a_counter_counts_what_each_actor_counted() -> None:
    up = counter(by=3, actor="a")([])
    down = counter(by=-1, actor="b")([up or b""])
    assert counter_value(down or b"") == 2
    assert counter_value(counter(by=1, actor="c")([up or b"", down or b""]) or b"") == 3


def test_the_newest_stamp_wins_and_the_others_are_gone() -> None:
    old, new = last_writer(b"old", 1)([]), last_writer(b"new", 2)([])
    assert last_value(last_writer(b"\xff", 3)([old or b"", new or b""]) or b"") == b"\xff"
    assert last_value(last_writer(b"now")([old or b"", new or b""]) or b"") == b"now"
    assert last_value(last_writer(b"late", 0)([old or b"", new or b""]) or b"") == b"new"


def test_nothing_to_write() -> None:
    nothing = [cart_union(remove=["a"]), set_union(remove=["a"]), counter(by=0, actor="a")]
    assert [merge([]) for merge in nothing] == [None, None, None]


@pytest.mark.parametrize("value", [b"tea", b"\xff", b"7", b'"a"', b"[" * 5000])
def test_a_value_of_something_else_is_not_overwritten(value: bytes) -> None:
    for merge in (cart_union(), set_union(), counter(by=1, actor="a"), last_writer(b"", 1)):
        with pytest.raises(NotMergeable):
            merge([value])
    with pytest.raises(NotMergeable):
        last_value(b'{"at_ms":1,"data":"!"}')


class Odd:
    """A type that JSON does not know."""


@pytest.mark.parametrize(
    "content",
    [float("nan"), float("inf"), -float("inf"), b"bytes", {1: 2}, {"a": {None: 1}}, {1, 2}, Odd(),
     "\ud800", [float("nan")], {"deep": [{"x": b""}]}],
)  # fmt: skip
def test_what_json_cannot_hold_is_refused_before_anything_is_read(content: object) -> None:
    with pytest.raises(BadParameter, match=r"^add: "):
        cart_union(add={"line": content})
    with pytest.raises(BadParameter, match=r"^add: "):
        set_union(add=[content])
    with pytest.raises(BadParameter, match=r"^remove: "):
        set_union(remove=[content])


def test_wrong_kinds_are_told_by_the_name_of_the_field() -> None:
    wrong: Any
    for wrong in (1.5, "1", None, True):
        with pytest.raises(BadParameter, match=r"^by: "):
            counter(by=wrong, actor="me")
    for wrong in (5, None, b"me"):
        with pytest.raises(BadParameter, match=r"^actor: "):
            counter(by=1, actor=wrong)
        with pytest.raises(BadParameter, match=r"^remove: "):
            cart_union(remove=[wrong])
    with pytest.raises(BadParameter, match=r"^data: "):
        last_writer("text")  # type: ignore[arg-type]
    with pytest.raises(BadParameter, match=r"^now_ms: "):
        last_writer(b"x", now_ms=1.5)  # type: ignore[arg-type]


def test_tuples_are_lists_and_stay_what_they_are() -> None:
    merged = cart_union(add={"a": (1, (2, 3))})([])
    assert merged == b'{"a":[1,[2,3]]}'
    assert set_union(add=[(1, 2)], remove=[[3]])([b"[[3],[1,2]]"]) == b"[[1,2]]"
