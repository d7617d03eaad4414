"""The frame: everything one node says to another in one tick, as bytes and back."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.look_messages import Look, Looked
from dynamo_core.messages import (
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
from dynamo_core.move_messages import (
    Offer,
    Promise,
    Promised,
    Settle,
    Settled,
    Shown,
    Still,
    StillReply,
)
from dynamo_core.ring_messages import (
    Admit,
    Admitted,
    Announce,
    Announced,
    Entries,
    Found,
    Founded,
    Gossip,
    Parts,
    Prepare,
    Prepared,
    Reach,
    Reached,
)
from dynamo_core.round_messages import (
    Numbers,
    NumbersTold,
    RoundAnswer,
    RoundAsk,
    RoundCommit,
    RoundDone,
)
from dynamo_core.sense import (
    Milliseconds,
    Name,
    NodeId,
    Random,
    Text,
    address_fault,
    name_fault,
)

FRAME_VERSION = 1

FRAME_BYTES_MAX = 32 * 1024 * 1024
"""Messages that go at once are cut into frames of so much."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""A frame of one message may have so much: a record is bounded where it is written (S-SIB-1), at
16 MiB and a value on each side of a cut for itself, and sync of the sides is not. Of three sides it
always passes. Each end of a link has memory for such a frame (T-4)."""

SENDERS_KNOWN = 1024
"""Of so many senders it is remembered whether name and address make sense: each frame asks."""

AnyMessage = (
    Fetch | Fetched | Store | Stored | Refused | Forward | Forwarded | Gossip | Parts | Roots
    | RootsReply | Leaves | LeavesReply | Listing | ListingReply | FetchMany | FetchedMany
    | Prepare | Prepared | Found | Founded | Admit | Admitted | Reach | Reached | Order | Progress
    | Keys | KeysReply | Entries | Promise | Promised | Still | StillReply | Settle | Settled
    | Offer | Shown | Sizes | SizesReply | Announce | Announced
    | RoundAsk | RoundAnswer | RoundCommit | RoundDone | Numbers | NumbersTold | Look | Looked
)  # fmt: skip

REPLIES: frozenset[type] = frozenset(
    (Fetched, Stored, Refused, Forwarded, RootsReply, LeavesReply, ListingReply, FetchedMany,
     Prepared, Founded, Admitted, Reached, Progress, KeysReply, Promised, StillReply, Settled,
     Shown, SizesReply, Announced, RoundAnswer, RoundDone, Looked)
)  # fmt: skip

MEMBERSHIP_REPLIES: frozenset[type] = frozenset((Prepared, Founded, Admitted, Reached))


class Frame(msgspec.Struct, array_like=True, gc=False):
    """Everything one node says to another in one tick.

    `beat` is the sender's monotonic clock in ms within its `boot`; `echo_boot`, `echo` are the
    latest of the receiver that the sender had seen (S-NET-1). `address` is where to answer.
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


_encoder = msgspec.msgpack.Encoder()

_decoder = msgspec.msgpack.Decoder(Frame)


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame, without the length that the link puts before them."""
    return _encoder.encode(frame)


def decode_frame(data: bytes | bytearray) -> Frame:
    """The inverse. Raises BadFrame whatever is wrong: bytes from outside never kill a node."""
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
