"""Whom a client believes, and how it shows who it is, where nodes are dialled by `https://`."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from dynamo_client.errors import BadParameter


@dataclass(frozen=True)
class Tls:
    """Files as PEM. `ca_file`: the authorities that certificates of nodes have to be of, by default
    those of the system. `cert_file` and `key_file`: the client's own, where nodes want one. They
    are read when connections are made anew; a new client reads new files."""

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None

    def context(self) -> ssl.SSLContext:
        """For connections, which look at the host's name as well. Raises BadParameter."""
        if (self.cert_file is None) != (self.key_file is None):
            raise BadParameter("cert_file and key_file: both or none")
        try:
            made = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise BadParameter(f"ca_file: {self.ca_file}: {_why(error)}") from None
        made.set_alpn_protocols(["http/1.1"])
        if self.cert_file is not None and self.key_file is not None:
            try:
                made.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (OSError, ValueError) as error:
                told = f"cert_file, key_file: {self.cert_file}, {self.key_file}"
                raise BadParameter(f"{told}: {_why(error)}") from None
        return made


SYSTEM = Tls()
"""What is believed where nothing is said: the authorities of this system."""


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
