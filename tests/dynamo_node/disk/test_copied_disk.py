"""A copy of a disk becomes a disk of another ring: all at once, or again from the start
(S-BAK-4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import dynamo_core.membership.copied as copied
from dynamo_core.errors import Corrupt, DynamoError, RingRefused, StoreDamaged, StoreFailed
from dynamo_core.keys import DATA, HINTS, META, partition_of, store_key
from dynamo_core.membership.copied import CopyOf
from dynamo_core.membership.stored_ring import GONE_KEY, RING_KEY
from dynamo_core.replica.hints import hint_key, split_hint_key
from dynamo_core.replica.store import Change
from dynamo_core.ring.document import Identity as RingIdentity
from dynamo_core.ring.document import Member, Ring, RingTarget
from dynamo_core.ring.placement import first_ring
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.town import Town
from dynamo_node.data_dir import Identity, Opened, open_store
from dynamo_node.storage import RocksStore

ROOT = Path(__file__).parents[3]
COPY = CopyOf("shop/cart", "new-ring", "again-1.again-nodes.shop.svc:8082")
DAY = "one-boot"
STORED = store_key(b"key")
NOTES: list[Change] = [
    (META, b"complete/\x00\x01", b"1"),
    (META, b"seen/\x00\x01", b"\x00" * 7 + b"\x09"),
    (META, b"floor/\x00\x01", b"\x00" * 7 + b"\x09"),
    (META, b"promise/\x00\x01", b"p"),
    (META, b"dirty/\x00\x01cart-2", b"1"),
    (META, b"addresses", b"a"),
    (META, b"where", b"w"),
    (META, b"given up/" + STORED, b""),
]
TARGETS = {"cart-2": "again-2", "cart-0": "again-0", "elsewhere": "elsewhere"}


def filled(directory: Path, name: str = "cart-1", **settings: Any) -> int:
    """A disk of the copied ring; returns its id."""
    opened = open_store(directory, name, "shop/cart", boot_id=DAY, **settings)
    lines = {
        f"cart-{n}": Member(f"cart-{n}", 1, 100 + n, f"cart-{n}.cart-nodes.shop.svc:8082")
        for n in range(3)
    }
    lines["cart-1"] = Member("cart-1", 1, opened.identity.node_id, "cart-1.cart-nodes.shop.svc:1")
    ring = first_ring(RingIdentity("old-ring", 16, 3), lines, RingTarget())
    hints: list[Change] = [(HINTS, hint_key(target, STORED), b"r") for target in TARGETS]
    opened.store.write([(META, RING_KEY, ring.encode()), (DATA, STORED, b"r"), *NOTES, *hints])
    opened.store.close()
    return opened.identity.node_id


def again(directory: Path, copy: CopyOf | None = COPY, name: str = "again-1") -> Opened:
    return open_store(directory, name, "shop/again", boot_id=DAY, copy=copy)


def shown(opened: Opened) -> None:
    """It is a disk of the new ring."""
    store = opened.store
    row = store.get(META, RING_KEY)
    assert row is not None
    ring = Ring.decode(row)
    assert ring.identity.cluster_id == "new-ring"
    assert set(ring.members) == {f"again-{n}" for n in range(3)}
    assert ring.members["again-1"].id == opened.identity.node_id
    assert opened.identity.name == "again-1" and opened.identity.cluster == "shop/again"
    keys = [key for key, _ in store.scan(META, b"", None, 99) if key != RING_KEY]
    assert keys == [b"dirty/\x00\x01again-2", b"given up/" + STORED]
    rows = store.scan(HINTS, b"", None, 99)
    assert {split_hint_key(key) for key, _ in rows} == {(t, STORED) for t in TARGETS.values()}
    assert store.get(DATA, STORED) == b"r"


def test_all_that_names_the_old_ring_is_written_anew_and_nothing_is_trusted(tmp_path: Path) -> None:
    old = filled(tmp_path)
    opened = again(tmp_path)
    shown(opened)
    assert not opened.trust and opened.reason == "a copy of cart-1 of shop/cart, under a new name"
    assert opened.identity.node_id != old
    opened.store.close()
    later = again(tmp_path)
    assert later.trust and later.identity == opened.identity
    shown(later)
    later.store.close()
    without = again(tmp_path, None)
    assert without.identity == opened.identity
    without.store.close()


def test_each_kind_of_row_that_a_node_keeps_about_itself_is_known_here() -> None:
    """A new kind of row has to say whether it names the old ring."""
    kinds: set[bytes] = set()
    for module in (ROOT / "node/src/dynamo_core").rglob("*.py"):
        if "testing" not in module.parts and module.name != "copied.py":
            kinds |= {found.encode() for found in re.findall(r'b"([a-z ]+/)"', module.read_text())}
    assert kinds == {copied.DIRTY, *copied.FORGOTTEN, *copied.KEPT_ROWS}


def test_every_copy_gives_a_member_the_same_id(tmp_path: Path) -> None:
    filled(tmp_path)
    first = again(tmp_path)
    row = first.store.get(META, RING_KEY)
    assert row is not None
    names = COPY.names("shop/again", "again-1")
    assert Ring.decode(row).members["again-0"].id == names.node_id(100)
    first.store.close()


@pytest.mark.parametrize("point", range(5))
def test_an_interrupted_start_is_done_again(
    tmp_path: Path, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    calls = iter(range(99))

    def failing(what: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any) -> Any:
            if next(calls) == point:
                raise StoreFailed("the power is gone")
            return what(*arguments)

        return do

    monkeypatch.setattr(copied, "ROWS_MAX", 1)
    monkeypatch.setattr(RocksStore, "write", failing(RocksStore.write))
    monkeypatch.setattr("dynamo_node.data_dir._write", failing(_id_writer()))
    try:
        again(tmp_path).store.close()
    except DynamoError as error:
        assert "the power is gone" in str(error)
    monkeypatch.undo()
    opened = again(tmp_path)
    shown(opened)
    opened.store.close()


def _id_writer() -> Callable[..., Any]:
    from dynamo_node import data_dir

    return data_dir._write


def test_a_disk_without_the_setting_or_of_another_number_or_ring_is_refused(
    tmp_path: Path,
) -> None:
    filled(tmp_path)
    for copy, name, words in (
        (None, "again-1", "belongs to node 'cart-1', not to 'again-1'"),
        (COPY, "again-2", "a copy of 'cart-1' cannot become a disk of 'again-2'"),
        (CopyOf("shop/other", "new-ring", "x:1"), "again-1", "belongs to node 'cart-1'"),
        (CopyOf("shop/cart", "old-ring", "x:1"), "again-1", "need a ring id of their own"),
    ):
        with pytest.raises(RingRefused, match=words):
            again(tmp_path, copy, name)
    opened = open_store(tmp_path, "cart-1", "shop/cart", boot_id=DAY)
    row = opened.store.get(META, RING_KEY)
    assert opened.trust and row is not None and b"old-ring" in row
    opened.store.close()


def test_rings_of_one_name_keep_their_names_and_get_other_ids_once(tmp_path: Path) -> None:
    old = filled(tmp_path)
    copy = CopyOf("shop/cart", "new-ring", "cart-1.cart-nodes.shop.svc:8082")
    ids = set()
    for _ in range(3):
        opened = open_store(tmp_path, "cart-1", "shop/cart", boot_id=DAY, copy=copy)
        row = opened.store.get(META, RING_KEY)
        assert row is not None and Ring.decode(row).members["cart-1"].id == opened.identity.node_id
        ids.add(opened.identity.node_id)
        opened.store.close()
    assert len(ids) == 1 and old not in ids
    fresh = open_store(tmp_path / "fresh", "cart-3", "shop/cart", boot_id=DAY, copy=copy)
    fresh.store.close()
    same = open_store(tmp_path / "fresh", "cart-3", "shop/cart", boot_id=DAY, copy=copy)
    assert same.identity == fresh.identity
    same.store.close()


@pytest.mark.parametrize(
    ("row", "error", "words"),
    [
        ((META, RING_KEY, b"\xff"), StoreDamaged, "the ring on this copy cannot be read"),
        ((META, b"later/x", b"1"), StoreFailed, "that this version does not know"),
    ],
)
def test_what_cannot_be_renamed_is_refused(
    tmp_path: Path, row: Change, error: type[Exception], words: str
) -> None:
    filled(tmp_path)
    opened = open_store(tmp_path, "cart-1", "shop/cart", boot_id=DAY)
    opened.store.write([row])
    opened.store.close()
    with pytest.raises(error, match=words):
        again(tmp_path)


def test_a_copy_that_cannot_be_read_is_salvaged_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)

    def scan(self: Any, family: int, *rest: Any) -> Any:
        if family == HINTS:
            raise Corrupt(HINTS, b"", "a damaged block")
        return whole(self, family, *rest)

    whole = RocksStore.scan
    monkeypatch.setattr(RocksStore, "scan", scan)
    with pytest.raises(Corrupt, match="a damaged block"):
        again(tmp_path)
    monkeypatch.undo()
    opened = again(tmp_path)
    shown(opened)
    assert not opened.trust and any((tmp_path / "quarantine").iterdir())
    opened.store.close()


def test_an_id_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    node_id = filled(tmp_path)
    (tmp_path / "id").write_text(f'{{"name":"cart-1","node_id":{node_id},"cluster":"shop/cart"}}')
    opened = again(tmp_path)
    assert opened.identity == Identity(
        "again-1", COPY.names("shop/again", "again-1").node_id(node_id), "shop/again", "new-ring"
    )
    opened.store.close()


# ------------------------------------------------------------ copies of several moments

KEY = b"cart 19"
HERE = partition_of(store_key(KEY), 4)
ROUND = (9 << 32).to_bytes(8, "big")
OLD, NEW = [f"cart-{n}" for n in range(3)], [f"again-{n}" for n in range(3)]


def copies(town: Town) -> list[Disk]:
    """Those of cart-0 and cart-1 are of before a round of forgetting, that of cart-2 of after it:
    it has nothing of the key any more, or never had it."""
    disks = [deepcopy(town.disks[name]) for name in OLD]
    last = disks[2]
    for family in (DATA, HINTS):
        for key in [key for key in last.rows[family] if key.endswith(KEY)]:
            del last.rows[family][key]
    last.rows[META].update(dict.fromkeys(numbers(), ROUND))
    return disks


def numbers() -> list[bytes]:
    return [kind + HERE.to_bytes(2, "big") for kind in (b"seen/", b"floor/")]


def begun(disks: list[Disk]) -> Town:
    """The ring of the copies."""
    town = Town(" ".join(NEW), founded=False)
    town.kill(*NEW)
    for name, disk in zip(NEW, disks, strict=True):
        names = CopyOf("shop/cart", "new-ring", f"{name}:1").names("shop/again", name)
        copied.rename(disk, names)
        disk.node_id = names.node_id(disk.node_id)
        town.disks[name] = disk
    for name in NEW:
        town.start(name, trusted=False)
    town.run(60.0)
    return town


def written(town: Town, value: bytes | None) -> None:
    """Acked by cart-0 and cart-1, while cart-2 is cut off."""
    away = {(name, "cart-2") for name in OLD} | {("cart-2", name) for name in OLD}
    town.cut |= away
    assert town.put("cart-0", KEY, value, w=2).status in (200, 201, 204)


def test_a_round_between_the_copies_loses_no_acked_write() -> None:
    town = Town(" ".join(OLD))
    written(town, b"v")
    made = begun(copies(town))
    for name in NEW:
        assert made.values(name, KEY) == [b"v"]
    assert made.ring.identity.cluster_id == "new-ring"


def test_with_the_numbers_of_the_rounds_it_would_lose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of that: the copies from before the round count as stale (S-DEL-3)."""
    monkeypatch.setattr(copied, "FORGOTTEN", (b"complete/", b"promise/"))
    monkeypatch.setattr(copied, "KEPT", (RING_KEY, GONE_KEY, *numbers()))
    town = Town(" ".join(OLD))
    written(town, b"v")
    assert begun(copies(town)).values("again-0", KEY) == []


def test_what_was_deleted_before_the_copies_stays_deleted() -> None:
    town = Town(" ".join(OLD))
    town.put("cart-0", KEY, b"v", w=3)
    town.put("cart-0", KEY, None, w=3)
    made = begun(copies(town))
    for name in NEW:
        assert made.values(name, KEY) == []
    made.put("again-1", KEY, b"new", w=2)
    assert made.values("again-2", KEY) == [b"new"]
