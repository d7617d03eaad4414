"""The queue of keys: one look for many events, back-off that events do not shorten."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dynamo_operator.workqueue import BACK_OFF_S_MAX, Key, Workqueue

A, B = ("shop", "a"), ("shop", "b")


class Work:
    """Notes the keys; `answers` are the results of the looks, then None."""

    def __init__(self, *answers: float | Exception | None) -> None:
        self.answers = list(answers)
        self.done: list[Key] = []
        self.failures: list[float] = []
        self.open: set[Key] = set()
        self.changed = asyncio.Condition()

    async def __call__(self, key: Key) -> float | None:
        assert key not in self.open, "looked at twice at once"
        self.open.add(key)
        await asyncio.sleep(0)
        self.open.discard(key)
        async with self.changed:
            self.done.append(key)
            self.changed.notify_all()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def failed(self, key: Key, error: Exception, again_s: float) -> None:
        """A look has failed."""
        self.failures.append(again_s)

    async def until(self, count: int) -> None:
        """Waits for this many looks."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: len(self.done) >= count)


def run(work: Callable[[], Work], body: Callable[[Workqueue, Work], Awaitable[None]]) -> None:
    """With a running queue."""

    async def whole() -> None:
        made = work()
        workqueue = Workqueue(made, made.failed)
        task = asyncio.create_task(workqueue.run())
        try:
            async with asyncio.timeout(20):
                await body(workqueue, made)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(whole())


def test_many_events_are_one_look() -> None:
    async def body(workqueue: Workqueue, work: Work) -> None:
        for _ in range(100):
            workqueue.wake(A)
            workqueue.wake(B)
        await work.until(2)
        assert sorted(work.done) == [A, B]
        while len(workqueue):
            await asyncio.sleep(0)
        assert not workqueue.knows(A)

    run(Work, body)


def test_what_is_due_again_is_looked_at_again() -> None:
    async def body(workqueue: Workqueue, work: Work) -> None:
        workqueue.wake(A, 0.0)
        await work.until(4)
        assert work.done == [A] * 4

    run(lambda: Work(0.0, 0.01, 0.0), body)


def test_an_event_brings_a_late_look_forward() -> None:
    async def body(workqueue: Workqueue, work: Work) -> None:
        workqueue.wake(A, 0.0)
        await work.until(1)
        workqueue.wake(A, 0.0)
        await work.until(2)

    run(lambda: Work(3600.0), body)


def test_a_failing_key_backs_off_and_events_do_not_shorten_that() -> None:
    async def body(workqueue: Workqueue, work: Work) -> None:
        workqueue.wake(A, 0.0)
        await work.until(1)
        while not work.failures:
            await asyncio.sleep(0)
        for _ in range(50):
            workqueue.wake(A, 0.0)
            await asyncio.sleep(0)
        workqueue.wake(B, 0.0)
        await work.until(2)
        assert work.done == [A, B]
        assert work.failures == [1.0]

    run(lambda: Work(ValueError("no")), body)


def test_the_back_off_doubles_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(workqueue: Workqueue, work: Work) -> None:
        for count in range(1, 10):
            workqueue._held = {k: (0.0, again) for k, (_, again) in workqueue._held.items()}
            workqueue._due.clear()
            workqueue.wake(A, 0.0)
            await work.until(count)
            while len(work.failures) < count:
                await asyncio.sleep(0)
        assert work.failures == [1, 2, 4, 8, 16, 32, BACK_OFF_S_MAX, BACK_OFF_S_MAX, BACK_OFF_S_MAX]

    run(lambda: Work(*[ValueError("no")] * 9), body)
