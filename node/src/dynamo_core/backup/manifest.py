"""The manifest of a backup: what it holds and where, as JSON that any version of ours can read.

It is written last, so a backup whose manifest is there is whole. `Progress` is written first and
names the earlier backup whose parts may be referred to; it lets another run go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from dynamo_core.bounds import StoreKey
from dynamo_core.causality.codec import checked
from dynamo_core.errors import BadParameter, Corrupt
from dynamo_core.keys import HINTS, PREFIX_BYTES
from dynamo_core.protocol.backup_messages import PARTS, Part, Saved, part_fault
from dynamo_core.replica.hints import split_hint_key

FORMAT = 1
Rows = tuple[list[tuple[bytes, bytes]], list[bytes]]
BACKUPS = "backups/"


class Piece(msgspec.Struct, omit_defaults=True):
    """One copy of one partition: from which node, by which backup (``""``: this one)."""

    node: str
    parts: list[Part]
    root: str = ""
    backup: str = ""
    missed: list[str] = []
    damaged: list[str] = []
    """Keys of damaged records that no owner has any more, as `key_hash`."""
    seen: int = 0
    """The last round that this copy had agreed to when it was read."""
    floor: int = 0
    """The last round that it knew to be committed then."""
    passed: int = 0
    """The last round that it knew to be committed when it began to compare other copies."""


class Progress(msgspec.Struct, omit_defaults=True):
    """What is saved so far."""

    id: str
    cluster_id: str
    started_ms: int
    base: str = ""
    """The earlier backup whose parts this one may refer to: it keeps them (``""``: none)."""
    hints: dict[str, list[Part]] = {}
    silent: list[str] = []
    """Members whose hints could not be saved, for they did not answer."""
    pieces: dict[int, list[Piece]] = {}
    rounds: dict[str, dict[int, int]] = {}
    """By part with hints and partition: the last round that their store had agreed to."""
    unsure: dict[str, list[int]] = {}
    """By node: partitions with hints that may be newer than these numbers say."""
    again: int = 0
    """A number that all orders of this backup have, another one after parts were lost. Nodes answer
    an order that comes again with what they saved before; the id may be that of a deleted
    backup."""

    def parts(self) -> Iterator[Part]:
        """All that is saved so far."""
        for parts in self.hints.values():
            yield from parts
        for pieces in self.pieces.values():
            for piece in pieces:
                yield from piece.parts

    def counts(self) -> dict[str, int]:
        """For people."""
        return counts(self.parts(), self.id)

    def told(self) -> dict[str, Any]:
        """As docs/http-api.md has it."""
        return told(self.missed(), self.pieces, self.counts())

    def missed(self) -> list[str]:
        """Nodes that were down so far."""
        return missed(self.pieces, self.silent)

    def check(self, sizes: Mapping[str, int]) -> list[int]:
        """Forgets what was saved and is no longer in the archive; returns these partitions. Hints
        come before all partitions, so with lost hints everything is saved again."""
        lost = [p for p, pieces in self.pieces.items() if not whole(pieces, sizes)]
        if not all(present(parts, sizes) for parts in self.hints.values()):
            self.hints, lost = {}, list(self.pieces)
        for partition in lost:
            del self.pieces[partition]
        return lost

    def orders_again(self, again: int) -> None:
        """Parts were lost: what nodes saved under the number before is not to be answered again."""
        self.again = again

    def without_base(self) -> None:
        """Removes what refers to that backup, which is gone."""
        self.base = ""

    def hints_of(self, node: str, saved: Saved) -> None:
        """Notes that the hints of a member are saved."""
        self.hints[node] = saved.parts
        parts = zip(saved.parts, saved.stamps, strict=True)
        self.rounds |= {part.name: stamps for part, stamps in parts if stamps}
        if saved.unsure:
            self.unsure[node] = list(saved.unsure)
        self.silent = [name for name in self.silent if name != node]


class Manifest(msgspec.Struct):
    """A whole backup. Times are ms since 1970, by the clock of the node that was asked."""

    format: int
    id: str
    cluster_id: str
    started_ms: int
    ended_ms: int
    ring: dict[str, Any]
    hints: dict[str, list[Part]]
    silent: list[str]
    pieces: dict[int, list[Piece]]
    base: str = ""
    version: str = ""
    rounds: dict[str, dict[int, int]] = {}
    unsure: dict[str, list[int]] = {}
    """As in Progress."""

    def forgotten(self) -> dict[str, tuple[int, ...]]:
        """By part with hints: the partitions of which a round went by between them and all copies.
        They were delivered before it, so the copies have what was in them. What was deleted and
        forgotten since would come back from them."""
        return {part.name: old for _, part in self._hints() if (old := self._older(part))}

    def _hints(self) -> Iterator[tuple[str, Part]]:
        return ((node, part) for node, parts in self.hints.items() for part in parts)

    def _older(self, part: Part) -> tuple[int, ...]:
        """The partitions whose copies all know a round that the hints in the part do not know."""
        seen = self.rounds.get(part.name, {})
        return tuple(sorted(p for p in seen if seen[p] < self._least(p, "floor")))

    def _least(self, partition: int, field: str) -> int:
        return min((getattr(one, field) for one in self.pieces.get(partition, ())), default=0)

    def _left_out(self) -> set[str]:
        """Nodes with hints that are left out although no copy may have them. Either a round went by
        while the copies were compared, or the node had not compared its numbers yet."""
        return {
            node
            for node, part in self._hints()
            for p in self._older(part)
            if p in self.unsure.get(node, ())
            or self.rounds[part.name][p] >= self._least(p, "passed")
        }

    def parts(self) -> Iterator[Part]:
        """All that it refers to, each once."""
        known: set[str] = set()
        for parts in [*self.hints.values(), *(x.parts for ps in self.pieces.values() for x in ps)]:
            for part in parts:
                if part.name not in known:
                    known.add(part.name)
                    yield part

    def counts(self) -> dict[str, int]:
        """For people."""
        return counts(self.parts(), self.id)

    def told(self) -> dict[str, Any]:
        """As docs/http-api.md has it."""
        return told(self.missed(), self.pieces, self.counts())

    def missed(self) -> list[str]:
        """Nodes that were down: what they alone held is not in it."""
        return missed(self.pieces, {*self.silent, *self._left_out()})

    def damaged(self) -> list[tuple[int, str]]:
        """Keys that it lacks because no owner had an undamaged record any more."""
        return damaged(self.pieces)

    def comparable(self, cluster_id: str, entries: int) -> dict[int, Piece]:
        """The partitions that a later backup of this ring may refer to: one copy has all of it."""
        if self.cluster_id != cluster_id or self.ring.get("partitions") != entries:
            return {}
        return {p: ps[0] for p, ps in self.pieces.items() if len(ps) == 1 and ps[0].root}


def counts(parts: Iterable[Part], backup: str) -> dict[str, int]:
    """For people: records (a key may have several), their bytes, those in the archive, and of these
    those that this backup brought there."""
    some = list(parts)
    own = PARTS + backup + "/"
    return {
        "records": sum(p.records for p in some),
        "bytes": sum(p.bytes for p in some),
        "stored_bytes": sum(p.stored_bytes for p in some),
        "new_bytes": sum(p.stored_bytes for p in some if p.name.startswith(own)),
        "parts": len(some),
    }


def told(
    names: list[str], pieces: Mapping[int, list[Piece]], numbers: dict[str, int]
) -> dict[str, Any]:
    """What a backup lacks, and how large it is."""
    return {"missed": names, "damaged": len(damaged(pieces)), **numbers}


def missed(pieces: Mapping[int, list[Piece]], silent: Iterable[str]) -> list[str]:
    """Owners of partitions, and keepers of hints, that were down."""
    owners = {name for ps in pieces.values() for piece in ps for name in piece.missed}
    return sorted(owners | set(silent))


def damaged(pieces: Mapping[int, list[Piece]]) -> list[tuple[int, str]]:
    """Keys whose records were damaged on all owners that were up: partition and `key_hash`."""
    return sorted({(p, key) for p, ps in pieces.items() for piece in ps for key in piece.damaged})


def whole(pieces: Iterable[Piece], sizes: Mapping[str, int]) -> bool:
    """Whether all parts are among these objects, each of the size that it was saved with. A reader
    of an object checks its contents by the checksum."""
    return all(present(piece.parts, sizes) for piece in pieces)


def present(parts: Iterable[Part], sizes: Mapping[str, int]) -> bool:
    """As `whole`, for some parts."""
    return all(sizes.get(part.name) == part.stored_bytes for part in parts)


def places(parts: Iterable[Part]) -> tuple[str, ...]:
    """Where these parts lie: a prefix for each backup that has saved some."""
    return tuple(sorted({part.name.rpartition("/")[0] + "/" for part in parts}))


class _Sealed(msgspec.Struct):
    sha256: str
    manifest: msgspec.Raw


def manifest_name(backup: str) -> str:
    """Where the manifest lies in the archive."""
    return f"{BACKUPS}{backup}/manifest.json"


def progress_name(backup: str) -> str:
    """Where the progress lies in the archive."""
    return f"{BACKUPS}{backup}/progress.json"


def encode_manifest(manifest: Manifest) -> bytes:
    """With a checksum of its bytes."""
    body = msgspec.json.encode(manifest)
    return msgspec.json.encode(_Sealed(sha256(body).hexdigest(), msgspec.Raw(body)))


def decode_manifest(data: bytes, backup: str = "") -> Manifest:
    """The inverse. The manifest must be that of `backup`. Raises BadParameter for bytes that are
    not a manifest of a known format."""
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if sha256(bytes(sealed.manifest)).hexdigest() != sealed.sha256:
            raise BadParameter("manifest", "its checksum is wrong")
        manifest = msgspec.json.decode(sealed.manifest, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter("manifest", f"not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise BadParameter("manifest", f"format {manifest.format}, this version reads {FORMAT}")
    if backup not in ("", manifest.id):
        raise BadParameter("manifest", f"that of {backup!r} is of {manifest.id[:80]!r}")
    for part in manifest.parts():
        if fault := part_fault(part):
            raise BadParameter("manifest", fault)
    return manifest


def decode_progress(data: bytes, backup: str = "") -> Progress:
    """The inverse. The progress must be that of `backup`. Raises BadParameter."""
    try:
        progress = msgspec.json.decode(data, type=Progress)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter("progress", f"not the progress of a backup: {error}") from error
    if backup not in ("", progress.id):
        raise BadParameter("progress", f"that of {backup!r} is of {progress.id[:80]!r}")
    for part in progress.parts():
        if fault := part_fault(part):
            raise BadParameter("progress", fault)
    return progress


def unneeded(
    names: Iterable[str], manifests: Collection[Manifest], running: Collection[Progress]
) -> list[str]:
    """Parts that no kept backup and no running one refers to. `names`: all parts in the archive.
    `manifests`: of all backups that are kept, read after those of the others were removed; the base
    of a running one is always among them. `running`: without a manifest yet."""
    needed = {part.name for manifest in manifests for part in manifest.parts()}
    ours = {PARTS + progress.id + "/" for progress in running}
    for progress in running:
        pieces = [piece for some in progress.pieces.values() for piece in some]
        needed |= {part.name for piece in pieces for part in piece.parts}
    return sorted(
        name
        for name in names
        if name not in needed and not any(name.startswith(prefix) for prefix in ours)
    )


def too_many(manifests: Iterable[Manifest], count: int, since_ms: int) -> list[str]:
    """Retention: backups beyond the newest `count` that began before `since_ms`, oldest first. A
    backup goes only when both rules let it: the newest `count` stay however old they are."""
    ordered = sorted(manifests, key=lambda m: (m.started_ms, m.id))
    beyond = ordered[:-count] if count else ordered
    return [m.id for m in beyond if m.started_ms < since_ms]


def encode_rows(rows: list[tuple[bytes, bytes]]) -> bytes:
    """A part before it is compressed: pairs of store key and record, as msgpack."""
    return msgspec.msgpack.encode(rows)


def decode_rows(data: bytes) -> list[tuple[bytes, bytes]]:
    """The inverse. Raises BadParameter."""
    try:
        return msgspec.msgpack.decode(data, type=list[tuple[StoreKey, bytes]])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadParameter("part", f"not rows: {error}") from error


def split_rows(family: int, rows: Iterable[tuple[bytes, bytes]]) -> Rows:
    """Rows of the store as parts have them, and the store keys of those that are damaged: a damaged
    record is never kept (S-DISK-7)."""
    good: list[tuple[bytes, bytes]] = []
    damaged: list[bytes] = []
    for key, record in rows:
        stored = split_hint_key(key)[1] if family == HINTS else key
        try:
            good.append((stored, checked(stored[PREFIX_BYTES:], record)))
        except Corrupt:
            damaged.append(stored)
    return good, damaged
