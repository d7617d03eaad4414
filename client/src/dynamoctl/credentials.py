"""How a command shows who it is: files that options name, and what is read of them."""

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
    """Files, as the options name them."""

    token_file: Path | None = None
    secret_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_token_file: Path | None = None

    def tls(self) -> Tls:
        """Whom commands believe. Raises Failed."""
        made = Tls(self.ca_file, self.cert_file, self.key_file)
        if made != SYSTEM:
            try:
                made.context()
            except BadParameter as error:
                raise Failed(str(error), USAGE, "--ca-file") from None
        return made

    def token(self) -> str | None:
        """Of an administrator, None where no file tells one. Raises Failed."""
        if self.token_file is not None and self.secret_file is not None:
            raise Failed("one of both: --token-file, --secret-file", USAGE, "--secret-file")
        if self.token_file is not None:
            return _token(self.token_file)
        return None if self.secret_file is None else derived(self.secret_file, "--secret-file")

    def client_token(self) -> TokenFile | None:
        """For keys and values, None where nothing is shown. Raises Failed."""
        if self.client_token_file is None:
            return None
        try:
            return TokenFile(self.client_token_file)
        except BadParameter as error:
            raise Failed(str(error), USAGE, "--client-token-file") from None

    def options(self) -> list[str]:
        """What a command in another directory has to be told."""
        files = {
            "--token-file": self.token_file, "--secret-file": self.secret_file,
            "--ca-file": self.ca_file, "--cert-file": self.cert_file, "--key-file": self.key_file,
            "--client-token-file": self.client_token_file,
        }  # fmt: skip
        return [f"{name}={file.resolve()}" for name, file in files.items() if file is not None]


def derived(file: Path, field: str) -> str:
    """The administrator's token of the secret in a file. Raises Failed."""
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
        raise Failed(f"{file}: wants one line of printable ASCII", USAGE, "--token-file")
    return token
