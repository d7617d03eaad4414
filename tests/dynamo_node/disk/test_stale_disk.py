"""A real disk from before a collection is put back: nothing that was deleted returns (C3)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from benchmarks.links import linked_ring
from benchmarks.processes import Node, until

NAMES = ["n0", "n1", "n2"]
FLAGS = [
    "--heartbeat-ms=100",
    "--suspect-ms=700",
    "--exchange-ms=200",
    "--log-level=warning",
    "--tombstone-age-min-s=6",
]
DELETED = [f"deleted-{index}" for index in range(20)]
KEPT = [f"kept-{index}" for index in range(20)]
WAIT_S_MAX = 90.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    with linked_ring(tmp_path, NAMES, FLAGS, 16) as (nodes, _, _):
        yield nodes


def url(node: Node, key: str, query: str = "") -> str:
    return f"{node.endpoint}/v1/kv/{key}{query}"


def event(node: Node, name: str) -> float:
    text = httpx.get(node.admin + "/metrics", timeout=10).text
    found = re.search(rf'^dynamo_events_total{{event="{name}"}} (.*)$', text, re.M)
    return float(found[1]) if found else 0.0


def whole(node: Node) -> bool:
    """Complete everywhere, with nothing to hand over."""
    status = httpx.get(node.admin + "/v1/status", timeout=10).json()
    counts = status["partitions"]
    return counts["owned"] == counts["complete"] and not status["hints"]


def restart(node: Node) -> None:
    node.start(*FLAGS)
    until(lambda: node.lives() and node.ready(), f"{node.name} does not come back", WAIT_S_MAX)
    until(lambda: whole(node), f"{node.name} is not whole again", WAIT_S_MAX)


def test_a_disk_from_before_a_collection(nodes: dict[str, Node], tmp_path: Path) -> None:
    first, last = nodes["n0"], nodes["n2"]
    for key in (*DELETED, *KEPT):
        assert httpx.put(url(first, key, "?w=3"), content=b"v", timeout=10).status_code == 204
    last.stop()
    shutil.copytree(last.directory, tmp_path / "backup")
    restart(last)
    for key in DELETED:
        context = httpx.get(url(first, key), timeout=10).headers["dynamo-context"]
        answer = httpx.delete(
            url(first, key, "?w=3"), headers={"Dynamo-Context": context}, timeout=10
        )
        assert answer.status_code == 204
    until(
        lambda: all(event(n, "tombstones_collected") == len(DELETED) for n in nodes.values()),
        "the tombstones stay",
        WAIT_S_MAX,
    )
    last.stop()
    last.wipe()
    shutil.copytree(tmp_path / "backup", last.directory)
    restart(last)
    assert event(last, "stale_copies_dropped") > 0
    for node in nodes.values():
        for key in DELETED:
            answer = httpx.get(url(node, key), timeout=10)
            assert answer.status_code == 404, (node.name, key, answer.text)
            assert "dynamo-context" not in answer.headers, "nothing remembers it"
        for key in KEPT:
            answer = httpx.get(url(node, key, "?r=3"), timeout=10)
            assert (answer.status_code, answer.content) == (200, b"v")
