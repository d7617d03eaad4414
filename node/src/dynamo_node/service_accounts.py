"""ServiceAccount tokens of Kubernetes, verified offline, by a file of public keys.

The cluster signs a token, the node checks the signature, the issuer, the audience and the times.
A token that was verified is remembered until it ends, so that only its first request pays for that.
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
"""Tokens; the one that was verified first makes room."""
CLOCK_SKEW_S = 30.0
"""So far apart the clocks of the cluster and of a node may be (RFC 7519, 4.1.4)."""
_SUBJECT = re.compile(r"system:serviceaccount:([a-z0-9.-]{1,253}):([a-z0-9.-]{1,253})")


class Account(NamedTuple):
    """Whose token it is, `namespace/name`, and until when by the node's clock, in seconds."""

    name: str
    until: float


class ServiceAccounts:
    """The keys of one cluster. Raises BadRights when the file is not good."""

    def __init__(self, path: Path, issuer: str, audience: str) -> None:
        self.path, self._issuer, self._audience = path, issuer, audience
        self._remembered: dict[bytes, Account] = {}
        self.take()

    def take(self) -> None:
        """Reads the file again and forgets what keys that may be gone have verified, or raises
        BadRights and leaves all as it was."""
        try:
            document = msgspec.json.decode(self.path.read_bytes(), type=dict[str, Any])
        except OSError as error:
            raise BadRights(f"jwks_file: {self.path}: {error.strerror}") from None
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadRights(f"jwks_file: {self.path}: {error}") from None
        self._keys = _keys_of(document, self.path)
        self._remembered.clear()

    def account_of(self, token: bytes) -> Account | None:
        """Whose token it is; None where it does not hold, or holds no more."""
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
        except (jwt.PyJWTError, ValueError):
            return None
        for kid, key in self._keys:
            if wanted is not None and kid is not None and kid != wanted:
                continue
            try:
                claims = jwt.decode(
                    text, key, algorithms=ALGORITHMS, audience=self._audience,
                    issuer=self._issuer, leeway=CLOCK_SKEW_S,
                    options={"require": ["exp", "aud", "iss", "sub"]},
                )  # fmt: skip
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
                continue
            subject = _SUBJECT.fullmatch(str(claims["sub"]))
            if subject is None:
                return None
            left_s = int(claims["exp"]) + CLOCK_SKEW_S - wall_ms() / 1000
            return Account(f"{subject[1]}/{subject[2]}", now_s() + left_s)
        return None


def _keys_of(document: dict[str, Any], path: Path) -> list[tuple[str | None, Any]]:
    """The keys that tokens may be signed by, with their ids. Raises BadRights."""
    import jwt

    try:
        found = jwt.PyJWKSet.from_dict(document).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadRights(f"jwks_file: {path}: {error}") from None
    keys = [(key.key_id, key) for key in found if key.algorithm_name in ALGORITHMS]
    if not 1 <= len(keys) <= KEYS_MAX:
        raise BadRights(
            f"jwks_file: {path}: wants 1 to {KEYS_MAX} keys of {' or '.join(ALGORITHMS)}"
        )
    return keys
