"""Verifies ServiceAccount tokens of Kubernetes offline, with a file of public keys.

The cluster signs a token; the node checks the signature, the issuer, the audience and the times.
The node remembers a verified token until it expires, so that only its first request has this cost.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dynamo_node.clock import now_s, wall_ms
from dynamo_node.rights import BadRights

ALGORITHMS = ("RS256", "ES256")
KEYS_MAX = 32
TOKEN_BYTES_MAX = 8 * 1024
REMEMBERED_MAX = 10_000
"""Tokens; a new one replaces the one that was verified first."""
CLOCK_SKEW_S = 30.0
"""Maximum difference between the clocks of the cluster and of a node (RFC 7519, 4.1.4)."""
_SUBJECT = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})")


class Account(NamedTuple):
    """A token's account, `namespace/name`, and its expiry by the node's clock, in seconds."""

    name: str
    until: float


class ServiceAccounts:
    """The keys of one cluster. Raises BadRights if the file is wrong."""

    def __init__(self, path: Path, issuer: str, audience: str) -> None:
        self.path, self._issuer, self._audience = path, issuer, audience
        self._remembered: dict[bytes, Account] = {}
        self.take()

    def take(self) -> None:
        """Reads the file again and forgets all verified tokens, because their keys may be gone.
        Raises BadRights and then changes nothing."""
        try:
            document = msgspec.json.decode(self.path.read_bytes(), type=dict[str, Any])
        except OSError as error:
            raise BadRights(f"jwks_file: {self.path}: {error.strerror}") from None
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadRights(f"jwks_file: {self.path}: {error}") from None
        self._keys = _keys_of(document, self.path)
        self._remembered.clear()

    def account_of(self, token: bytes) -> Account | None:
        """The account of a token; None if the token is not valid or has expired."""
        if len(token) > TOKEN_BYTES_MAX:
            return None
        digest = sha256(token).digest()
        known = self._remembered.get(digest)
        if known is not None and now_s() < known.until:
            return known
        self._remembered.pop(digest, None)
        account = self._verified(token)
        if account is not None:
            if len(self._remembered) >= REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = account
        return account

    def _verified(self, token: bytes) -> Account | None:
        import jwt

        try:
            text = token.decode("ascii")
            wanted = jwt.get_unverified_header(text).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        for kid, key in self._keys:
            if wanted is not None and kid is not None and kid != wanted:
                continue
            try:
                claims = jwt.decode(
                    text,
                    key,
                    algorithms=ALGORITHMS,
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=CLOCK_SKEW_S,
                    options={"require": ["exp", "aud", "iss", "sub"]},
                )
                left_s = int(claims["exp"]) + CLOCK_SKEW_S - wall_ms() / 1000
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                continue
            subject = _SUBJECT.fullmatch(str(claims["sub"]))
            if subject is None:
                return None
            return Account(f"{subject[1]}/{subject[2]}", now_s() + left_s)
        return None


def _keys_of(document: dict[str, Any], path: Path) -> list[tuple[str | None, Any]]:
    """The keys that may sign tokens, with their ids. Raises BadRights."""
    import jwt

    try:
        found = jwt.PyJWKSet.from_dict(document).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadRights(f"jwks_file: {path}: {error}") from None
    keys = [(key.key_id, key) for key in found if key.algorithm_name in ALGORITHMS]
    if not 1 <= len(keys) <= KEYS_MAX:
        raise BadRights(
            f"jwks_file: {path}: needs 1 to {KEYS_MAX} keys of {' or '.join(ALGORITHMS)}"
        )
    return keys
