"""Numbers and tags of frames (S-NET-3): only frames as they were sent, in order, are accepted."""

from __future__ import annotations

from itertools import permutations

import pytest

from dynamo_core.errors import BadFrame
from dynamo_core.protocol.frame_tags import (
    HEAD_BYTES,
    LENGTH_BYTES,
    Opener,
    PlainOpener,
    PlainSealer,
    Sealer,
    opened,
)
from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX

KEY = b"k" * 32
FRAMES = [b"milk", b"", b"bread" * 60, b"milk"]


def sealed(frames: list[bytes], key: bytes = KEY) -> list[bytes]:
    sealer = Sealer(key)
    return [sealer.head(frame) + frame for frame in frames]


def refused(pieces: list[bytes], key: bytes = KEY) -> int:
    """How many frames pass before the first refused one, which must exist."""
    opener = Opener(key)
    for count, piece in enumerate(pieces):
        try:
            opened(opener, piece)
        except BadFrame:
            return count
    raise AssertionError("all pass")


def test_what_is_sealed_opens_in_its_order() -> None:
    opener = Opener(KEY)
    assert [opened(opener, piece) for piece in sealed(FRAMES)] == FRAMES
    assert len(sealed(FRAMES)[1]) == HEAD_BYTES


@pytest.mark.parametrize("at", range(3))
def test_every_flipped_bit_is_noticed(at: int) -> None:
    pieces = sealed(FRAMES[:3])
    for bit in range(8 * len(pieces[at])):
        bad = bytearray(pieces[at])
        bad[bit // 8] ^= 1 << bit % 8
        assert refused([*pieces[:at], bytes(bad)]) == at, bit


def test_a_flipped_bit_of_the_length_is_noticed_before_the_rest_comes() -> None:
    (piece,) = sealed([b"milk"])
    for bit in range(16 * LENGTH_BYTES):
        head = bytearray(piece[:HEAD_BYTES])
        head[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadFrame):
            Opener(KEY).size(head, 0)


def test_no_order_but_the_one_of_sending_passes() -> None:
    pieces = sealed(FRAMES[:3])
    for order in permutations(range(3)):
        if order != (0, 1, 2):
            first = next(at for at, place in enumerate(order) if at != place)
            assert refused([pieces[place] for place in order]) == first


def test_a_frame_that_is_missing_or_comes_again_is_noticed() -> None:
    pieces = sealed(FRAMES)
    assert refused([pieces[0], pieces[2]]) == 1
    assert refused([pieces[0], pieces[0]]) == 1
    assert refused([*pieces, pieces[3]]) == 4


def test_a_frame_of_another_link_or_of_no_link_is_refused() -> None:
    assert refused(sealed(FRAMES), b"o" * 32) == 0
    assert refused([PlainSealer().head(b"milk") + b"milk"]) == 0
    assert refused([b""]) == 0
    assert refused([sealed(FRAMES)[0] + b"x"]) == 0


def test_a_head_for_another_number_is_refused_by_its_tag_alone() -> None:
    """An attacker in between can make length and checksum agree, but not the tag."""
    (piece,) = sealed([b"milk"])
    length = int.from_bytes(piece[:4], "big") - 1
    made = length.to_bytes(4, "big") * 2 + piece[8:-1]
    assert Opener(KEY).size(made, 0) == len(made)
    assert refused([made]) == 0


@pytest.mark.parametrize("opener", [Opener(KEY), PlainOpener()], ids=["version 2", "version 1"])
def test_the_length_is_bounded(opener: Opener | PlainOpener) -> None:
    behind = opener.head_bytes - LENGTH_BYTES
    most = (MESSAGE_BYTES_MAX + behind).to_bytes(4, "big") * 2 + bytes(16)
    assert opener.size(most, 0) == MESSAGE_BYTES_MAX + opener.head_bytes
    more = (MESSAGE_BYTES_MAX + behind + 1).to_bytes(4, "big") * 2 + bytes(16)
    with pytest.raises(BadFrame, match="at most"):
        opener.size(more, 0)


def test_less_than_a_head_is_refused() -> None:
    less = (HEAD_BYTES - LENGTH_BYTES - 1).to_bytes(4, "big") * 2 + bytes(16)
    with pytest.raises(BadFrame):
        Opener(KEY).size(less, 0)


def test_version_1_has_the_length_alone() -> None:
    piece = PlainSealer().head(b"milk") + b"milk"
    assert piece == b"\0\0\0\x04milk"
    assert opened(PlainOpener(), piece) == b"milk"
