"""Carries out what the core asks of archives, on threads that do nothing else.

A thread reads the rows of the store as they are when the core asks for them; later writes do not
change them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from queue import SimpleQueue
from threading import Thread

import structlog

from dynamo_archive.objects import Archive, ArchiveError
from dynamo_archive.parts import pack, unpack
from dynamo_archive.sealing import PLAIN, Sealing
from dynamo_archive.targets import archive_fault
from dynamo_core.backup.archive_calls import (
    ArchiveFailed,
    Bring,
    Brought,
    Done,
    Measure,
    Measured,
    Pack,
    Packed,
    Put,
    Unpack,
    Unpacked,
)
from dynamo_core.bounds import one_line
from dynamo_core.errors import StoreError
from dynamo_core.protocol.messages import Message
from dynamo_node.clock import now_s
from dynamo_node.driver import Driver

THREADS = 2
"""For partitions and parts. One more is for small objects, which wait for no partition."""
SHARE = 1 / 16
"""Of a processor, for one of these threads while clients ask this node. At full speed they hold the
interpreter so often that p99 of clients was thirty times as long."""
QUIET_S = 1.0
"""If no client has asked for this time, the threads may use their full speed."""
STOP_S_MAX = 2.0
"""A thread that waits for an object store is left alone after this time: a node ends in time."""
log = structlog.get_logger()
Reply = Callable[[Message], None]
Queue = SimpleQueue[Callable[[], None] | None]


def rest_s(used_s: float, budget: float, quiet_s: float) -> float:
    """How long a thread sleeps that has used the processor for `used_s` seconds, so that it uses no
    more than its share; clients have asked nothing for `quiet_s`. The least budget is below `SHARE`
    and bounds a backup as it bounds all background work. To wait for an object store uses no
    processor."""
    share = min(budget, SHARE) if quiet_s < QUIET_S else budget
    return used_s * (1 / share - 1)


class Archivist:
    """The archivist of one node. `allowed`: the beginnings that URLs of archives may have;
    `sealing`: its keys."""

    def __init__(self, driver: Driver, allowed: Sequence[str], sealing: Sealing = PLAIN) -> None:
        self._driver = driver
        self._sealing = sealing
        self._loop = asyncio.get_running_loop()
        self._large: Queue = SimpleQueue()
        self._small: Queue = SimpleQueue()
        queues = (*(self._large for _ in range(THREADS)), self._small)
        self._threads = [Thread(target=self._run, args=(one,), daemon=True) for one in queues]
        for thread in self._threads:
            thread.start()
        self._stopped = False
        self._archive_fault = partial(archive_fault, allowed=tuple(allowed))
        driver.node.archive.attach(self.carry, self._archive_fault)
        driver.ends_with.append(self.stop)

    def carry(self, request: Message, reply: Reply) -> None:
        """Begins; the reply follows in a later turn."""
        work = partial(self._work, request)
        if isinstance(request, Pack):
            rows = self._driver.store.frozen(request.family, request.start, request.end)
            work = partial(self._pack, request, rows)
        queue = self._large if isinstance(request, Pack | Unpack) else self._small
        queue.put(partial(self._carried, work, reply))

    def stop(self) -> None:
        """What is under way ends at its next slice."""
        self._stopped = True
        for queue in (*(self._large for _ in range(THREADS)), self._small):
            queue.put(None)
        until = time.monotonic() + STOP_S_MAX
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, queue: Queue) -> None:
        while (work := queue.get()) is not None:
            if not self._stopped:
                work()

    def _carried(self, work: Callable[[], Message], reply: Reply) -> None:
        try:
            answer = work()
        except ArchiveError as error:
            log.warning("a request to an archive failed", why=str(error))
            answer = ArchiveFailed(0, one_line(str(error)))
        except Exception as error:
            log.exception("an internal error with an archive")
            answer = ArchiveFailed(0, one_line(repr(error)))
        if not self._stopped:
            self._loop.call_soon_threadsafe(self._driver.archived, reply, answer)

    def _archive(self, url: str) -> Archive:
        """Raises ArchiveError, also where this node's settings do not have it: the node that leads
        a backup may have others."""
        if fault := self._archive_fault(url):
            raise ArchiveError(fault)
        return Archive(url)

    def _work(self, request: Message) -> Message:
        if isinstance(request, Put):
            return Done(0, self._put(self._archive(request.archive), request))
        if isinstance(request, Bring):
            return Brought(0, self._archive(request.archive).get(request.name))
        if isinstance(request, Measure):
            archive = self._archive(request.archive)
            return Measured(0, dict(chain.from_iterable(map(archive.names, request.prefixes))))
        assert isinstance(request, Unpack)
        return Unpacked(0, unpack(self._archive(request.archive), request.part, self._sealing))

    def _put(self, archive: Archive, request: Put) -> bool:
        if not request.create:
            archive.put(request.name, request.data)
            return True
        kept = archive.create(request.name, request.data)
        if archive.unconditional:
            log.info(
                "the archive cannot put an object only where none is", why=archive.unconditional
            )
        return kept

    def _pack(self, request: Pack, rows: Iterator[tuple[bytes, bytes]]) -> Message:
        try:
            archive = self._archive(request.archive)
            parts, damaged = pack(
                archive, request.prefix, request.family, rows, self._rest(), self._sealing
            )
        except StoreError as error:
            log.warning("rows for a backup cannot be read", why=str(error))
            return Packed(0, [], (), True)
        return Packed(0, parts, tuple(damaged))

    def _rest(self) -> Callable[[], None]:
        """The pause of one piece of work (S-BG-1); the loop runs meanwhile."""
        began = time.thread_time()

        def rest() -> None:
            nonlocal began
            if self._stopped:
                raise ArchiveError("the node stops")
            driver = self._driver
            quiet_s = now_s() - driver.requests.asked_at
            time.sleep(rest_s(time.thread_time() - began, driver.node.throttle.budget, quiet_s))
            began = time.thread_time()

        return rest
