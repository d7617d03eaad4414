"""Where a node may keep backups: its setting `backup_targets`, for administrators and for peers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from lone_admin import Admin, with_node

from dynamo_archive.targets import STORES, target_fault
from dynamo_core.backup.archive_calls import ArchiveFailed, Bring, Brought, Done, Put
from dynamo_core.protocol.messages import Message
from dynamo_node.archivist import Archivist

HERE = ("s3://shop/carts", "file:///srv/back%20ups/")


@pytest.mark.parametrize(
    "url",
    ["s3://shop/carts", "s3://shop/carts/", "s3://shop/carts/daily", "file:///srv/back%20ups",
     "file:///srv/back%20ups/x"],
)  # fmt: skip
def test_what_begins_so_is_allowed(url: str) -> None:
    assert target_fault(url, HERE) == ""


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
    why = target_fault(url, HERE)
    assert words in why and why.isprintable()


def test_by_default_any_object_store_and_no_directory() -> None:
    assert [target_fault(f"{store}x/y", STORES) for store in STORES] == ["", "", ""]
    assert "backup_targets" in target_fault("file:///srv", STORES)
    assert "none" in target_fault("s3://x", ())


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
        asked = {"id": "x", "backup": "one", "archive": tmp_path.as_uri(), "into_past": True}
        refused = await admin.post("/v1/restores", json=asked)
        assert refused.status_code == 400 and "into_past" in refused.json()["detail"]
        del asked["into_past"]
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

    with_node(body)
