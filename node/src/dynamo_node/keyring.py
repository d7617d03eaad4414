"""The secrets of a node while it runs: one file, and what its keys are now.

The file has one secret a line. The first makes what this node makes, each verifies. To change the
secret under load: add the new one as the last line on every node, then move it to the front on
every node, then take the old one away. A node reads the file again when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynamo_core.secret_keys import keys_of

SECRET_CHARS_MIN, SECRET_CHARS_MAX = 32, 4096
SECRETS_MAX = 8


class BadSecret(Exception):
    """One line for people; it tells nothing of a secret."""


class Keyring:
    """What this node proves itself by and believes others by; `now` is replaced as a whole."""

    def __init__(self, secrets: Sequence[bytes] = (), former: bool = True) -> None:
        """`former`: what nodes and programs of the first version need is made and taken (C17)."""
        self._former = former
        self.take(secrets)

    def take(self, secrets: Sequence[bytes]) -> None:
        """From now on these, the one that makes first. Links that are open stay."""
        self.secrets = tuple(secrets)
        self.now = keys_of(self.secrets, self._former)


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of a file, one a line; empty lines do not count. Raises BadSecret."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadSecret(f"{path}: {error.strerror}") from None
    secrets: list[bytes] = []
    for number, line in enumerate(lines, 1):
        secret = line.removesuffix(b"\r")
        if not secret:
            continue
        where = f"{path}: line {number}"
        if not (secret.isascii() and secret.decode("ascii").isprintable()):
            raise BadSecret(f"{where}: wants printable ASCII")
        if not SECRET_CHARS_MIN <= len(secret) <= SECRET_CHARS_MAX:
            raise BadSecret(
                f"{where}: has {len(secret)} characters, wants {SECRET_CHARS_MIN} to"
                f" {SECRET_CHARS_MAX}; `head -c 32 /dev/urandom | base64` makes a good secret"
            )
        if secret in secrets:
            raise BadSecret(f"{where}: the same secret twice")
        secrets.append(secret)
    if not 1 <= len(secrets) <= SECRETS_MAX:
        raise BadSecret(f"{path}: wants 1 to {SECRETS_MAX} secrets, has {len(secrets)}")
    return tuple(secrets)
