"""Fills a store under a limit on file sizes, then lifts it: `small_files.py DIRECTORY`.

Prints one line per step for the test to compare.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from dynamo_core.errors import StoreFull
from dynamo_core.keys import DATA
from dynamo_node.data_dir import open_store
from dynamo_node.storage import RocksStore


def refused(call) -> str:
    try:
        call()
    except StoreFull:
        return "full"
    return "done"


def all_there(store: RocksStore, count: int) -> bool:
    rows = store.scan(DATA, b"", None, count + 10)
    return rows == [(b"%06d" % index, bytes(4000)) for index in range(count)]


def main(directory: str) -> None:
    store = open_store(Path(directory), "a").store
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    count = 0
    try:
        while True:
            store.write([(DATA, b"%06d" % count, bytes(4000))])
            count += 1
    except StoreFull:
        print("write full")
    print("sync", refused(store.sync))
    print("rows", all_there(store, count))
    print("reopen", refused(store.reopen))
    print("rows", all_there(store, count))
    print("write", refused(lambda: store.write([(DATA, b"x", b"")])))
    print("reopen", refused(store.reopen))
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    print("write", refused(lambda: store.write([(DATA, b"x", b"")])))
    print("reopen", refused(store.reopen))
    print("rows", all_there(store, count))
    store.write([(DATA, b"%06d" % count, bytes(4000))])
    store.sync()
    print("rows", all_there(store, count + 1))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1])
