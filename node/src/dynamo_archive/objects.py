"""One archive: objects by name, wherever `obstore` can keep them.

    file:///srv/backups        a directory
    s3://bucket/prefix         S3 and what speaks it; gs://, az:// alike

Credentials, endpoints and regions are those of the environment (AWS_*, GOOGLE_*, AZURE_*), as
obstore reads them; we handle none. Calls block: they belong on a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, from_url

from dynamo_archive.targets import url_fault

RETRIES_MAX = 4
RETRY_S_MAX = 60
REQUEST_S_MAX = 60
CONNECT_S_MAX = 5


class ArchiveError(Exception):
    """An archive that does not do what is asked; one line for people."""


class Archive:
    """Objects under one URL. Every method raises ArchiveError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = _store(url)

    def put(self, name: str, data: bytes) -> None:
        """Keep an object whole, or not at all."""
        try:
            obstore.put(self._store, name, data)
        except Exception as error:  # noqa: BLE001
            raise _failed(name, error) from None

    def get(self, name: str) -> bytes | None:
        """Its bytes, None where there is none."""
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001
            raise _failed(name, error) from None

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Names that begin with the prefix, which ends with a slash, and the bytes of each."""
        try:
            for some in obstore.list(self._store, prefix, chunk_size=1000):
                for line in some:
                    yield line["path"], line["size"]
        except Exception as error:  # noqa: BLE001
            raise _failed(prefix, error) from None

    def delete(self, names: Sequence[str]) -> None:
        """What is not there is no error."""
        for name in names:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001
                raise _failed(name, error) from None


@lru_cache(maxsize=64)
def _store(url: str) -> Any:
    if fault := url_fault(url):
        raise ArchiveError(fault)
    try:
        if url.startswith("file://"):
            return LocalStore(unquote(urlsplit(url).path), mkdir=True)
        return from_url(
            url,
            retry_config={
                "max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_S_MAX),
            },
            client_options={
                # Options of ours hide this variable from obstore.
                "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
                "timeout": timedelta(seconds=REQUEST_S_MAX),
                "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
            },
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001
        raise _failed(url, error) from None


def _failed(name: str, error: Exception) -> ArchiveError:
    """The first line: behind it obstore prints its own structures."""
    words = str(error).strip().splitlines()
    return ArchiveError(f"{name}: {words[0] if words else type(error).__name__}")
