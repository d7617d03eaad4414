"""Writes numbered batches until it is killed: `crash_writer.py DIRECTORY`.

Reads the number of batches it may write, line by line, and prints each batch's number once `write`
has returned, while a second thread syncs all the time. The small memtable makes flushes and
compactions part of what a kill may hit.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from dynamo_core.errors import StoreFull
from dynamo_core.keys import DATA, META, TREE
from dynamo_core.replica.store import Change
from dynamo_node.data_dir import open_store


def batch(number: int) -> list[Change]:
    rows: list[Change] = [(META, b"last", b"%d" % number)]
    for row in range(1 + number % 4):
        key = b"%08d.%d" % (number, row)
        rows += [(DATA, key, key * (1 + number % 30)), (TREE, key, b"leaf" + key)]
    return rows


def main(directory: str) -> None:
    store = open_store(Path(directory), "a", memtable_bytes=64 << 10).store
    number = int(store.get(META, b"last") or b"0")

    def sync_on_and_on() -> None:
        while True:
            store.sync()

    threading.Thread(target=sync_on_and_on, daemon=True).start()
    for line in sys.stdin:
        wanted = number + int(line)
        while number < wanted:
            try:
                store.write(batch(number + 1))
            except StoreFull:  # a write stall: so small a memtable is soon full
                continue
            number += 1
            os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main(sys.argv[1])
