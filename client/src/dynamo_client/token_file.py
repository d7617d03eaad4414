"""The token of a client, from a file that changes, as ServiceAccount tokens in Kubernetes do.

The file is checked for each request, which takes microseconds, and read again if it has changed.
"""

from __future__ import annotations

import os
from pathlib import Path

from dynamo_client.errors import BadParameter

TOKEN_BYTES_MAX = 12 * 1024
"""Nodes accept heads of at most 16 KiB."""


class TokenFile:
    """`Authorization` from the file's present content."""

    def __init__(self, file: str | Path) -> None:
        """Raises BadParameter if the file has no token."""
        self._file = Path(file)
        self._mark: tuple[int, int, int] | None = None
        self._headers: dict[str, str] = {}
        try:
            self._read(os.stat(self._file))
        except OSError as error:
            raise BadParameter(f"token_file: {self._file}: {error.strerror}") from None

    @property
    def token(self) -> str:
        """For the next request, likewise."""
        return self.headers()["Authorization"].removeprefix("Bearer ")

    def headers(self) -> dict[str, str]:
        """For the next request. If the file is missing or wrong, the last good token."""
        try:
            found = os.stat(self._file)
            if _mark(found) != self._mark:
                self._read(found)
        except (OSError, BadParameter):
            pass
        return self._headers

    def _read(self, found: os.stat_result) -> None:
        with self._file.open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX + 1).strip()
        if not (token and token.isascii() and token.decode("ascii").isprintable()):
            raise BadParameter(f"token_file: {self._file}: needs one line of printable ASCII")
        if len(token) > TOKEN_BYTES_MAX:
            raise BadParameter(f"token_file: {self._file}: at most {TOKEN_BYTES_MAX} bytes")
        self._headers = {"Authorization": "Bearer " + token.decode("ascii")}
        self._mark = _mark(found)


def _mark(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_ino, found.st_size
