"""S-DISK-4..6 against the real engine: full and failing disks, second owners."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from dynamo_core.errors import (
    RingRefused,
    StoreDamaged,
    StoreFailed,
    StoreFull,
    StoreLocked,
    SyncFailed,
)
from dynamo_core.keys import DATA, HINTS, META, TREE
from dynamo_node import storage
from dynamo_node.data_dir import open_store
from dynamo_node.side_file import mark_damaged
from tests.dynamo_node.disk.store_files import (
    CHILDREN,
    ROWS,
    child,
    chunks,
    fill,
    killed,
    opened,
)

# S-DISK-4: a full disk


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of a fixed size needs the right to mount one")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_refuses_writes_loses_nothing_and_heals(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(28 << 20))
    node = small_disk / "node"
    with opened(node) as now:
        store = now.store
        rows = []
        with pytest.raises(StoreFull):
            while True:
                row = (b"%06d" % len(rows), os.urandom(4000))
                store.write([(DATA, *row), (TREE, *row)])
                rows.append(row)
        assert len(rows) > 100
        refusals = [
            (lambda: store.write([(META, b"small", b"")]), r"No space left on device"),
            (store.sync, r"No space left on device"),
            (store.reopen, r"bytes are free, \d+ are needed to open the store again$"),
        ]
        for call, words in refusals:
            with pytest.raises(StoreFull, match=words):
                call()
            assert chunks(store) == rows == chunks(store, TREE)
        ballast.unlink()
        with pytest.raises(StoreFull):
            store.write([(META, b"small", b"")])
        store.reopen()
        store.write([(META, b"small", b"")])
        assert store.sync() == store.sequence()
        assert chunks(store) == rows == chunks(store, TREE)
    with opened(node) as now:
        assert now.trust
        assert chunks(now.store) == rows


def test_a_full_disk_fails_the_start_with_one_line_and_the_next_one_is_whole(small_disk):
    node = small_disk / "node"
    with killed(node) as now:
        rows = [(b"%06d" % index, os.urandom(4000)) for index in range(3000)]
        fill(now.store, rows)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(20 << 20))
    with pytest.raises(StoreFull) as caught:
        open_store(node, "a")
    assert "\n" not in str(caught.value)
    ballast.unlink()
    with opened(node) as now:
        assert (now.trust, chunks(now.store)) == (True, rows)


def test_no_space_to_salvage_is_said_and_the_next_start_salvages(small_disk):
    node = small_disk / "node"
    with opened(node, memtable_bytes=1 << 20) as now:
        rows = [(b"%06d" % index, os.urandom(4000)) for index in range(3000)]
        fill(now.store, rows)
    mark_damaged(node)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(20 << 20))
    for _ in range(2):
        with pytest.raises(StoreFull, match=r"^no space to salvage"):
            open_store(node, "a", memtable_bytes=1 << 20)
    ballast.unlink()
    with opened(node, memtable_bytes=1 << 20) as now:
        assert (now.trust, chunks(now.store)) == (False, rows)


def test_reads_go_on_also_when_the_store_cannot_be_opened_again_for_writing(tmp_path):
    assert child("small_files.py", tmp_path / "node").stdout.splitlines() == [
        "write full",
        "sync full",
        "rows True",
        "reopen full",
        "rows True",
        "write full",
        "reopen full",
        "write full",
        "reopen done",
        "rows True",
        "rows True",
    ]


def test_a_write_stall_is_full_for_now_and_not_for_good(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SLOWDOWN_FILES", 1)
    monkeypatch.setattr(storage, "STOP_FILES", 1)
    with opened(tmp_path, memtable_bytes=64 << 10) as now:
        written, stalls = [], 0
        while stalls < 10 or len(written) < 400:
            assert len(written) < 40_000, "no stall: the engine waits instead"
            row = (b"%08d" % len(written), os.urandom(2000))
            try:
                now.store.write([(HINTS, *row)])
                written.append(row)
            except StoreFull as error:
                assert "stall" in str(error).lower()
                stalls += 1
        assert chunks(now.store, HINTS) == written


# S-DISK-5: a failing fsync


def test_a_failing_fsync_is_fatal_and_stays_so(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("making fsync fail needs a C compiler and a preloaded library")
    library, trigger = tmp_path / "fsync_fails.so", tmp_path / "trigger"
    source = CHILDREN / "fsync_fails.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    env = {"LD_PRELOAD": str(library), "FSYNC_FAILS": str(trigger)}
    done = child("sync_fails.py", tmp_path / "node", env=env)
    assert done.stdout.splitlines() == [
        "sync 1",
        "sync SyncFailed",
        "sync SyncFailed",
        "write SyncFailed",
        "reopen SyncFailed",
        "get b'1'",
    ]
    assert "Input/output error" in done.stderr


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("IO error: While fdatasync: /x: Input/output error", SyncFailed),
        ("IO error: No space left on device: While fsync: /x", SyncFailed),
        ("IO error: No space left on device: While appending to file: /x", StoreFull),
        ("IO error: While appending to file: /x: Disk quota exceeded", StoreFull),
        ("Result incomplete: Write stall", StoreFull),
        ("IO error: While lock file: /x/LOCK: Resource temporarily unavailable", StoreLocked),
        ("Corruption: block checksum mismatch", StoreDamaged),
        ("IO error: Writer has previous error.", StoreFailed),
    ],
)
def test_the_engine_s_words_in_ours(text, kind):
    assert type(storage.failure(Exception(text))) is kind


# S-DISK-6: one process, one owner


def test_a_second_process_fails_with_one_line(tmp_path):
    with opened(tmp_path / "node") as now:
        fill(now.store, ROWS[:100])
        script = (
            "import sys, pathlib\n"
            "from dynamo_core.errors import StoreLocked\n"
            "from dynamo_node.data_dir import open_store\n"
            "try: open_store(pathlib.Path(sys.argv[1]), 'a')\n"
            "except StoreLocked as error: print(error)\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "node"], capture_output=True, text=True
        )
        assert told.stdout == f"another process has the data directory {tmp_path / 'node'}\n"
        with pytest.raises(StoreLocked):
            open_store(tmp_path / "node", "a")
        with pytest.raises(StoreLocked):
            storage.RocksStore(tmp_path / "node" / "store")
        assert chunks(now.store) == ROWS[:100]
    with opened(tmp_path / "node") as now:
        assert now.trust


@pytest.mark.parametrize(
    ("name", "cluster", "slug", "words"),
    [
        ("b", "space/one", "wrong-name", "belongs to node 'a', not to 'b'"),
        ("a", "space/two", "wrong-cluster", "belongs to cluster 'space/one', not 'space/two'"),
    ],
)
def test_another_s_directory_is_refused_and_left_as_it_is(tmp_path, name, cluster, slug, words):
    with opened(tmp_path, cluster="space/one") as now:
        fill(now.store)
        identity = now.identity
    with pytest.raises(RingRefused, match=words) as caught:
        open_store(tmp_path, name, cluster)
    assert caught.value.slug == slug
    with opened(tmp_path, cluster="space/one") as now:
        assert (now.trust, now.identity) == (True, identity)
        assert chunks(now.store) == ROWS


@pytest.mark.parametrize("damage", ["missing", "rubbish"])
def test_a_store_without_its_identity_is_refused(tmp_path, damage):
    with opened(tmp_path) as now:
        fill(now.store)
    path = tmp_path / "id"
    path.unlink() if damage == "missing" else path.write_bytes(b"{")
    with pytest.raises(StoreDamaged, match=r"start on an empty directory$"):
        open_store(tmp_path, "a")


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"^the data directory cannot be used: "):
        open_store(tmp_path / "file" / "node", "a")
