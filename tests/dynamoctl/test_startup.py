"""The modules that a command loads before it starts: most of its time goes into that."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from dynamoctl.app import WHERE, app

LAZY = (
    *("httpx", "click", "pygments", "rich.console", "rich.progress", "rich.markdown"),
    *("anyio._core", "asyncio", "multiprocessing", "urllib.request", "concurrent.futures"),
    *("http.client", "http.server", "typer.rich_utils", "unittest", "importlib.metadata"),
    *("dynamoctl.local", "dynamoctl.top", "dynamoctl.kubectl"),
    *("dynamoctl.transfer", "dynamoctl.change", "dynamoctl.ring", "dynamoctl.complete"),
    *("rich", "dynamo_client.local_nodes"),
)
"""Modules that a plain `get` does not need."""
NO_PRODUCTION = ("httpx", "multiprocessing", "urllib.request", "pygments.lexers")
"""Modules that no command needs after it is loaded."""


def loaded(program: str, names: tuple[str, ...]) -> list[str]:
    """Those of the names that are loaded modules after the program has run."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys\n{program}\nprint([name for name in {names!r} if name in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DYNAMO_ENDPOINT": "http://127.0.0.1:1"},
    )
    found: list[str] = eval(ended.stdout.splitlines()[-1])
    return found


RUN = """
from dynamoctl.app import app
try:
    app({arguments!r})
except SystemExit as end:
    assert end.code == {code}, end.code
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["get", "k"], 1), (["put", "k", "v"], 1), (["delete", "k"], 1), (["--help"], 0),
     (["get", "--help"], 0)],
)  # fmt: skip
def test_a_plain_command_loads_only_what_it_needs(arguments: list[str], code: int) -> None:
    assert loaded(RUN.format(arguments=arguments, code=code), LAZY) == []


def test_no_command_loads_what_none_has_a_use_for() -> None:
    rooms = "; ".join(f"import dynamoctl.{room}" for room in {where for where, _ in WHERE.values()})
    assert loaded(rooms, NO_PRODUCTION) == []


def test_each_command_is_where_the_table_says() -> None:
    for room in {where for where, _ in WHERE.values()}:
        module = import_module(f"dynamoctl.{room}")
        if room in ("local", "certs"):
            continue
        commands = module.commands.registered_commands
        names = {each.name or each.callback.__name__ for each in commands}
        names |= {each.name for each in module.commands.registered_groups}
        assert names == {name for name, (where, _) in WHERE.items() if where == room}
    assert callable(app)


def test_the_help_has_a_whole_sentence_for_each_command() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from dynamoctl import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    ).stdout
    for name, (_, words) in WHERE.items():
        assert f"  {name:<15}  {words}\n" in said


def test_no_authorities_are_read_where_nothing_is_encrypted() -> None:
    program = "import ssl\nmade = ssl.SSLContext\nclass Told(made):\n"
    program += "    def __new__(cls, *_): raise AssertionError\nssl.SSLContext = Told\n"
    assert loaded(program + RUN.format(arguments=["get", "k"], code=1), LAZY) == []


def test_the_async_client_is_there_when_it_is_asked_for() -> None:
    assert loaded("import dynamo_client", ("asyncio")) == []
    assert loaded("from dynamo_client import AsyncDynamoClient", ("asyncio",)) == ["asyncio"]


@pytest.mark.parametrize("command", ["main", "plugin"])
def test_garbage_is_collected_once_a_command_is_loaded(command: str) -> None:
    """While it loads there is none to collect. A command may run for hours."""
    program = f"""
import gc, sys
from dynamoctl import {command}
states = []
gc.enable, enable = lambda: (enable(), states.append(len(sys.modules) > before)), gc.enable
before, sys.argv = len(sys.modules) + 100, ["kubectl-dynamo", "--version"]
try:
    {command}()
except SystemExit:
    assert gc.isenabled() and states == [True]
print()"""
    assert loaded(program, ()) == []
