"""Derives keys from the cluster secret: one for each purpose. No key reveals another one.

HKDF (RFC 5869) with SHA-256, without a salt. One key proves peers, a second one seals contexts, and
a third one is the token of administrators. A person who gets hold of the token can neither open a
link nor make a context.

There may be several secrets while one replaces another. A node makes proofs and contexts with the
first, and verifies with each of them. A secret that was removed verifies nothing.

Nodes and programs of the first version knew other keys (C17): links of version 1 and contexts were
made by separate keys, and administrators showed the secret itself. With `former` a node also makes
these, so that old nodes understand it, and accepts the secret itself as a token. It accepts their
contexts while it has their secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from math import ceil
from typing import NamedTuple

SECRET_CHARS_MIN, SECRET_CHARS_MAX = 32, 4096
"""Characters that a secret may have."""
KEY_BYTES = 32
TAG_BYTES = 16
"""Length of the tag of a context."""
PEERS, CONTEXTS, ADMINISTRATORS, NAME = "peers", "contexts", "administrators", "name"
_INFO = "dynamo-ring "
_FORMER_PEERS = b"dynamo-ring peer link"
_FORMER_CONTEXTS = b"dynamo context"
_HASH_BYTES = 32
_NAME_BYTES = 4


def hkdf(secret: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF of RFC 5869 with SHA-256 and no salt; `length` is at most 8160."""
    key = hmac_digest(bytes(_HASH_BYTES), secret, sha256)
    block = made = b""
    for index in range(1, ceil(length / _HASH_BYTES) + 1):
        block = hmac_digest(key, block + info + bytes([index]), sha256)
        made += block
    return made[:length]


def derived(secret: bytes, purpose: str, length: int = KEY_BYTES) -> bytes:
    """The key of one purpose."""
    return hkdf(secret, (_INFO + purpose).encode(), length)


def token_of(secret: bytes) -> str:
    """The token that administrators send: 64 hexadecimal digits."""
    return derived(secret, ADMINISTRATORS).hex()


class PeerKeys(NamedTuple):
    """The keys of one secret for links."""

    now: bytes
    former: bytes

    def of_version(self, version: int) -> bytes:
        """The key for links of that version of the protocol."""
        return self.now if version > 1 else self.former


class ContextKeys:
    """Tags of contexts: made with the first key, verified with each."""

    __slots__ = ("_makes", "_takes")

    def __init__(self, *keys: bytes) -> None:
        self._takes = tuple(blake2b(digest_size=TAG_BYTES, key=key) for key in keys)
        self._makes = self._takes[0]

    def tag(self, body: bytes) -> bytes:
        """The tag of a context's body."""
        hasher = self._makes.copy()
        hasher.update(body)
        return hasher.digest()

    def holds(self, tag: bytes, body: bytes) -> bool:
        """Whether one of the keys has made the tag."""
        for keyed in self._takes:
            hasher = keyed.copy()
            hasher.update(body)
            if compare_digest(tag, hasher.digest()):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of all secrets of a node; the first secret makes proofs and contexts."""

    peers: tuple[PeerKeys, ...]
    contexts: ContextKeys
    tokens: tuple[str, ...]
    """The tokens of administrators. Without a secret there is none, and the node asks for none."""
    former_tokens: tuple[str, ...]
    """Secrets that a node accepts as tokens, as the first version did."""
    names: tuple[str, ...]
    """Names that show people which secrets a node has. They reveal nothing of a secret."""


def keys_of(secrets: Sequence[bytes], former: bool = True) -> Keys:
    """The keys of these secrets. Without secrets all nodes have the same keys, which find accidents
    but stop no attacker."""
    each = tuple(secrets) or (b"",)
    now = [derived(secret, CONTEXTS) for secret in each]
    old = [blake2b(s, digest_size=KEY_BYTES, person=_FORMER_CONTEXTS).digest() for s in each]
    return Keys(
        peers=tuple(
            PeerKeys(derived(s, PEERS), hmac_digest(s, _FORMER_PEERS, sha256)) for s in each
        ),
        contexts=ContextKeys(*(old + now if former else now + old)),
        tokens=tuple(map(token_of, secrets)),
        former_tokens=tuple(s.decode("latin-1") for s in secrets) if former else (),
        names=tuple(derived(secret, NAME, _NAME_BYTES).hex() for secret in secrets),
    )
