"""Five nodes as processes and a browser in front of them, for what people see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from dynamo_client.local_nodes import LocalNode, found
from dynamo_client.local_process import until

SECRET = "a secret of forty characters, or of more."
QUICK = ("--heartbeat-ms=100", "--suspect-ms=1000", "--exchange-ms=500")
WATCHING = "--history-bytes-max=4194304"
START_S_MAX = 120.0
WAIT_MS = 20_000
"""How long a page may take to show what is waited for."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def browser_path() -> str:
    """Where a Chromium is: as DYNAMO_BROWSER names it, or of this machine; "" for none."""
    named = os.environ.get("DYNAMO_BROWSER", "")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), "")


class Room:
    """The nodes of one ring, by name."""

    def __init__(self, directory: Path, count: int, *flags: str) -> None:
        self.flags = flags
        self.nodes = {f"n{i}": LocalNode(f"n{i}", directory / f"n{i}") for i in range(1, count + 1)}
        for node in self.nodes.values():
            node.seeds = [n.advertise for n in self.nodes.values() if n is not node]

    def start(self, name: str) -> None:
        """Starts one node and waits until it serves."""
        node = self.nodes[name]
        node.start(*self.flags)
        until(node.ready, f"{name} is not ready: {node.last_words()}")

    @property
    def door(self) -> str:
        """Admin HTTP of the node through which the console looks."""
        return self.nodes["n1"].admin

    def preference(self, key: str) -> tuple[list[str], list[str]]:
        """Owners and stand-ins of a key."""
        found = httpx.get(f"{self.door}/v1/preference-list/{key}").raise_for_status().json()
        return found["owners"], found["stand_ins"]

    def put(self, key: str, value: str) -> None:
        """A put without a context through the node of the console."""
        httpx.put(f"{self.nodes['n1'].endpoint}/v1/kv/{key}", content=value).raise_for_status()

    def key_without(self, name: str) -> str:
        """A key of which that node is no owner."""
        keys = (f"cart:{n}" for n in range(1000))
        return next(key for key in keys if name not in self.preference(key)[0])


@contextmanager
def ring_of(directory: Path, count: int, *flags: str, token: str | None = None) -> Iterator[Room]:
    """A ring of so many nodes; they end with the block."""
    room = Room(directory, count, *QUICK, WATCHING, *flags)
    try:
        for node in room.nodes.values():
            node.start(*room.flags)
        for node in room.nodes.values():  # five processes that start at once, beside a browser
            until(node.lives, f"{node.name} does not answer", START_S_MAX)
        n = min(3, count)
        found(room.nodes.values(), token, partitions=64, n=n, r=n // 2 + 1, w=n // 2 + 1)
        yield room
    finally:
        for node in room.nodes.values():
            node.kill()
