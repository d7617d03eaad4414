"""Rows of a store into parts, in slices between which a thread rests."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamo_archive import parts
from dynamo_archive.objects import Archive
from dynamo_archive.parts import PART_BYTES, SLICE_BYTES, SLICE_ROWS, pack, unpack
from dynamo_core.keys import DATA
from tests.dynamo_archive.test_contents import row

SMALL, LARGE = b"v", b"v" * 200_000


@pytest.mark.parametrize(
    ("value", "count"), [(SMALL, 0), (SMALL, 1), (SMALL, SLICE_ROWS), (SMALL, 200), (LARGE, 90)]
)
def test_a_thread_rests_after_each_slice_and_each_part(
    tmp_path: Path, value: bytes, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two rests it checks one slice, or keeps one part: checks and parts were without a
    rest, where all rows of a partition are less than a part."""
    archive = Archive(tmp_path.as_uri())
    rows = [row(b"key %d" % index, value) for index in range(count)]
    steps: list[int | str] = []
    checked, put = parts.split_rows, archive.put

    def split(family: int, some: list[parts.Row]) -> object:
        steps.append(len(some))
        assert sum(len(r) + len(k) for k, r in some[:-1]) < SLICE_BYTES
        return checked(family, some)

    def keep(name: str, data: bytes) -> None:
        steps.append("part")
        put(name, data)

    monkeypatch.setattr(parts, "split_rows", split)
    monkeypatch.setattr(archive, "put", keep)
    made, damaged = pack(archive, "parts/one/0", DATA, rows, lambda: steps.append("rest"))
    assert not damaged
    assert all(rest == "rest" for rest in steps[1::2]) and len(steps) % 2 == 0
    work = steps[::2]
    assert sum(some for some in work if isinstance(some, int)) == count
    assert max((some for some in work if isinstance(some, int)), default=0) <= SLICE_ROWS
    assert work.count("part") == len(made)
    size = sum(len(k) + len(r) for k, r in rows)
    assert sum(part.bytes for part in made) == size
    assert len(made) == -(-size // (PART_BYTES + SLICE_BYTES))
    assert [each for part in made for each in unpack(archive, part)] == rows
