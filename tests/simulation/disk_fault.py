"""A deliberate fault of the real store, and the tests of the disk rules that must notice it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from dynamo_node import storage

DISK_TESTS = Path(__file__).parents[1] / "dynamo_node/disk/test_disk_rules.py"


@contextmanager
def blind_iterator() -> Iterator[None]:
    """The store believes the end of an iteration without asking for its status (S-DISK-1)."""

    class Blind:
        def __init__(self, rows: Any) -> None:
            self._rows = rows

        def __getattr__(self, name: str) -> Any:
            return (lambda: None) if name == "status" else getattr(self._rows, name)

    original = storage.RocksStore._rows

    def rows(self: Any, start: bytes, end: bytes) -> Any:
        class Database:
            iter = staticmethod(lambda options: Blind(self._db.iter(options)))

        class Store:
            _db = Database

        return original(Store, start, end)  # type: ignore[arg-type]

    with patch.object(storage.RocksStore, "_rows", rows):
        yield


def disk_rules_broken() -> int:
    """How many tests of the disk rules on scans fail now."""
    said = io.StringIO()
    options = ["-q", "-p", "no:cacheprovider", "-k", "a_scan_over_a_flipped_bit"]
    with redirect_stdout(said):
        code = pytest.main([*options, str(DISK_TESTS)])
    assert code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), said.getvalue()
    return int(code)
