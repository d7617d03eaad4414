"""SIGHUP on a real process: it applies what may change, logs the rest, and goes on."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from benchmarks.processes import Node, until

from dynamo_core.secret_keys import token_of
from dynamo_core.settings import RETUNED
from dynamo_core.testing.town import SETTINGS, Town
from dynamo_node.reload import LIVE
from dynamo_node.settings import NodeSettings

READ_AGAIN = "settings were read again"


class Ring:
    """A ring of one, with a file of settings."""

    def __init__(self, directory: Path) -> None:
        self.file, self.secret = directory / "node.toml", directory / "secret"
        self.node = Node("n1", directory / "n1")
        self.write("siblings_max = 100")
        self.secret.write_text("s" * 40)

    def write(self, *lines: str) -> None:
        self.file.write_text("\n".join([f'cluster_secret_file = "{self.secret}"', *lines]) + "\n")

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.node.log.read_text().splitlines()]

    def hang_up(self, end: str = READ_AGAIN) -> list[dict[str, Any]]:
        """The lines of the log from the signal to the one that begins so."""
        before = len(self.said())
        process = self.node.process
        assert process is not None
        process.send(signal.SIGHUP)
        until(lambda: any(e["event"].startswith(end) for e in self.said()[before:]), "nothing said")
        return self.said()[before:]

    def put(self) -> int:
        """The status of one more sibling."""
        return httpx.put(f"{self.node.endpoint}/v1/kv/k", content=b"v").status_code


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    ring = Ring(tmp_path)
    try:
        ring.node.start(f"--config={ring.file}", "--hedge-ms=70")
        until(ring.node.lives, "it does not live")
        token = {"Authorization": "Bearer " + "s" * 40}
        members = [{"name": "n1", "address": ring.node.advertise}]
        body = {"partitions": 16, "n": 1, "members": members}
        made = httpx.post(f"{ring.node.admin}/v1/ring", json=body, headers=token)
        assert made.status_code == 201
        yield ring
    finally:
        ring.node.kill()


def told(lines: list[dict[str, Any]], event: str) -> dict[str, tuple[Any, Any]]:
    """What was before and what is told, by setting."""
    found = [line for line in lines if line["event"] == event]
    return {line["setting"]: (line.get("before"), line.get("told")) for line in found}


def test_what_can_change_changes_and_the_rest_is_told(ring: Ring) -> None:
    assert [ring.put(), ring.put()] == [204, 204]
    ring.write("siblings_max = 2", "hedge_ms = 99", "weight = 7", 'zone = "b"')
    lines = ring.hang_up()
    assert told(lines, "a setting has changed") == {"siblings_max": (100, 2)}, "flags win"
    assert told(lines, "a changed setting needs a restart") == {
        "weight": (1, 7),
        "zone": ("", "b"),
    }
    assert ring.put() == 409
    ring.write("siblings_max = 3")
    assert told(ring.hang_up(), "a setting has changed") == {"siblings_max": (2, 3)}
    assert ring.put() == 204
    assert [line["event"] for line in ring.hang_up()] == [READ_AGAIN]


def test_a_bad_file_is_one_line_and_changes_nothing(ring: Ring) -> None:
    for text, words in (
        ("siblings_max = 0", "siblings_max: "),
        ("siblings_mx = 1", "siblings_mx: no such setting"),
        ("siblings_max = ", "config: "),
        ("suspect_ms = 30", "suspect_ms: "),
    ):
        ring.write(text)
        (line,) = ring.hang_up("settings were not changed")
        assert (line["level"], words in line["event"]) == ("error", True), line
    ring.file.unlink()
    (line,) = ring.hang_up("settings were not changed")
    assert "no such file" in line["event"]
    assert [ring.put() for _ in range(3)] == [204] * 3


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_of(secret.encode())}"}


OLD, NEW = "s" * 40, "t" * 40


def test_a_secret_that_changed_holds_from_now_on_and_a_bad_one_changes_nothing(ring: Ring) -> None:
    def statuses() -> list[int]:
        url = f"{ring.node.admin}/v1/status"
        return [httpx.get(url, headers=bearer(s)).status_code for s in (OLD, NEW)]

    assert statuses() == [200, 401]
    assert ring.put() == 204
    context = httpx.get(f"{ring.node.endpoint}/v1/kv/k").headers["Dynamo-Context"]

    def delete() -> int:
        headers = {"Dynamo-Context": context}
        return httpx.delete(f"{ring.node.endpoint}/v1/kv/k", headers=headers).status_code

    for text, expected, deleted in (
        (f"{OLD}\n{NEW}\n", [200, 200], 204),
        (f"{NEW}\n{OLD}\n", [200, 200], 204),
        (f"{NEW}\n", [401, 200], 400),
    ):
        ring.secret.write_text(text)
        lines = ring.hang_up()
        assert [line["event"] for line in lines] == ["secrets were read again", READ_AGAIN]
        assert OLD not in json.dumps(lines) and NEW not in json.dumps(lines)
        assert (statuses(), delete()) == (expected, deleted)
    ring.secret.write_text("short")
    (line, _) = ring.hang_up()
    assert line["event"].startswith("secrets were not changed: cluster_secret_file: ")
    ring.secret.unlink()
    (line, _) = ring.hang_up()
    assert line["event"].startswith("secrets were not changed: cluster_secret_file: ")
    assert statuses() == [401, 200]


def test_a_secret_is_read_again_when_its_file_changes_without_a_signal(ring: Ring) -> None:
    new = ring.secret.with_suffix(".new")
    new.write_text(f"{NEW}\n{OLD}\n")
    new.rename(ring.secret)
    url = f"{ring.node.admin}/v1/status"
    until(lambda: httpx.get(url, headers=bearer(NEW)).status_code == 200, "not read again")


def test_the_level_of_the_log_changes_and_the_end_is_clean(ring: Ring) -> None:
    ring.write('log_level = "debug"')
    assert told(ring.hang_up(), "a setting has changed") == {"log_level": ("info", "debug")}
    ring.node.stop()
    assert ring.said()[-1]["event"] == "stopped clean"


def test_each_live_setting_is_one_that_the_core_lets_change() -> None:
    """And each of the core's is one of a node: whatever differs, `retune` takes it."""
    usual = NodeSettings()
    other = {
        "hedge_ms": 7.0, "fsync_stall_ms": 70.0, "exchange_ms": 70.0, "exchanges_max": 7,
        "moves_max": 7, "latency_threshold_ms": 7.0, "siblings_max": 7, "hint_bytes_max": 7,
        "anti_entropy": "off", "replace_lost": False, "log_level": "debug", "slow_request_ms": 7.0,
        "delay_samples_per_minute": 7, "canaries_per_minute": 7,
    }  # fmt: skip
    assert set(other) == set(LIVE)
    changed = usual.model_copy(update=other).of_core()
    was = usual.of_core()
    differ = {f for f in was.__struct_fields__ if getattr(was, f) != getattr(changed, f)}
    assert differ == set(RETUNED)


def test_a_node_obeys_other_settings_from_then_on() -> None:
    town = Town("a b c")
    node = town.nodes["a"]
    node.retune(msgspec.structs.replace(SETTINGS, hedge_s=0.3, latency_threshold_ms=5.0))
    assert (node.hedging.after_s(1.0), node.throttle.threshold_ms) == (0.3, 5.0)
    assert town.put("a", b"k", b"v", w=3).status == 204
    with pytest.raises(ValueError, match="only hedge_s"):
        node.retune(msgspec.structs.replace(SETTINGS, suspect_s=9.0))


def rules(*tokens: str) -> str:
    return "".join(
        f'[[rules]]\ntoken_sha256 = "{sha256(token.encode()).hexdigest()}"\n'
        'prefixes = ["k"]\nverbs = ["get", "put"]\n'
        for token in tokens
    )


def test_rights_change_under_load_without_a_failed_request(tmp_path: Path) -> None:
    """What is allowed before and after stays allowed meanwhile; removed rights are gone; a wrong
    file changes nothing."""
    ring, access = Ring(tmp_path), tmp_path / "access.toml"
    statuses: list[int] = []
    done = threading.Event()

    def load() -> None:
        with httpx.Client(headers={"Authorization": "Bearer always"}, timeout=20.0) as client:
            while not done.is_set():
                statuses.append(
                    client.put(f"{ring.node.endpoint}/v1/kv/k", content=b"v").status_code
                )
                statuses.append(client.get(f"{ring.node.endpoint}/v1/kv/k").status_code)

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{ring.node.endpoint}/v1/kv/k", headers=headers).status_code

    def replace(text: str) -> None:
        new = access.with_suffix(".new")
        new.write_text(text)
        new.rename(access)

    replace(rules("always", "old"))
    load_thread = threading.Thread(target=load)
    try:
        ring.node.start(f"--config={ring.file}", f"--access-file={access}", "--siblings-max=4096")
        until(ring.node.lives, "it does not live")
        members = [{"name": "n1", "address": ring.node.advertise}]
        body = {"partitions": 16, "n": 1, "members": members, "conflicts": "LastWriteWins"}
        url = f"{ring.node.admin}/v1/ring"
        assert httpx.post(url, json=body, headers=bearer(OLD)).status_code == 201
        load_thread.start()
        until(lambda: len(statuses) > 20, "no load")
        for n in range(5):
            replace(rules("always", f"new{n}"))
            ring.hang_up()
            assert status(f"new{n}") == 200 and status(f"new{n - 1}" if n else "old") == 401
        replace("[[rules]]\ncertificate = 7\n")
        ring.hang_up("rights were not changed: access_file: ")
        assert status("new4") == 200
        told = len(ring.said())
        replace(rules("always", "unsignalled"))
        until(lambda: len(ring.said()) > told, "not read again")
        assert [line["event"] for line in ring.said()[told:]] == ["rights were read again"]
        assert status("unsignalled") == 200
        before = len(statuses)
        until(lambda: len(statuses) > before + 20, "the load has ended")
    finally:
        done.set()
        if load_thread.is_alive():
            load_thread.join(30)
        ring.node.kill()
    assert set(statuses) == {200, 204}
