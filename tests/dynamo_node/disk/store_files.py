"""Stores for the tests of the disk rules: opened, killed, filled, flipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from dynamo_core.errors import (
    Corrupt,
    StoreFull,
)
from dynamo_core.keys import DATA, META, TREE, store_key
from dynamo_node.data_dir import open_store

CHILDREN = Path(__file__).parent / "children"
ROWS = sorted((store_key(b"key %d" % index), b"%d" % index * 60) for index in range(4000))
SMALL = 256 << 10


@contextmanager
def opened(directory, **settings):
    """A store that is closed cleanly."""
    result = open_store(directory, "a", **settings)
    yield result
    result.store.close()


@contextmanager
def killed(directory, **settings):
    """A store whose process ends without a word: its files are left as they lie while it is open.

    Closing writes the memtable out, so the files are set aside before and put back after it.
    """
    result = open_store(directory, "a", **settings)
    yield result
    aside = directory.with_name(directory.name + ".aside")
    shutil.copytree(directory, aside)
    result.store.close()
    shutil.rmtree(directory)
    aside.rename(directory)


def patiently(store, batch):
    """Writes; a write stall is waited out."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return store.write(batch)
        except StoreFull as error:
            if "stall" not in str(error) or time.monotonic() > deadline:
                raise


def fill(store, rows=ROWS):
    for first in range(0, len(rows), 50):
        patiently(
            store,
            [(DATA, key, value) for key, value in rows[first : first + 50]]
            + [(TREE, b"leaf%06d" % first, b"sum"), (META, b"last", b"%d" % first)],
        )


def chunks(store, family=DATA, limit=200):
    rows, start = [], b""
    while chunk := store.scan(family, start, None, limit):
        rows += chunk
        start = chunk[-1][0] + b"\0"
    return rows


def reads(store, key):
    try:
        return store.get(DATA, key) is not None
    except Corrupt:
        return False


def flip(path, offset=None):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 if offset is None else offset] ^= 0x40
    path.write_bytes(raw)


def tables(directory):
    return sorted((directory / "store").glob("*.sst"), key=lambda path: path.stat().st_size)


def log_of(directory):
    return max((directory / "store").glob("*.log"), key=lambda path: path.stat().st_size)


def child(script, *arguments, env=None):
    return subprocess.run(
        [sys.executable, str(CHILDREN / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=60,
    )
