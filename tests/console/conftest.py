"""One ring and one browser for the tests of a module; each test has a separate page. They end with
the module: a ring and an open page at rest would take time from the tests after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.ring_room import NODES, Room, Viewer, browser_path, ring_of


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with ring_of(tmp_path_factory.mktemp("console") / "ring", NODES) as room:
        yield room


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Skipped where there is no Chromium, and never in CI."""
    path = browser_path()
    if not path and os.environ.get("CI", "").lower() not in ("true", "1"):
        pytest.skip("no Chromium on this machine: apt-get install chromium, or DYNAMO_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its own sandbox wants rights that containers do not give; it sees nothing but loopback.
        browser = playwright.chromium.launch(
            executable_path=path or None, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def viewer(browser: Any, room: Room) -> Iterator[Viewer]:
    viewer = Viewer(browser, room.door)
    yield viewer
    viewer.end()
