"""The commands that look inside, and the stream, in front of real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from ring_room import Room

RUN_S_MAX = 60


def dynamoctl(room: Room, *words: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("dynamoctl"), f"--admin={room.door}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)


def told(room: Room, *words: str) -> Any:
    done = dynamoctl(room, "-o", "json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_records_history_trees_hints_and_console(room: Room) -> None:
    room.put("seen", "first")
    room.put("seen", "second")
    found = told(room, "records", "seen")
    assert len(found["copies"]) == 3 and len(found["copies"][0]["siblings"]) == 2
    shown = dynamoctl(room, "records", "seen").stdout
    assert "first" in shown and "second" in shown and "the owners agree" in shown
    assert [e["parents"] for e in told(room, "history", "seen")["events"]] == [[], []]
    assert "second" in dynamoctl(room, "history", "seen").stdout
    assert told(room, "trees", str(found["partition"]))["differ"] == []
    assert "leaves that differ: none" in dynamoctl(room, "trees", "3").stdout
    assert {h["node"] for h in told(room, "hints")["holders"]} == set(room.nodes)
    assert told(room, "console") == {"console": f"{room.door}/console"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/trees/64", 400), ("/v1/trees/x", 400), ("/v1/trees/-1", 400),
        ("/v1/hints?limit=101", 400), ("/v1/hints?what=1", 400), ("/v1/records/%zz", 400),
        ("/v1/history/" + "k" * 1025, 400), ("/v1/cluster?x=1", 400), ("/v1/events?after=-1", 400),
        ("/console/none.js", 404),
    ],
)  # fmt: skip
def test_bad_requests_are_told_what_is_wrong(room: Room, path: str, status: int) -> None:
    answer = httpx.get(room.door + path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json" and answer.json()["detail"]


def test_events_are_a_stream_that_goes_on_where_it_ended(room: Room) -> None:
    def first(count: int, after: int) -> list[tuple[int, dict[str, Any]]]:
        lines: list[tuple[int, dict[str, Any]]] = []
        with httpx.stream("GET", f"{room.door}/v1/events?after={after}", timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            number = 0
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                if line.startswith("data: "):
                    lines.append((number, json.loads(line[6:])))
                    if len(lines) == count:
                        break
        return lines

    some = first(4, 0)
    assert [number for number, _ in some] == sorted({number for number, _ in some})
    assert {"peer_up"} <= {event["kind"] for _, event in some}
    assert first(1, some[1][0])[0] == some[2]


def test_more_streams_than_there_is_room_for_are_refused(room: Room) -> None:
    from contextlib import ExitStack

    with ExitStack() as streams, httpx.Client(limits=httpx.Limits(max_connections=32)) as client:
        statuses = [
            streams.enter_context(client.stream("GET", f"{room.door}/v1/events")).status_code
            for _ in range(17)
        ]
    assert statuses == [200] * 16 + [503]


def test_the_cluster_from_one_door(room: Room) -> None:
    found = httpx.get(room.door + "/v1/cluster").json()
    assert [m["name"] for m in found["members"]] == list(room.nodes)
    assert all(m["answered"] and m["status"]["version"] for m in found["members"])
    assert found["no_answer"] == {}


def test_the_document_describes_what_there_is(room: Room) -> None:
    paths = httpx.get(room.door + "/openapi.json").json()["paths"]
    for path in (
        "cluster",
        "records/{key}",
        "history/{key}",
        "trees/{partition}",
        "hints",
        "events",
    ):
        assert "get" in paths[f"/v1/{path}"]
