"""Frames on a link with a number and a keyed tag, checked before they are decoded (S-NET-3, T-2).

Theory of operation. Both ends of a link derive one key for each direction from the cluster secret
and both hellos, so no other link has this key. Both ends count the frames of a link from 0.
A frame of version 2 is, with all integers big-endian:

    length  4 bytes    number of bytes after this field
    check   4 bytes    length XOR number: finds a wrong length or number before the rest arrives
    tag    16 bytes    BLAKE2b under the link's key over number (8 bytes), length (4) and frame
    frame

The receiver refuses a frame with a flipped bit, a missing frame, a frame that comes twice or too
early, and a frame from a sender without the key. It then closes the link; a new link has a new key.
The number is not on the wire: each end uses its own count.

Links of version 1 (C17) have only the length and the frame. `PlainSealer` and `PlainOpener` have
the same interface, so the code of a link does not depend on its version.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from struct import Struct

from dynamo_core.errors import BadFrame
from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX

TAG_BYTES = 16
HEAD_BYTES = 24
"""Length, check and tag."""
LENGTH_BYTES = 4
KEY_BYTES = 32
_MASK = 0xFFFFFFFF
_head = Struct(">II16s")
_counts = Struct(">II")
_counted = Struct(">QI")
_BEHIND_LENGTH = HEAD_BYTES - LENGTH_BYTES
_TAG_AT = HEAD_BYTES - TAG_BYTES

Bytes = bytes | bytearray | memoryview


class Sealer:
    """The sending end of one link."""

    __slots__ = ("_count", "_keyed")

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=key, digest_size=TAG_BYTES)
        self._count = 0

    def head(self, frame: bytes) -> bytes:
        """The bytes before the frame. Call it once for each frame, in the order of sending."""
        count, length = self._count, _BEHIND_LENGTH + len(frame)
        self._count = count + 1
        tag = self._keyed.copy()
        tag.update(_counted.pack(count, length))
        tag.update(frame)
        return _head.pack(length, length ^ (count & _MASK), tag.digest())


class Opener:
    """The receiving end. It raises BadFrame for every wrong frame; the caller closes the link."""

    __slots__ = ("_count", "_keyed", "head_bytes")

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=key, digest_size=TAG_BYTES)
        self._count = 0
        self.head_bytes = HEAD_BYTES

    def size(self, data: Bytes, at: int) -> int:
        """The size of the head at `at` and its frame together, in bytes. Raises BadFrame."""
        length, check = _counts.unpack_from(data, at)
        if length ^ check != self._count & _MASK:
            raise BadFrame(f"not frame {self._count} of its link: changed, or out of order")
        size: int = length - _BEHIND_LENGTH
        if not 0 <= size <= MESSAGE_BYTES_MAX:
            raise BadFrame(f"a frame of {size} bytes, at most {MESSAGE_BYTES_MAX}")
        return HEAD_BYTES + size

    def check(self, data: Bytes, at: int, frame: Bytes) -> None:
        """Checks that the head at `at` belongs to this frame and that it is the next frame of the
        link. Then counts one frame. Raises BadFrame."""
        tag = self._keyed.copy()
        tag.update(_counted.pack(self._count, _BEHIND_LENGTH + len(frame)))
        tag.update(frame)
        if not compare_digest(tag.digest(), data[at + _TAG_AT : at + HEAD_BYTES]):
            raise BadFrame(f"frame {self._count} of its link is not what was sent")
        self._count += 1


class PlainSealer:
    """The sending end of a link of version 1."""

    __slots__ = ()

    def head(self, frame: bytes) -> bytes:
        """The length alone."""
        return len(frame).to_bytes(LENGTH_BYTES, "big")


class PlainOpener:
    """The receiving end of a link of version 1: it can check only the length."""

    __slots__ = ("head_bytes",)

    def __init__(self) -> None:
        self.head_bytes = LENGTH_BYTES

    def size(self, data: Bytes, at: int) -> int:
        """As in `Opener`. Raises BadFrame."""
        size = int.from_bytes(data[at : at + LENGTH_BYTES], "big")
        if size > MESSAGE_BYTES_MAX:
            raise BadFrame(f"a frame of {size} bytes, at most {MESSAGE_BYTES_MAX}")
        return LENGTH_BYTES + size

    def check(self, data: Bytes, at: int, frame: Bytes) -> None:
        """Version 1 proves nothing."""


def opened(opener: Opener | PlainOpener, sealed: Bytes) -> bytes:
    """The frame out of one piece with a head and a frame. Raises BadFrame."""
    if len(sealed) < opener.head_bytes or opener.size(sealed, 0) != len(sealed):
        raise BadFrame("a frame of another length than its head says")
    frame = bytes(sealed[opener.head_bytes :])
    opener.check(sealed, 0, frame)
    return frame
