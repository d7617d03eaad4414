"""Which cluster is looked at next: a queue of keys, each at most once queued and once at work.

An event only moves a key forward, so a storm of events is one look. A key whose pass failed waits
1, 2, 4 .. 60 s, and events do not shorten this time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

BACK_OFF_S_MIN = 1.0
BACK_OFF_S_MAX = 60.0
EVENT_S = 0.2
WORKERS_MAX = 8
Key = tuple[str, str]
"""Namespace and name."""


class Workqueue:
    """Calls `work(key)` when it is due. `work` returns the seconds until it is due again, or None
    to forget the key; it raises if it failed."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        failed: Callable[[Key, Exception, float], None],
    ) -> None:
        self._work = work
        self._failed = failed
        self._due: dict[Key, float] = {}
        self._held: dict[Key, tuple[float, float]] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.ended = asyncio.get_running_loop().time()
        """When the last attempt ended, with or without success, by the loop's clock."""

    def __len__(self) -> int:
        return len(self._due) + len(self._running)

    def knows(self, key: Key) -> bool:
        """Whether the key is queued or being looked at."""
        return key in self._due or key in self._running

    def wake(self, key: Key, after_s: float = EVENT_S) -> None:
        """Looks at it after this time, or sooner if it is due sooner."""
        due = asyncio.get_running_loop().time() + after_s
        due = max(due, self._held.get(key, (0.0, 0.0))[0])
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    async def run(self) -> None:
        """Runs until cancelled; then also cancels the work under way."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._changed.clear()
                ready = {k: due for k, due in self._due.items() if k not in self._running}
                first = min(ready, key=ready.__getitem__, default=None)
                wait_s = None if first is None else max(0.0, ready[first] - loop.time())
                if first is not None and wait_s == 0.0 and len(self._running) < WORKERS_MAX:
                    del self._due[first]
                    self._running[first] = asyncio.create_task(self._attempt(first))
                    continue
                if len(self._running) >= WORKERS_MAX:
                    wait_s = None
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _attempt(self, key: Key) -> None:
        loop = asyncio.get_running_loop()
        again: float | None = None
        try:
            again = await self._work(key)
            self._held.pop(key, None)
        except Exception as error:  # noqa: BLE001 - one cluster must not end the others
            last = self._held.get(key, (0.0, BACK_OFF_S_MIN / 2))[1]
            again = min(BACK_OFF_S_MAX, last * 2)
            self._held[key] = loop.time() + again, again
            self._failed(key, error, again)
        finally:
            self.ended = loop.time()
            del self._running[key]
            self._changed.set()
        if again is not None:
            self.wake(key, again)
