"""Parts that only holders of a key can read: encrypted to public keys, in the format `age`.

A person who has the archive and not the key sees the manifests: the ring document, times, counts
and the names of parts, no key and no value. A node that only saves needs no secret key.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyrage

from dynamo_archive.objects import ArchiveError

MAGIC = b"age-encryption.org/v1\n"
PUBLIC, SECRET = "age1", "AGE-SECRET-KEY-"
KEYS_MAX = 16
FILE_BYTES_MAX = 64 * 1024


class BadKey(Exception):
    """A key is not valid; one line that never shows a secret key."""


class Sealing:
    """What this process encrypts to, and what it can decrypt."""

    def __init__(self, recipients: Sequence[str] = (), identity_file: Path | None = None) -> None:
        """`recipients`: public keys; none: parts are not encrypted. `identity_file`: secret keys,
        read when a part is decrypted, so a process starts without them. Raises BadKey."""
        self._to = [_recipient(text) for text in recipients]
        self._identity_file = identity_file

    def seal(self, data: bytes) -> bytes:
        """The bytes as they lie in the archive."""
        return bytes(pyrage.encrypt(data, self._to)) if self._to else data

    def open(self, name: str, data: bytes) -> bytes:
        """The inverse, also for bytes that were never encrypted. Raises ArchiveError."""
        if not data.startswith(MAGIC):
            return data
        if self._identity_file is None:
            raise ArchiveError(f"{name}: it is encrypted; backup_identity_file names no secret key")
        try:
            return bytes(pyrage.decrypt(data, read_identities(self._identity_file)))
        except BadKey as error:
            raise ArchiveError(f"{name}: backup_identity_file: {error}") from None
        except pyrage.DecryptError:
            raise ArchiveError(f"{name}: none of the secret keys here decrypts it") from None


def _recipient(text: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        raise BadKey(f"{text[:80]!r} is no public key of age ({PUBLIC}...)") from None


def read_identities(path: Path) -> list[pyrage.x25519.Identity]:
    """The secret keys of a file as `age-keygen` writes it: a key in each line, comments after #.
    Raises BadKey."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not ASCII"
        raise BadKey(f"{path}: {why}") from None
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not 0 < len(keys) <= KEYS_MAX or len(text) > FILE_BYTES_MAX:
        raise BadKey(f"{path}: wants 1 to {KEYS_MAX} secret keys, a line each")
    try:
        return [pyrage.x25519.Identity.from_str(key) for key in keys]
    except pyrage.IdentityError:
        raise BadKey(f"{path}: a line is no secret key of age ({SECRET}...)") from None


PLAIN = Sealing()
