"""What a backup has of each key, read without a ring: hints, partitions, rounds between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamo_archive.contents import contents
from dynamo_archive.objects import Archive
from dynamo_archive.parts import pack
from dynamo_core.backup.manifest import Manifest, Piece
from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import EMPTY, Sibling, update
from dynamo_core.keys import DATA, partition_of, store_key

KEYS = [b"key %d" % index for index in range(40)]
BITS = 2


def row(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    record = update(EMPTY, EMPTY.context(), Sibling(7, 1, value, "text/plain"))
    return store_key(key), encode_record(key, record)


@pytest.mark.parametrize("floor", [3, 4, 5])
def test_hints_from_before_a_round_are_left_out(tmp_path: Path, floor: int) -> None:
    """The node with the hints had agreed to round 4. Partition 1 knows of round `floor`."""
    archive = Archive(tmp_path.as_uri())
    rows = sorted(row(key, b"v") for key in KEYS)
    parts, _ = pack(archive, "parts/one/hints", DATA, rows, lambda: None)
    pieces = {p: [Piece("a", [], floor=floor if p == 1 else 4)] for p in range(1 << BITS)}
    rounds = {part.name: dict.fromkeys(pieces, 4) for part in parts}
    one = Manifest(1, "one", "c", 1, 2, {}, {"d": parts}, [], pieces, rounds=rounds)
    found = {key for key, _ in contents(archive, one)}
    left_out = {key for key in KEYS if floor > 4 and partition_of(store_key(key), BITS) == 1}
    assert found == set(KEYS) - left_out
    assert bool(left_out) == (floor > 4)
