"""What other nodes send is proven before anything is done with it (T-1).

A bit may flip in a peer's memory or on its disk after it has made a record. So a record from
outside this process passes `verified_record`: its digest must hold for its key, its body and the
request ids behind it must decode, and it must be meant for the place where its key lies. Only then
it is merged, stored, answered or sent on; merged without proof it would get a new, valid digest
and spread to all owners. The ways in are

    Fetched                 Calls.answered, for gets, deletes without a context, puts that read anew
    Store, of each cause    LocalReplica.stores: puts, repairs, hints, exchanges, offers
    FetchedMany             Exchange, also where it copies a partition that moves
    Forward, Forwarded      verified_put, verified_outcome: the value of a forwarded put travels
                            without a record, so it has a digest from where it entered, and so has
                            the answer with its values and its context

Older nodes send puts and outcomes without a digest: these are taken if they make sense (C17).
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
    """`record` when it is a whole record of this store key. Raises PeerCorrupt."""
    key = stored[PREFIX_BYTES:]
    try:
        whole(key, record)
    except Corrupt as error:
        raise PeerCorrupt(str(error)) from error
    if store_key(key) != stored:
        raise PeerCorrupt(f"key {key.hex()} does not lie at {stored[:PREFIX_BYTES].hex()}")
    return record


def put_digest(put: Put) -> bytes:
    """Of all that a forwarded put stores and of what its client asked for, but for the absolute
    expiry. The fields are named one by one: a node that knows more fields makes the same digest
    (C17)."""
    context = put.context
    seen = (context.history, context.node) if context is not None else None
    what = (put.key, put.value, put.content_type, seen, put.request_id, put.expires_in_s)
    how = (put.w, put.dw, put.strict, put.timeout_s, put.answer_record, put.explain)
    return _digest(_put_hasher, (what, how))


def expiry_digest(put: Put) -> bytes:
    """The digest of a forwarded put's absolute expiry, b"" where the put has none. `put_digest`
    does not cover it: an older node, which does not know it, makes that digest without it (C17)."""
    return _digest(_expiry_hasher, (put.key, put.expires_ms)) if put.expires_ms else b""


def verified_put(put: Put, digest: bytes, expiry: bytes = b"") -> Put:
    """`put` as its client sent it. Raises PeerCorrupt."""
    if digest and digest != put_digest(put):
        raise PeerCorrupt("the digest of a forwarded put does not hold")
    if expiry != expiry_digest(put):
        raise PeerCorrupt("the digest of a forwarded put's expiry does not hold")
    _sensible(put.context)
    return put


def outcome_digest(outcome: Outcome) -> bytes:
    """Of all that a client is told of a forwarded put; of an explanation that there is one."""
    context, acks = outcome.context, outcome.acks
    values = [
        (s.actor, s.counter, s.value, s.content_type, s.request_id, s.expires_ms, s.stamp)
        for s in outcome.values
    ]
    seen = (context.history, context.node) if context is not None else None
    counts = (acks.total, acks.owners, acks.hinted, acks.durable) if acks is not None else None
    end = (outcome.status, outcome.problem, outcome.detail, outcome.applied, outcome.node)
    explained = outcome.explanation is not None
    return _digest(_outcome_hasher, (end, values, seen, counts, explained))


def verified_outcome(outcome: Outcome, digest: bytes) -> Outcome:
    """`outcome` as its coordinator told it. Raises PeerCorrupt."""
    if digest and digest != outcome_digest(outcome):
        raise PeerCorrupt("the digest of a forwarded put's outcome does not hold")
    _sensible(outcome.context)
    return outcome


def _digest(hasher: blake2b, fields: object) -> bytes:
    mine = hasher.copy()
    mine.update(_encoder.encode(fields))
    return mine.digest()


def _sensible(context: Context | None) -> None:
    """A context is sealed for clients; nodes hand it on bare."""
    if context is None:
        return
    try:
        decode_history(context.history)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PeerCorrupt(f"a context that does not decode: {error}") from error
