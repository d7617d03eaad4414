"""`dynamoctl` where the terminal is narrow, has few letters or no colours, or is a closed pipe."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from dynamoctl.session import Session, fitted, table, within
from tests.dynamoctl.command_line import ring_of_three

BIN = Path(sys.executable).parent
KEY = "käse/猫".encode()
FEW_LETTERS = [
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii:strict", "NO_COLOR": "1"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with ring_of_three(home):
        yield home


def dynamoctl(
    home: Path, *arguments: str | bytes, **env: str
) -> subprocess.CompletedProcess[bytes]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    command = [os.fsencode(BIN / "dynamoctl"), *map(os.fsencode, arguments)]
    return subprocess.run(
        command, cwd=home, env={**clean, **env}, capture_output=True, check=False, timeout=30
    )


@pytest.mark.parametrize("env", FEW_LETTERS, ids=str)
def test_few_letters_end_no_command_and_change_no_key(home: Path, env: dict[str, str]) -> None:
    for key in (KEY, b"k\xe4se"):
        assert dynamoctl(home, "put", key, KEY, "--w", "all", **env).returncode == 0
        assert dynamoctl(home, "get", key, **env).stdout == KEY
        got = dynamoctl(home, "get", key, "--context-out", "seen", **env)
        assert dynamoctl(home, "delete", key, "--context", "@seen", **env).returncode == 0
        assert got.returncode == 0
        assert dynamoctl(home, "put", key, "x", "--w", "all", **env).returncode == 0
    for arguments in (
        ["keys"], ["ring"], ["status"], ["top", "--once"], ["plan", "--weight", "n1=2"], ["--help"],
        ["preference-list", KEY], ["explain", KEY], ["local", "status"], ["defaults"],
    ):  # fmt: skip
        ended = dynamoctl(home, *arguments, **env)
        assert (ended.returncode, ended.stderr) == (0, b""), (arguments, ended.stderr)
    assert b"###" in dynamoctl(home, "plan", "--weight", "n1=2", **env).stdout
    assert b"k%C3%A4se%2F" in dynamoctl(home, "keys", **env).stdout
    for key in (KEY, b"k\xe4se"):
        assert dynamoctl(home, "delete", key, **env).returncode == 0


def test_a_reader_that_closes_the_pipe_is_no_failure(home: Path) -> None:
    for index in range(40):
        assert dynamoctl(home, "put", f"many-{index:03}", "x").returncode == 0
    ended = subprocess.run(
        ["sh", "-c", f"{BIN}/dynamoctl keys | head -1; {BIN}/dynamoctl status | true"],
        cwd=home,
        capture_output=True,
        check=False,
    )
    assert ended.stdout.count(b"\n") == 1 and ended.stderr == b""


def on_terminal(width: int, picture: object) -> str:
    heard = io.StringIO()
    fitted(Console(file=heard, width=width, force_terminal=True, color_system=None), picture)
    return heard.getvalue()


def test_a_table_wider_than_the_terminal_loses_no_column() -> None:
    rows = table("node", ">complete", "sees down")
    rows.add_row("n1", "256/256", "n2, n3, n4, n5, n6, n7, n8, n9")
    rows.add_row("n2", "0/256", "")
    wide = on_terminal(80, rows)
    assert wide.splitlines()[1].split()[:2] == ["n1", "256/256"]
    narrow = on_terminal(40, rows)
    assert "…" not in narrow
    for word in (
        "n1",
        "complete",
        "256/256",
        "sees down",
        "n2, n3, n4, n5, n6, n7, n8, n9",
        "0/256",
    ):
        assert word in narrow


def test_a_table_that_is_drawn_again_loses_no_column_either() -> None:
    rows = table("node", ">get/s", ">p50", ">p99", ">put/s", "sees down")
    rows.add_row("n1", "1,234", "0.5", "12.5", "777", "n2, n3, n4")
    rows.add_row("n2", "down")
    rows.caption = "latencies in ms"
    wide, narrow = (
        Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        for width in (80, 24)
    )
    assert within(wide, rows) is rows
    narrow.print(within(narrow, rows))
    said = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert said.splitlines() == [
        "node n1  get/s 1,234",
        "  p50 0.5  p99 12.5",
        "  put/s 777",
        "  sees down n2, n3, n4",
        "node n2  get/s down",
        "latencies in ms",
    ]


def test_owners_are_told_apart_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Session([], [], None, False).coloured


@pytest.mark.parametrize(
    ("command", "module", "missing"),
    [
        ("dynamo-node", "dynamo_node.start", "uvicorn"),
        ("dynamo-operator", "dynamo_operator.start", "kopf"),
    ],
)
def test_a_missing_extra_is_one_line(command: str, module: str, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from {module} import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    extra = command.removeprefix("dynamo-")
    assert f"pip install 'dynamo-ring[{extra}]'" in ended.stderr and missing in ended.stderr


def test_local_up_without_the_node_is_one_line(tmp_path: Path) -> None:
    program = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "uvicorn" else find(name, *more)
sys.argv[1:] = ["local", "up"]
from dynamoctl.app import main
main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "dynamo-ring[node]" in ended.stderr
