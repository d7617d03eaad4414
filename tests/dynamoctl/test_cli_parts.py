"""Decisions of the command line without a node."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
from rich.console import Console

from dynamo_client.local_fault import LocalFault
from dynamo_client.local_nodes import LocalRing, free_ports, said
from dynamo_client.local_process import Process
from dynamoctl.app import ANYWHERE, app, hoisted, trace_of
from dynamoctl.change import member_of, picture, ranges, weights_of
from dynamoctl.follow import going_on, operation_of, switched
from dynamoctl.picture import circle
from dynamoctl.ring import partitions_of, troubles
from dynamoctl.session import USAGE, Failed, Session, key_of, shown_key, size
from dynamoctl.top import quantile, rates, scrape_of
from dynamoctl.transfer import in_order
from tests.dynamoctl.command_line import run

METRICS = """# HELP dynamo_requests_total Answered client operations.
dynamo_requests_total{operation="get",status="200"} %d.0
dynamo_requests_total{operation="get",status="503"} 3.0
dynamo_request_seconds_bucket{le="0.001",operation="get"} %d.0
dynamo_request_seconds_bucket{le="0.01",operation="get"} %d.0
dynamo_request_seconds_bucket{le="+Inf",operation="get"} %d.0
dynamo_hints{target="n2"} 4.0
dynamo_hints{target="n3"} 5.0
"""


def test_global_options_stand_anywhere_before_the_double_dash() -> None:
    given = ["put", "k", "--endpoint", "http://a", "-o", "json", "--", "--output", "json"]
    assert hoisted(given) == [
        "--endpoint",
        "http://a",
        "-o",
        "json",
        "put",
        "k",
        "--",
        "--output",
        "json",
    ]
    assert hoisted(["ring", "--output=json"]) == ["--output=json", "ring"]
    assert hoisted(["ring", "-o", "json", "--endpoint"]) == ["-o", "json", "--endpoint"]


def test_every_option_before_a_command_may_follow_it() -> None:
    values = [p for p in typer.main.get_command(app).params if not getattr(p, "is_flag", False)]
    assert {name for option in values for name in option.opts} == set(ANYWHERE)


def test_keys_are_bytes_as_the_shell_gave_them() -> None:
    assert key_of(os.fsdecode(b"\xff\xfe/"), False) == b"\xff\xfe/"
    assert key_of("//4=", True) == b"\xff\xfe"
    with pytest.raises(Failed, match="not base64"):
        key_of("?", True)
    assert shown_key("käse".encode()) == "käse"
    assert shown_key(b"a\n\xff") == "a%0A%FF"


def test_partitions_are_numbers_and_ranges() -> None:
    assert partitions_of("") == []
    assert partitions_of("0-3,7") == [0, 1, 2, 3, 7]
    for wrong in ("x", "1-", "-1", "0-9999999", "5-2", ",", "1,"):
        with pytest.raises(Failed):
            partitions_of(wrong)


def test_top_reads_rates_and_quantiles_from_two_scrapes() -> None:
    before = scrape_of(METRICS % (100, 100, 100, 100), 10.0)
    after = scrape_of(METRICS % (300, 200, 298, 300), 12.0)
    row = rates(before, after)
    assert row["get_rate"] == 100.0 and row["put_rate"] == 0.0 and row["errors_rate"] == 0.0
    assert row["hints"] == 9
    assert row["get_p50_ms"] == 1.0 and 9 < row["get_p99_ms"] <= 10
    assert row["put_p50_ms"] is None
    assert quantile(1.0, {}, {0.1: 1.0, float("inf"): 2.0}) == 0.1


def test_the_circle_shows_first_owners_in_proportion() -> None:
    drawn = circle([0] * 8 + [1] * 4 + [2] * 4, ["16 partitions"], colours=False).plain
    counts = Counter(drawn)
    assert "16 partitions" in drawn and max(map(len, drawn.splitlines())) <= 36
    assert 1.8 < counts["A"] / counts["B"] < 2.2
    right = "".join(line[19:] for line in drawn.splitlines())
    assert "A" in right and "B" not in right.replace("16 partitions", "")
    coloured = circle([0, 1], [], colours=True)
    assert {str(span.style).split()[0] for span in coloured.spans} == {"dodger_blue1", "orange1"}


def test_sizes_are_read_by_people() -> None:
    assert [size(n) for n in (None, 0, 999, 1000, 2_500_000)] == [
        "-",
        "0 B",
        "999 B",
        "1.0 KB",
        "2.5 MB",
    ]


def test_results_come_in_the_order_of_the_items() -> None:
    assert [r for _, r in in_order(lambda n: n * n, range(50))] == [n * n for n in range(50)]


def test_a_stranger_with_the_number_of_a_process_is_never_signalled(tmp_path: Path) -> None:
    child = Process.start([sys.executable, "-c", "input()"], tmp_path / "log")
    child.end()
    assert not child.alive
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "pid").write_text(f"{stranger.pid} {child.started}9\n")
        process = Process.of_file(tmp_path / "pid")
        assert process is not None and not process.alive
        process.end()
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_a_ring_of_a_directory_is_read_back(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    ring = LocalRing(tmp_path)
    ring.flags = ["--engine=memory"]
    ring.add(port)
    ring.add()
    again = LocalRing(tmp_path)
    assert [node.ports for node in again.nodes.values()] == [
        {"client": port, "admin": port + 100, "peer": port + 200},
        {"client": port + 1, "admin": port + 101, "peer": port + 201},
    ]
    assert again.flags == ring.flags and again.running == [] and again.members() == set()
    with pytest.raises(LocalFault, match="n1, n2"):
        again.node("n3")
    (tmp_path / "nodes.json").write_text("{")
    with pytest.raises(LocalFault, match=r"nodes\.json"):
        LocalRing(tmp_path)


def test_lines_of_a_log_are_put_in_words() -> None:
    line = '{"event": "a peer is up", "peer": "n2", "node": "n1", "level": "info", "timestamp": 1}'
    assert said(line) == ("info", "a peer is up peer=n2")
    assert said("Traceback: no\n") == ("", "Traceback: no")


def status_of(epoch: int, current: str | None, *earlier: str, state: str = "MEMBER") -> Any:
    operation = {"id": current, "state": "running", "moves_total": 4, "moves_done": epoch,
                 "earlier": list(earlier)}  # fmt: skip
    return {"epoch": epoch, "state": state, "operation": operation}


def test_an_operation_is_reported_by_the_node_that_knows_most() -> None:
    stale, fresh = status_of(9, "old"), status_of(2, "mine", "old")
    assert operation_of({"a": stale, "b": fresh, "c": None}, "mine")["moves_done"] == 2
    assert operation_of({"a": stale, "b": fresh}, None)["id"] == "old"
    later = operation_of({"a": status_of(3, "next", "mine")}, "mine")
    assert (later["id"], later["state"]) == ("mine", "followed by another")
    with pytest.raises(Failed, match="superseded: theirs"):
        operation_of({"a": status_of(3, "theirs", "old")}, "mine")


def test_who_is_interrupted_hears_that_it_goes_on() -> None:
    heard = io.StringIO()
    session = Session([], [], None, False)
    session.err = Console(file=heard)
    with pytest.raises(KeyboardInterrupt), going_on(session, "it goes on: " + "x" * 100):
        raise KeyboardInterrupt
    assert heard.getvalue() == "it goes on: " + "x" * 100 + "\n"


def test_bytes_are_counted_by_what_has_switched() -> None:
    moves = [{"partition": p, "out": "a", "in": "b", "bytes": 10 * p or None} for p in range(3)]
    entries = [{"owners": ["b"]}, {"owners": ["b"]}, {"owners": ["a"]}]
    assert switched({"moves": moves}, entries) == 10


def test_members_weights_and_ranges_are_words() -> None:
    assert member_of("n4=[::1]:82", "x", 2) == {
        "name": "n4",
        "address": "[::1]:82",
        "zone": "x",
        "weight": 2,
    }
    assert weights_of(["a=2", "b=3"], "F") == {"a": 2, "b": 3}
    for wrong in ("n4", "=h:1", "n4=h", "n4=h:x"):
        with pytest.raises(Failed):
            member_of(wrong, "", 1)
    assert (ranges([]), ranges([5, 1, 2, 3, 9])) == ("none", "1-3, 5, 9")


def test_a_plan_is_drawn_with_what_is_kept_gained_and_given() -> None:
    plan = {
        "before": {"a": 30, "b": 0}, "after": {"a": 10, "b": 20}, "hash": "cafe", "bytes": None,
        "moves": [{"out": "a", "in": "b"}] * 20, "seconds_estimated": None, "violations": ["two"],
    }  # fmt: skip
    console = Console(width=80, record=True)
    with console.capture() as captured:
        console.print(*picture(plan), sep="\n")
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert lines[1].endswith("█" * 10 + "░" * 20) and lines[2].endswith(" " + "▒" * 20)
    assert lines[-4:] == [
        "20 moves: 20 from a to b",
        "the bytes to copy are not known",
        "two",
        "hash cafe",
    ]
    old = {"r": 2, "w": 2, "dw": 1, "sloppy": True}
    plan["defaults"] = {"before": old, "after": {**old, "w": 3, "sloppy": False}}
    with console.capture() as captured:
        console.print(*picture(plan), sep="\n")
    rows = [line.split() for line in captured.get().splitlines()]
    assert (
        ["w", "2", "3"] in rows and ["dw", "1", "1"] in rows and ["sloppy", "true", "false"] in rows
    )


def test_what_nodes_say_of_their_addresses_is_shown() -> None:
    found = {
        "n1": {"address_trouble": "no other member answers"},
        "n2": {"address_trouble": ""},
        "n3": {},
        "n4": None,
    }
    assert [text.plain for text in troubles(found)] == ["n1: no other member answers"]


def test_the_trace_of_a_command() -> None:
    """An option is a person's and must be right; the environment is inherited and may be wrong."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace_of(trace, "") == trace_of("", trace) == trace_of(trace, "x") == trace
    assert trace_of("", "x") == trace_of("", "") == ""
    with pytest.raises(Failed, match="needs a W3C traceparent") as failed:
        trace_of(trace[:-1], trace)
    assert (failed.value.code, failed.value.field) == (USAGE, "--traceparent")


def test_a_client_of_a_command_sends_its_trace() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/v1/kv/"):
                asked.append(self.headers.get("traceparent", ""))
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            for given in (["--traceparent", trace], []):
                run("--endpoint", url, "get", "k", *given)
        finally:
            server.shutdown()
            thread.join(30.0)
    assert asked == [trace, ""]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "printable ASCII"),
        (b"\n\n", "printable ASCII"),
        (b"\xff" * 40, "printable ASCII"),
        (b"s" * 31 + b"\n", "has 31 characters, and nodes refuse fewer than 32"),
    ],
)
def test_a_secret_that_no_node_takes_gives_no_token(tmp_path: Path, text: bytes, told: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(text)
    for words in (["token", str(file)], ["token", "--secret-file", str(file)]):
        heard = run(*words)
        assert heard.exit_code == 2 and told in heard.stderr, heard.output
        assert heard.stderr.count("\n") == 1 and not heard.stdout
    file.write_bytes(b"s" * 32)
    assert len(run("token", str(file)).stdout.strip()) == 64
