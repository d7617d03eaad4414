"""Where a node may keep backups: its setting `backup_targets`, for administrators and for peers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dynamo_archive.objects import Archive
from dynamo_archive.targets import STORES, archive_fault
from dynamo_core.backup.archive_calls import (
    ArchiveFailed,
    Bring,
    Brought,
    Done,
    Measure,
    Measured,
    Put,
)
from dynamo_core.backup.manifest import Progress, progress_name
from dynamo_core.protocol.messages import Message
from dynamo_node.archivist import Archivist
from tests.dynamo_node.lone_admin import Admin, with_node

HERE = ("s3://shop/carts", "file:///srv/back%20ups/")


@pytest.mark.parametrize(
    "url",
    ["s3://shop/carts", "s3://shop/carts/", "s3://shop/carts/daily", "file:///srv/back%20ups",
     "file:///srv/back%20ups/x"],
)  # fmt: skip
def test_what_begins_so_is_allowed(url: str) -> None:
    assert archive_fault(url, HERE) == ""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://shop/carts2", "backup_targets"),
        ("s3://shop", "backup_targets"),
        ("gs://shop/carts", "backup_targets"),
        ("file:///etc", "backup_targets"),
        ("file:///srv/back%20ups/../../etc", "without"),
        ("file:///srv/back%20ups/%2e%2E/x", "without"),
        ("file://srv/backups", "file:///DIRECTORY"),
        ("ftp://shop", "wants file://"),
        ("", "wants file://"),
        ("s3://key:word@shop/carts", "environment"),
        ("s3://shop/carts?key=word", "environment"),
        ("s3://shop/carts/\x1b[2J", "print"),
        ("s3://shop/carts/%1b", "print"),
    ],
)
def test_everything_else_is_refused(url: str, words: str) -> None:
    why = archive_fault(url, HERE)
    assert words in why and why.isprintable()


def test_by_default_any_object_store_and_no_directory() -> None:
    assert [archive_fault(f"{store}x/y", STORES) for store in STORES] == ["", "", ""]
    assert "backup_targets" in archive_fault("file:///srv", STORES)
    assert "none" in archive_fault("s3://x", ())


def test_the_admin_listener_names_the_field(tmp_path: Path) -> None:
    async def body(admin: Admin) -> None:
        Archivist(admin.driver, (tmp_path.as_uri(),))
        for path, more in (("/v1/backups", {}), ("/v1/restores", {"backup": "one"})):
            asked = {"id": "x", "archive": "file:///etc", **more}
            refused = await admin.post(path, json=asked)
            assert refused.status_code == 400
            said = refused.json()["detail"]
            assert said.startswith("archive: ") and "backup_targets" in said
            asked["archive"] = "file:///etc\n"
            assert (await admin.post(path, json=asked)).status_code == 400
        asked = {"id": "x", "backup": "one", "archive": tmp_path.as_uri(), "backwards": True}
        refused = await admin.post("/v1/restores", json=asked)
        assert refused.status_code == 400 and "backwards" in refused.json()["detail"]
        del asked["backwards"]
        assert (await admin.post("/v1/restores", json=asked)).status_code == 202

    with_node(body)


def test_an_order_of_a_peer_is_refused_as_well(tmp_path: Path) -> None:
    async def body(admin: Admin) -> None:
        allowed = tmp_path / "allowed"
        archivist = Archivist(admin.driver, (allowed.as_uri(),))

        async def answer(request: Message) -> Message:
            loop = asyncio.get_running_loop()
            answered: asyncio.Future[Message] = loop.create_future()
            archivist.carry(request, answered.set_result)
            return await asyncio.wait_for(answered, 20)

        said = await answer(Put(0, (tmp_path / "other").as_uri(), "x", b"data"))
        assert isinstance(said, ArchiveFailed) and "backup_targets" in said.why
        assert not (tmp_path / "other").exists()
        assert await answer(Put(0, allowed.as_uri(), "x", b"data")) == Done(0)
        assert await answer(Bring(0, allowed.as_uri(), "x")) == Brought(0, b"data")
        for name in ("parts/one/0", "parts/two/0", "parts/three/0"):
            assert await answer(Put(0, allowed.as_uri(), name, b"data")) == Done(0)
        places = ("parts/one/", "parts/two/", "parts/none/")
        sizes = {"parts/one/0": 4, "parts/two/0": 4}
        assert await answer(Measure(0, allowed.as_uri(), places)) == Measured(0, sizes)

    with_node(body)


def test_a_deletion_that_failed_says_why_and_begins_again(tmp_path: Path) -> None:
    async def body(admin: Admin) -> None:
        Archivist(admin.driver, (tmp_path.as_uri(),))
        under_way = Archive(tmp_path.as_uri())
        late = msgspec.json.encode(Progress("late", "c", 1, "one"))
        under_way.put(progress_name("late"), late)
        asked = {"id": "tidy", "archive": tmp_path.as_uri(), "backups": ["one"]}

        async def said() -> dict[str, Any]:
            answer = await admin.post("/v1/deletions", json=asked)
            assert answer.status_code == 202
            return dict(answer.json())

        async def ended() -> dict[str, Any]:
            while (report := await said())["state"] == "running":
                await asyncio.sleep(0)
            return report

        failed = await ended()
        assert failed["state"] == "failed" and "late, which is under way" in failed["reason"]
        under_way.delete([progress_name("late")])
        assert (await ended())["state"] == "done"

    with_node(body)
