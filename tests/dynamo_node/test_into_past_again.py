"""Values of a backup that a node writes again: cut off and begun once more, also long after, when
no node knows the ids of its requests any more. What clients have written since is never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from dynamo_core.backup.cluster_backup import ClusterBackup
from dynamo_core.causality.records import SUPERSEDED_WRITES_MAX
from dynamo_core.protocol.operations import Get, Outcome, Put
from dynamo_node.archive_jobs import KEYS_AT_ONCE, ArchiveJobs
from dynamo_node.archivist import Archivist
from tests.dynamo_node.lone_admin import CREATE, Admin, with_node

KEYS = [b"key %d" % index for index in range(3 * KEYS_AT_ONCE)]
OLD, MISTAKE, SINCE = b"old", b"mistake", b"since then"


class Ring:
    """A node that is alone in its ring, and a backup of it."""

    def __init__(self, admin: Admin, url: str) -> None:
        self.admin, self.url = admin, url
        self.jobs = ArchiveJobs(admin.driver)

    async def ask(self, operation: Get | Put) -> Outcome:
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.admin.driver.submit(operation, answered.set_result)
        outcome = await answered
        assert outcome.status in (200, 204, 404), outcome
        return outcome

    async def values(self, key: bytes) -> set[bytes | None]:
        return {sibling.value for sibling in (await self.ask(Get(key=key))).values}

    async def write(self, keys: list[bytes], value: bytes) -> None:
        """Over what is there, as a client does that has read it."""
        for key in keys:
            there = await self.ask(Get(key=key))
            await self.ask(Put(key=key, value=value, context=there.context))

    async def backed_up(self) -> None:
        await self.write(KEYS, OLD)
        body = {"id": "one", "archive": self.url}
        assert (await self.admin.post("/v1/backups", json=body)).status_code == 202
        archive = self.admin.driver.node.archive
        while (report := archive.status("one", ClusterBackup)) and report["state"] == "running":
            await asyncio.sleep(0)
        assert report is not None and report["state"] == "done", report

    async def begin(self, prefix: bytes = b"") -> None:
        self.jobs.write_again("past", self.url, "one", prefix)

    async def cut_off(self) -> None:
        """The process of the node ends: after it has written a key, before it has written all."""
        await self.begin()
        while not [key for key in KEYS if OLD in await self.values(key)]:
            await asyncio.sleep(0)
        for task in list(self.jobs._tasks):
            task.cancel()
        await asyncio.sleep(0)
        assert [key for key in KEYS if MISTAKE in await self.values(key)], "it was cut off midway"
        self.jobs = ArchiveJobs(self.admin.driver)

    async def ended(self) -> dict[str, object]:
        while (report := self.jobs.report("past")) is None or report["state"] == "running":
            await asyncio.sleep(0)
        assert report["state"] == "done", report
        return report


def in_ring(tmp_path: Path, test: Callable[[Ring], Awaitable[None]], **ring: object) -> None:
    url = (tmp_path / "archive").as_uri()

    async def body(admin: Admin) -> None:
        Archivist(admin.driver, (url,))
        made = await admin.post("/v1/ring", json={**CREATE, **ring})
        assert made.status_code == 201, made.text
        await test(Ring(admin, url))

    with_node(body, founded=False)


def test_what_was_written_since_the_first_run_stays(tmp_path: Path) -> None:
    async def test(ring: Ring) -> None:
        await ring.backed_up()
        await ring.write(KEYS, MISTAKE)
        await ring.cut_off()
        written = [key for key in KEYS if await ring.values(key) == {OLD}]
        for _ in range(SUPERSEDED_WRITES_MAX + 2):  # after this no request id is known
            await ring.write(written, SINCE)
        await ring.begin()
        await ring.ended()
        for key in written:
            assert SINCE in await ring.values(key), key
        for key in set(KEYS) - set(written):
            assert await ring.values(key) == {OLD}, key

    in_ring(tmp_path, test)


def test_a_key_that_was_not_reached_keeps_what_was_written_since_as_a_sibling(
    tmp_path: Path,
) -> None:
    """Its context was read before the first run wrote anything of these keys."""

    async def test(ring: Ring) -> None:
        await ring.backed_up()
        await ring.write(KEYS, MISTAKE)
        await ring.cut_off()
        mark = msgspec.json.decode((tmp_path / "archive/restores/past.json").read_bytes())
        assert mark["state"] == "running" and mark["keys"] % KEYS_AT_ONCE == 0
        assert b"key" not in (tmp_path / "archive/restores/past.json").read_bytes().replace(
            b'"keys"', b""
        )
        await ring.begin()
        report = await ring.ended()
        assert report["records"] == len(KEYS)
        for key in KEYS:
            assert await ring.values(key) == {OLD}, key

    in_ring(tmp_path, test)


def test_where_the_last_write_wins_what_was_written_since_wins(tmp_path: Path) -> None:
    async def test(ring: Ring) -> None:
        await ring.backed_up()
        await ring.write(KEYS, MISTAKE)
        await ring.cut_off()
        written = [key for key in KEYS if await ring.values(key) == {OLD}]
        for _ in range(SUPERSEDED_WRITES_MAX + 2):
            await ring.write(written, SINCE)
        await ring.begin()
        await ring.ended()
        for key in written:
            assert await ring.values(key) == {SINCE}, key

    in_ring(tmp_path, test, conflicts="LastWriteWins")


@pytest.mark.parametrize("other", [{"backup": "two"}, {"prefix": b"key"}])
def test_the_mark_of_another_restore_is_not_believed(
    tmp_path: Path, other: dict[str, object]
) -> None:
    async def test(ring: Ring) -> None:
        await ring.backed_up()
        await ring.write(KEYS, MISTAKE)
        await ring.cut_off()
        asked = {"backup": "one", "prefix": b"", **other}
        ring.jobs.write_again("past", ring.url, str(asked["backup"]), asked["prefix"])  # type: ignore[arg-type]
        while (report := ring.jobs.report("past")) and report["state"] == "running":
            await asyncio.sleep(0)
        assert report is not None and report["state"] == "failed"
        assert "restores/past.json" in report["reason"]

    in_ring(tmp_path, test)


def test_an_id_is_of_one_restore_alone(tmp_path: Path) -> None:
    async def test(ring: Ring) -> None:
        await ring.backed_up()
        asked = {"archive": ring.url, "backup": "one"}
        past = {"id": "past", "into_past": True, **asked}
        merge = {"id": "merge", **asked}
        for body in (past, merge):
            for _ in range(2):  # the same once more is no other
                assert (await ring.admin.post("/v1/restores", json=body)).status_code == 202
        for body in (
            {**past, "into_past": False},
            {**past, "prefix": "a2V5"},
            {**past, "backup": "two"},
            {**past, "archive": ring.url + "/x"},
            {**past, "id": "merge"},
            {**past, "id": "one"},
        ):
            answer = await ring.admin.post("/v1/restores", json=body)
            assert answer.status_code == 409, body
            assert answer.json()["detail"].startswith("id: "), answer.text
        for name in ("past", "merge"):
            url = f"/v1/restores/{name}"
            while (await ring.admin.get(url)).json()["state"] == "running":
                await asyncio.sleep(0)

    in_ring(tmp_path, test)
