"""Contexts as clients carry them: what they have seen, sealed (S-CTX-1, S-CTX-2).

base64url without padding of: format version (1 byte) | tag (16) | msgpack [key digest, history,
node]. The tag is a keyed hash under a key of the cluster secret (`secret_keys`). Without a tag a
client could send a history that it never saw, and a put would erase the values that this history
covers. The digest of the key binds a context to its key. Without a secret the tag only detects
accidents. Nodes accept a history only up to a limit; of a longer history they give out a part.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from collections.abc import Collection
from hashlib import blake2b
from math import ceil

import msgspec

from dynamo_core.causality.records import History, Record, Sibling, decode_history
from dynamo_core.errors import BadContext
from dynamo_core.secret_keys import TAG_BYTES, ContextKeys


class Context(msgspec.Struct, array_like=True, gc=False):
    """What a client has seen: an encoded History, and the node that answered fastest (S-RW-7)."""

    history: bytes
    node: str = ""


CONTEXT_VERSION = b"\x01"
CONTEXT_BYTES_MAX = 16 * 1024
"""Limit of the text, checked before it is decoded."""
HISTORY_BYTES_MAX = 10_000
"""Limit of a history that a node gives out. A request has 16 KiB of headers; the sealed history
leaves 2 KiB for the other ones. Higher: a node may refuse a context that it gave out itself."""
_HEAD_BYTES = 1 + TAG_BYTES
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_ALPHABET = re.compile(r"[A-Za-z0-9_-]+")


_key_hasher = blake2b(digest_size=16)


class _Body(msgspec.Struct, array_like=True, gc=False):
    key_digest: bytes
    history: bytes
    node: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


def _key_digest(key: bytes) -> bytes:
    hasher = _key_hasher.copy()
    hasher.update(key)
    return hasher.digest()


def carried(history: History, siblings: Collection[Sibling]) -> bytes:
    """The history in a context of these siblings: all of it, or as much as fits, with the events
    of the siblings first (S-CTX-1). A put with a part of the history replaces fewer values. So an
    old value may stay as a sibling, but no value is lost."""
    data = history.encode()
    if len(data) <= HISTORY_BYTES_MAX:
        return data
    actors = {s.actor for s in siblings}
    names = {s.request_id for s in siblings}
    vector = sorted(history.vector.items(), key=lambda line: (line[0] not in actors, line))
    dots = sorted(history.dots, key=lambda dot: (dot[0] not in actors, dot))
    ids = sorted(history.ids.items(), key=lambda line: (line[0] not in names, line[0]))
    share = 1.0
    while len(data) > HISTORY_BYTES_MAX:
        share *= 0.9 * HISTORY_BYTES_MAX / len(data)
        part = History(
            dict(vector[: ceil(len(vector) * share)]),
            frozenset(dots[: ceil(len(dots) * share)]),
            dict(ids[: ceil(len(ids) * share)]),
        )
        data = part.encode()
    return data


def seal(keys: ContextKeys, key: bytes, context: Context) -> str:
    """The text of a context of `key`; every node with the secret accepts it, at any later time."""
    body = _encoder.encode((_key_digest(key), context.history, context.node))
    text = b2a_base64(CONTEXT_VERSION + keys.tag(body) + body, newline=False)
    return text.translate(_URLSAFE).rstrip(b"=").decode()


def context_of(record: Record, node: str) -> Context:
    """What a reader of this whole record has seen (S-CTX-2), told by `node`."""
    return Context(carried(record.context(), record.siblings), node)


def unseal(keys: ContextKeys, key: bytes, text: str) -> Context:
    """The inverse. Raises BadContext: too long, not ours, of another key or format version."""
    if len(text) > CONTEXT_BYTES_MAX:
        raise BadContext(f"a context has at most {CONTEXT_BYTES_MAX} bytes")
    if not _ALPHABET.fullmatch(text):
        raise BadContext("not base64url")
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise BadContext("not base64url") from error
    if data[:1] != CONTEXT_VERSION:
        raise BadContext("a context of another format version")
    body = data[_HEAD_BYTES:]
    if not keys.holds(data[1:_HEAD_BYTES], body):
        raise BadContext("the tag is wrong: not a context of this cluster")
    try:
        found = _decoder.decode(body)
        decode_history(found.history)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadContext("not a context") from error
    if found.key_digest != _key_digest(key):
        raise BadContext("a context of another key")
    return Context(found.history, found.node)
