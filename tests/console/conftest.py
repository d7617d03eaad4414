"""A ring for every module, and one browser; each test has a page of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ring_room import Room, browser_path, ring_of


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with ring_of(tmp_path_factory.mktemp("console"), 5) as room:
        yield room


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Skipped where there is no Chromium, and never in CI."""
    path = browser_path()
    if not path and not os.environ.get("CI"):
        pytest.skip("no Chromium on this machine: apt-get install chromium, or DYNAMO_BROWSER")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its own sandbox wants rights that containers do not give; it sees nothing but loopback.
        browser = playwright.chromium.launch(
            executable_path=path or None, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
