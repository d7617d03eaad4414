"""The manifest of a backup: what it holds and where, as JSON that any version of ours can read.

It is written last, so a backup whose manifest is there is whole. `Progress` is written first and
names the earlier backup whose parts may be referred to; it lets another run go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from typing import Any

import msgspec

from dynamo_core.bounds import StoreKey
from dynamo_core.causality.codec import checked
from dynamo_core.errors import BadParameter, Corrupt
from dynamo_core.keys import HINTS, PREFIX_BYTES
from dynamo_core.protocol.backup_messages import PARTS, Part, part_fault
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

    def parts(self) -> Iterator[Part]:
        """All that it refers to, each once."""
        known: set[str] = set()
        for parts in [*self.hints.values(), *(x.parts for ps in self.pieces.values() for x in ps)]:
            for part in parts:
                if part.name not in known:
                    known.add(part.name)
                    yield part

    def counts(self) -> dict[str, int]:
        """For people: records (a key may have several), their bytes, those in the archive, and of
        these those that this run brought there."""
        parts = list(self.parts())
        own = PARTS + self.id + "/"
        return {
            "records": sum(p.records for p in parts),
            "bytes": sum(p.bytes for p in parts),
            "stored_bytes": sum(p.stored_bytes for p in parts),
            "new_bytes": sum(p.stored_bytes for p in parts if p.name.startswith(own)),
            "parts": len(parts),
        }

    def missed(self) -> list[str]:
        """Nodes that were down: what they alone held is not in it."""
        owners = {name for ps in self.pieces.values() for piece in ps for name in piece.missed}
        return sorted(owners | set(self.silent))


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


def decode_manifest(data: bytes) -> Manifest:
    """The inverse. Raises BadParameter for bytes that are not a manifest of a known format."""
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if sha256(bytes(sealed.manifest)).hexdigest() != sealed.sha256:
            raise BadParameter("manifest", "its checksum does not hold")
        manifest = msgspec.json.decode(sealed.manifest, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter("manifest", f"not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise BadParameter("manifest", f"format {manifest.format}, this version reads {FORMAT}")
    for part in manifest.parts():
        if fault := part_fault(part):
            raise BadParameter("manifest", fault)
    return manifest


def decode_progress(data: bytes) -> Progress:
    """Raises BadParameter."""
    try:
        return msgspec.json.decode(data, type=Progress)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter("progress", f"not the progress of a backup: {error}") from error


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
    """What a part is before it is compressed: pairs of store key and record, as msgpack."""
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
