"""S-DISK-1..7 against the real engine: damage, rollback, full and failing disks, second owners."""

from __future__ import annotations

import os
import re
import shutil

import msgspec
import pytest

from dynamo_core.errors import (
    Corrupt,
    StoreDamaged,
    StoreFailed,
)
from dynamo_core.keys import DATA, META, TREE
from dynamo_core.membership.stored_ring import GONE_KEY
from dynamo_node.data_dir import Identity, open_store
from dynamo_node.side_file import Marks, SideFile, judge, mark_damaged, pack, read_boot_id, unpack
from tests.dynamo_node.disk.store_files import (
    ROWS,
    SMALL,
    chunks,
    fill,
    flip,
    killed,
    log_of,
    opened,
    reads,
    tables,
)


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


def test_damage_that_a_compaction_meets_stops_writes_and_marks_the_directory(flipped):
    result = open_store(flipped, "a", memtable_bytes=SMALL)
    with pytest.raises(StoreFailed, match=r"^Corruption: "):
        for _ in range(100):
            fill(result.store)
    with pytest.raises(StoreFailed, match=r"^Corruption: "):
        result.store.write([(META, b"more", b"")])
    with pytest.raises(StoreDamaged, match=r"the next start salvages it$"):
        result.store.reopen()
    assert result.store.get(META, b"last") is not None
    result.store.close()
    with opened(flipped, memtable_bytes=SMALL) as now:
        assert not now.trust
        assert now.reason.startswith("salvaged ")
        fill(now.store)
        assert chunks(now.store) == ROWS


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
        while len(tables(tmp_path)) < 2:  # a compaction may just have made one of them all
            with opened(tmp_path, memtable_bytes=SMALL) as now:
                fill(now.store)
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


@pytest.mark.parametrize("step", ["whole", "has its new id", "without marks", "half gone"])
def test_a_disk_whose_id_has_left_is_an_empty_one_at_the_next_start(tmp_path, step):
    """S-MEM-3, also where the emptying was cut off."""
    with opened(tmp_path, memtable_bytes=SMALL) as now:
        left = now.identity
        fill(now.store)
        now.store.write([(META, GONE_KEY, b"1")])
    if step == "has its new id":
        renewed = msgspec.structs.replace(left, node_id=left.node_id ^ 1)
        (tmp_path / "id").write_bytes(msgspec.json.encode(renewed))
    elif step == "without marks":
        (tmp_path / "side").write_bytes(b"")
    elif step == "half gone":
        tables(tmp_path)[0].unlink()
        (tmp_path / "store").rename(tmp_path / "gone")
        (tmp_path / "side").write_bytes(b"")
    with opened(tmp_path) as now:
        assert now.trust and now.store.scan(DATA, b"", None, 1) == []
        assert now.store.get(META, GONE_KEY) is None
        assert now.identity.name == left.name
        assert step == "half gone" or now.identity.node_id != left.node_id
        again = now.identity
    with opened(tmp_path) as now:
        assert now.trust and now.identity == again
    assert not (tmp_path / "gone").exists()


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
        assert now.reason == "no clean stop, and the machine has restarted since"
    with killed(tmp_path, boot_id="tuesday") as now:
        assert not now.trust
        assert now.reason == "the last start distrusted the store, and there was no sync since"
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
        assert now.reason == f"the store is at 0, behind {durable}, which was durable"
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
        assert f"behind {durable}, which was durable" in now.reason
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
