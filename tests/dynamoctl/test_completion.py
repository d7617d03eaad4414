"""What a shell offers after TAB, asked as bash, zsh and fish ask, against real nodes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_client import DynamoClient
from dynamo_client.local_nodes import LocalRing
from dynamo_node.settings import NodeSettings
from dynamoctl.complete import KEYS_OFFERED_MAX, NODE_FLAGS, bash_words, in_time
from tests.dynamoctl.command_line import ring_of_three

BIN = Path(sys.executable).parent
KEYS = ("cart:1", "cart:2", "cart/käse", "cat", "dog=1")
NOT_PLAIN = ("cart two", "cart$(id)", "cart;id", "cart'", 'cart"', "cart*", "cart\n", "-cart")
OF_LOCAL = {
    "--name", "--data-dir", "--client-listen", "--admin-listen", "--peer-listen", "--advertise",
    "--seeds",
}  # fmt: skip
"""`dynamoctl local` gives these itself."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    with ring_of_three(home) as ring:
        with DynamoClient(ring.nodes["n1"].endpoint) as client:
            for key in (*KEYS, *NOT_PLAIN, b"cart\xff"):
                client.put(key, "x", w="all")
        yield home


def asked(home: Path, shell: str, **how: str) -> str:
    """What the command answers a shell; the error stream must be empty."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    ended = subprocess.run(
        [BIN / "dynamoctl"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**clean, "PYTHONUTF8": "1", "_DYNAMOCTL_COMPLETE": f"complete_{shell}", **how},
    )
    assert ended.stderr == ""
    return ended.stdout


def in_bash(home: Path, *words: str) -> set[str]:
    """As bash asks: its own words, one in each line, and which of them is typed."""
    place = str(len(words))
    said = asked(home, "bash", COMP_WORDS="\n".join(("dynamoctl", *words)), COMP_CWORD=place)
    return set(filter(None, said.split("\n")))


def test_keys_with_what_is_typed_in_three_shells(home: Path) -> None:
    want = {"cart:1", "cart:2", "cart/käse"}
    for command in ("get", "put", "delete", "explain", "preference-list", "records", "history"):
        assert in_bash(home, command, "car") == want
    line = {"_TYPER_COMPLETE_ARGS": "dynamoctl get car"}
    fish = asked(home, "fish", _TYPER_COMPLETE_FISH_ACTION="get-args", **line)
    assert set(fish.split()) == want
    zsh = asked(home, "zsh", **line)
    assert r'"cart\\:1"' in zsh and "cat" not in zsh and "id" not in zsh


def test_no_key_is_offered_that_a_shell_would_not_take_as_it_stands(home: Path) -> None:
    assert in_bash(home, "get", "") == set(KEYS)
    coded = in_bash(home, "get", "--base64", "Y2FydCQ")
    assert coded == {"Y2FydCQoaWQp"}


def test_bash_breaks_words_at_colons_and_gets_what_comes_after(home: Path) -> None:
    assert in_bash(home, "get", "cart", ":") == {"1", "2"}
    assert in_bash(home, "get", "cart", ":", "2") == {"2"}
    assert in_bash(home, "get", "dog", "=") == {"1"}
    assert in_bash(home, "--output", "=", "j") == {"json"}
    assert bash_words("x\n--a\n=\nhttp\n:\n//h\n:\n1\nget\nk\n:", 10) == (
        ["x", "--a=http://h:1", "get", "k:"],
        3,
        "k:",
    )
    assert bash_words("x\n", 1) == (["x", ""], 1, "")


def test_a_real_bash_gets_them(home: Path) -> None:
    script = asked(home, "bash", _DYNAMOCTL_COMPLETE="source_bash")
    ask = (
        f"{script}\nCOMP_WORDS=(dynamoctl get cart : ''); COMP_CWORD=3\n"
        f"_dynamoctl_completion {BIN}/dynamoctl; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    ended = subprocess.run(
        ["bash", "--norc", "-c", ask],
        cwd=home,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (sorted(ended.stdout.split()), ended.stderr) == (["1", "2"], "")


def test_names_of_nodes(home: Path) -> None:
    names = {"n1", "n2", "n3"}
    for words in (
        ("leave",), ("remove",), ("replace",), ("move", "--to"), ("move", "--from"),
        ("plan", "--leave"), ("repair", "--nodes"), ("local", "kill"), ("local", "leave"),
    ):  # fmt: skip
        assert in_bash(home, *words, "n") == names, words
    assert in_bash(home, "leave", "n2", "") == {"n1", "n3"}
    assert in_bash(home, "repair", "--nodes", "n1,") == {"n1,n2", "n1,n3"}
    assert in_bash(home, "weights", "") == {"n1=1", "n2=1", "n3=1"}
    assert in_bash(home, "local", "start", "") == set()


def test_commands_and_words_that_options_take(home: Path) -> None:
    assert in_bash(home, "st") == {"status", "staleness"}
    assert in_bash(home, "local", "st") == {"status", "start"}
    assert in_bash(home, "get", "k", "--r", "") == {"one", "quorum", "all"}
    assert in_bash(home, "import", "f", "--format", "js") == {"json", "jsonl"}
    assert in_bash(home, "repair", "--mode", "") == {"tree", "full"}
    assert in_bash(home, "local", "up", "--", "--eng") == {"--engine"}
    assert "--context-out" in in_bash(home, "get", "k", "--")


def test_flags_of_a_node_are_those_that_there_are() -> None:
    fields = {f"--{name.replace('_', '-')}" for name in NodeSettings.model_fields}
    assert set(NODE_FLAGS) == fields - OF_LOCAL


def test_the_ring_that_is_named_is_the_one_that_is_asked(home: Path, tmp_path: Path) -> None:
    node = LocalRing(home / ".local").nodes["n1"]
    assert in_bash(tmp_path, "--admin", node.admin, "get", "ca") >= {"cat"}
    assert in_bash(tmp_path, "get", "ca", "--admin", node.admin) == set(), "what comes after"
    clean = {"COMP_WORDS": "dynamoctl\nget\nca", "COMP_CWORD": "2", "DYNAMO_ADMIN": node.admin}
    assert "cat" in asked(tmp_path, "bash", **clean)


def test_a_ring_that_is_not_there_or_silent_offers_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], 1):
            admin = f"--admin=http://127.0.0.1:{port}"
            assert in_bash(tmp_path, admin, "get", "c") == set()
            assert in_bash(tmp_path, admin, "leave", "") == set()
    assert in_bash(tmp_path, "--admin=nonsense", "get", "c") == set()
    assert in_bash(tmp_path, "--token-file=none", "get", "c") == set()


def test_what_came_in_time_is_offered_though_the_rest_does_not_come() -> None:
    never = threading.Event()

    def slow() -> Iterator[str]:
        yield "a"
        never.wait()

    assert in_time(slow(), 0.2) == ["a"]
    never.set()


def test_no_more_than_so_many_keys(home: Path) -> None:
    node = LocalRing(home / ".local").nodes["n1"]
    with DynamoClient(node.endpoint) as client:
        for index in range(KEYS_OFFERED_MAX + 5):
            client.put(f"many/{index}", "x", w="all")
    assert len(in_bash(home, "get", "many/")) == KEYS_OFFERED_MAX
