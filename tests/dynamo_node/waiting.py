"""Waiting inside an event loop, with a bound: clean-up waits too, after the test was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_S = 0.005
WAIT_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds; AssertionError after WAIT_S, raised from the line that waits."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    while not condition():
        # No asyncio.timeout: before Python 3.11.3 it does not work in a task that was cancelled.
        assert loop.time() < end, f"what this line waits for was not so in {WAIT_S:g} s"
        await asyncio.sleep(LOOK_S)
