"""Frames: every message is decoded as it was sent; other bytes are BadFrame and nothing else."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_core.causality.context import Context
from dynamo_core.causality.records import Sibling
from dynamo_core.errors import BadFrame
from dynamo_core.protocol.backup_messages import Load, Loaded, Part, Save, Saved, SaveHints
from dynamo_core.protocol.frames import FRAME_VERSION, Frame, decode_frame, encode_frame
from dynamo_core.protocol.look_messages import Look, Looked
from dynamo_core.protocol.messages import (
    Fetch,
    Fetched,
    FetchedMany,
    FetchMany,
    Forward,
    Forwarded,
    Keys,
    KeysReply,
    Leaves,
    LeavesReply,
    Listing,
    ListingReply,
    Order,
    Progress,
    Refused,
    Roots,
    RootsReply,
    Sizes,
    SizesReply,
    Store,
    Stored,
)
from dynamo_core.protocol.move_messages import (
    Offer,
    Promise,
    Promised,
    Settle,
    Settled,
    Shown,
    Still,
    StillReply,
)
from dynamo_core.protocol.operations import Acks, Outcome, Put
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.protocol.registry import MESSAGES
from dynamo_core.protocol.ring_messages import (
    Admit,
    Admitted,
    Announce,
    Announced,
    Entries,
    FirstRing,
    Founded,
    Gossip,
    Parts,
    Prepare,
    Prepared,
    Reach,
    Reached,
)
from dynamo_core.protocol.round_messages import (
    Numbers,
    NumbersTold,
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
)
from dynamo_core.protocol.staleness_messages import (
    Delays,
    DelaysTold,
    Glance,
    Glanced,
    PairDelays,
)
from dynamo_core.ring.document import Entry, Identity, Member, RingParts, RingTarget

PARTS = RingParts(
    Identity("carts", 16, 2),
    {"a": Member("a", 1, 2**64 - 1, "a:1")},
    RingTarget(1, (("a",),) * 16),
    (Entry(1, 2, ("a", "b"), ("a", "c"), ("a",)),) * 16,
)
PUT = Put(
    key=b"\xff/k", value=None, context=Context(b"\x80", "a"), request_id="r", w=2, trace="00-trace"
)
OUTCOME = Outcome(
    status=503,
    problem="quorum-not-met",
    values=[Sibling(1, 2, b"\x00v")],
    acks=Acks(1, 1, 0, 1),
    applied="unknown",
    node="b",
)
PART = Part("parts/one/0003-7-0", 5, 600, 70, "ab" * 32)
SAMPLES = [
    Fetch(1, 3, (0, 1), b"stored", "00-trace"), Fetched(1, b"record", 3, 7),
    Store(2, 3, (0, 1), b"stored", b"record", "c", True, "hint", 5, "00-trace"), Stored(2, 12),
    Refused(3, Refusal.ENTRY, 4, Entry(1, 0, ("a",))), Refused(3, Refusal.STALE, 4, None, 8, 9),
    Forward(4, PUT), Forwarded(4, OUTCOME), Gossip(0, (b"d" * 16,) * 4, 10, 9, True),
    Parts(0, PARTS, (b"x",)), Roots(5, [(1, 0, 0), (2, 3, 4)]), RootsReply(5, [(1, b"root")]),
    Leaves(6, 1, (0, 0)), LeavesReply(6, b"leaves", 9, 8), Listing(7, 1, (0, 0), 2, b"after"),
    ListingReply(7, [(b"4bits", b"digest")], True), FetchMany(8, 1, (0, 0), [b"4bits"]),
    FetchedMany(8, [b"", b"r"], 1), Prepare(9, "carts", "a", "a:1"),
    Prepared(9, 2**64 - 1, "a:2", "no", 7),
    FirstRing(10, PARTS), Founded(10, "no"), Admit(0, "a:2", "zone", 2, False),
    Admitted(0, None, "no"), Admitted(0, PARTS), Reach(11, "a", 2**64 - 1), Reached(11, True),
    Order(12, "repair", [1, 2], True), Progress(12, 1, 2, 3, 4), Keys(13, 1, b"after", 100),
    KeysReply(13, [b"4bits"], True, b"cursor"),
    RoundAsk(15, 3, (0, 1), 1 << 32, b"members", b"target", [(b"4bits", b"digest")]),
    RoundAnswer(15, "why", 1 << 40, [(b"4bits", b"digest")]), RoundDone(16, 1),
    RoundCommit(16, 3, (0, 1), 1 << 32, [(b"4bits", b"digest")]),
    Numbers(17), NumbersTold(17, [(3, 1 << 32, 0)]),
    Entries(14, [(3, Entry(1, 2, ("a", "b"), ("b", "c"), None, 2**64 - 1))]),
    Promise(15, 3, Entry(1, 2, ("a", "b"), ("b", "c"), None, 7)), Promised(15), Still(16, 3, 1, 2),
    StillReply(16, True, Entry(1, 0, ("a",))), Settle(17, 3, (1, 2)), Settled(17),
    Sizes(19, [1, 2]), SizesReply(19, [(1, 100, 3)], 4, 5), Announce(20, PARTS), Announced(20),
    Offer(18, 3, (1, 2), [(b"stored", b"digest")]), Shown(18, 3, [0, 2]),
    Sizes(19, [1, 2]), SizesReply(19, [(1, 2**40, 3)], 1, 2**40), Announce(20, PARTS),
    Announced(20), Save(21, "one", "file:///b", 3, (1, 2), False, b"root"),
    Delays(22), DelaysTold(22, [PairDelays("b", [(1, 2)], [(3, 4)], 5, 6)], [7], [(8, True)]),
    Glance(23, b"\x00\x00\x00\x01k", 9), Glanced(23, 10, 200, [11]),
    SaveHints(21, "one", "file:///b"), Saved(21, [PART], b"root", True, ("c",), "why"),
    Load(22, "r", "file:///b", PART, b"cart-"), Loaded(22, 5, 6, "why"),
    Look(23, "hints", 3, b"4bits", "c", 9), Looked(23, b"body"),
]  # fmt: skip
FRAME = Frame(FRAME_VERSION, "carts", "a", 2**64 - 1, "a:1", 2**64 - 1, 5, 6, 7, SAMPLES)


def test_every_type_of_message_has_a_sample() -> None:
    assert {type(m) for m in SAMPLES} == set(MESSAGES)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_as_it_was_said(message: typing.Any) -> None:
    frame = msgspec.structs.replace(FRAME, messages=[message])
    assert decode_frame(encode_frame(frame)) == frame


def test_a_frame_carries_many_messages_in_order() -> None:
    assert decode_frame(encode_frame(FRAME)).messages == SAMPLES


@pytest.mark.parametrize("message", SAMPLES, ids=lambda m: type(m).__name__)
def test_fields_of_a_newer_node_are_ignored(message: typing.Any) -> None:
    """C17: new fields stand at the end, and an old node skips them."""
    line = [*msgspec.msgpack.decode(msgspec.msgpack.encode(message)), "new field"]
    rest = msgspec.msgpack.decode(encode_frame(msgspec.structs.replace(FRAME, messages=[])))
    newer = msgspec.msgpack.encode([*rest[:-2], [line], 0, "new field"])
    assert decode_frame(newer).messages == [message]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(encode_frame(msgspec.structs.replace(FRAME, version=2)), id="version"),
        pytest.param(encode_frame(FRAME) + b"\x00", id="something-behind"),
        pytest.param(encode_frame(FRAME)[:-1], id="cut"),
        pytest.param(b"\x91" * 100_000, id="deep"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
    ],
)
def test_other_bytes_are_bad_frames(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(data)


WHOLE = encode_frame(FRAME)
nonsense = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=12,
).map(msgspec.msgpack.encode)


@settings(max_examples=300)
@given(
    st.binary(max_size=100)
    | nonsense
    | st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)).map(
        lambda at: WHOLE[: at[0]] + bytes((WHOLE[at[0]] ^ at[1],)) + WHOLE[at[0] + 1 :]
    )
)
def test_fuzzed_bytes_raise_nothing_but_bad_frame(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except BadFrame:
        return
    assert decode_frame(encode_frame(frame)) == frame
