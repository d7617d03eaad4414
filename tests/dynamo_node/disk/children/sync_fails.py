"""Syncs well, then into a failing fsync that heals by itself, which changes nothing.

`sync_fails.py DIRECTORY`, with fsync_fails.c preloaded and $FSYNC_FAILS the file that does it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dynamo_core.errors import StoreError
from dynamo_core.keys import DATA
from dynamo_node.data_dir import open_store


def outcome(call) -> str:
    try:
        return str(call())
    except StoreError as error:
        print(error, file=sys.stderr)
        return type(error).__name__


def main(directory: str) -> None:
    store = open_store(Path(directory), "a").store
    store.write([(DATA, b"a", b"1")])
    print("sync", outcome(store.sync))
    Path(os.environ["FSYNC_FAILS"]).touch()
    store.write([(DATA, b"b", b"2")])
    print("sync", outcome(store.sync))
    print("sync", outcome(store.sync))
    print("write", outcome(lambda: store.write([(DATA, b"c", b"3")])))
    Path(os.environ["FSYNC_FAILS"]).unlink()
    print("reopen", outcome(store.reopen))
    print("get", outcome(lambda: store.get(DATA, b"a")))
    sys.stdout.flush()
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
