"""S-DISK-1..7 against the real engine: damage, rollback, full and failing disks, second owners."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamo_core.errors import (
    Corrupt,
    Refused,
    StoreDamaged,
    StoreFailed,
    StoreFull,
    StoreLocked,
    SyncFailed,
)
from dynamo_core.ids import DATA, HINTS, META, TREE, store_key
from dynamo_node import storage
from dynamo_node.data_dir import Identity, open_store
from dynamo_node.side_file import Marks, SideFile, judge, mark_damaged, pack, read_boot_id, unpack

CHILDREN = Path(__file__).parent / "children"
ROWS = sorted((store_key(b"key %d" % number), b"%d" % number * 60) for number in range(4000))
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


@pytest.fixture
def flipped(tmp_path):
    """A closed directory with one bit of its largest table the other way round."""
    with opened(tmp_path, memtable_bytes=SMALL) as now:
        fill(now.store)
    flip(tables(tmp_path)[-1])
    return tmp_path


# S-DISK-1: damage is an error, never a short answer


def test_a_scan_over_a_flipped_bit_is_corrupt_and_never_short(flipped):
    with opened(flipped, memtable_bytes=SMALL) as now:
        with pytest.raises(Corrupt) as caught:
            chunks(now.store)
        with pytest.raises(Corrupt):
            now.store.scan(DATA, b"", None, len(ROWS) + 1)
    assert caught.value.family == DATA
    assert ROWS[0][0] <= caught.value.key <= ROWS[-1][0]


def test_a_get_of_a_damaged_row_is_corrupt_and_never_none_or_wrong(flipped):
    outcomes = {"read": 0, "corrupt": 0}
    with opened(flipped, memtable_bytes=SMALL) as now:
        for key, value in ROWS:
            try:
                assert now.store.get(DATA, key) == value
                outcomes["read"] += 1
            except Corrupt as error:
                assert (error.family, error.key) == (DATA, key)
                outcomes["corrupt"] += 1
    assert outcomes["read"] > 3 * len(ROWS) // 4
    assert outcomes["corrupt"] > 0


def test_a_marked_directory_is_salvaged_and_the_loss_is_counted(flipped):
    with opened(flipped, memtable_bytes=SMALL) as now:
        sequence = now.store.sequence()
        readable = [row for row in ROWS if reads(now.store, row[0])]
    mark_damaged(flipped)
    with opened(flipped, memtable_bytes=SMALL) as now:
        assert not now.trust
        found = re.fullmatch(
            r"salvaged (\d+) rows of a damaged store, gave up (\d+) ranges", now.reason
        )
        rows = chunks(now.store)
        assert rows == readable
        assert len(ROWS) > len(rows) > 3 * len(ROWS) // 4
        assert int(found[1]) == len(rows) + 1
        assert int(found[2]) == 1
        assert chunks(now.store, TREE) == []
        assert now.store.get(META, b"last") == b"3950"
        assert now.store.sequence() > sequence
        now.store.sync()
    assert [entry.name for entry in (flipped / "quarantine").iterdir()] == ["1"]
    with opened(flipped) as now:
        assert (now.trust, now.reason) == (True, "clean stop")
        assert chunks(now.store) == rows


def test_only_the_youngest_quarantined_stores_are_kept(flipped):
    for _ in range(4):
        mark_damaged(flipped)
        with opened(flipped):
            pass
    assert sorted(entry.name for entry in (flipped / "quarantine").iterdir()) == ["3", "4"]


@pytest.mark.parametrize("step", ["moved away", "half copied", "copied"])
def test_a_salvage_that_was_cut_off_is_taken_up_again(flipped, step):
    mark_damaged(flipped)
    (flipped / "quarantine").mkdir()
    if step == "copied":
        with opened(flipped):
            pass
        mark_damaged(flipped)
    else:
        (flipped / "store").rename(flipped / "quarantine" / "1")
    if step == "half copied":
        (flipped / "store.new").mkdir()
        (flipped / "store.new" / "CURRENT").write_text("rubbish\n")
    with opened(flipped) as now:
        assert not now.trust
        assert len(chunks(now.store)) > 3 * len(ROWS) // 4


@pytest.mark.parametrize("lost", ["CURRENT", "MANIFEST", "table"])
def test_a_store_that_lost_a_file_is_salvaged(tmp_path, lost):
    with opened(tmp_path, memtable_bytes=SMALL) as now:
        fill(now.store)
    if lost == "table":
        assert len(tables(tmp_path)) > 1
        tables(tmp_path)[0].unlink()
    else:
        next((tmp_path / "store").glob(lost + "*")).unlink()
    with opened(tmp_path) as now:
        assert not now.trust
        assert now.reason.startswith("salvaged ")
        rows = chunks(now.store)
    assert rows == ROWS if lost != "table" else set(rows) < set(ROWS)


def test_a_store_that_cannot_be_read_at_all_is_one_line(tmp_path):
    with opened(tmp_path, memtable_bytes=SMALL) as now:
        fill(now.store)
    store = tmp_path / "store"
    shutil.rmtree(store)
    store.write_text("a file where a folder should be")
    for _ in range(2):
        with pytest.raises((StoreDamaged, StoreFailed)) as caught:
            open_store(tmp_path, "a")
        assert "\n" not in str(caught.value)


# S-DISK-2: a store that lost something is never trusted


def test_a_new_directory_is_trusted(tmp_path):
    with opened(tmp_path) as now:
        assert (now.trust, now.reason, now.store.sequence()) == (True, "new", 0)


def test_an_identity_lives_as_long_as_its_directory(tmp_path):
    with opened(tmp_path / "1") as now:
        first = now.identity
    with opened(tmp_path / "1", cluster="space/name") as now:
        assert now.identity == Identity("a", first.node_id, "space/name")
    with opened(tmp_path / "1") as now:
        assert now.identity == Identity("a", first.node_id, "space/name")
    with opened(tmp_path / "2") as now:
        assert now.identity.node_id != first.node_id


def test_a_killed_process_is_trusted_on_the_same_boot(tmp_path):
    with killed(tmp_path) as now:
        fill(now.store)
        now.store.sync()
        now.store.write([(DATA, b"later", b"1")])
    with opened(tmp_path) as now:
        assert (now.trust, now.store.get(DATA, b"later")) == (True, b"1")


def test_another_boot_without_a_clean_stop_is_doubted_until_the_first_sync(tmp_path):
    with killed(tmp_path, boot_id="monday") as now:
        fill(now.store)
    with killed(tmp_path, boot_id="tuesday") as now:
        assert not now.trust
        assert now.reason == "no clean stop, and the machine has started anew since"
    with killed(tmp_path, boot_id="tuesday") as now:
        assert not now.trust
        assert now.reason == "the last start was in doubt and nothing was synced since"
        now.store.write([(META, b"complete nowhere", b"")])
        now.store.sync()
    with opened(tmp_path, boot_id="tuesday") as now:
        assert now.trust


def test_another_boot_after_a_clean_stop_is_trusted(tmp_path):
    with opened(tmp_path, boot_id="monday") as now:
        fill(now.store)
    with opened(tmp_path, boot_id="tuesday") as now:
        assert (now.trust, now.reason) == (True, "clean stop")


def test_a_flipped_bit_amid_synced_writes_is_salvaged_and_never_trusted(tmp_path):
    with killed(tmp_path) as now:
        fill(now.store)
        now.store.sync()
    flip(log_of(tmp_path))
    with opened(tmp_path) as now:
        assert not now.trust
        assert now.reason.startswith("salvaged ")
        rows = chunks(now.store)
    assert set(rows) < set(ROWS)
    assert len(rows) > len(ROWS) // 4


@pytest.mark.parametrize("lost", ["log", "store"])
def test_lost_synced_writes_are_noticed(tmp_path, lost):
    with killed(tmp_path) as now:
        fill(now.store)
        durable = now.store.sync()
    if lost == "log":
        log_of(tmp_path).unlink()
    else:
        shutil.rmtree(tmp_path / "store")
    with opened(tmp_path) as now:
        assert not now.trust
        assert now.reason == f"the store is at 0, behind the durable {durable}"
        assert now.store.sequence() > durable


def test_an_older_copy_put_back_is_doubted(tmp_path):
    with opened(tmp_path / "node") as now:
        fill(now.store, ROWS[:1000])
    shutil.copytree(tmp_path / "node" / "store", tmp_path / "older")
    with opened(tmp_path / "node") as now:
        fill(now.store, ROWS[1000:])
        durable = now.store.sequence()
    shutil.rmtree(tmp_path / "node" / "store")
    shutil.copytree(tmp_path / "older", tmp_path / "node" / "store")
    with killed(tmp_path / "node") as now:
        assert not now.trust
        assert f"behind the durable {durable}" in now.reason
        assert now.store.sequence() > durable
    with opened(tmp_path / "node") as now:
        assert not now.trust
        assert chunks(now.store) == ROWS[:1000]


@pytest.mark.parametrize("damage", ["missing", "flipped", "short"])
def test_a_store_without_its_side_file_is_doubted(tmp_path, damage):
    with opened(tmp_path) as now:
        fill(now.store)
    side = tmp_path / "side"
    if damage == "missing":
        side.unlink()
    elif damage == "flipped":
        flip(side)
    else:
        os.truncate(side, 20)
    with opened(tmp_path) as now:
        assert (now.trust, now.reason) == (False, "the side file is missing or damaged")


GOOD = Marks(durable=100, clean=False, doubted=False, boot_id="b")


@pytest.mark.parametrize(
    ("marks", "sequence", "trust"),
    [
        pytest.param(None, 0, True, id="new"),
        pytest.param(None, 1, False, id="no side file"),
        pytest.param(GOOD, 100, True, id="same boot"),
        pytest.param(GOOD, 99, False, id="behind"),
        pytest.param(GOOD._replace(clean=True), 99, False, id="behind after a clean stop"),
        pytest.param(GOOD._replace(boot_id="c"), 200, False, id="another boot"),
        pytest.param(GOOD._replace(boot_id="c", clean=True), 100, True, id="clean, another boot"),
        pytest.param(GOOD._replace(boot_id=""), 100, False, id="no boot id"),
        pytest.param(GOOD._replace(doubted=True), 100, False, id="doubted"),
        pytest.param(GOOD._replace(doubted=True, clean=True), 100, False, id="doubted, clean"),
    ],
)
def test_trust(marks, sequence, trust):
    assert judge(marks, sequence, "b")[0] is trust


def test_where_a_system_has_no_boot_id_only_a_clean_stop_counts():
    assert not judge(GOOD._replace(boot_id=""), 100, "")[0]
    assert judge(GOOD._replace(boot_id="", clean=True), 100, "")[0]


def test_the_side_file_keeps_its_marks(tmp_path):
    marks = Marks(durable=2**63, clean=True, doubted=False, boot_id=read_boot_id())
    assert unpack(pack(marks)) == marks
    side = SideFile(tmp_path / "side")
    assert side.marks is None
    side.start(trusted=False, sequence=7, boot_id="b")
    assert side.marks == Marks(7, False, True, "b")
    side.note_durable(9)
    side.note_durable(8)
    assert side.marks == Marks(9, False, False, "b")
    side.clean_stop(9)
    side.close()
    assert SideFile(tmp_path / "side").marks == Marks(9, True, False, "b")


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
        rows = [(b"%06d" % number, os.urandom(4000)) for number in range(3000)]
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
        rows = [(b"%06d" % number, os.urandom(4000)) for number in range(3000)]
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


def child(script, *arguments, env=None):
    return subprocess.run(
        [sys.executable, str(CHILDREN / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=60,
    )


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


def test_a_second_process_is_told_so_in_one_line(tmp_path):
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
    with pytest.raises(Refused, match=words) as caught:
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
