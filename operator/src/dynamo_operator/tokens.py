"""The text of the cluster's Secret: the tokens that the operator shows to nodes, and what nodes
refuse in it.

Nodes take a token that is derived from the secret (docs/security.md). A node of 0.1.0 takes only
the secret itself (C17), so the operator shows that last, to nodes that have refused all others. The
text may have several secrets, one a line, while they are changed; a node may have either.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import digest

INFO = b"dynamo-ring administrators"
CHARS_MIN, CHARS_MAX, SECRETS_MAX = 32, 4096, 8
"""Characters of one secret, and the number of secrets. With others a node does not start
(docs/security.md#keys)."""


def tokens_of(text: str) -> tuple[str, ...]:
    """The tokens in the order in which the operator sends them; () without a secret."""
    secrets = [line.strip("\r") for line in text.split("\n") if line.strip()]
    derived = tuple(map(_derived, secrets))
    return (*derived, *secrets[:1])


def secret_fault(text: str) -> str:
    """Why a node would not start with it, "" if it would. It shows nothing of a secret."""
    found: list[str] = []
    for index, line in enumerate(text.split("\n"), 1):
        secret = line.removesuffix("\r")
        if not secret:
            continue
        if not (secret.isascii() and secret.isprintable()):
            return f"line {index}: needs printable ASCII"
        if not CHARS_MIN <= len(secret) <= CHARS_MAX:
            size = f"has {len(secret)} characters"
            return f"line {index}: {size}, and nodes need {CHARS_MIN} to {CHARS_MAX}"
        if secret in found:
            return f"line {index}: the same secret twice"
        found.append(secret)
    if not 1 <= len(found) <= SECRETS_MAX:
        return f"key `secret`: needs 1 to {SECRETS_MAX} secrets, has {len(found)}"
    return ""


def _derived(secret: str) -> str:
    """HKDF of RFC 5869 with SHA-256, no salt and one block."""
    key = digest(bytes(32), secret.encode(), sha256)
    return digest(key, INFO + b"\x01", sha256).hex()
