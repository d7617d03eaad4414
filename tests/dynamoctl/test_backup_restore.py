"""`backup` and `restore` with real nodes and a directory: into rings of another size and partition
count, into the running one, of a prefix; every key is counted, and expiries are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event
from zlib import crc32

import pytest

from tests.dynamo_archive.s3_server import CREDENTIALS, proxy, s3_server
from tests.dynamoctl.command_line import document, ok, run
from tests.dynamoctl.filled_rings import EXPIRES, KEYS, Place, whole

Rings = Callable[[int, int], Place]


@pytest.fixture
def rings(tmp_path: Path) -> Iterator[Rings]:
    made: list[Place] = []

    def make(count: int, partitions: int) -> Place:
        made.append(Place(tmp_path / f"ring{len(made)}", count, partitions))
        return made[-1]

    try:
        yield make
    finally:
        for place in made:
            place.ring.stop()


def test_three_nodes_of_64_partitions_become_five_of_256_and_three_again(
    rings: Rings, tmp_path: Path
) -> None:
    archive = f"--archive=file://{tmp_path}/archive"
    three = rings(3, 64)
    three.fill()
    plan = run("backup", "create", archive, *three.options)
    assert plan.exit_code == 2 and "64 partitions" in plan.stdout and "--yes" in plan.stderr
    elsewhere = f"--archive=file://{tmp_path}/archive2"
    refused = run("backup", "create", elsewhere, "--yes", *three.options)
    assert refused.exit_code > 0 and "archive: " in refused.stderr, refused.output
    assert "backup_targets" in refused.stderr and refused.stderr.count("\n") == 1
    said = document("backup", "create", archive, "--id=one", "--yes", *three.options)
    assert said["records"] == len(KEYS) + 1 and said["missed"] == []
    there = ok("backup", "create", archive, "--id=one", "--yes", *three.options)
    assert "one is there already, as of " in there.stdout
    again = document("backup", "create", archive, "--id=two", "--yes", *three.options)
    assert again["new_bytes"] == 0 and again["records"] == len(KEYS) + 1
    assert document("backup", "verify", "two", archive)["wrong"] == []
    listed = document("backup", "list", archive)
    assert [one["id"] for one in listed["backups"]] == ["one", "two"]
    ok("backup", "delete", "one", "--yes", archive)
    assert document("backup", "verify", "two", archive)["wrong"] == []
    three.ring.stop()
    five = rings(5, 256)
    merged = document("restore", archive, "--yes", *five.options)
    assert merged["records"] == len(KEYS) + 1
    assert five.values() == whole()
    with five.client() as client:
        assert client.get("session").values[0].expires_at == EXPIRES
    document("backup", "create", archive, "--id=three", "--yes", *five.options)
    five.ring.stop()
    last = rings(3, 16)
    document("restore", archive, "--from=three", "--yes", *last.options)
    assert last.values() == whole()


def test_into_the_running_ring_nothing_newer_is_overwritten(rings: Rings, tmp_path: Path) -> None:
    archive = f"--archive=file://{tmp_path}/archive"
    place = rings(3, 16)
    place.fill()
    document("backup", "create", archive, "--id=one", "--yes", *place.options)
    with place.client() as client:
        read = client.get(KEYS[0])
        client.put(KEYS[0], b"newer", context=read.context)
        client.delete(KEYS[1])
    document("restore", archive, "--yes", *place.options)
    with place.client() as client:
        assert client.get(KEYS[0]).value == b"newer"
        assert not client.get(KEYS[1]).exists
    assert place.values(KEYS[2:]) == whole(KEYS[2:])
    other = rings(3, 16)
    said = document("restore", archive, "--prefix=key 1", "--yes", *other.options)
    wanted = [key for key in KEYS if key.startswith("key 1")]
    assert said["records"] == len(wanted) and other.values() == whole(wanted)


def test_a_mistake_of_yesterday_is_undone_and_the_undoing_as_well(
    rings: Rings, tmp_path: Path
) -> None:
    archive = f"--archive=file://{tmp_path}/archive"
    place = rings(3, 16)
    place.fill()
    with place.client() as client:
        client.put("twice", b"one", content_type="text/plain")
        client.put("twice", b"two", content_encoding="gzip")
        client.put("gone", b"x")
        client.delete("gone")
    document("backup", "create", archive, "--id=before", "--yes", *place.options)
    with place.client() as client:
        for key in KEYS[:100]:
            client.update(key, lambda values: b"mistaken")
        for key in KEYS[100:200]:
            client.delete(key)
        client.update("twice", lambda values: b"mistaken", content_encoding="gzip")
        client.put("gone", b"back")
        client.put("new", b"since then")
    document("backup", "create", archive, "--id=mistake", "--yes", *place.options)
    past = ["restore", archive, "--into-past", "--yes", *place.options]
    said = document(*past, "--from=before", "--prefix=key 1")
    wanted = [key for key in KEYS if key.startswith("key 1")]
    assert said["keys"] == len(wanted)
    assert place.values(wanted) == whole(wanted)
    assert place.values(["key 2", "key 20"]) == {key: [b"mistaken"] for key in ("key 2", "key 20")}
    said = document(*past, "--from=before")
    assert place.values() == whole() and place.values(["new"]) == {"new": [b"since then"]}
    assert place.values(["gone"]) == {}
    with place.client() as client:
        found = {(v.data, v.content_type, v.content_encoding) for v in client.get("twice").values}
        assert found == {
            (b"one", "text/plain", ""),
            (b"two", "application/octet-stream", "gzip"),
        }
        assert client.get("session").values[0].expires_at == EXPIRES
    refused = run(*past, "--from=before")
    assert refused.exit_code == 1 and "--again" in refused.stderr, refused.output
    assert refused.stderr.count("\n") == 1
    again = document(*past, "--from=before", "--again")
    assert again["same"] == again["keys"] and again["values"] == again["deleted"] == 0
    document(*past, "--from=mistake")
    assert place.values(KEYS[:100]) == {key: [b"mistaken"] for key in KEYS[:100]}
    assert place.values(KEYS[100:200]) == {} and place.values(["gone"]) == {"gone": [b"back"]}


def test_a_backup_and_a_restore_go_on_when_the_node_that_led_them_is_killed(
    rings: Rings, tmp_path: Path
) -> None:
    archive = f"--archive=file://{tmp_path}/archive"
    place = rings(3, 256)
    place.fill()
    admin = place.nodes[0].admin
    import httpx

    headers = {"Authorization": f"Bearer {place.ring.token}"} if place.ring.token else {}
    body = {"id": "one", "archive": f"file://{tmp_path}/archive"}
    assert httpx.post(f"{admin}/v1/backups", json=body, headers=headers).status_code == 202
    place.nodes[0].kill()
    said = document("backup", "create", archive, "--id=one", "--yes", *place.options)
    assert said["state"] == "done"
    assert document("backup", "verify", "one", archive)["wrong"] == []
    other = rings(3, 16)
    headers = {"Authorization": f"Bearer {other.ring.token}"} if other.ring.token else {}
    body = {"id": "r", "backup": "one", "archive": f"file://{tmp_path}/archive"}
    answer = httpx.post(f"{other.nodes[0].admin}/v1/restores", json=body, headers=headers)
    assert answer.status_code == 202
    other.nodes[0].kill()
    document("restore", archive, "--from=one", "--id=r", "--yes", *other.options)
    assert other.values() == whole()


def troubled(method: str, path: str, before: int) -> str:
    """Most requests fail at first. Objects that are read are cut or shortened as well."""
    kind = crc32(path.encode()) % 5 if before == 0 else 4
    what = ("fail", "throttle", "cut", "shorten", "")[kind]
    object_read = method == "GET" and "list-type" not in path
    return what if object_read or what in ("fail", "throttle") else ""


def test_an_s3_server_that_fails_throttles_and_cuts_while_clients_write(
    rings: Rings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as server, proxy(server, troubled) as opened:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{opened.port}")
        archive = "--archive=s3://shop/carts"
        place = rings(3, 16)
        place.fill()
        over = Event()

        def write() -> None:
            with place.client() as client:
                for number in count():
                    if over.is_set():
                        return
                    client.put(f"meanwhile {number % 100}", b"x")

        with ThreadPoolExecutor() as pool:
            writing = pool.submit(write)
            try:
                said = document("backup", "create", archive, "--id=one", "--yes", *place.options)
            finally:
                over.set()
            writing.result()
        assert said["records"] >= len(KEYS) + 1 and said["missed"] == []
        document("backup", "create", archive, "--id=two", "--yes", *place.options)
        ok("backup", "delete", "one", "--yes", archive)
        place.ring.stop()
        other = rings(1, 64)
        document("restore", archive, "--from=two", "--yes", *other.options)
        assert other.values() == whole()
    assert {"fail", "throttle", "cut"} <= set(opened.troubles)


def test_a_changed_part_is_found_and_not_merged(rings: Rings, tmp_path: Path) -> None:
    archive = f"--archive=file://{tmp_path}/archive"
    place = rings(1, 16)
    place.fill()
    document("backup", "create", archive, "--id=one", "--yes", *place.options)
    part = max((tmp_path / "archive/parts/one").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    found_wrong = run("backup", "verify", "one", archive)
    assert found_wrong.exit_code == 1 and part.name in found_wrong.output
    for words, wanted in (
        (["verify", "none", archive], "no such backup"),
        (["list", "--archive=ftp://x"], "ftp://x"),
        (["list", "--archive=s3://key:secret@bucket"], "environment"),
        (["delete", "none", "--yes", archive], "none"),
    ):
        refused = run("backup", *words)
        assert refused.exit_code > 0 and wanted in refused.stderr, refused.output
        assert refused.stderr.count("\n") == 1
