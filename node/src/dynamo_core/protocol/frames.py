"""The frame: everything one node says to another in one tick, as bytes and back."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from dynamo_core.bounds import (
    Count,
    Milliseconds,
    Name,
    NodeId,
    Random,
    Text,
    address_fault,
    name_fault,
)
from dynamo_core.errors import BadFrame
from dynamo_core.protocol.registry import AnyMessage

FRAME_VERSION = 1

FRAME_BYTES_MAX = 32 * 1024 * 1024
"""Messages that a node sends together are cut into frames of at most this size."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""Limit of a frame with one message. A record is bounded when it is written (S-SIB-1): 16 MiB and
one value, on each side of a network cut. The sync of several sides is not bounded. The sync of
three sides always fits in this limit. Each end of a link has memory for such a frame (T-4)."""

SENDERS_KNOWN = 1024
"""A node remembers for this many senders whether name and address make sense, because each frame
needs that answer."""


class Frame(msgspec.Struct, array_like=True, gc=False):
    """Everything one node says to another in one tick.

    `beat` is the sender's monotonic clock in ms within its `boot`. `echo_boot` and `echo` are the
    latest boot and beat of the receiver that the sender has seen (S-NET-1). The receiver answers to
    `address`. `knows`: the sender knows the messages up to this number (`registry.SINCE`); the
    first version did not say it, and reads over it.
    """

    version: int
    cluster_id: Text
    name: Name
    node_id: NodeId
    address: Text
    boot: Random
    beat: Milliseconds
    echo_boot: Random
    echo: Milliseconds
    messages: list[AnyMessage]
    knows: Count = 0


_encoder = msgspec.msgpack.Encoder()

_decoder = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame, without the length that the link puts before them."""
    return _encoder.encode(frame)


def decode_frame(data: bytes | bytearray) -> Frame:
    """The inverse. Raises BadFrame for all wrong bytes: bytes from outside never end a node."""
    try:
        frame = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadFrame(str(error)) from error
    if frame.version != FRAME_VERSION:
        raise BadFrame(f"frame version {frame.version}, this node speaks {FRAME_VERSION}")
    if fault := _sender_fault(frame.name, frame.address):
        raise BadFrame(fault)
    return frame


@lru_cache(maxsize=SENDERS_KNOWN)
def _sender_fault(name: str, address: str) -> str:
    return name_fault(name) or address_fault(address)
