"""How a command proves who it is: the files in its options, and their content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynamo_client.errors import BadParameter
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.token_file import TokenFile
from dynamo_client.tokens import token_of_secret_file
from dynamoctl.session import USAGE, Failed


@dataclass(frozen=True)
class Credentials:
    """The files in the options."""

    token_file: Path | None = None
    secret_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_token_file: Path | None = None

    def tls(self) -> Tls:
        """The authorities that commands trust. Raises Failed."""
        made = Tls(self.ca_file, self.cert_file, self.key_file)
        if made != SYSTEM:
            try:
                made.context()
            except BadParameter as error:
                raise Failed(str(error), USAGE, "--ca-file") from None
        return made

    def token(self) -> str | TokenFile | None:
        """The administrator's token, None if no file gives one. A file of it is followed when it
        changes. Raises Failed."""
        if self.token_file is not None and self.secret_file is not None:
            raise Failed("give only one: --token-file or --secret-file", USAGE, "--secret-file")
        if self.token_file is not None:
            token = _token(self.token_file)
            return TokenFile(self.token_file) if self.token_file.is_file() else token
        return None if self.secret_file is None else derived(self.secret_file, "--secret-file")

    def client_token(self) -> TokenFile | None:
        """The token for keys and values, None if there is none. Raises Failed."""
        if self.client_token_file is None:
            return None
        try:
            return TokenFile(self.client_token_file)
        except BadParameter as error:
            raise Failed(str(error), USAGE, "--client-token-file") from None

    def options(self) -> list[str]:
        """The options for a command in another directory."""
        files = {
            "--token-file": self.token_file,
            "--secret-file": self.secret_file,
            "--ca-file": self.ca_file,
            "--cert-file": self.cert_file,
            "--key-file": self.key_file,
            "--client-token-file": self.client_token_file,
        }
        return [f"{name}={file.resolve()}" for name, file in files.items() if file is not None]


def derived(file: Path, field: str) -> str:
    """The administrator's token from the secret in a file. Raises Failed."""
    try:
        return token_of_secret_file(file)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}", USAGE, field) from None
    except BadParameter as error:
        raise Failed(str(error), USAGE, field) from None


def _token(file: Path) -> str:
    try:
        token = file.read_bytes().removesuffix(b"\n").removesuffix(b"\r").decode("ascii")
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}", USAGE, "--token-file") from None
    except UnicodeDecodeError:
        token = ""
    if not (token and token.isprintable()):
        raise Failed(f"{file}: needs one line of printable ASCII", USAGE, "--token-file")
    return token
