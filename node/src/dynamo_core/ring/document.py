"""The ring document: the members, and the owners of each partition (S-RING-3).

Theory of operation. Four parts, each merged on its own, so that two documents always merge into
one and nothing needs a leader:

    identity   fixed when the ring is created
    members    one line a name; the later life of a name wins, LEFT is final within one life
    target     one register: the wanted owners, and the defaults
    entries    one a partition: the real owners; `term` counts the switches, so a fork of the ring
               without a switch always loses

Lines are ordered by their numbers first and by the digest of their bytes last. That is a total
order, so merge takes the larger line of the two, line by line. It is commutative, associative and
idempotent: the order of gossip does not matter [P 4.8.1]. Two documents are equal when their four
part digests are equal. Nodes send only the parts that differ.

The wire form is an array-like msgpack struct with sorted keys: equal values have equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

import msgspec

from dynamo_core.bounds import PARTITIONS_MAX
from dynamo_core.errors import BadFrame, Corrupt, RingRefused
from dynamo_core.keys import META

DIGEST_BYTES = 16
PARTITIONS_MIN = 16
PARTS = 4
CHANGED = 1 << 12
"""An administrator's change of a member's line adds this to its version. A member that has only
moved adds 1. So when both happen at one time the change stands, and the member then writes its
address into the changed line again (S-MEM-5)."""

JOINING: Final = "JOINING"
MEMBER: Final = "MEMBER"
LEAVING: Final = "LEAVING"
LEFT: Final = "LEFT"
State = Literal["JOINING", "MEMBER", "LEAVING", "LEFT"]
_RANK = {JOINING: 0, MEMBER: 1, LEAVING: 2, LEFT: 3}

SIBLINGS: Final = "Siblings"
LAST_WRITE_WINS: Final = "LastWriteWins"
Conflicts = Literal["Siblings", "LastWriteWins"]

Owners = tuple[str, ...]

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def digest_of(part: Any) -> bytes:
    """16 bytes that identify a part, a line or an entry: a hash of its canonical bytes."""
    return blake2b(_encoder.encode(part), digest_size=DIGEST_BYTES).digest()


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """What never changes. `partitions` is a power of two, `n` the number of owners of each."""

    cluster_id: str
    partitions: int
    n: int
    conflicts: Conflicts = SIBLINGS


class Member(msgspec.Struct, frozen=True, array_like=True):
    """One life of a name. `id` is 64 random bits, new with every life (S-MEM-3, S-MEM-4). Peers
    dial `address`, clients dial `client`."""

    name: str
    incarnation: int
    id: int
    address: str
    client: str = ""
    zone: str = ""
    weight: Annotated[int, msgspec.Meta(ge=1)] = 1
    state: State = MEMBER
    version: int = 0

    def later(self, other: Member) -> Member:
        """The line that stands after a merge of two lines with one name."""
        mine, theirs = self._order(), other._order()
        if mine == theirs and self != other:
            return other if digest_of(other) > digest_of(self) else self
        return other if theirs > mine else self

    @property
    def changes(self) -> int:
        """How often administrators changed this line; changes of address are not counted."""
        return self.version // CHANGED

    def changed(self, **fields: Any) -> Member:
        """This line with other fields, one change later."""
        return msgspec.structs.replace(self, version=self.version + CHANGED, **fields)

    def at(self, address: str, client: str) -> Member:
        """This line with the new addresses of a member that has moved."""
        return msgspec.structs.replace(
            self, address=address, client=client, version=self.version + 1
        )

    def _order(self) -> tuple[int, bool, int, int]:
        return self.incarnation, self.state == LEFT, self.version, _RANK[self.state]


class RingTarget(msgspec.Struct, frozen=True, array_like=True):
    """The wanted state: the owners by partition (empty without a wish) and the defaults.
    `operations` has the ids of the last operations applied, the current one last. `moves` is the
    number of replicas that the current operation planned to move."""

    version: int = 0
    owners: tuple[Owners, ...] = ()
    r: int = 2
    w: int = 2
    dw: int = 1
    sloppy: bool = True
    operations: tuple[str, ...] = ()
    moves: int = 0

    def later(self, other: RingTarget) -> RingTarget:
        """The target with the larger (version, digest) wins as a whole."""
        if self.version == other.version and self != other:
            return other if digest_of(other) > digest_of(self) else self
        return other if other.version > self.version else self


class Entry(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One partition: its owners, the `move` (out, in) under way, the `old` owners while a switch
    settles. `term` counts the switches, `version` the changes within a term (S-MOVE-1..4); `by` is
    the id of the receiver that wrote it, 0 where no receiver did."""

    term: int
    version: int
    owners: Owners
    move: tuple[str, str] | None = None
    old: Owners | None = None
    by: int = 0

    @cached_property
    def id(self) -> tuple[int, int]:
        """The id of this entry in requests between nodes (S-RING-4): the term, and the version
        with 32 bits of the digest below it. Two receivers that begin at one time write the same
        version; the digest tells their entries apart."""
        return self.term, self.version << 32 | int.from_bytes(digest_of(self)[:4], "big")

    @property
    def after(self) -> Owners:
        """The owners after the move under way has switched."""
        if self.move is None:
            return self.owners
        out, receiver = self.move
        return tuple(receiver if name == out else name for name in self.owners)

    @cached_property
    def quorums(self) -> tuple[Owners, ...]:
        """The owner lists of which each must have W acks: two while a move or a switch is under
        way, which makes writes joint (S-MOVE-1, S-MOVE-3)."""
        if self.move is not None:
            return self.owners, self.after
        return (self.owners,) if self.old is None else (self.owners, self.old)

    def later(self, other: Entry) -> Entry:
        """The entry that stands: the larger (term, version, digest)."""
        mine, theirs = (self.term, self.version), (other.term, other.version)
        if mine == theirs and self != other:
            return other if digest_of(other) > digest_of(self) else self
        return other if theirs > mine else self


class RingParts(msgspec.Struct, frozen=True, array_like=True):
    """What gossip exchanges: the parts that differ, None for the others."""

    identity: Identity | None = None
    members: dict[str, Member] | None = None
    target: RingTarget | None = None
    entries: tuple[Entry, ...] | None = None

    def ring(self) -> Ring:
        """The ring of a full set of parts, for a node that has none yet. Raises BadFrame."""
        identity, members = self.identity, self.members
        target, entries = self.target, self.entries
        if identity is None or members is None or target is None or entries is None:
            raise BadFrame("parts of a ring, not a whole one")
        ring = Ring(identity, members, target, entries)
        fault = ring.fault()
        if fault:
            raise BadFrame(fault)
        return ring


class Ring(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One ring document. It is immutable: a change makes a new one, which shares the other
    parts."""

    identity: Identity
    members: dict[str, Member]
    target: RingTarget
    entries: tuple[Entry, ...]

    @cached_property
    def _digests(self) -> tuple[bytes, ...]:
        return tuple(map(digest_of, (self.identity, self.members, self.target, self.entries)))

    def digests(self) -> tuple[bytes, ...]:
        """The digests of the four parts, in their order; computed once."""
        return self._digests

    @cached_property
    def digest(self) -> bytes:
        """The hash that identifies this document: the digest of its part digests."""
        return digest_of(self._digests)

    @cached_property
    def epoch(self) -> int:
        """A number for people that grows with every change: all versions, terms and lives, added
        up."""
        return (
            sum(m.incarnation + m.changes + m.version % CHANGED for m in self.members.values())
            + self.target.version
            + sum(e.term + e.version for e in self.entries)
        )

    @cached_property
    def partition_bits(self) -> int:
        """How many top bits of a position name the partition (S-KEY-2)."""
        return self.identity.partitions.bit_length() - 1

    def live_names(self) -> tuple[str, ...]:
        """Every member that has not LEFT, by name."""
        return tuple(sorted([m.name for m in self.members.values() if m.state != LEFT]))

    def live(self, names: Iterable[str]) -> list[str]:
        """Those of the names that have not LEFT, each once, in their order."""
        members = self.members
        return [n for n in dict.fromkeys(names) if n in members and members[n].state != LEFT]

    def knows(self, entry: Entry) -> bool:
        """Whether this document has a line for every name in the entry. If not, this node must
        first hear those lines by gossip."""
        names = (*entry.owners, *entry.after, *(entry.old or ()))
        return all(name in self.members for name in names)

    def is_gone(self, name: str, node_id: int) -> bool:
        """S-MEM-3: the id is LEFT, or the line of the name has another id.

        A life that is newer than this document looks the same. So a node that hears from such an id
        merges the peer's ring parts first, and then asks again.
        """
        line = self.members.get(name)
        return line is not None and (line.id != node_id or line.state == LEFT)

    def with_member(self, member: Member) -> Ring:
        """This ring with `member` merged into its line."""
        return merge_parts(self, RingParts(members={member.name: member}))

    def with_entry(self, partition: int, entry: Entry) -> Ring:
        """This ring with `entry` merged into the partition's."""
        later = self.entries[partition].later(entry)
        if later is self.entries[partition]:
            return self
        entries = (*self.entries[:partition], later, *self.entries[partition + 1 :])
        return Ring(self.identity, self.members, self.target, entries)

    def with_entries(self, changed: Mapping[int, Entry]) -> Ring:
        """This ring with these entries instead of the present ones; nothing is merged."""
        if not changed:
            return self
        entries = tuple(changed.get(p, entry) for p, entry in enumerate(self.entries))
        return Ring(self.identity, self.members, self.target, entries)

    def with_target(self, target: RingTarget) -> Ring:
        """This ring with `target` merged into the register."""
        return merge_parts(self, RingParts(target=target))

    def parts_differing(self, digests: Iterable[bytes]) -> RingParts:
        """The parts of this ring whose digests differ from `digests`; () asks for all parts."""
        theirs = (*digests, *(b"",) * PARTS)
        same = [mine == other for mine, other in zip(self._digests, theirs, strict=False)]
        return RingParts(
            None if same[0] else self.identity,
            None if same[1] else self.members,
            None if same[2] else self.target,
            None if same[3] else self.entries,
        )

    def fault(self) -> str:
        """What is wrong with the shape of this document, "" when nothing is."""
        size = self.identity.partitions
        if not PARTITIONS_MIN <= size <= PARTITIONS_MAX or size & (size - 1):
            return f"{size} partitions"
        if len(self.entries) != size or len(self.target.owners) not in (0, size):
            return f"{len(self.entries)} entries for {size} partitions"
        if any(name != member.name for name, member in self.members.items()):
            return "a member under another's name"
        return ""

    def encode(self) -> bytes:
        """Canonical bytes."""
        return _encoder.encode(self)

    @staticmethod
    def decode(data: bytes) -> Ring:
        """The inverse, for the document on the disk. Raises Corrupt."""
        try:
            ring = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(META, b"", f"not a ring: {error}") from error
        if fault := ring.fault():
            raise Corrupt(META, b"", f"not a ring: {fault}")
        return ring


_decoder = msgspec.msgpack.Decoder(Ring)


def merge(a: Ring, b: Ring) -> Ring:
    """The one document that both become; `a` itself when `b` adds nothing.

    Raises RingRefused("wrong-cluster") when they are of different rings.
    """
    if a is b:
        return a
    return merge_parts(a, RingParts(b.identity, b.members, b.target, b.entries))


def merge_parts(ring: Ring, parts: RingParts) -> Ring:
    """The ring with what `parts` add; `ring` itself when that is nothing.

    Raises RingRefused("wrong-cluster"), and BadFrame when the parts do not fit the ring's shape.
    """
    identity = ring.identity
    if parts.identity is not None and parts.identity != identity:
        theirs = parts.identity.cluster_id
        raise RingRefused("wrong-cluster", f"this is {identity.cluster_id}, not {theirs}")
    members = _merge_members(ring.members, parts.members or {})
    target = ring.target.later(parts.target) if parts.target is not None else ring.target
    entries = _merge_entries(ring.entries, parts.entries)
    if members is ring.members and target is ring.target and entries is ring.entries:
        return ring
    merged = Ring(identity, members, target, entries)
    if fault := merged.fault():
        raise BadFrame(fault)
    return merged


def _merge_members(mine: dict[str, Member], theirs: dict[str, Member]) -> dict[str, Member]:
    changed = {}
    for name, line in theirs.items():
        here = mine.get(name)
        later = line if here is None else here.later(line)
        if later is not here:
            changed[name] = later
    return mine | changed if changed else mine


def _merge_entries(mine: tuple[Entry, ...], theirs: tuple[Entry, ...] | None) -> tuple[Entry, ...]:
    if theirs is None or theirs is mine:
        return mine
    if len(theirs) != len(mine):
        raise BadFrame(f"{len(theirs)} entries for {len(mine)} partitions")
    merged = tuple(a.later(b) for a, b in zip(mine, theirs, strict=True))
    return mine if all(a is b for a, b in zip(mine, merged, strict=True)) else merged
