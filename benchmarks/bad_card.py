"""A network card that flips bits of frames between nodes, behind the checksum of TCP."""

from __future__ import annotations

import random
from collections import Counter

from dynamo_core.protocol.frame_tags import LENGTH_BYTES


class Card:
    """The frames of one link as they pass. `skipped` bytes come before the first frame."""

    def __init__(self, chance: random.Random, met: Counter[str], skipped: int) -> None:
        self._chance = chance
        self._met = met
        self._left = skipped
        """Bytes before the next frame begins."""
        self._head = b""
        self._flip_after: int | None = None
        """Bytes before the byte whose bit is flipped."""

    def passes(self, piece: bytes, one_in: int) -> bytes:
        """The bytes of the link, with one bit flipped in one of `one_in` frames; in none for 0."""
        out, at = bytearray(piece), 0
        while at < len(out):
            if not self._left:
                wanted = LENGTH_BYTES - len(self._head)
                self._head += piece[at : at + wanted]
                at = min(at + wanted, len(out))
                if len(self._head) == LENGTH_BYTES:
                    self._begins(out, at, one_in)
                continue
            count = min(self._left, len(out) - at)
            if self._flip_after is not None and self._flip_after < count:
                out[at + self._flip_after] ^= 1 << self._chance.randrange(8)
                self._flip_after = None
            elif self._flip_after is not None:
                self._flip_after -= count
            self._left -= count
            at += count
        return bytes(out)

    def _begins(self, out: bytearray, at: int, one_in: int) -> None:
        """A frame begins; its length ends at `at`."""
        self._left, self._head = int.from_bytes(self._head, "big"), b""
        self._met["frames"] += 1
        if not one_in or self._chance.randrange(one_in):
            return
        self._met["flipped"] += 1
        place = self._chance.randrange(LENGTH_BYTES + self._left) - LENGTH_BYTES
        if place >= 0:
            self._flip_after = place
        elif at + place >= 0:
            out[at + place] ^= 1 << self._chance.randrange(8)
        else:  # the first bytes of this length have passed
            out[at - 1] ^= 1 << self._chance.randrange(8)
