"""`dynamoctl create` makes a ring of real nodes; commands in its output work when pasted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.processes import until

from dynamo_client.local_nodes import LocalNode, LocalRing, free_base
from dynamoctl.create import founder_of
from dynamoctl.session import Failed
from tests.dynamoctl.command_line import QUICK, document, ok, run

BIN = Path(sys.executable).parent


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[LocalNode]]:
    ring = LocalRing(tmp_path / "unjoined")
    ring.flags = [*QUICK, "--engine=memory"]
    port = free_base(3)
    made = [ring.add(port) for _ in range(3)]
    try:
        ring.start(made)
        yield made
    finally:
        ring.stop()


def test_a_ring_is_made_of_nodes_that_run(nodes: list[LocalNode], tmp_path: Path) -> None:
    first = ["--admin", nodes[0].admin, "--endpoint", nodes[0].endpoint]
    members = [f"{node.name}={node.advertise}" for node in nodes]
    for arguments, words in (
        ([], "NAME=HOST:PORT"),
        (["n1"], "'n1' is not like n4=10.0.0.4:8082"),
        ([f"{members[0]},colour=red"], "colour"),
        ([f"{members[0]},weight=much"], "weight"),
        ([members[0], members[0]], "twice"),
        ([*members, "--partitions", "100"], "--partitions"),
        ([*members, "--r", "4"], "r: "),
        ([*members, "--w", "1", "--dw", "2"], "--dw: 1 to w = 1"),
        ([*members, "--conflicts", "Toss"], "--conflicts"),
    ):
        refused = run("create", *arguments, *first)
        assert refused.exit_code == 2 and words in refused.stderr, (arguments, refused.output)
        assert refused.stderr.count("\n") == 1 and "in no ring" in run("ring", *first).stderr
    zoned = [f"{members[0]},zone=a,weight=2", f"{members[1]},zone=b", members[2]]
    shown = ok("create", *zoned, "--partitions", "16", "--w", "3", "--strict", *first).stdout
    assert "16 partitions" in shown and "N=3 R=2 W=3" in shown and "n3" in shown
    ring = document("ring", *first)
    lines = {each["name"]: (each["zone"], each["weight"]) for each in ring["members"]}
    assert lines == {"n1": ("a", 2), "n2": ("b", 1), "n3": ("", 1)} and not ring["sloppy"]
    again = run("create", *members, *first)
    assert again.exit_code == 1 and again.stderr.count("\n") == 1
    until(nodes[0].ready, "ready")
    defaults = document("defaults", *first)
    assert defaults == {"n": 3, "r": 2, "w": 3, "dw": 1, "sloppy": False, "conflicts": "Siblings"}
    assert "sloppy" in ok("defaults", *first).stdout


def test_a_founder_is_written_in_one_word() -> None:
    assert founder_of("n1=h:1,weight=3,zone=z") == {
        "name": "n1",
        "address": "h:1",
        "zone": "z",
        "weight": 3,
    }
    for text in ("n1=h:1,weight=0", "n1=h:1,weight=1001", "n1=h:1,zone", "=h:1", "n1=h"):
        with pytest.raises(Failed):
            founder_of(text)


def pasted(words: str, elsewhere: Path) -> str:
    """The output of a copied line in a shell in another directory."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    ended = subprocess.run(
        ["sh", "-c", words],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
        env={**clean, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def hint(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    assert found, said
    return found[1]


def test_hints_act_on_the_ring_of_their_directory_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    port = free_base(2)
    with_flags = ["--base-port", str(port), "--nodes", "2", "--", *QUICK, "--engine=memory"]
    said = ok("local", "up", "--detach", "--dir", "my ring", *with_flags).stdout
    try:
        exported = hint(r"(?m)^\s+(export .*)$", said)
        assert "n2" in pasted(f"{exported}; dynamoctl status", elsewhere)
        killed = ok("local", "kill", "n2", "--dir", "my ring").stdout
        assert "n2 runs" in pasted(hint("; (.*) brings it back", killed), elsewhere)
        busy = run("local", "up", "--dir", "my ring").stderr
        assert shlex.quote(str(tmp_path / "my ring")) in hint("; (.*) ends them", busy)
        assert "stopped" in pasted(
            hint(r"(?s)(dynamoctl local down.*) stops them", said), elsewhere
        )
    finally:
        LocalRing(tmp_path / "my ring").stop()


def test_a_change_tells_how_to_come_back_to_it(nodes: list[LocalNode], tmp_path: Path) -> None:
    first = ["--admin", nodes[0].admin, "--endpoint", nodes[0].endpoint]
    members = [f"{node.name}={node.advertise}" for node in nodes]
    ok("create", *members, "--partitions", "16", *first)
    until(nodes[0].ready, "ready")
    said = ok("weights", "n1=2", "--yes", "--detach", *first).stdout
    back = hint("it goes on; (.*) follows it", said)
    assert "moves" in pasted(back, tmp_path)
