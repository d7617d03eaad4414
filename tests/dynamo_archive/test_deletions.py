"""Deletions in an archive: what a backup that runs or is kept needs stays, also when a deletion is
cut off at any request, and when a backup begins meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from dynamo_archive import backups
from dynamo_archive.objects import OBJECT_BYTES_MAX, Archive, ArchiveError
from dynamo_core.backup.manifest import (
    Manifest,
    Piece,
    Progress,
    encode_manifest,
    manifest_name,
    progress_name,
)
from dynamo_core.protocol.backup_messages import PARTS, Part


class Watched(Archive):
    """A directory. `before` is called with each request; what it raises cuts the work off."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.before: Callable[[str, str], None] = lambda what, name: None

    def get(self, name: str, bytes_max: int = OBJECT_BYTES_MAX) -> bytes | None:
        self.before("get", name)
        return super().get(name, bytes_max)

    def put(self, name: str, data: bytes) -> None:
        self.before("put", name)
        super().put(name, data)

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        self.before("names", prefix)
        yield from super().names(prefix)

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self.before("delete", name)
            super().delete([name])

    def parts(self) -> set[str]:
        return {name for name, _ in super().names(PARTS)}


@pytest.fixture
def archive(tmp_path: Path) -> Watched:
    return Watched(tmp_path.as_uri())


def begun(archive: Archive, name: str, base: str = "") -> None:
    """A backup under way: its progress, and a part that the progress does not name yet."""
    progress = msgspec.json.encode(Progress(name, "ring", 1, base))
    Archive.put(archive, progress_name(name), progress)
    Archive.put(archive, f"{PARTS}{name}/own", b"rows")


def ended(archive: Archive, name: str, *others: str, base: str = "", at: int = 1) -> None:
    """A whole backup: its part, and those of others that it refers to."""
    begun(archive, name, base)
    parts = [Part(each, 1, 4, 4, "") for each in (f"{PARTS}{name}/own", *others)]
    pieces = {0: [Piece("a", parts)]}
    whole = Manifest(1, name, "ring", at, at + 1, {}, {}, [], pieces, base)
    Archive.put(archive, manifest_name(name), encode_manifest(whole))


def all_there(archive: Watched) -> None:
    there = archive.parts()
    for manifest in backups.find(archive).whole.values():
        assert {part.name for part in manifest.parts()} <= there


def test_parts_of_a_backup_that_begins_meanwhile_stay(archive: Watched) -> None:
    """At every request of the deletion in turn."""
    for moment in range(100):
        ended(archive, "old")
        ended(archive, "kept", f"{PARTS}old/own", base="old")
        asked = 0

        def begin(what: str, name: str, moment: int = moment) -> None:
            nonlocal asked
            if asked == moment:
                begun(archive, "late", "kept")
            asked += 1

        archive.before = begin
        backups.delete(archive, ["old"])
        archive.before = lambda what, name: None
        if asked <= moment:
            assert moment > 5
            return
        assert f"{PARTS}late/own" in archive.parts(), f"request {moment}"
        all_there(archive)
        archive.delete([f"{PARTS}late/own", progress_name("late")])
    raise AssertionError("a deletion asks less often")


def test_a_deletion_that_is_cut_off_leaves_nothing_that_another_run_believes(
    archive: Watched,
) -> None:
    """The progress of a backup never outlives its parts: another run under its id would go on."""
    for moment in range(100):
        ended(archive, "old")
        ended(archive, "kept", f"{PARTS}old/own", base="old", at=2)
        asked = 0

        def cut(what: str, name: str, moment: int = moment) -> None:
            nonlocal asked
            if asked == moment:
                raise ArchiveError("cut")
            asked += 1

        archive.before = cut
        try:
            backups.delete(archive, ["kept"])
            cut_off = False
        except ArchiveError:
            cut_off = True
        archive.before = lambda what, name: None
        all_there(archive)
        if f"{PARTS}kept/own" not in archive.parts():
            assert archive.get(progress_name("kept")) is None, f"request {moment}"
        backups.delete(archive, ["kept"])
        assert archive.parts() == {f"{PARTS}old/own"}
        if not cut_off:
            return
    raise AssertionError("a deletion asks less often")


def test_nothing_goes_while_a_backup_builds_on_one_whose_manifest_is_gone(
    archive: Watched,
) -> None:
    """Its run may have read that manifest before, and refer to any part of it."""
    ended(archive, "old")
    ended(archive, "base")
    begun(archive, "late", "base")
    archive.delete([manifest_name("base")])  # a deletion that was cut off here
    with pytest.raises(ArchiveError, match="base: late, which is under way, refers to it"):
        backups.delete(archive, ["old"])
    assert f"{PARTS}base/own" in archive.parts()
    backups.delete(archive, ["old", "base", "late"])
    assert archive.parts() == set()


def test_a_manifest_under_another_id_is_not_believed(archive: Watched) -> None:
    ended(archive, "one")
    data = archive.get(manifest_name("one"))
    assert data is not None
    archive.put(manifest_name("two"), data)
    found = backups.find(archive)
    assert list(found.whole) == ["one"] and "'one'" in found.unreadable["two"]


def test_a_progress_that_is_of_another_backup_or_leads_elsewhere_lets_nothing_go(
    archive: Watched,
) -> None:
    """Which parts it needs is unknown."""
    ended(archive, "old")
    elsewhere = Piece("a", [Part("parts/../../etc/passwd", 1, 1, 1, "")])
    for progress in (
        Progress("one", "ring", 1),
        Progress("two", "ring", 1, pieces={0: [elsewhere]}),
    ):
        archive.put(progress_name("two"), msgspec.json.encode(progress))
        assert "two" in backups.find(archive).unreadable
        with pytest.raises(ArchiveError, match="two: progress: "):
            backups.delete(archive, ["old"])
        assert f"{PARTS}old/own" in archive.parts()
