"""A node whose memory flips bits in records that it sends, in every kind of message (T-1).

The bit flips after the record was made, so the digest shows it, or the check of the request ids; a
stuck bit corrupts the same records again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from zlib import crc32

import msgspec

from dynamo_core.causality.codec import DIGEST_BYTES, HEAD_BYTES
from dynamo_core.causality.context import Context
from dynamo_core.protocol.frames import decode_frame, encode_frame
from dynamo_core.protocol.messages import Fetched, FetchedMany, Forward, Forwarded, Message, Store

STUCK = 0.5
"""A fault with a higher `amount` is a stuck bit."""
OFTEN = 0.4
"""Share of messages with records that are corrupted while the fault lasts."""
MISPLACED = 0.15
"""Share of pushed records whose flipped bit is in their store key."""
WAYS = ("Fetched", "FetchedMany", "Forward", "Forwarded")
Count = Callable[[str], None]


def spoilt(frame: bytes, amount: float, rng: Random, count: Count) -> bytes:
    """The frame as a node with bad memory sends it; calls `count` for each kind of message hit."""
    whole = decode_frame(frame)
    hit = False
    for message in whole.messages:
        way = _way(message)
        if way and _spoil(message, amount, rng):
            count("flip in " + way)
            hit = True
    return encode_frame(whole) if hit else frame


def _way(message: Message) -> str:
    name = type(message).__name__
    return f"{name} {message.cause}" if isinstance(message, Store) else name * (name in WAYS)


def _spoil(message: Message, amount: float, rng: Random) -> bool:
    """Whether a bit of the message was flipped."""
    if isinstance(message, Fetched):
        record, message.record = message.record, _flip(message.record, amount, rng)
        return message.record != record
    if isinstance(message, FetchedMany):
        rows, message.records = message.records, [_flip(r, amount, rng) for r in message.records]
        return message.records != rows
    if isinstance(message, Store):
        if rng.random() < MISPLACED * OFTEN:
            message.stored = _bit(message.stored, rng.randrange(8 * len(message.stored)))
            return True
        record, message.record = message.record, _flip(message.record, amount, rng)
        return message.record != record
    if rng.random() > OFTEN:
        return False
    if isinstance(message, Forward):
        put = message.put
        if put.value:
            put.value = _bit(put.value, rng.randrange(8 * len(put.value)))
        return bool(put.value)
    assert isinstance(message, Forwarded)
    return _spoil_outcome(message, rng)


def _spoil_outcome(message: Forwarded, rng: Random) -> bool:
    outcome = message.outcome
    if outcome.values and (value := outcome.values[0].value):
        wrong = _bit(value, rng.randrange(8 * len(value)))
        outcome.values[0] = msgspec.structs.replace(outcome.values[0], value=wrong)
    elif outcome.context is not None:
        history = outcome.context.history
        wrong = _bit(history, rng.randrange(8 * len(history)))
        outcome.context = Context(wrong, outcome.context.node)
    else:
        return False
    return True


def _bit(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _flip(record: bytes, amount: float, rng: Random) -> bytes:
    """The record with one wrong bit; in few cases with request ids that cannot be decoded. Mostly
    it is unchanged. A wrong bit in the mark before a check only removes the check."""
    if not record:
        return record
    if amount > STUCK:
        cell = crc32(record)
        return _bit(record, cell // 2 % (8 * len(record))) if cell % 2 else record
    if rng.random() > OFTEN:
        return record
    end = HEAD_BYTES + int.from_bytes(record[DIGEST_BYTES:HEAD_BYTES], "big")
    if len(record) > end and rng.random() < 0.1:
        return record[:end] + b"\xc1" + record[end + 1 :]
    return _bit(record, rng.randrange(8 * len(record)))
