"""Five nodes as processes, their console, and a browser in front of it, for what people see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from PIL import Image

from dynamo_client.local_door import LocalConsole
from dynamo_client.local_nodes import LocalNode, LocalRing, create_ring, free_base
from dynamo_client.local_process import until

NODES, PARTITIONS = 5, 64
SECRET = "a secret of forty characters, or of more."
QUICK = [
    "--heartbeat-ms=100",
    "--suspect-ms=1000",
    "--exchange-ms=500",
    "--hedge-ms=100",
    "--history-bytes-max=4194304",
]
START_S_MAX = 120.0
"""Processes that start at once, on a machine that is busy."""
WAIT_MS = 60_000
"""How long a page may take to show what is waited for."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
COLOURS = 255
"""Of a picture in the docs: flat colours stay as they are, at a third of the bytes."""


def browser_path() -> str:
    """Where a Chromium is: as DYNAMO_BROWSER names it, or of this machine; "" for none."""
    named = os.environ.get("DYNAMO_BROWSER", "")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), "")


class Room:
    """The nodes of one ring and the console in front of them."""

    def __init__(self, ring: LocalRing, console: LocalConsole) -> None:
        self.ring = ring
        self.console = console
        self.door = console.url.removesuffix("/console")
        """The origin of the console: it goes on to any node that runs."""

    @property
    def nodes(self) -> dict[str, LocalNode]:
        """By name, as the directory has them now."""
        return LocalRing(self.ring.directory).nodes

    def start(self, name: str) -> None:
        """Starts one node and waits until it serves."""
        node = self.nodes[name]
        node.start(*self.ring.flags)
        until(node.ready, f"{name} is not ready: {node.last_words()}", START_S_MAX)

    def preference(self, key: str) -> tuple[list[str], list[str]]:
        """Owners and stand-ins of a key."""
        found = httpx.get(f"{self.door}/v1/preference-list/{key}").raise_for_status().json()
        return found["owners"], found["stand_ins"]

    def put(self, key: str, value: str) -> None:
        """A put without a context."""
        httpx.put(f"{self.door}/v1/kv/{key}", content=value, timeout=30).raise_for_status()


@contextmanager
def ring_of(directory: Path, count: int, *flags: str, token: str | None = None) -> Iterator[Room]:
    """A ring of so many nodes with its console; they end with the block."""
    ring = LocalRing(directory)
    ring.flags = [*QUICK, *flags]
    base = free_base(count)
    for _ in range(count):
        ring.add(base)
    console = LocalConsole(ring)
    try:
        for node in ring.nodes.values():
            node.start(*ring.flags)
        for node in ring.nodes.values():
            until(node.lives, f"{node.name} does not answer", START_S_MAX)
        n = min(3, count)
        create_ring(
            ring.nodes.values(), token, partitions=PARTITIONS, n=n, r=n // 2 + 1, w=n // 2 + 1
        )
        yield Room(ring, console)
    finally:
        console.release()
        console.stop()
        for node in ring.nodes.values():
            node.kill()


def with_few_colours(whole: Image.Image) -> Image.Image:
    """The picture in the colours that it has most of; each other one becomes the nearest."""
    counts = whole.getcolors(whole.width * whole.height) or []
    most = [colour for _, colour in sorted(counts, reverse=True)[:COLOURS]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in most for part in colour])  # type: ignore[misc]
    return whole.quantize(palette=palette, dither=Image.Dither.NONE)


class Viewer:
    """One page, and all that it asked for and complained of."""

    def __init__(self, browser: Any, origin: str, **more: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **more})
        self.context.set_default_timeout(WAIT_MS)
        self.page = self.context.new_page()
        self.origin = origin
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append("a dialog") or dialog.dismiss())

    def open(self, page: str, key: str = "") -> Any:
        """A page of the console, drawn."""
        self.page.goto(f"{self.origin}/console#/{page}" + (f"/{quote(key)}" if key else ""))
        self.page.wait_for_selector("main h1")
        return self.page

    def picture(self, name: str, height: int = 800) -> None:
        """For the docs, when DYNAMO_PICTURES is set: a run like any other leaves them alone."""
        if os.environ.get("DYNAMO_PICTURES"):
            width = self.page.viewport_size["width"]
            self.page.set_viewport_size({"width": width, "height": height})
            shot = self.page.screenshot(animations="disabled")
            small = with_few_colours(Image.open(BytesIO(shot)).convert("RGB"))
            small.save(PICTURES / f"console-{name}.png", optimize=True)

    def end(self) -> None:
        """Closes it. Nothing was thrown, and no request left the node."""
        self.context.close()
        assert not self.faults
        foreign = [url for url in self.asked if not url.startswith(self.origin + "/")]
        assert not foreign, "no request leaves the node"


def counted(page: Any, selector: str, count: int) -> None:
    """Waits until so many elements are there."""
    page.wait_for_function(
        "([what, count]) => document.querySelectorAll(what).length === count", arg=[selector, count]
    )


def press(page: Any, name: str) -> None:
    """Presses the button of that name."""
    page.get_by_role("button", name=name, exact=True).click()
