"""The administrator's token, from the file of the cluster secret.

Nodes take a token that is derived from the secret: who hears it cannot pass for a node. A file may
have several secrets, one a line; nodes take the token of each, and the first is that which stays.
"""

from __future__ import annotations

from pathlib import Path

from dynamo_client.errors import BadParameter
from dynamo_core.secret_keys import token_of


def token_of_secret_file(file: str | Path) -> str:
    """What the admin listener asks for. Raises BadParameter, OSError."""
    try:
        return token_of_secret(Path(file).read_bytes())
    except BadParameter as error:
        raise BadParameter(f"secret_file: {file}: {error}") from None


def token_of_secret(text: bytes) -> str:
    """As of a file that has this text. Raises BadParameter."""
    lines = text.split(b"\n")
    secrets = [line.removesuffix(b"\r") for line in lines if line.strip()]
    if not (secrets and secrets[0].isascii() and secrets[0].decode("ascii").isprintable()):
        raise BadParameter("a secret is a line of printable ASCII")
    return token_of(secrets[0])
