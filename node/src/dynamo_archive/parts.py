"""Records as objects: rows as msgpack, compressed with zstandard, encrypted if that is asked for,
known by their SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import zstandard

from dynamo_archive.objects import Archive, ArchiveError
from dynamo_archive.sealing import PLAIN, Sealing
from dynamo_core.backup.manifest import decode_rows, encode_rows, split_rows
from dynamo_core.errors import BadParameter
from dynamo_core.protocol.backup_messages import Part

PART_BYTES = 8 * 1024 * 1024
"""A part ends with the slice that reaches it. Larger: fewer objects, more memory at both ends."""
PART_BYTES_MAX = 128 * 1024 * 1024
"""No part unpacks to more: a record is far smaller (S-SIB-1)."""
SLICE_ROWS, SLICE_BYTES = 64, 256 * 1024
"""A slice ends with the record that reaches one of them. `pack` rests between slices."""
LEVEL = 3
Row = tuple[bytes, bytes]


def pack(
    archive: Archive, prefix: str, family: int, rows: Iterable[Row], rest: Callable[[], None],
    sealing: Sealing = PLAIN,
) -> tuple[list[Part], list[bytes]]:  # fmt: skip
    """Rows of the store into parts. Returns them, and the store keys of damaged records, of which
    no part has any. `rest` is called after each slice and each part. Raises ArchiveError,
    StoreError."""
    parts: list[Part] = []
    damaged: list[bytes] = []
    kept: list[Row] = []
    size = 0

    def keep() -> None:
        parts.append(_keep(archive, f"{prefix}-{len(parts)}", kept, size, sealing))
        rest()

    for some in _slices(rows):
        good, bad = split_rows(family, some)
        damaged += bad
        kept += good
        size += sum(len(stored) + len(record) for stored, record in good)
        rest()
        if size >= PART_BYTES:
            keep()
            kept, size = [], 0
    if kept:
        keep()
    return parts, damaged


def _slices(rows: Iterable[Row]) -> Iterator[list[Row]]:
    some: list[Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row[0]) + len(row[1])
        if len(some) >= SLICE_ROWS or size >= SLICE_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _keep(archive: Archive, name: str, rows: list[Row], size: int, sealing: Sealing) -> Part:
    data = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(encode_rows(rows))
    data = sealing.seal(data)
    archive.put(name, data)
    return Part(name, len(rows), size, len(data), sha256(data).hexdigest())


def unpack(archive: Archive, part: Part, sealing: Sealing = PLAIN) -> list[Row]:
    """The rows of a part, held against its checksum. Raises ArchiveError."""
    data = archive.get(part.name, PART_BYTES_MAX)
    if data is None:
        raise ArchiveError(f"{part.name}: it is missing")
    if sha256(data).hexdigest() != part.sha256:
        raise ArchiveError(f"{part.name}: its checksum is wrong")
    try:
        rows = decode_rows(_plain(sealing.open(part.name, data)))
    except (zstandard.ZstdError, BadParameter) as error:
        raise ArchiveError(f"{part.name}: {error}") from None
    if len(rows) != part.records:
        raise ArchiveError(f"{part.name}: {len(rows)} records, {part.records} were saved")
    return rows


def _plain(data: bytes) -> bytes:
    """The head of a frame may say the size of its contents. The library then takes that much memory
    and ignores its limit, so the size is checked first. Raises ZstdError."""
    if zstandard.frame_content_size(data) > PART_BYTES_MAX:
        raise zstandard.ZstdError(f"too large, more than {PART_BYTES_MAX} bytes")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=PART_BYTES_MAX)
