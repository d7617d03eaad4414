"""The commands that look inside, against real nodes, and the stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from benchmarks.processes import until

from dynamo_client.local_nodes import LocalRing
from dynamoctl.inside import event_of
from dynamoctl.session import Failed
from tests.dynamoctl.command_line import document, ok, ring_of_three, run


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRing]:
    with ring_of_three(tmp_path_factory.mktemp("home")) as ring:
        yield ring


@pytest.fixture(autouse=True)
def at_home(ring: LocalRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ring.directory.parent)


def test_records_history_trees_hints_and_the_address_of_the_console(ring: LocalRing) -> None:
    ok("put", "seen", "first", "--w", "all")
    ok("put", "seen", "second", "--w", "all")
    found = document("records", "seen")
    assert [copy["node"] for copy in found["copies"]] == found["owners"]
    assert len(found["copies"][0]["siblings"]) == 2
    shown = ok("records", "seen").stdout
    assert "first" in shown and "second" in shown and "the owners agree" in shown
    assert [event["parents"] for event in document("history", "seen")["events"]] == [[], []]
    assert "second" in ok("history", "seen").stdout
    assert document("trees", str(found["partition"]))["differ"] == []
    assert "leaves that differ: none" in ok("trees", "3").stdout
    assert {holder["node"] for holder in document("hints")["holders"]} == set(ring.nodes)
    assert "no node keeps a hint" in ok("hints").stdout
    assert document("console") == {"console": f"{ring.nodes['n1'].admin}/console"}
    assert "no record" in ok("records", "nothing").stdout
    assert run("trees", "16").exit_code == 2
    with httpx.Client() as client:
        cluster = client.get(f"{ring.nodes['n2'].admin}/v1/cluster").json()
    assert [m["name"] for m in cluster["members"] if m["answered"]] == ["n1", "n2", "n3"]
    assert all(member["status"]["version"] for member in cluster["members"])


def test_events_are_a_stream_that_goes_on_where_it_ended(ring: LocalRing) -> None:
    def first(count: int, after: int) -> list[tuple[int, dict[str, Any]]]:
        url, blocks = f"{ring.nodes['n1'].admin}/v1/events?after={after}", []
        with httpx.stream("GET", url, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith(("id: ", "data: ")):
                    blocks.append(line.partition(": ")[2])
                if len(blocks) == 2 * count:
                    break
        numbers, lines = map(int, blocks[::2]), map(json.loads, blocks[1::2])
        return list(zip(numbers, lines, strict=True))

    some = first(3, 0)
    assert [number for number, _ in some] == [1, 2, 3]
    assert {line["kind"] for _, line in some} >= {"peer_up"}
    assert first(1, 1) == [some[1]]
    said = ok("events", "--limit", "3", "-o", "json").stdout.splitlines()
    assert [json.loads(line) for line in said] == [line for _, line in some]
    assert "S-MEM-2" in ok("events", "--limit", "3").stdout


def test_a_node_that_is_down_is_named_and_the_others_are_shown(ring: LocalRing) -> None:
    down = ring.nodes["n3"]
    down.kill()
    try:
        until(lambda: _down(ring), "n3 is taken for down")
        said = ok("records", "seen").stdout
        assert "n3: down" in said and "the owners that answer agree" in said
        assert document("hints", "--target", "n3")["no_answer"] == {"n3": "down"}
    finally:
        down.start(*ring.flags)
        until(down.lives, "n3 answers")


def _down(ring: LocalRing) -> bool:
    found = httpx.get(f"{ring.nodes['n1'].admin}/v1/cluster").json()
    return bool(found["no_answer"] == {"n3": "down"})


@pytest.mark.parametrize("block", [b"data: [", b"data: 1", b"id: x\ndata: {}", b"data: []"])
def test_what_is_no_event_is_told(block: bytes) -> None:
    with pytest.raises(Failed, match="not an event"):
        event_of(block)


def test_comments_of_a_stream_are_no_events() -> None:
    assert event_of(b": quiet") is None and event_of(b"") is None
    assert event_of(b'id: 7\ndata: {"kind":"ring"}') == (
        7,
        {"at_ms": 0, "kind": "ring", "rule": ""},
    )
