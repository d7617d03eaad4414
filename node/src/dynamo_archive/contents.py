"""What a backup has of each key: the rows of all copies and hints, merged by key (S-DOT-1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from dynamo_archive.objects import Archive
from dynamo_archive.parts import Row, unpack
from dynamo_archive.sealing import PLAIN, Sealing
from dynamo_core.backup.manifest import Manifest, Piece
from dynamo_core.causality.codec import decode_record, merge_bytes
from dynamo_core.causality.records import Record
from dynamo_core.keys import PREFIX_BYTES, partition_of
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.backup_messages import Part


def contents(
    archive: Archive, manifest: Manifest, prefix: bytes = b"", sealing: Sealing = PLAIN
) -> Iterator[tuple[bytes, Record]]:
    """Keys that begin with the prefix, partition by partition, each with its record. All hints are
    in memory, and so is a partition that was saved from several owners. Raises ArchiveError,
    PeerCorrupt."""
    lww = manifest.ring.get("conflicts") == "LastWriteWins"

    forgotten, bits = manifest.forgotten(), len(manifest.pieces).bit_length() - 1

    def rows(parts: Iterable[Part]) -> Iterator[Row]:
        for part in parts:
            without = forgotten.get(part.name, ())
            for stored, record in unpack(archive, part, sealing):
                if without and partition_of(stored, bits) in without:
                    continue
                if stored[PREFIX_BYTES:].startswith(prefix):
                    verified_record(stored, record)
                    yield stored, record

    def merged(some: Iterable[Row]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for stored, record in some:
            before = found.get(stored)
            found[stored] = merge_bytes(stored[PREFIX_BYTES:], before, record, lww)
        return found

    def saved(pieces: list[Piece]) -> Iterable[Row]:
        if len(pieces) == 1:  # its parts have each key once
            return rows(pieces[0].parts)
        return merged(rows(part for piece in pieces for part in piece.parts)).items()

    hints = merged(rows(chain.from_iterable(manifest.hints.values())))
    for partition in sorted(manifest.pieces):
        for stored, record in saved(manifest.pieces[partition]):
            key, hint = stored[PREFIX_BYTES:], hints.pop(stored, None)
            whole = record if hint is None else merge_bytes(key, hint, record, lww)
            yield key, decode_record(whole)
    for stored, record in hints.items():
        yield stored[PREFIX_BYTES:], decode_record(record)
