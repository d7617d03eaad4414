"""Waiting inside an event loop, with a bound: clean-up waits too, after the test was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_S = 0.005
WAIT_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds; AssertionError after WAIT_S, raised from the line that waits."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"what this line waits for was not so in {WAIT_S:g} s") from None
