"""W3C trace ids: what is read of a header, and that every call of a request carries its trace."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.protocol.arrivals import put_digest
from dynamo_core.protocol.frames import Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import Fetch, Forward, Message, Store
from dynamo_core.protocol.operations import Put
from dynamo_core.protocol.traceparent import CHARS, PARENT_ID, TRACE_ID, sampled, traceparent_of
from dynamo_core.testing.town import Town, known

KEY = b"cart"
TRACE_TEXT, PARENT_TEXT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACE = f"00-{TRACE_TEXT}-{PARENT_TEXT}-01"
"""The example of the recommendation."""


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(TRACE, TRACE, id="as-it-is"),
        pytest.param(f" {TRACE}\t", TRACE, id="blanks-around"),
        pytest.param(TRACE[:-2] + "00", TRACE[:-2] + "00", id="not-sampled"),
        pytest.param(TRACE[:-2] + "03", TRACE[:-2] + "03", id="random"),
        pytest.param(TRACE[:-2] + "ff", TRACE[:-2] + "03", id="unknown-flags-are-0"),
        pytest.param("01" + TRACE[2:], TRACE, id="later-version"),
        pytest.param("cc" + TRACE[2:] + "-more-parts", TRACE, id="later-version-with-more"),
        pytest.param("cc" + TRACE[2:] + "more", "", id="later-version-glued"),
        pytest.param("ff" + TRACE[2:], "", id="version-ff"),
        pytest.param(TRACE + "-01", "", id="version-00-with-more"),
        pytest.param(TRACE.upper(), "", id="upper-case"),
        pytest.param(TRACE.replace(TRACE_TEXT, "0" * 32), "", id="no-trace-id"),
        pytest.param(TRACE.replace(PARENT_TEXT, "0" * 16), "", id="no-parent-id"),
        pytest.param(TRACE[:-1], "", id="short"),
        pytest.param(f"{TRACE}, {TRACE}", "", id="two-of-them"),
        pytest.param("", "", id="empty"),
        pytest.param("\u0664" * CHARS, "", id="digits-of-another-script"),
    ],
)
def test_a_header_is_read_as_the_recommendation_says(text: str, read: str) -> None:
    assert traceparent_of(text) == read


@given(st.text())
def test_what_is_read_is_well_formed_or_nothing(text: str) -> None:
    for candidate in (text, TRACE + text, text + TRACE, TRACE[:36] + text):
        read = traceparent_of(candidate)
        assert read == "" or (len(read) == CHARS and traceparent_of(read) == read)


def test_the_parts_of_a_traceparent() -> None:
    assert (TRACE[TRACE_ID], TRACE[PARENT_ID]) == (TRACE_TEXT, PARENT_TEXT)
    flags = {flag: sampled(f"{TRACE[:-2]}{flag:02x}") for flag in range(4)}
    assert flags == {0: False, 1: True, 2: False, 3: True} and not sampled("")


def calls(town: Town) -> list[tuple[str, Message]]:
    """Receiver and message of each call about the key, from now on."""
    said: list[tuple[str, Message]] = []

    def listen(sender: str, receiver: str, frame: Frame) -> bool:
        said.extend((receiver, m) for m in frame.messages if isinstance(m, Fetch | Store | Forward))
        return False

    town.lost = listen
    return said


def traces(said: list[tuple[str, Message]]) -> set[tuple[str, str]]:
    return {
        (type(m).__name__, m.put.trace if isinstance(m, Forward) else m.trace)  # type: ignore[attr-defined]
        for _, m in said
    }


def test_every_call_of_a_put_carries_its_trace() -> None:
    """Forwarded to an owner, sent by that to the others."""
    town = Town("a b c d")
    said = calls(town)
    assert town.put(town.others(KEY)[0], KEY, b"v", trace=TRACE).status == 204
    assert traces(said) == {("Forward", TRACE), ("Store", TRACE)}
    assert {receiver for receiver, _ in said} == set(town.owners(KEY))


def test_every_call_of_a_get_carries_its_trace_the_repair_too() -> None:
    town = Town("a b c")
    at, lacks = town.owners(KEY)[0], town.owners(KEY)[2]
    town.cut |= {(at, lacks), (town.owners(KEY)[1], lacks)}
    town.put(at, KEY, b"v")
    town.cut.clear()
    said = calls(town)
    assert town.get(at, KEY, r=3, trace=TRACE).status == 200
    town.deliver()
    repairs = {receiver for receiver, m in said if isinstance(m, Store) and m.cause == "repair"}
    assert repairs == {lacks}
    assert traces(said) == {("Fetch", TRACE), ("Store", TRACE)}


def test_a_delete_without_a_context_reads_and_writes_under_one_trace() -> None:
    town = Town("a b c")
    at = town.owners(KEY)[0]
    town.put(at, KEY, b"v")
    said = calls(town)
    assert town.put(at, KEY, None, trace=TRACE).status == 204
    assert traces(said) == {("Fetch", TRACE), ("Store", TRACE)}


def test_calls_of_a_request_without_a_trace_carry_none() -> None:
    town = Town("a b c d")
    said = calls(town)
    at = town.others(KEY)[0]
    town.put(at, KEY, b"v", context=known(town.put(at, KEY, b"w")))
    assert traces(said) == {("Forward", ""), ("Store", "")}


def test_an_older_node_says_none_and_its_calls_are_taken() -> None:
    """C17: an older node's messages end before the trace, and its digest of a put is the same."""
    put = Put(key=KEY, value=b"v", request_id="r", w=2, dw=1, strict=False, trace=TRACE)
    fetch, store = Fetch(1, 3, (0, 1), b"stored"), Store(2, 3, (0, 1), b"stored", b"record")
    head = Frame(1, "carts", "a", 7, "a:1", 1, 5, 6, 7, [])
    *rest, _, _ = msgspec.msgpack.decode(encode_frame(head))
    lines = [msgspec.msgpack.decode(msgspec.msgpack.encode(m)) for m in (fetch, store)]
    forward = msgspec.msgpack.decode(msgspec.msgpack.encode(Forward(4, put, put_digest(put))))
    forward[2] = forward[2][:-1]
    older = msgspec.msgpack.encode([*rest, [*(line[:-1] for line in lines), forward]])
    untraced = msgspec.structs.replace(put, trace="")
    assert decode_frame(older).messages == [fetch, store, Forward(4, untraced, put_digest(put))]
    assert put_digest(untraced) == put_digest(put)
