"""Authorities that a client trusts, and its own certificate, for nodes with `https://`."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dynamo_client.errors import BadParameter


@dataclass(frozen=True)
class Tls:
    """Files as PEM. `ca_file`: the authorities that sign certificates of nodes, by default those of
    the system; when the file changes, the client believes new ones too. `cert_file` and `key_file`:
    the client's own certificate, if nodes ask for one; a new client reads new files."""

    ca_file: str | Path | None = None
    cert_file: str | Path | None = None
    key_file: str | Path | None = None

    def context(self) -> ssl.SSLContext:
        """The context of connections; it also checks the host's name. Raises BadParameter."""
        if (self.cert_file is None) != (self.key_file is None):
            raise BadParameter("cert_file and key_file: give both or none")
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


class CaWatch:
    """Authorities that come to the file of a context which is in use: so a ring changes its
    authority and its clients go on. One that was taken away is believed until a new client."""

    def __init__(self, tls: Tls, context: ssl.SSLContext | None) -> None:
        self._file = tls.ca_file if context is not None else None
        self._context = context
        self._mark = self._now()

    def look(self) -> None:
        """Before each request; takes microseconds."""
        if self._file is None or (mark := self._now()) == self._mark:
            return
        assert self._context is not None
        with suppress(OSError):  # a file that is wrong changes nothing
            self._context.load_verify_locations(self._file)
            self._mark = mark

    def _now(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._file) if self._file is not None else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_ino, found.st_size)


SYSTEM = Tls()
"""The default: the authorities of this system."""


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
