"""The data directory: its owner, whether its store may be trusted, and recovery from damage.

    id           name, 64-bit id and cluster of the node; another id after it has left a ring
    side         the side file and the directory's lock (side_file.py)
    store/       RocksDB (storage.py)
    damaged      a mark: the next start salvages the store
    quarantine/  damaged stores, numbered
    gone/        a store of an id that has left; it is being deleted

A salvage moves the old store away, opens a new one and copies every row that can still be read. It
may be interrupted at any point: it makes the mark first and removes it last, and a store in
quarantine without a successor is found there. It does not copy hash tree rows, because they would
vouch for rows that are lost; the node rebuilds them from the data. The rows of a salvage are never
trusted.

A disk whose id has left the ring or was replaced, and which has handed over all its data, is
emptied at the next start and gets a new id (S-MEM-3). The id changes first and the store is deleted
last, so that an interrupted start can be repeated.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from os import O_CLOEXEC, O_CREAT, O_TRUNC, O_WRONLY, close, fsync, replace, write
from os import open as open_file
from pathlib import Path

import msgspec

from dynamo_core.errors import (
    Corrupt,
    RingRefused,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
)
from dynamo_core.keys import META, TREE
from dynamo_core.membership.copied import CopyOf, new_id, rename
from dynamo_core.membership.stored_ring import GONE_KEY
from dynamo_core.ring.renaming import Renaming
from dynamo_node.salvage import readable
from dynamo_node.side_file import (
    DAMAGED,
    SideFile,
    judge,
    mark_damaged,
    read_boot_id,
    sync_directory,
)
from dynamo_node.storage import MEMTABLE_BYTES_MAX, RocksStore

NODE_ID_BITS = 64
QUARANTINED_MAX = 2
"""Damaged stores that are kept for people to examine; a salvage deletes older ones."""


class Identity(msgspec.Struct, frozen=True):
    """The owner of this disk. A wiped disk gets a new id, so that no id ever has two histories."""

    name: str
    node_id: int
    cluster: str = ""
    copy_for: str = ""
    """The ring that the setting `copy_of` named when the disk was last given a name or an id."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store, and whether it may be trusted (S-DISK-2)."""

    store: RocksStore
    trust: bool
    """False: the node is complete nowhere until its passes, and it rebuilds its hash tree."""
    reason: str
    identity: Identity


def open_store(
    directory: Path,
    name: str,
    cluster: str = "",
    memtable_bytes: int = MEMTABLE_BYTES_MAX,
    boot_id: str | None = None,
    copy: CopyOf | None = None,
) -> Opened:
    """Opens the data directory of node `name`; salvages a damaged store; makes a new empty one; a
    `copy` of a disk of another ring gets the names of this one.

    Raises StoreLocked (S-DISK-6), RingRefused `wrong-name` or `wrong-cluster`, StoreFull,
    StoreDamaged (not even salvage helps), StoreFailed; the message of each is one line for people.
    """
    boot_id = read_boot_id() if boot_id is None else boot_id
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _for_its_user_alone(directory)
        side = SideFile(directory / "side")
    except OSError as error:
        raise StoreFailed(f"the data directory cannot be used: {error}") from None
    store = None
    try:
        found = _identity(directory, name, cluster, copy)
        pending = copy is not None and copy.pending(found.cluster, found.copy_for)
        names = copy.names(cluster, name) if copy is not None and pending else None
        identity = found if names is None else _named_anew(found, names, cluster)
        shutil.rmtree(directory / "gone", ignore_errors=True)
        store, salvaged = _store(directory, side, memtable_bytes)
        has_left = _has_left(store)
        if has_left:
            store.let_go()
            identity = _emptied(directory, identity, side)
            store, salvaged = RocksStore(directory / "store", side, memtable_bytes), ""
        elif names is not None:
            _rename(directory, store, names)
        trust, reason = judge(side.marks, store.sequence(), boot_id)
        if has_left:
            reason = "the id on the disk has left the ring: the disk was emptied and has a new id"
        if salvaged:
            trust, reason = False, salvaged
        if names is not None and not has_left:
            trust, reason = False, f"a copy of {found.name} of {found.cluster}, under a new name"
        if not trust and side.marks is not None:
            store.raise_base(side.marks.durable)
        side.start(trust, store.sequence(), boot_id)
        if names is not None and not has_left:
            _write(directory / "id", identity)
        (directory / DAMAGED).unlink(missing_ok=True)
    except (StoreError, RingRefused, OSError) as error:
        if store is not None:
            store.let_go()
        side.close()
        if isinstance(error, OSError):
            raise StoreFailed(f"the data directory cannot be used: {error}") from None
        raise
    return Opened(store, trust, reason, identity)


def _for_its_user_alone(directory: Path) -> None:
    """A directory of an earlier version may be open to all users (T-7). Not changed if another user
    owns it, as the root of a mounted volume in Kubernetes."""
    now = directory.stat()
    if now.st_uid == os.geteuid() and now.st_mode & 0o077:
        directory.chmod(now.st_mode & 0o700)


def _has_left(store: RocksStore) -> bool:
    try:
        return store.get(META, GONE_KEY) is not None
    except Corrupt:
        return False  # the core finds this damage too, and the next start salvages


def _emptied(directory: Path, left: Identity, side: SideFile) -> Identity:
    """Deletes the data of an id that has left, and makes a new id."""
    identity = msgspec.structs.replace(left, node_id=_new_id())
    _write(directory / "id", identity)
    side.forget()
    shutil.rmtree(directory / "quarantine", ignore_errors=True)
    (directory / "store").rename(directory / "gone")
    sync_directory(directory)
    shutil.rmtree(directory / "gone", ignore_errors=True)
    return identity


def _new_id() -> int:
    return secrets.randbits(NODE_ID_BITS) or 1


def _named_anew(found: Identity, names: Renaming, cluster: str) -> Identity:
    """Whose disk the copy becomes. Raises RingRefused."""
    return Identity(names.own, new_id(found.name, found.node_id, names), cluster, names.ring_id)


def _rename(directory: Path, store: RocksStore, names: Renaming) -> None:
    """Durable; the next start salvages what cannot be read. Raises StoreError, RingRefused."""
    try:
        rename(store, names)
    except Corrupt:
        mark_damaged(directory)
        raise
    store.sync()


def _identity(directory: Path, name: str, cluster: str, copy: CopyOf | None) -> Identity:
    path = directory / "id"
    if not path.exists():
        if any((directory / other).exists() for other in ("store", "quarantine")):
            raise StoreDamaged(f"{directory} has a store but no id: start on an empty directory")
        identity = Identity(name, _new_id(), cluster, copy.ring_id if copy else "")
        _write(path, identity)
        return identity
    try:
        identity = msgspec.json.decode(path.read_bytes(), type=Identity)
    except msgspec.MsgspecError:
        raise StoreDamaged(f"{path} cannot be read: start on an empty directory") from None
    if copy is not None and copy.pending(identity.cluster, identity.copy_for):
        return identity
    if identity.name != name:
        raise RingRefused(
            "wrong-name", f"{directory} belongs to node {identity.name!r}, not to {name!r}"
        )
    if cluster and not identity.cluster:
        identity = msgspec.structs.replace(identity, cluster=cluster)
        _write(path, identity)
    if cluster and identity.cluster != cluster:
        raise RingRefused(
            "wrong-cluster", f"{directory} belongs to cluster {identity.cluster!r}, not {cluster!r}"
        )
    return identity


def _write(path: Path, identity: Identity) -> None:
    """Atomic and durable: writes the whole file under another name and then renames it."""
    new = path.with_suffix(".new")
    file = open_file(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    write(file, msgspec.json.encode(identity))
    fsync(file)
    close(file)
    replace(new, path)
    sync_directory(path.parent)


def _store(directory: Path, side: SideFile, memtable_bytes: int) -> tuple[RocksStore, str]:
    """The open store, and the report of a salvage ("" if none was needed)."""
    path = directory / "store"
    if any(path.glob("*.sst")) and not (path / "CURRENT").exists():
        mark_damaged(directory)  # the engine would start an empty store and delete the old files
    if not (directory / DAMAGED).exists():
        try:
            return RocksStore(path, side, memtable_bytes), ""
        except StoreDamaged:
            mark_damaged(directory)
    salvaged = _salvage(directory, memtable_bytes)
    return RocksStore(path, side, memtable_bytes), salvaged


def _salvage(directory: Path, memtable_bytes: int) -> str:
    path, new, kept = directory / "store", directory / "store.new", directory / "quarantine"
    kept.mkdir(exist_ok=True)
    ordinals = sorted(int(child.name) for child in kept.iterdir() if child.name.isdecimal())
    if path.exists():
        ordinals.append(ordinals[-1] + 1 if ordinals else 1)
        path.rename(kept / str(ordinals[-1]))
        sync_directory(directory)
    shutil.rmtree(new, ignore_errors=True)
    if not ordinals:
        return "the store was marked as damaged and is gone"
    copy = RocksStore(new, None, memtable_bytes)
    try:
        damaged = kept / str(ordinals[-1])
        expected = sum(file.stat().st_size for file in damaged.iterdir())
        with readable(damaged, memtable_bytes) as source:
            rows, gaps = copy.copy_from(source, expected, leave_out=TREE)
        copy.sync()
        copy.let_go()
    except StoreFull as error:
        copy.let_go()
        shutil.rmtree(new, ignore_errors=True)
        raise StoreFull(f"no space to salvage the damaged store: {error}") from None
    except StoreError:
        copy.let_go()
        raise
    new.rename(path)
    sync_directory(directory)
    for ordinal in ordinals[:-QUARANTINED_MAX]:
        shutil.rmtree(kept / str(ordinal), ignore_errors=True)
    return f"salvaged {rows} rows of a damaged store, gave up {gaps} ranges"
