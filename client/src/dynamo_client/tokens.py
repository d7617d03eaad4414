"""The administrator's token, from the file of the cluster secret.

Nodes accept a token that is derived from the secret: a reader of the token cannot act as a node. A
file may have several secrets, one in each line; nodes accept the token of each, and the first stays
valid longest.
"""

from __future__ import annotations

from pathlib import Path

from dynamo_client.errors import BadParameter
from dynamo_core.secret_keys import SECRET_CHARS_MIN, token_of


def token_of_secret_file(file: str | Path) -> str:
    """The token for the admin listener. Raises BadParameter, OSError."""
    try:
        return token_of_secret(Path(file).read_bytes())
    except BadParameter as error:
        raise BadParameter(f"secret_file: {file}: {error}") from None


def token_of_secret(text: bytes) -> str:
    """The token of a file with this text. Raises BadParameter."""
    lines = text.split(b"\n")
    secrets = [line.removesuffix(b"\r") for line in lines if line.strip()]
    if not (secrets and secrets[0].isascii() and secrets[0].decode("ascii").isprintable()):
        raise BadParameter("a secret must be one line of printable ASCII")
    if (size := len(secrets[0])) < SECRET_CHARS_MIN:
        raise BadParameter(f"has {size} characters, and nodes refuse fewer than {SECRET_CHARS_MIN}")
    return token_of(secrets[0])
