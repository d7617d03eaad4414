"""A copy of a disk, such as a volume snapshot, becomes a disk of another ring (S-BAK-4).

The rings must never mix, so all that names the old ring is written anew before the node starts:
the document, the targets of hints and of dirty marks, and at last, by the shell, the file `id`. The
records stay as they are: they have dots of actors, which no start repeats (S-DOT-2), and no names.

What the copy knows of other copies does not fit, because they are of other moments. So the node
forgets promises, addresses and the numbers of rounds, and trusts the disk as little as one that may
have lost writes (S-DISK-2): no partition is complete until its passes.

The work may be interrupted at any point and is done again from the start: what has new names
already is left as it is, the document is written in one batch with all that fits only the old one,
and `id` is written last.
"""

from __future__ import annotations

import msgspec

from dynamo_core.errors import RingRefused, StoreDamaged, StoreFailed
from dynamo_core.keys import HINTS, META
from dynamo_core.membership import stored_ring
from dynamo_core.membership.stored_ring import ADDRESSES_KEY, GONE_KEY, RING_KEY
from dynamo_core.replica.given_up import GIVEN_UP
from dynamo_core.replica.hints import hint_key, split_hint_key
from dynamo_core.replica.store import Change, StoreContract
from dynamo_core.ring.renaming import Renaming, renamed

ROWS_MAX, BYTES_MAX = 500, 1 << 20
NOTES_MAX = 1 << 20
DIRTY = b"dirty/"
FORGOTTEN = (b"promise/", b"seen/", b"floor/", b"complete/")
FORGOTTEN_KEYS = (ADDRESSES_KEY, b"where")
KEPT = (GONE_KEY,)
KEPT_ROWS = (GIVEN_UP,)
"""They name keys, and no node."""


class CopyOf(msgspec.Struct, frozen=True):
    """What a node may find copied: a disk of `cluster`, which becomes one of the ring `ring_id`.
    `advertised`: where others dial the node."""

    cluster: str
    ring_id: str
    advertised: str

    def pending(self, cluster: str, copy_for: str) -> bool:
        """Whether a disk of `cluster`, last named for the ring `copy_for` ("" if it was no copy),
        is still to be named anew. Both rings may have one name."""
        return cluster == self.cluster and copy_for != self.ring_id

    def names(self, cluster: str, name: str) -> Renaming:
        """The new names, for a node of this cluster and name."""
        before, after = (each.rpartition("/")[2] for each in (self.cluster, cluster))
        return Renaming(before, after, self.ring_id, name, self.advertised)


def parse(setting: str, advertised: str) -> CopyOf | None:
    """The setting `copy_of`: the cluster, a space, and the id of the ring; None for ""."""
    cluster, _, ring_id = setting.partition(" ")
    return CopyOf(cluster, ring_id, advertised) if setting else None


def new_id(name: str, node_id: int, names: Renaming) -> int:
    """The id that the copy of this node's disk gets. Raises RingRefused: it is of another node than
    the one that is to start on it."""
    if names.name(name) != names.own:
        raise RingRefused("wrong-name", f"a copy of {name!r} cannot become a disk of {names.own!r}")
    return names.node_id(node_id)


def rename(store: StoreContract, names: Renaming) -> None:
    """Writes all that names the old ring anew, unless an earlier start has done it; not durable
    before the next sync. Raises RingRefused, StoreDamaged, StoreFailed, StoreFull."""
    if (row := store.get(META, RING_KEY)) is not None and _is_renamed(row, names):
        return
    _rename_hints(store, names)
    batch: list[Change] = []
    for key, value in store.scan(META, b"", None, NOTES_MAX):
        if key == RING_KEY:
            ring, _ = stored_ring.decoded(value)
            assert ring is not None
            batch.append((META, key, renamed(ring, names).encode()))
        elif key.startswith(DIRTY):
            end = len(DIRTY) + 2
            batch.append((META, key, None))
            batch.append((META, key[:end] + names.name(key[end:].decode()).encode(), value))
        elif key in FORGOTTEN_KEYS or key.startswith(FORGOTTEN):
            batch.append((META, key, None))
        elif key not in KEPT and not key.startswith(KEPT_ROWS):
            raise StoreFailed(f"the copied disk has a row {key!r} that this version does not know")
    store.write(batch)


def _is_renamed(row: bytes, names: Renaming) -> bool:
    ring, why = stored_ring.decoded(row)
    if ring is None:
        raise StoreDamaged(f"the ring on this copy cannot be read ({why}): start on an empty disk")
    if ring.identity.cluster_id != names.ring_id:
        return False
    if names.own not in ring.members:
        raise RingRefused("wrong-cluster", "copy_of: the copies need a ring id of their own")
    return True


def _rename_hints(store: StoreContract, names: Renaming) -> None:
    start = b""
    while rows := store.scan(HINTS, start, None, ROWS_MAX, BYTES_MAX):
        batch: list[Change] = []
        for key, record in rows:
            target, stored = split_hint_key(key)
            if isinstance(target, str) and names.name(target) != target:
                batch.append((HINTS, hint_key(names.name(target), stored), record))
                batch.append((HINTS, key, None))
        if batch:
            store.write(batch)
        start = rows[-1][0] + b"\0"
