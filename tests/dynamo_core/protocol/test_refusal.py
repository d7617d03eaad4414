"""Refusals: one value here, one word on the wire; unknown words of newer nodes are accepted
(C17)."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.errors import BadFrame, RequestIdReused, TooManySiblings
from dynamo_core.protocol.frames import FRAME_VERSION, Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import Refused
from dynamo_core.protocol.refusal import Failure, Refusal

WIRE = {
    Refusal.ENTRY: b"entry", Refusal.NOT_A_MEMBER: b"not-a-member", Refusal.FULL: b"full",
    Refusal.CORRUPT: b"corrupt", Refusal.INCOMPLETE: b"incomplete", Refusal.STALE: b"stale",
    Refusal.APART: b"apart", Refusal.HINTS_FULL: b"hints-full", Refusal.PROMISED: b"promised",
    Refusal.SENSELESS: b"senseless", Refusal.TOO_MANY_SIBLINGS: b"too-many-siblings",
    Refusal.REQUEST_ID_REUSED: b"request-id-reused", Refusal.UNCERTAIN: b"uncertain",
    Refusal.OTHER: b"other",
}  # fmt: skip
"""What nodes of other versions write and read."""


def framed(reason: object) -> bytes:
    """A frame with one refusal, its word as it is given."""
    head = Frame(FRAME_VERSION, "carts", "a", 7, "a:1", 1, 5, 6, 7, [])
    *rest, _, knows = msgspec.msgpack.decode(encode_frame(head))
    return msgspec.msgpack.encode([*rest, [[5, 3, reason, 4, None, 8, 9]], knows])


@pytest.mark.parametrize("reason", Refusal, ids=lambda reason: reason.value)
def test_each_has_its_word_on_the_wire(reason: Refusal) -> None:
    word = WIRE[reason]
    refused = Refused(3, reason, 4, None, 8, 9)
    # [tag 5, id 3, word, 4, nil, 8, 9]: the bytes of the first version.
    assert msgspec.msgpack.encode(refused) == (
        b"\x97\x05\x03" + bytes([0xA0 | len(word)]) + word + b"\x04\xc0\x08\x09"
    )
    (read,) = decode_frame(framed(word.decode())).messages
    assert isinstance(read, Refused) and read.reason is reason
    assert reason.words == "refused " + word.decode()


@pytest.mark.parametrize("word", ["of a newer node", "", "refused stale", "link", "x" * 2000])
def test_a_word_of_a_newer_node_is_a_refusal_like_others(word: str) -> None:
    (read,) = decode_frame(framed(word)).messages
    assert isinstance(read, Refused) and read.reason is Refusal.OTHER


@pytest.mark.parametrize("word", [7, None, ["stale"], b"stale"])
def test_what_is_no_word_is_no_frame(word: object) -> None:
    with pytest.raises(BadFrame):
        decode_frame(framed(word))


def test_no_two_reasons_read_alike() -> None:
    """A peer that refuses corrupt input, and a peer whose own record is damaged, differ."""
    words = [reason.words for reason in (*Refusal, *Failure)]
    assert len(set(words)) == len(words)


def test_refusals_that_clients_see_have_the_slugs_of_their_errors() -> None:
    slugs = {TooManySiblings.slug, RequestIdReused.slug}
    assert slugs == {Refusal.TOO_MANY_SIBLINGS.value, Refusal.REQUEST_ID_REUSED.value}
