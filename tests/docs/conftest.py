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

from dynamo_client.local_nodes import free_base

COMMANDS = Path(sys.executable).parent
PLACES = (0, 100, 200)
"""Of the client, admin and peer listeners, behind the base port."""
NODES = 3
START_S_MAX = 60.0
SYNCED_S_MAX = 20.0


class Room(NamedTuple):
    """A directory with a `.local/`; the addresses that pages name, and the ones that there are."""

    directory: Path
    addresses: dict[str, str]

    def admin(self, number: int) -> str:
        """Base URL of a node's admin listener."""
        return f"http://{self.addresses[f'127.0.0.1:720{number}']}"


def local(directory: Path, *words: str) -> None:
    """One command of `dynamoctl local`."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    done = subprocess.run(
        [COMMANDS / "dynamoctl", "local", *words], cwd=directory, env=clean, check=False,
        capture_output=True, text=True, timeout=START_S_MAX,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def wait_until_synced(room: Room) -> None:
    """Until then a 404 is a 503: no node has compared numbers with another one."""
    end = time.monotonic() + SYNCED_S_MAX
    for number in range(1, NODES + 1):
        while httpx.get(room.admin(number) + "/readyz?level=synced").status_code != 200:
            assert time.monotonic() < end, f"n{number} is not synced"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A ring as `make up` makes it, on ports of its own."""
    directory = tmp_path_factory.mktemp("room")
    base = free_base(NODES)
    room = Room(
        directory,
        {
            f"127.0.0.1:7{1 + at}0{1 + node}": f"127.0.0.1:{base + place + node}"
            for at, place in enumerate(PLACES)
            for node in range(NODES)
        },
    )
    local(directory, "up", "--detach", f"--base-port={base}")
    try:
        wait_until_synced(room)
        yield room
    finally:
        local(directory, "down")
