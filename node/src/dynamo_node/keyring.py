"""The secrets of a running node: one file, and the keys that are derived from it.

The file has one secret in each line. The node makes proofs and contexts with the first and verifies
with every one. To change the secret under load: add the new one as the last line on every node,
then move it to the front on every node, then remove the old one. A node reads the file again when
it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynamo_core.secret_keys import SECRET_CHARS_MAX, SECRET_CHARS_MIN, keys_of

SECRETS_MAX = 8


class BadSecret(Exception):
    """One line for people; it reveals nothing of a secret."""


class Keyring:
    """The keys of this node; `now` is replaced as a whole."""

    def __init__(self, secrets: Sequence[bytes] = (), former: bool = True) -> None:
        """`former`: also make and accept what nodes and programs of version 1 need (C17)."""
        self._former = former
        self.take(secrets)

    def take(self, secrets: Sequence[bytes]) -> None:
        """Use these from now on, the first for making. Open links stay."""
        self.secrets = tuple(secrets)
        self.now = keys_of(self.secrets, self._former)


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file, one in each line, without empty lines. Raises BadSecret."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadSecret(f"{path}: {error.strerror}") from None
    secrets: list[bytes] = []
    for index, line in enumerate(lines, 1):
        secret = line.removesuffix(b"\r")
        if not secret:
            continue
        where = f"{path}: line {index}"
        if not (secret.isascii() and secret.decode("ascii").isprintable()):
            raise BadSecret(f"{where}: needs printable ASCII")
        if not SECRET_CHARS_MIN <= len(secret) <= SECRET_CHARS_MAX:
            raise BadSecret(
                f"{where}: has {len(secret)} characters, needs {SECRET_CHARS_MIN} to"
                f" {SECRET_CHARS_MAX}; `head -c 32 /dev/urandom | base64` makes a good secret"
            )
        if secret in secrets:
            raise BadSecret(f"{where}: the same secret twice")
        secrets.append(secret)
    if not 1 <= len(secrets) <= SECRETS_MAX:
        raise BadSecret(f"{path}: needs 1 to {SECRETS_MAX} secrets, has {len(secrets)}")
    return tuple(secrets)
