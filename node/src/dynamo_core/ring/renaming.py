"""A ring document under new names, so that copies of its disks become another ring (decision 20).

A `Renaming` gives each member another name, another id and another address, and the ring another
id. It is a function of its fields and of the old value only. So every copy computes the same
document by itself, and the documents of copies of different moments still merge as the old ones
would have. Nothing that a frame or a handshake names is in both rings.

    cart-2 of shop/cart    becomes    again-2 of shop/again
"""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

from dynamo_core.errors import RingRefused
from dynamo_core.ring.document import Entry, Member, Owners, Ring
from dynamo_core.ring.gate import ring_fault

ID_BYTES = 8


class Renaming(msgspec.Struct, frozen=True):
    """From the members `before`-N of a ring to the members `after`-N of the ring `ring_id`. `own`:
    this node's new name, and `address`, where others dial it."""

    before: str
    after: str
    ring_id: str
    own: str
    address: str

    def name(self, name: str) -> str:
        """The new name; a name of another form is left as it is."""
        found = re.fullmatch(rf"{re.escape(self.before)}-([0-9]+)", name)
        return name if found is None else f"{self.after}-{found[1]}"

    def fits(self, name: str) -> bool:
        """Whether it is the name of a member before."""
        return re.fullmatch(rf"{re.escape(self.before)}-[0-9]+", name) is not None

    def node_id(self, node_id: int) -> int:
        """The new id of a disk: no id has two histories (S-MEM-3)."""
        text = self.ring_id.encode() + b"\0" + node_id.to_bytes(ID_BYTES, "big")
        made = blake2b(text, digest_size=ID_BYTES, person=b"copy of a disk").digest()
        return int.from_bytes(made, "big") or 1

    def address_of(self, name: str) -> str:
        """Where a member of this new name is dialled: this node's own address with the other name,
        if it begins with the own name; else nowhere, until the member writes it (S-MEM-5)."""
        head, _, port = self.address.rpartition(":")
        if head.startswith(f"{self.own}."):
            return f"{name}{head.removeprefix(self.own)}:{port}"
        return f"{name}.invalid:{port}"


def renamed(ring: Ring, names: Renaming) -> Ring:
    """The document of the new ring. Raises RingRefused: a member cannot be renamed, or a move was
    under way, whose promises are of old ids."""
    if strange := [name for name in ring.members if not names.fits(name)]:
        raise RingRefused(
            "wrong-name", f"the copied ring has a member {strange[0]!r}, not {names.before}-NUMBER"
        )
    if any(entry.move is not None or entry.old is not None for entry in ring.entries):
        raise RingRefused("wrong-cluster", "a partition moved when the disk was copied")
    made = Ring(
        identity=msgspec.structs.replace(ring.identity, cluster_id=names.ring_id),
        members={line.name: line for line in (_line(m, names) for m in ring.members.values())},
        target=msgspec.structs.replace(
            ring.target, owners=tuple(_owners(row, names) for row in ring.target.owners)
        ),
        entries=tuple(_entry(entry, names) for entry in ring.entries),
    )
    if fault := ring_fault(made):
        raise RingRefused("wrong-cluster", f"the ring of the copied disk makes no sense: {fault}")
    return made


def _line(line: Member, names: Renaming) -> Member:
    """Each member writes its own line one version later, so that its address stands."""
    name = names.name(line.name)
    made = msgspec.structs.replace(
        line, name=name, id=names.node_id(line.id), address=names.address_of(name), client=""
    )
    return made.at(names.address, "") if name == names.own else made


def _owners(owners: Owners, names: Renaming) -> Owners:
    return tuple(names.name(owner) for owner in owners)


def _entry(entry: Entry, names: Renaming) -> Entry:
    by = names.node_id(entry.by) if entry.by else 0
    return Entry(entry.term, entry.version, _owners(entry.owners, names), by=by)
