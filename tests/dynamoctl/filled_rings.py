"""Rings of real nodes with keys in them, for tests of backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from dynamo_client import DynamoClient, GetOp, PutOp
from dynamo_client.local_nodes import LocalNode, LocalRing, create_ring, free_base
from tests.dynamoctl.command_line import QUICK

KEYS = [f"key {index}" for index in range(600)]
EXPIRES = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
BATCH = 100


class Place:
    """A ring of real nodes."""

    def __init__(
        self, directory: Path, count: int, partitions: int, conflicts: str = "Siblings"
    ) -> None:
        self.conflicts = conflicts
        self.ring = LocalRing(directory)
        targets = f"{(directory.parent / 'archive').as_uri()},s3://shop"
        self.ring.flags = [*QUICK, f"--backup-targets={targets}"]
        base = free_base(count)
        self.nodes: list[LocalNode] = [self.ring.add(base) for _ in range(count)]
        self.ring.start(self.nodes)
        ways = {"partitions": partitions, "n": min(3, count), "conflicts": conflicts}
        create_ring(self.nodes, self.ring.token, **ways)

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


def whole(keys: list[str] = KEYS) -> dict[str, list[bytes]]:
    return {key: [f"v {key}".encode()] for key in keys}
