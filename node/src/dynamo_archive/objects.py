"""One archive: objects by name, in any store that `obstore` knows.

    file:///srv/backups        a directory
    s3://bucket/prefix         S3 and what speaks it; gs://, az:// alike

Credentials, endpoints and regions are those of the environment (AWS_*, GOOGLE_*, AZURE_*), as
obstore reads them; we handle none. Calls block: they belong on a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, NotSupportedError
from obstore.store import LocalStore, from_url

from dynamo_archive.targets import url_fault

RETRIES_MAX = 4
RETRY_S_MAX = 60
REQUEST_S_MAX = 60
CONNECT_S_MAX = 5
ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""If it is `true`, an archive of that scheme is dialled without TLS."""
OBJECT_BYTES_MAX = 256 * 1024 * 1024
"""The most bytes of an object that is read into memory: a manifest of a million parts is
smaller."""


class ArchiveError(Exception):
    """An archive failed or refused; one line for people."""


class Archive:
    """Objects under one URL. Every method raises ArchiveError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.unconditional = ""
        """Why the store cannot keep an object on the condition that there is none."""
        self._store = _store(url)
        file = url.startswith("file://")
        self._directory = Path(unquote(urlsplit(url).path)) if file else None

    def put(self, name: str, data: bytes) -> None:
        """Keep an object whole, or not at all; in a directory also after a power cut."""
        try:
            obstore.put(self._store, name, data)
        except Exception as error:  # noqa: BLE001
            raise _failed(name, error) from None
        self._flushed(name)

    def create(self, name: str, data: bytes) -> bool:
        """Keep an object, unless one of this name is there already; whether this one is kept. Of
        two calls at once one keeps its object: S3 and Azure compare `If-None-Match`, GCS a
        generation, a directory makes a link. Some servers that speak S3 answer 501: there, an
        object that came between the look and the put is replaced (`unconditional` says why)."""
        try:
            obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            return False
        except Exception as error:  # noqa: BLE001
            if not _unsupported(error):
                raise _failed(name, error) from None
            self.unconditional = str(_failed(name, error))
            if self.get(name) is not None:
                return False
            self.put(name, data)
            return True
        self._flushed(name)
        return True

    def _flushed(self, name: str) -> None:
        try:
            if self._directory is not None:
                _flush(self._directory, name)
        except OSError as error:
            raise _failed(name, error) from None

    def get(self, name: str, bytes_max: int = OBJECT_BYTES_MAX) -> bytes | None:
        """Its bytes, None where there is none. One with more bytes is not read."""
        try:
            found = obstore.get(self._store, name)
            size = found.meta["size"]
            if size <= bytes_max:
                return bytes(found.bytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001
            raise _failed(name, error) from None
        raise ArchiveError(f"{name}: {size} bytes, at most {bytes_max} are read")

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Names that begin with the prefix, which ends with a slash, and the bytes of each."""
        try:
            for some in obstore.list(self._store, prefix, chunk_size=1000):
                for line in some:
                    yield line["path"], line["size"]
        except Exception as error:  # noqa: BLE001
            raise _failed(prefix, error) from None

    def delete(self, names: Sequence[str]) -> None:
        """An object that does not exist is no error."""
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
        scheme = urlsplit(url).scheme
        return from_url(
            url,
            retry_config={
                "max_retries": RETRIES_MAX,
                "retry_timeout": timedelta(seconds=RETRY_S_MAX),
            },
            client_options={
                # Options of ours hide these variables from obstore.
                "allow_http": os.environ.get(ALLOW_HTTP[scheme], "").lower() == "true",
                "timeout": timedelta(seconds=REQUEST_S_MAX),
                "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
            },
        )
    except Exception as error:  # noqa: BLE001
        raise _failed(url, error) from None


def _flush(directory: Path, name: str) -> None:
    """The file, and in the archive the entries that lead to it, where the file system can do that.
    Raises OSError."""
    file = directory / name
    _fsync(file)
    for place in file.parents[: name.count("/") + 1]:
        with suppress(OSError):
            _fsync(place)


def _fsync(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unsupported(error: Exception) -> bool:
    words = str(error)
    return isinstance(error, NotSupportedError) or "501" in words or "NotImplemented" in words


def _failed(name: str, error: Exception) -> ArchiveError:
    """The first line: behind it obstore prints its own structures."""
    words = str(error).strip().splitlines()
    return ArchiveError(f"{name}: {words[0] if words else type(error).__name__}")
