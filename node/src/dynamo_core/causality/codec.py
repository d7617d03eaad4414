"""The bytes of records, and their merge without decoding where that is possible.

digest (16) | length of the body (4) | body | ids. The body is msgpack with sorted vector, dots and
siblings. The digest is a keyed hash of key and body. It is the checksum of the record, and also the
number that the record adds to its leaf of the hash tree (S-AE-1). The digest does not cover the ids
(S-REQ-1); the last id carries a separate check for them. Equal records have equal bytes.

The check is one more field of the last id, which older nodes ignore: a mark that cannot be there in
older bytes, and a keyed hash of key and ids. Ids from an older node have no check and are accepted.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from dynamo_core.causality.records import (
    History,
    Record,
    Sibling,
    Superseded,
    WireDots,
    WireVector,
    ids_in_order,
    last_writer,
    later,
    sorted_vector,
    sync,
)
from dynamo_core.errors import Corrupt
from dynamo_core.keys import DATA

DIGEST_BYTES = 16
HEAD_BYTES = DIGEST_BYTES + 4
_NOT_A_RECORD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_tree_hasher = blake2b(digest_size=DIGEST_BYTES, key=b"dynamo-ring leaf")
CHECK_BYTES = 8
_ids_hasher = blake2b(digest_size=CHECK_BYTES, key=b"dynamo-ring ids")
_MARK = b"\xff" * 8
_MARKED = b"\xc4\x10" + _MARK
"""The start of a 16-byte field in msgpack, and the mark. Ids without a check can contain these
bytes only inside an actor, and an actor has 0xcf before it."""


class _LastId(Superseded, frozen=True, array_like=True, gc=False):
    check: bytes = _MARK + bytes(CHECK_BYTES)


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    vector: WireVector
    dots: WireDots
    siblings: list[Sibling]


class _BodyHistory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    vector: WireVector
    dots: WireDots


_encoder = msgspec.msgpack.Encoder()
_body_decoder = msgspec.msgpack.Decoder(_Body)
_body_history_decoder = msgspec.msgpack.Decoder(_BodyHistory)
_ids_decoder = msgspec.msgpack.Decoder(list[Superseded])


def digest_of(key: bytes, body: bytes) -> bytes:
    """The keyed hash of key and body: the checksum, and the number in the hash tree (S-AE-1)."""
    hasher = _tree_hasher.copy()
    hasher.update(len(key).to_bytes(2, "big") + key)
    hasher.update(body)
    return hasher.digest()


def encode_record(key: bytes, record: Record) -> bytes:
    """Canonical bytes of the record; equal records have equal bytes."""
    history = record.history
    body = _encoder.encode((sorted_vector(history.vector), sorted(history.dots), record.siblings))
    ids = _encode_ids(key, ids_in_order(history.ids)) if history.ids else b""
    return b"".join((digest_of(key, body), len(body).to_bytes(4, "big"), body, ids))


def _encode_ids(key: bytes, ids: list[Superseded]) -> bytes:
    last = ids[-1]
    ids[-1] = _LastId(last.actor, last.counter, last.request_id, last.writes)
    unchecked = _encoder.encode(ids)[:-CHECK_BYTES]
    return unchecked + _ids_check(key, unchecked)


def _ids_check(key: bytes, unchecked: bytes) -> bytes:
    hasher = _ids_hasher.copy()
    hasher.update(len(key).to_bytes(2, "big") + key)
    hasher.update(unchecked)
    return hasher.digest()


def _check_ids(key: bytes, data: bytes, end: int) -> None:
    """Verifies the check of the ids behind `end`, if they have one. Raises Corrupt."""
    marked = data[-CHECK_BYTES - len(_MARKED) : -CHECK_BYTES] == _MARKED
    if marked and _ids_check(key, data[end:-CHECK_BYTES]) != data[-CHECK_BYTES:]:
        raise Corrupt(DATA, key, "the check of the record's request ids is wrong")


def decode_record(data: bytes) -> Record:
    """The inverse of encode_record. Raises Corrupt when the bytes are not a record."""
    try:
        size = int.from_bytes(data[DIGEST_BYTES:HEAD_BYTES], "big")
        body = _body_decoder.decode(data[HEAD_BYTES : HEAD_BYTES + size])
        tail = data[HEAD_BYTES + size :]
        ids = {e.request_id: e for e in _ids_decoder.decode(tail)} if tail else {}
    except _NOT_A_RECORD as error:
        raise Corrupt(DATA, b"", f"not a record: {error}") from error
    return Record(tuple(body.siblings), History(body.vector, frozenset(body.dots), ids))


def whole(key: bytes, data: bytes) -> bytes:
    """`data` if its checks are right for this key and it decodes. The ids are decoded too, because
    ids from an older node have no check. Raises Corrupt."""
    size, end = len(data), HEAD_BYTES + int.from_bytes(data[DIGEST_BYTES:HEAD_BYTES], "big")
    body = data[HEAD_BYTES:end]
    if size < end or digest_of(key, body) != data[:DIGEST_BYTES]:
        raise Corrupt(DATA, key, "checksum of the record does not hold")
    if size > end:
        _check_ids(key, data, end)
    try:
        _body_decoder.decode(body)
        if size > end:
            _ids_decoder.decode(data[end:])
    except _NOT_A_RECORD as error:
        raise Corrupt(DATA, key, f"not a record: {error}") from error
    return data


def _history_in(data: bytes) -> History:
    """The events of a record, without its ids. Raises Corrupt."""
    try:
        body = _body_history_decoder.decode(body_of(data)[HEAD_BYTES:])
    except _NOT_A_RECORD as error:
        raise Corrupt(DATA, b"", f"not a record: {error}") from error
    return History(body.vector, frozenset(body.dots))


def digest_in(data: bytes) -> bytes:
    """The digest in the bytes; it is not checked."""
    return data[:DIGEST_BYTES]


def body_of(data: bytes) -> bytes:
    """The part of a record that replicas must agree on: all but the ids."""
    return data[: HEAD_BYTES + int.from_bytes(data[DIGEST_BYTES:HEAD_BYTES], "big")]


def checked(key: bytes, data: bytes) -> bytes:
    """`data` if its checksum, and the check of its ids if they have one, are right for this key.
    Raises Corrupt (S-DISK-7, C14)."""
    end = HEAD_BYTES + int.from_bytes(data[DIGEST_BYTES:HEAD_BYTES], "big")
    if len(data) < end or digest_of(key, data[HEAD_BYTES:end]) != data[:DIGEST_BYTES]:
        raise Corrupt(DATA, key, "checksum of the record does not hold")
    if len(data) > end:
        _check_ids(key, data, end)
    return data


def merge_bytes(key: bytes, a: bytes | None, b: bytes, lww: bool = False) -> bytes:
    """sync on canonical bytes; it decodes only when neither record is the merge. Raises Corrupt
    when it has to join both and a checksum is wrong: wrong bytes never get a new checksum (T-1)."""
    if a is None or a == b:
        return b
    if not lww and (order := later(_history_in(a), _history_in(b))):
        return a if order > 0 else b
    merged = sync(decode_record(checked(key, a)), decode_record(checked(key, b)), lww)
    return encode_record(key, last_writer(merged) if lww else merged)
