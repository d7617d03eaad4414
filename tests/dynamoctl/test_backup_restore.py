"""`backup` and `restore` with real nodes and a directory: into rings of another size and partition
count, into the running one, of a prefix; every key is counted, and expiries are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import QUICK, document, ok, run

from dynamo_client import DynamoClient, GetOp, PutOp
from dynamo_client.local_nodes import LocalNode, LocalRing, found, free_base

KEYS = [f"key {number}" for number in range(600)]
EXPIRES = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
BATCH = 100
Rings = Callable[[int, int], "Place"]


class Place:
    """A ring of real nodes."""

    def __init__(self, directory: Path, count: int, partitions: int) -> None:
        self.ring = LocalRing(directory)
        archive = (directory.parent / "archive").as_uri()
        self.ring.flags = [*QUICK, f"--backup-targets={archive}"]
        base = free_base(count)
        self.nodes: list[LocalNode] = [self.ring.add(base) for _ in range(count)]
        self.ring.start(self.nodes)
        found(self.nodes, self.ring.token, partitions=partitions, n=min(3, count))

    @property
    def options(self) -> list[str]:
        admins = [f"--admin={node.admin}" for node in self.nodes]
        token = [f"--token-file={self.ring.token_file}"] if self.ring.token else []
        return [f"--endpoint={self.nodes[0].endpoint}", *admins, *token]

    def client(self) -> DynamoClient:
        return DynamoClient(*(node.endpoint for node in self.nodes))

    def fill(self) -> None:
        with self.client() as client:
            for at in range(0, len(KEYS), BATCH):
                operations = [PutOp(key, f"v {key}".encode()) for key in KEYS[at : at + BATCH]]
                assert not [r.error for r in client.batch(operations) if r.error]
            client.put("session", b"s", expires_at=EXPIRES)

    def values(self, keys: list[str] = KEYS) -> dict[str, list[bytes]]:
        shown = {}
        with self.client() as client:
            for at in range(0, len(keys), BATCH):
                some = keys[at : at + BATCH]
                for key, result in zip(some, client.batch([GetOp(k) for k in some]), strict=True):
                    if result.found is not None and result.found.values:
                        shown[key] = [v.data for v in result.found.values]
        return shown


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


def whole(keys: list[str] = KEYS) -> dict[str, list[bytes]]:
    return {key: [f"v {key}".encode()] for key in keys}


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
