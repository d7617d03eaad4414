"""The tokens that the operator shows to nodes, from the text of the cluster's Secret.

Nodes take a token that is derived from the secret (docs/security.md). A node of 0.1.0 takes only
the secret itself (C17), so the operator shows that last, to nodes that have refused all others. The
text may have several secrets, one a line, while they are changed; a node may have either.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import digest

INFO = b"dynamo-ring administrators"


def tokens_of(text: str) -> tuple[str, ...]:
    """In the order in which they are shown; () without a secret."""
    secrets = [line.strip("\r") for line in text.split("\n") if line.strip()]
    derived = tuple(map(_derived, secrets))
    return (*derived, *secrets[:1])


def _derived(secret: str) -> str:
    """HKDF of RFC 5869 with SHA-256, no salt and one block."""
    key = digest(bytes(32), secret.encode(), sha256)
    return digest(key, INFO + b"\x01", sha256).hex()
