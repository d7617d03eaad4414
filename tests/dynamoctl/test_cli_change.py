"""Changes of the ring as a person makes them, against real nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.processes import until

from dynamo_client import AdminClient
from dynamo_client.local_nodes import LocalRing, free_base
from tests.dynamoctl.command_line import QUICK, document, ok, run

KEYS = 15


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    ring = LocalRing(home / ".local")
    ring.flags = QUICK
    port = free_base(4)
    for _ in range(4):
        ring.add(port)
    spare = ring.nodes["n4"]
    ring.drop(spare)
    try:
        ring.up(16)
        yield home
    finally:
        LocalRing(home / ".local").stop()


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith("DYNAMO_")]:
        monkeypatch.delenv(name)


def ring_of(home: Path) -> LocalRing:
    return LocalRing(home / ".local")


def members() -> dict[str, str]:
    return {m["name"]: m["state"] for m in document("ring")["members"]}


def heard(states: dict[str, str]) -> None:
    """A change is done when one node knows it; the next node that is asked hears of it later."""
    until(lambda: states.items() <= members().items(), f"not heard: {states}")


def replicas() -> dict[str, int]:
    plan = document("plan")
    assert plan["before"] == plan["after"] and plan["moves"] == []
    counts: dict[str, int] = plan["before"]
    return counts


def test_a_plan_is_a_picture_of_before_and_after_and_changes_nothing() -> None:
    asked = ["plan", "--join", "n9=127.0.0.1:1", "--weight", "n1=2"]
    said = ok(*asked).stdout
    assert "█" in said and "▒" in said and max(map(len, said.splitlines())) <= 80
    plan = document(*asked)
    assert plan["hash"] in said and f"{len(plan['moves'])} moves: " in said
    assert plan["after"]["n1"] == 16 and sum(plan["after"].values()) == 48
    assert document(*asked)["hash"] == plan["hash"]
    assert members() == {"n1": "MEMBER", "n2": "MEMBER", "n3": "MEMBER"}


def test_what_cannot_be_is_a_line_with_the_field() -> None:
    for arguments, code, words in (
        (["leave", "n1", "-y"], 2, "leave: 2 nodes would stay, n = 3"),
        (["leave", "n9", "-y"], 2, "leave: no member 'n9'"),
        (["join", "n4", "-y"], 2, "NAME=HOST:PORT: 'n4' is not like"),
        (["join", "n1=127.0.0.1:1", "-y"], 2, "join: n1 is MEMBER"),
        (["weights", "n1=x", "-y"], 2, "NAME=N: 'n1=x' is not like"),
        (["move", "--to", "n1", "-y"], 2, "moves: each has either"),
        (["move", "99", "--from", "n1", "--to", "n2", "-y"], 2, "moves: partition 99"),
        (["defaults", "--w", "4", "-y"], 2, "defaults.w: 1 to n = 3"),
        (["weights", "n1=2", "--output", "json"], 2, "--yes"),
        (["weights", "n1=2", "--hash", "0"], 1, "--hash: the plan has changed"),
        (["weights", "n1=2"], 1, "nothing was changed"),
        (["remove", "n9"], 2, "name: no member 'n9'"),
        (["replace", "n9"], 2, "name: no member 'n9'"),
        (["replace", "n1"], 1, "n1: it answers a member"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, (arguments, result.output)
        assert words in result.stderr
    assert run("weights", "n1=2", given=b"n\n").exit_code == 1
    assert document("status")[0]["operation"]["state"] == "none"


def test_a_ring_grows_is_weighed_and_shrinks_without_loss(home: Path) -> None:
    for index in range(KEYS):
        ok("put", f"key-{index}", f"value {index}")
    added = document("local", "add")
    assert added["operation"]["state"] == "done" and added["plan"]["after"]["n4"] == 12
    heard({"n4": "MEMBER"})
    assert replicas() == dict.fromkeys(("n1", "n2", "n3", "n4"), 12)

    quoted = document("plan", "--weight", "n1=2")["hash"]
    said = ok("weights", "n1=2", "--hash", quoted).stdout
    assert "done: " in said and replicas()["n1"] == 16
    asked = ok("weights", "n1=1", given=b"y\n").stdout
    assert "Apply it?" in asked and replicas()["n1"] == 12

    partition = next(
        p for p, e in enumerate(document("ring")["entries"]) if "n4" not in e["owners"]
    )
    out = document("ring")["entries"][partition]["owners"][0]
    moved = document("move", str(partition), "--from", out, "--to", "n4", "-y")
    assert moved["operation"]["moves_done"] == 1
    assert "n4" in document("ring")["entries"][partition]["owners"]
    tokens = document("move", "--tokens", "2", "--to", "n1", "--from", "n4", "--yes", "--detach")
    followed = document("status", "--follow")
    assert (followed["id"], followed["state"]) == (tokens["operation_id"], "done")
    assert len(tokens["plan"]["moves"]) == 2
    assert "moves are done" in ok("plan", "--apply", "--yes").stdout

    ok("local", "leave", "n2")
    heard({"n2": "LEFT"})
    assert "n2" not in ring_of(home).nodes
    assert "n2" not in ok("ring").stdout and len(document("status")) == 3
    for index in range(KEYS):
        assert ok("get", f"key-{index}").stdout == f"value {index}"


def test_defaults_are_shown_and_changed_and_move_nothing() -> None:
    owners = [entry["owners"] for entry in document("ring")["entries"]]
    said = ok("defaults", "--w", "3", "--strict", given=b"y\n").stdout
    assert "Apply it?" in said and "0 moves" in said and "done: " in said
    ring = document("ring")
    assert [ring[word] for word in ("r", "w", "dw", "sloppy")] == [2, 3, 1, False]
    back = document("defaults", "--w", "2", "--sloppy", "--yes")
    assert back["plan"]["defaults"]["before"] == {"r": 2, "w": 3, "dw": 1, "sloppy": False}
    ring = document("ring")
    assert [ring[word] for word in ("r", "w", "dw", "sloppy")] == [2, 2, 1, True]
    assert [entry["owners"] for entry in ring["entries"]] == owners


def test_a_dead_node_is_shown_and_removed_and_its_name_joins_again(home: Path) -> None:
    ok("local", "add")  # n2, anew
    heard({"n2": "MEMBER"})
    assert [m["incarnation"] for m in document("ring")["members"]] == [1, 2, 1, 1]
    assert "n3 answers: let it leave" in ok("remove", "n3").stdout
    ok("local", "kill", "n3")
    until(lambda: "n3 answers" not in ok("remove", "n3").stdout, "n3 is not seen to be down")
    would = document("remove", "n3")
    assert len(would["below_n"]) == 12 and would["may_be_lost"] == []
    shown = ok("remove", "n3").stdout
    assert "n3 owns 12 partitions" in shown and "nothing was changed" in shown
    assert "this list assumes W = 2, the present value" in shown
    assert members()["n3"] == "MEMBER"
    gone = document("remove", "n3", "--force", "--yes")
    assert gone["operation"]["state"] == "done"
    heard({"n3": "LEFT"})
    node = ring_of(home).node("n3")
    node.wipe()
    ok("local", "start", "n3")
    ok("join", f"n3={node.advertise}", "-y")
    heard({"n3": "MEMBER"})
    for index in range(KEYS):
        assert ok("get", f"key-{index}").stdout == f"value {index}"


def test_a_change_goes_on_after_ctrl_c_and_is_cancelled(home: Path) -> None:
    with AdminClient(ring_of(home).nodes["n1"].admin) as admin:
        gone = ring_of(home).nodes["n4"]
        gone.kill()
        until(lambda: admin.status()["peers"]["n4"] == "down", "n4 is not seen to be down")
        main = "from dynamoctl.app import main; main()"
        command = [sys.executable, "-c", main, "weights", "n1=3", "-y"]
        before = admin.status()["operation"]["id"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as person:
            until(lambda: admin.status()["operation"]["id"] != before, "it is not applied")
            person.send_signal(signal.SIGINT)
            _, said = person.communicate(timeout=20)
        assert person.returncode == 130 and said.count("dynamoctl status --follow") == 1
        assert admin.status()["operation"]["state"] == "running", "a mover waits for n4"
        cancelled = document("cancel")
        assert cancelled["operation"]["state"] == "cancelled"
        assert cancelled["operation_id"] not in (None, before)
        ring_of(home).start([gone])
        until(lambda: settled(admin.ring()), "the moves are not undone")
    assert "no change is under way" in ok("cancel").stdout
    assert document("cancel")["undone"] is False


def settled(ring: dict[str, Any]) -> bool:
    """Whether the owners are those of the target and nothing is under way."""
    pairs = zip(ring["entries"], ring["target"], strict=True)
    return all(not e["move"] and not e["old"] and set(e["owners"]) == set(t) for e, t in pairs)


def test_a_plan_that_has_changed_is_told_with_the_new_one(home: Path) -> None:
    with AdminClient(ring_of(home).nodes["n2"].admin) as admin:
        response: dict[str, Any] = admin.plan({"weights": {"n2": 2}})
        changed = run("weights", "n2=2", "--hash", "0" * 32, "-o", "json")
        assert json.loads(changed.stderr)["field"] == "--hash"
        assert admin.plan({"weights": {"n2": 2}})["hash"] == response["hash"]
