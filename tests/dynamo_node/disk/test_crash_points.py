"""A process that dies at any point keeps a prefix of its batches, each of them complete.

A child writes numbered batches as fast as it can while its second thread syncs. The test stops it
after random numbers of batches. The files of a stopped process are the files of a killed one, so a
copy of its directory is a crash point; at the end the child is really killed. The acks come through
a pipe that survives the child.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from dynamo_core.keys import DATA, META, TREE
from dynamo_node.data_dir import open_store

WRITER = Path(__file__).parent / "children" / "crash_writer.py"
SMALL = 64 << 10
POINTS_PER_CHILD = 25
BATCHES_BETWEEN_MAX = 60
WAIT_S = 60.0


def writer_module():
    spec = spec_from_file_location("crash_writer", WRITER)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


batch = writer_module().batch


class Writer:
    """The child and the last batch that it acked."""

    def __init__(self, directory):
        self.child = subprocess.Popen(
            [sys.executable, str(WRITER), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pipe = self.child.stdout.fileno()
        self.rest = b""
        self.acked = 0

    def take(self):
        """Reads some acks; false at the end of the pipe or when a stopped child left no more."""
        try:
            raw = os.read(self.pipe, 1 << 16)
        except BlockingIOError:
            return False
        *lines, self.rest = (self.rest + raw).split(b"\n")
        self.acked = int(lines[-1]) if lines else self.acked
        return bool(raw)

    def drain(self):
        os.set_blocking(self.pipe, False)
        while self.take():
            pass
        os.set_blocking(self.pipe, True)

    def stop_after(self, batches, more):
        """Stops the child amid the `more` batches that it may write beyond the acked ones."""
        before = self.acked
        self.child.stdin.write(b"%d\n" % (batches + more))
        self.child.stdin.flush()
        while self.acked < before + batches:
            assert self.take(), "the writer ended by itself"
        self.child.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(self.child.pid, os.WUNTRACED)[1])
        self.drain()

    def go_on(self):
        self.child.send_signal(signal.SIGCONT)

    def kill(self):
        self.child.kill()
        self.child.wait(WAIT_S)
        self.drain()
        self.child.stdin.close()
        self.child.stdout.close()


def rows_of(batches, family):
    return [
        (key, value)
        for number in batches
        for line_family, key, value in batch(number)
        if line_family == family
    ]


def check(directory, acked):
    """Checks that a prefix of the batches exists, each complete, with all acked ones; its
    length."""
    found = open_store(directory, "a", memtable_bytes=SMALL)
    store = found.store
    try:
        assert found.trust, found.reason
        last = int(store.get(META, b"last") or b"0")
        assert last >= acked
        for family in (DATA, TREE):
            expected = rows_of(range(1, last + 1), family)
            assert store.scan(family, b"", None, len(expected) + 10) == expected
        assert store.sequence() == sum(len(batch(index)) for index in range(1, last + 1))
        return last
    finally:
        store.close()


@pytest.mark.parametrize("seed", range(4))
def test_fifty_crash_points_and_two_kills(tmp_path, seed):
    chance = random.Random(seed)
    node, copy = tmp_path / "node", tmp_path / "copy"
    for _ in range(2):
        writer = Writer(node)
        try:
            for _ in range(POINTS_PER_CHILD):
                writer.stop_after(chance.randint(1, BATCHES_BETWEEN_MAX), chance.randint(1, 20))
                shutil.copytree(node, copy)
                check(copy, writer.acked)
                writer.go_on()
                shutil.rmtree(copy)
        finally:
            writer.kill()
        check(node, writer.acked)


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_keeps_all_that_was_synced(tmp_path, seed):
    """A power cut may cut the log anywhere behind the last sync, and its end may be torn."""
    chance = random.Random(seed)
    node, cut = tmp_path / "node", tmp_path / "cut"
    opened = open_store(node, "a", boot_id="monday")
    store = opened.store
    synced = chance.randint(0, 60)
    for index in range(1, synced + 1):
        store.write(batch(index))
    assert store.sync() == store.sequence()
    (log,) = (node / "store").glob("*.log")
    safe = log.stat().st_size
    for index in range(synced + 1, synced + 40):
        store.write(batch(index))
    shutil.copytree(node, cut)
    store.close()
    log = cut / "store" / log.name
    os.truncate(log, chance.randint(safe, log.stat().st_size))
    found = open_store(cut, "a", boot_id="tuesday")
    try:
        assert not found.trust
        last = int(found.store.get(META, b"last") or b"0")
        assert synced <= last <= synced + 39
        for family in (DATA, TREE):
            expected = rows_of(range(1, last + 1), family)
            assert found.store.scan(family, b"", None, len(expected) + 10) == expected
    finally:
        found.store.close()


@pytest.mark.parametrize("seed", range(10))
def test_a_log_cut_before_the_last_sync_is_noticed_even_on_the_same_boot(tmp_path, seed):
    chance = random.Random(seed)
    node, cut = tmp_path / "node", tmp_path / "cut"
    store = open_store(node, "a").store
    for index in range(1, 60):
        store.write(batch(index))
    durable = store.sync()
    shutil.copytree(node, cut)
    store.close()
    (log,) = (cut / "store").glob("*.log")
    os.truncate(log, chance.randrange(log.stat().st_size))
    found = open_store(cut, "a")
    try:
        assert not found.trust
        assert f"behind {durable}, which was durable" in found.reason
    finally:
        found.store.close()
