"""Three real nodes in one ring, for everything that the pages show."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from dynamo_client import AdminClient, DynamoClient
from dynamo_client.local_nodes import free_base

COMMANDS = Path(sys.executable).parent
PLACES = (0, 100, 200)
"""Of the client, admin and peer listeners, behind the base port."""
NODES = 3
NODES_MAX = 4
"""With the node that a page adds."""
FAST = ("--moves-max=8",)
"""Otherwise as `make up` starts them."""
START_S_MAX = 60.0
SYNCED_S_MAX = 20.0


class Room(NamedTuple):
    """A directory with a `.local/`; the addresses in the pages, and the real ones."""

    directory: Path
    addresses: dict[str, str]

    def admin(self, number: int) -> str:
        """Base URL of a node's admin listener."""
        return f"http://{self.addresses[f'127.0.0.1:720{number}']}"


class Other(NamedTuple):
    """A ring of one node beside the room, and what its `up` said."""

    directory: Path
    admin: str
    said: str

    @staticmethod
    def keys_of(admin: str) -> set[bytes]:
        """All keys of a ring."""
        with AdminClient(admin) as client:
            return set(client.keys())

    def state(self) -> tuple[dict[str, object], set[bytes]]:
        """The ring document and the keys."""
        with AdminClient(self.admin) as client:
            return client.ring(), set(client.keys())

    def pasted(self, script: str, cwd: Path) -> tuple[int, str]:
        """How commands end in a shell in that directory, and what they print."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
        path = os.pathsep.join([str(COMMANDS), clean["PATH"]])
        done = subprocess.run(
            ["sh"],
            input=script,
            cwd=cwd,
            env={**clean, "PATH": path},
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_S_MAX,
        )
        return done.returncode, done.stdout


def local(directory: Path, *words: str) -> str:
    """One command of `dynamoctl local`, and what it says."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    done = subprocess.run(
        [COMMANDS / "dynamoctl", "local", *words],
        cwd=directory,
        env=clean,
        check=False,
        capture_output=True,
        text=True,
        timeout=START_S_MAX,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until_synced(room: Room) -> None:
    """Until then a missing key is a 503, because no node has compared numbers with another."""
    end = time.monotonic() + SYNCED_S_MAX
    for index in range(1, NODES + 1):
        while httpx.get(room.admin(index) + "/readyz?level=synced").status_code != 200:
            assert time.monotonic() < end, f"n{index} is not synced"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A ring as `make up` makes it, on ports of its own."""
    directory = tmp_path_factory.mktemp("room")
    base = free_base(NODES_MAX)
    room = Room(
        directory,
        {
            f"127.0.0.1:7{1 + at}0{1 + node}": f"127.0.0.1:{base + place + node}"
            for at, place in enumerate(PLACES)
            for node in range(NODES_MAX)
        },
    )
    local(directory, "up", "--detach", f"--base-port={base}", "--", *FAST)
    try:
        wait_until_synced(room)
        yield room
    finally:
        local(directory, "down")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """A second ring, which no page describes. It has a key, and is started from elsewhere."""
    home, elsewhere = tmp_path_factory.mktemp("other"), tmp_path_factory.mktemp("elsewhere")
    base = free_base(1)
    flags = ("--nodes=1", "--", "--engine=memory")
    ring = f"--dir={home}"
    said = local(elsewhere, "up", "--detach", ring, f"--base-port={base}", *flags)
    try:
        with DynamoClient(f"http://127.0.0.1:{base}") as client:
            client.put("theirs", "x")
        yield Other(home, f"http://127.0.0.1:{base + PLACES[1]}", said)
    finally:
        local(elsewhere, "down", ring)
