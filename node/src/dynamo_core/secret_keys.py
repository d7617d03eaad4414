"""What the cluster secret becomes: one key for each purpose, and none of them tells another.

HKDF (RFC 5869) with SHA-256, without a salt. Peers prove themselves by one key, contexts are sealed
by a second, and administrators show a third as their token: who hears the token can neither open a
link nor make a context.

There may be several secrets, for the time in which one takes the place of another. By the first a
node makes what it makes; by each of them it verifies. A secret that is taken away verifies nothing
from then on.

Nodes and programs of the first version knew other keys (C17): links of version 1 and contexts were
made by separate keys, and administrators showed the secret itself. `former` says that this
is made as well, so that old nodes understand it, and that the secret itself is taken as a token.
Contexts of that kind are taken for as long as their secret is there.
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
"""What nodes take for a secret."""
KEY_BYTES = 32
TAG_BYTES = 16
"""Of the tag of a context."""
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
    """What administrators show: 64 hexadecimal digits."""
    return derived(secret, ADMINISTRATORS).hex()


class PeerKeys(NamedTuple):
    """Of one secret, for links."""

    now: bytes
    former: bytes

    def of_version(self, version: int) -> bytes:
        """For links of that version of the protocol."""
        return self.now if version > 1 else self.former


class ContextKeys:
    """Tags of contexts: made with the first key, taken with any."""

    __slots__ = ("_makes", "_takes")

    def __init__(self, *keys: bytes) -> None:
        self._takes = tuple(blake2b(digest_size=TAG_BYTES, key=key) for key in keys)
        self._makes = self._takes[0]

    def tag(self, body: bytes) -> bytes:
        """Of what a context says."""
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
    """Of all secrets of a node, the one that makes first."""

    peers: tuple[PeerKeys, ...]
    contexts: ContextKeys
    tokens: tuple[str, ...]
    """Of administrators; none where there is no secret, and then they are not asked."""
    former_tokens: tuple[str, ...]
    """Secrets that are taken for tokens, as the first version had it."""
    names: tuple[str, ...]
    """By which people see which secrets a node has; they tell nothing of the secrets."""


def keys_of(secrets: Sequence[bytes], former: bool = True) -> Keys:
    """Without secrets all nodes have the same keys: these keep accidents out, not people."""
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
