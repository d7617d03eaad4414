"""Waiting inside an event loop; the bound is the test's own, around the whole of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_S = 0.005


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(LOOK_S)
