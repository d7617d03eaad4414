"""`restore --into-past`: a run that is cut off and goes on, and one that is asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dynamo_archive import backups
from dynamo_archive.contents import contents
from dynamo_archive.objects import Archive, ArchiveError
from dynamo_client import BatchResult, DynamoClient, GetOp
from dynamo_client.batch import Op
from dynamo_client.errors import ConnectionFailed
from dynamoctl.into_past import KEYS_MAX, Mark, WritingBack, marked
from dynamoctl.session import Failed
from tests.dynamoctl.command_line import document, run
from tests.dynamoctl.filled_rings import KEYS, Place, whole

FRESH = Mark("one", "", "ring", "r")


@pytest.fixture(params=["Siblings", "LastWriteWins"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "ring", 1, 16, request.param)
    made.fill()
    yield made
    made.ring.stop()


class Cut:
    """A client that writes half of its second batch, and then reaches no node any more."""

    def __init__(self, client: DynamoClient) -> None:
        self.client = client
        self.writes = 0
        self.halves: tuple[list[bytes], list[bytes]] = ([], [])

    def batch(self, operations: list[Op]) -> list[BatchResult]:
        if isinstance(operations[0], GetOp):
            return self.client.batch(operations)
        self.writes += 1
        if self.writes < 2:
            return self.client.batch(operations)
        middle = len(operations) // 2
        self.client.batch(operations[:middle])
        first, second = operations[:middle], operations[middle:]
        self.halves = [bytes(o.key) for o in first], [bytes(o.key) for o in second]  # type: ignore
        raise ConnectionFailed("no node answers")


def test_a_run_that_goes_on_supersedes_nothing_that_was_written_since(
    place: Place, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/archive"
    document("backup", "create", f"--archive={url}", "--id=one", "--yes", *place.options)
    archive, lww = Archive(url), place.conflicts == "LastWriteWins"
    manifest = backups.read(archive, "one")
    order = [key for key, _ in contents(archive, manifest)]
    marks: list[bytes] = []

    def written(client: Any, mark: Mark) -> None:
        def keep(one: Mark) -> None:
            marks.append(msgspec.json.encode(one))

        running = WritingBack(client, mark, keep, lww=lww)
        running.run(contents(archive, manifest), datetime.now(UTC), lambda count: None)

    with place.client() as client:
        for key in KEYS:
            client.update(key, lambda values: b"mistaken")
        cut = Cut(client)
        with pytest.raises(ConnectionFailed):
            written(cut, msgspec.json.decode(msgspec.json.encode(FRESH), type=Mark))
        early, late = order[0], order[-1]
        done, left = cut.halves[0][0], cut.halves[1][0]
        for key in (early, late, done, left):
            client.update(key, lambda values: b"since")
        again = marked(marks[-1], FRESH, "mark", again=False)
        assert again.keys == KEYS_MAX and len(again.was) == KEYS_MAX
        written(client, again)
        then = {key: {v.data for v in client.get(key).values} for key in order}

    def old(key: bytes) -> bytes:
        return b"s" if key == b"session" else b"v " + key

    assert then.pop(early) == {b"since"}, "this key was written before"
    assert b"since" in then.pop(done)
    assert then.pop(left) == ({b"since"} if lww else {b"since", old(left)})
    assert then == {key: {old(key)} for key in then}, "also the last one, which no mark had"
    assert msgspec.json.decode(marks[-1], type=Mark).state == "done"
    assert not any(key in mark or b"mistaken" in mark for mark in marks for key in order)
    with pytest.raises(Failed, match="--again"):
        marked(marks[-1], FRESH, "mark", again=False)
    assert marked(marks[-1], FRESH, "mark", again=True) is FRESH


def test_a_plan_says_how_long_a_restore_takes(tmp_path: Path) -> None:
    archive = f"--archive=file://{tmp_path}/archive"
    place = Place(tmp_path / "ring", 1, 16)
    try:
        place.fill()
        document("backup", "create", archive, "--id=one", "--yes", *place.options)
        asked = ("restore", archive, "--from=one", "--plan", *place.options)
        plan = document(*asked)
        assert plan["rate"].startswith("assumed") and plan["seconds"] >= 1
        assert document(*asked, "--rate=0.001")["seconds"] == round(plan["bytes"] / 1000)
        assert document(*asked, "--into-past")["rate"].startswith("assumed")
        assert not (tmp_path / "archive" / "restores").exists(), "a plan restores nothing"
        document("restore", archive, "--from=one", "--id=r", "--yes", *place.options)
        assert document(*asked)["rate"].startswith("as r, which merged")
        assert "duration: about " in run(*asked).stdout
    finally:
        place.ring.stop()


def test_an_archive_that_may_not_be_written_needs_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written into the ring before the mark is kept."""
    archive = f"--archive=file://{tmp_path}/archive"
    place = Place(tmp_path / "ring", 1, 16)
    try:
        place.fill()
        document("backup", "create", archive, "--id=one", "--yes", *place.options)
        with place.client() as client:
            client.update(KEYS[0], lambda values: b"mistaken")

        def denied(self: Archive, name: str, data: bytes) -> None:
            raise ArchiveError(f"{name}: access denied")

        monkeypatch.setattr(Archive, "put", denied)
        past = ("restore", archive, "--from=one", "--into-past", "--yes", *place.options)
        refused = run(*past)
        assert refused.exit_code == 1 and "--again" in refused.stderr, refused.output
        assert place.values(KEYS[:1]) == {KEYS[0]: [b"mistaken"]}
        assert document(*past, "--again")["values"] == 1
        assert place.values(KEYS[:1]) == whole(KEYS[:1])
    finally:
        place.ring.stop()
