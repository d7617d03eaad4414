"""The bad card of the chaos story flips one bit of one frame in the given number."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from benchmarks.bad_card import Card


def flips(one: bytes, other: bytes) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("step", [1, 3, 64, 100_000])
def test_one_bit_of_one_frame_in_so_many_is_flipped(step: int) -> None:
    chance = random.Random(3)
    frames = [bytes(chance.randrange(0, 90)) for _ in range(2000)]
    stream = b"p" * 32 + b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    met: Counter[str] = Counter()
    card = Card(chance, met, skipped=32)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    out = b"".join(card.passes(piece, 20) for piece in pieces)
    assert met["frames"] == len(frames)
    assert out[:32] == stream[:32]
    assert flips(stream, out) == met["flipped"]
    assert 50 < met["flipped"] < 150


def test_a_good_card_changes_nothing() -> None:
    met: Counter[str] = Counter()
    stream = (b"\0\0\0\x02ab") * 50
    assert Card(random.Random(1), met, 0).passes(stream, 0) == stream
    assert met == {"frames": 50}
