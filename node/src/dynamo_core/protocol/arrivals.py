"""This node verifies what other nodes send before it uses it (T-1).

A bit may flip in a peer's memory or on its disk after the peer has made a record. So every record
from outside this process passes `verified_record`. Its digest must be right for its key, its body
and the request ids behind it must decode, and its store key must be the one that was asked for.
Only then this node merges, stores, answers or forwards it. A wrong record that is merged without
this check would get a new, valid digest and spread to all owners. Records come in through

    Fetched                 Calls.answered, for gets, deletes without a context, puts that read anew
    Store, of each cause    LocalReplica.stores: puts, repairs, hints, exchanges, offers
    FetchedMany             Exchange, also where it copies a partition that moves
    Forward, Forwarded      verified_put, verified_outcome: a forwarded put has no record yet, so
                            the node that got it from the client adds a digest; the answer, with
                            its values and its context, has a digest too

Older nodes send puts and outcomes without a digest; this node takes them if they make sense (C17).
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from dynamo_core.causality.codec import whole
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import decode_history
from dynamo_core.errors import Corrupt, PeerCorrupt
from dynamo_core.keys import PREFIX_BYTES, store_key
from dynamo_core.protocol.operations import Outcome, Put

DIGEST_BYTES = 16
_encoder = msgspec.msgpack.Encoder()
_put_hasher = blake2b(digest_size=DIGEST_BYTES, key=b"dynamo-ring put")
_expiry_hasher = blake2b(digest_size=DIGEST_BYTES, key=b"dynamo-ring expiry")
_outcome_hasher = blake2b(digest_size=DIGEST_BYTES, key=b"dynamo-ring outcome")


def verified_record(stored: bytes, record: bytes) -> bytes:
    """`record` if it is a whole record of this store key. Raises PeerCorrupt."""
    key = stored[PREFIX_BYTES:]
    try:
        whole(key, record)
    except Corrupt as error:
        raise PeerCorrupt(str(error)) from error
    if store_key(key) != stored:
        raise PeerCorrupt(f"key {key.hex()} does not lie at {stored[:PREFIX_BYTES].hex()}")
    return record


def put_digest(put: Put) -> bytes:
    """The digest of all that a forwarded put stores and of what its client asked for, without the
    absolute expiry. The fields are named one by one, so a newer node with more fields makes the
    same digest (C17)."""
    context = put.context
    of_context = (context.history, context.node) if context is not None else None
    what = (put.key, put.value, put.content_type, of_context, put.request_id, put.expires_in_s)
    how = (put.w, put.dw, put.strict, put.timeout_s, put.answer_record, put.explain)
    return _digest(_put_hasher, (what, how))


def expiry_digest(put: Put) -> bytes:
    """The digest of a forwarded put's absolute expiry, b"" if the put has none. `put_digest` does
    not cover the expiry, because an older node does not know the field (C17)."""
    return _digest(_expiry_hasher, (put.key, put.expires_ms)) if put.expires_ms else b""


def verified_put(put: Put, digest: bytes, expiry: bytes = b"") -> Put:
    """`put` as its client sent it. Raises PeerCorrupt."""
    if digest and digest != put_digest(put):
        raise PeerCorrupt("the digest of a forwarded put is wrong")
    if expiry != expiry_digest(put):
        raise PeerCorrupt("the digest of a forwarded put's expiry is wrong")
    _sensible(put.context)
    return put


def outcome_digest(outcome: Outcome) -> bytes:
    """The digest of all that the client gets as the answer to a forwarded put. Of an explanation it
    covers only whether there is one."""
    context, acks = outcome.context, outcome.acks
    values = [
        (s.actor, s.counter, s.value, s.content_type, s.request_id, s.expires_ms, s.stamp)
        for s in outcome.values
    ]
    of_context = (context.history, context.node) if context is not None else None
    counts = (acks.total, acks.owners, acks.hinted, acks.durable) if acks is not None else None
    end = (outcome.status, outcome.problem, outcome.detail, outcome.applied, outcome.node)
    explained = outcome.explanation is not None
    return _digest(_outcome_hasher, (end, values, of_context, counts, explained))


def verified_outcome(outcome: Outcome, digest: bytes) -> Outcome:
    """`outcome` as its coordinator told it. Raises PeerCorrupt."""
    if digest and digest != outcome_digest(outcome):
        raise PeerCorrupt("the digest of a forwarded put's outcome is wrong")
    _sensible(outcome.context)
    return outcome


def _digest(hasher: blake2b, fields: object) -> bytes:
    mine = hasher.copy()
    mine.update(_encoder.encode(fields))
    return mine.digest()


def _sensible(context: Context | None) -> None:
    """Checks that a context decodes. Clients get a context sealed; nodes send it without a seal."""
    if context is None:
        return
    try:
        decode_history(context.history)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerCorrupt(f"a context that does not decode: {error}") from error
