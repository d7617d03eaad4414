"""The one place where the core's decisions become I/O.

In one turn of the event loop, frames, requests of clients and timers enter the node at once. The
turn ends with one batch to the store and one frame to each peer. A separate thread runs the fsyncs
and reports each as one number, so each fsync covers everything that was written during the one
before it (S-DISK-3).

A store that refuses writes is opened again with back-off while reads go on (S-DISK-4). Three things
end the process through `die`: a failed fsync (S-DISK-5), damage that remains after the node has
given up the partition, and an internal error in the middle of a turn.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import NoReturn, Protocol

import structlog

from dynamo_core.errors import BadFrame, Corrupt, StoreDamaged, StoreError, SyncFailed
from dynamo_core.membership.stored_ring import says
from dynamo_core.node import Node
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.operations import Done, Operation, Outcome
from dynamo_core.protocol.route import At
from dynamo_core.replica.store import StoreContract
from dynamo_node.access import Access
from dynamo_node.audit import Audit
from dynamo_node.budget import Books
from dynamo_node.clock import now_s, wall_ms
from dynamo_node.peer_link import Links
from dynamo_node.request_counts import Requests
from dynamo_node.roll_call import RollCall
from dynamo_node.slow_log import tell

REOPEN_S_MIN, REOPEN_S_MAX = 0.25, 8.0
SEEDS_S = 3.0
"""A node without a ring, or one that does not hear all members, resolves its seeds at this pace."""
CHORES_S = 0.5
CORRUPT_TOLD_S = 60.0
"""The log says at most once in this time that a peer sends corrupt records."""
TIMER_S = 0.001
"""Resolution of the loop's timers; waking earlier would only spin."""
GC_OBJECTS = 50_000
log = structlog.get_logger()


class Disk(StoreContract, Protocol):
    """What the shell needs of a store beyond what the core needs."""

    def sync(self) -> int:
        """Blocking fsync; returns the number that is durable. Raises StoreError."""

    def reopen(self) -> None:
        """Opens the store again after a refused write. Raises StoreError."""

    def close(self) -> None:
        """A clean stop."""

    def disk_bytes(self) -> int:
        """Bytes that the store takes on the disk."""

    def frozen(self, family: int, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Rows as they are now, to be read on another thread. Raises StoreError while read."""


@dataclass(slots=True)
class LastResort:
    """How a process ends when it must; tests replace it."""

    die: Callable[[str], NoReturn]
    """Logs the line and exits 1 at once; callable from any thread."""
    mark_damaged: Callable[[], None]
    """Lets the next start salvage the store."""


class Driver:
    """Node, store and links in one event loop."""

    def __init__(self, node: Node, store: Disk, links: Links, last: LastResort) -> None:
        self.node = node
        self.store = store
        self.links = links
        self.requests = Requests()
        self.books: Books | None = None
        """The books of the client listener."""
        self.audit = Audit(node.counters)
        self.access: Access | None = None
        """Who may do what; None if every client may do everything."""
        self.memory_bound_bytes = 0
        self.peer_changes: Counter[str] = Counter()
        self._last = last
        self._loop = asyncio.get_running_loop()
        self._entered = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._syncing = False
        self._sync_queue: SimpleQueue[bool] = SimpleQueue()
        self._sync_thread = Thread(target=self._sync_forever, name="fsync", daemon=True)
        self._reopen_s = REOPEN_S_MIN
        self._reopening = False
        self._chores: asyncio.TimerHandle | None = None
        self._peers_up: dict[str, bool] = {}
        self.roll_call = RollCall(node, links)
        self._corrupt_told: dict[str, tuple[int, float]] = {}
        """By peer: corrupt records at the last log line, and the time of that line."""
        self._stalled = False
        self.stopped = False
        self.ends_with: list[Callable[[], None]] = []
        """What is stopped with it, before the store is closed."""
        links.ends.on_frame = self.receive
        links.ends.on_lost = self.link_lost

    # ------------------------------------------------------------ the ways in

    def start(self, trusted: bool, seeds: Sequence[str] = ()) -> None:
        """Loads the node; from then on it runs. `seeds` are the settings' own words."""
        try:
            self.node.start(now_s(), wall_ms(), trusted)
        except StoreError as error:
            self._store_error(error)
        rings = self.node.ring_state
        if rings.lost_ring:
            log.error(says(rings.lost_ring, seeds, rings.remembered))
        self._sync_thread.start()
        self._do_chores()
        self.enter()

    def enter(self) -> None:
        """Call this before you ask the node anything; the turn then ends by itself."""
        if self._entered:
            return
        self._entered = True
        self._loop.call_soon(self._flush)
        try:
            self.node.tick(now_s(), wall_ms())
        except Exception as error:  # noqa: BLE001
            self._fatal(error)

    def submit(self, operation: Operation, done: Done, principal: str = "") -> None:
        """A client's operation; `done` is called exactly once, never before this turn began."""
        self.enter()
        began = self.requests.asked(now_s())

        def answered(outcome: Outcome) -> None:
            self.requests.observe(operation, outcome, now_s() - began)
            try:
                done(outcome)
            except Exception:
                # A client that has gone, or an error in an answer, must not stop the turn.
                self.node.counters["answer_faults"] += 1
                log.exception("an answer could not be sent")

        try:
            self.node.submit(operation, answered, principal)
        except StoreError as error:
            self._store_error(error)

    def receive(self, frame: bytes | bytearray) -> None:
        """One frame of a peer. Raises BadFrame, so that the link closes."""
        self.enter()
        try:
            self.node.receive(frame)
        except BadFrame:
            self.node.counters["bad_frames"] += 1
            raise
        except StoreError as error:
            self._store_error(error)
        except Exception as error:
            # Bytes of a peer cause an internal error: its link closes, the node goes on.
            self.node.counters["frame_faults"] += 1
            log.exception("a frame of a peer could not be handled")
            raise BadFrame(repr(error)) from error

    def link_lost(self, address: str) -> None:
        """Our connection to the address broke or was refused."""
        if self.stopped:
            return
        names = [name for name, known in self.node.addresses.items() if known == address]
        redial_s = self.links.redial_s(address)
        for name in (*names, At(address)):
            self._tell(self.node.link_lost, name, redial_s)

    def archived(self, reply: Callable[[Message], None], answer: Message) -> None:
        """An archive has answered."""
        if self.stopped:
            return
        self._tell(self.node.later, partial(reply, answer))

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        """Tells the node something rare."""
        self.enter()
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001
            self._fatal(error)

    # ------------------------------------------------------------ the end of a turn

    def _flush(self) -> None:
        self._entered = False
        if self.stopped:
            return
        node = self.node
        try:
            frames = node.flush()
        except Exception as error:  # noqa: BLE001
            self._fatal(error)
        for address, frame in frames:
            if not self.links.send(address, frame):
                self.link_lost(address)
        if not node.writable:
            self._want_reopen()
        elif node.sync_wanted and not self._syncing:
            self._syncing = True
            self._sync_queue.put(True)
        self._arm()

    def _arm(self) -> None:
        """One timer, for the node's next deadline; if it fires too early, nothing is due."""
        wake_at = self.node.wake_at
        if self._timer is not None:
            if self._timer_at <= wake_at:
                return
            self._timer.cancel()
        delay = max(0.0, wake_at - now_s()) + TIMER_S
        self._timer_at = wake_at
        self._timer = self._loop.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if not self.stopped:
            self.enter()

    # ------------------------------------------------------------ the disk

    def _sync_forever(self) -> None:
        """The fsync thread: one fsync at a time; the next covers all writes made meanwhile."""
        while self._sync_queue.get():
            try:
                sequence = self.store.sync()
            except SyncFailed as error:
                self._last.die(f"fsync failed, nothing after it can be trusted: {error}")
            except StoreError as error:
                self._loop.call_soon_threadsafe(self._sync_refused, error)
            else:
                self._loop.call_soon_threadsafe(self._synced, sequence)

    def _synced(self, sequence: int) -> None:
        self._syncing = False
        if not self.stopped:
            self._tell(self.node.synced, sequence)

    def _sync_refused(self, error: StoreError) -> None:
        """An earlier write failed, so this fsync must not answer any waiter."""
        self._syncing = False
        self.node.refuses_writes()
        log.warning("the store refuses writes", why=str(error))
        self._want_reopen()

    def _want_reopen(self) -> None:
        if not self._reopening and not self.stopped:
            self._reopening = True
            log.warning("the store refused a write: reads go on", reopen_in_s=self._reopen_s)
            self._loop.call_later(self._reopen_s, self._reopen)

    def _reopen(self) -> None:
        self._reopening = False
        if self.stopped:
            return
        self._reopen_s = min(2 * self._reopen_s, REOPEN_S_MAX)
        if self._syncing:
            self._want_reopen()
            return
        try:
            self.store.reopen()
        except (SyncFailed, StoreDamaged) as error:
            self._store_error(error)
        except StoreError as error:
            log.warning("the store cannot be opened again yet", why=str(error))
            self._want_reopen()
            return
        self._reopen_s = REOPEN_S_MIN
        log.info("the store accepts writes again")
        self._tell(self.node.reopened)

    def _store_error(self, error: StoreError) -> NoReturn:
        """An error that the core could not handle by giving up a partition."""
        if isinstance(error, Corrupt | StoreDamaged):
            self._last.mark_damaged()
            self._last.die(f"the store is damaged; the next start salvages it: {error}")
        self._last.die(f"the store failed: {error}")

    def _fatal(self, error: Exception) -> NoReturn:
        if isinstance(error, StoreError):
            self._store_error(error)
        log.error("an internal error", exc_info=error)
        self._last.die(f"an internal error in the middle of a turn: {error!r}")

    # ------------------------------------------------------------ chores and the end

    def _do_chores(self) -> None:
        for route, peer in self.node.detector.peers.items():
            name = str(route)
            if self._peers_up.get(name, False) != peer.was_up:
                self._peers_up[name] = peer.was_up
                self.peer_changes[name] += 1
                log.info("a peer is " + ("up" if peer.was_up else "down"), peer=name)
        self.roll_call.look()
        self._tell_of_corrupt_peers()
        tell(self.node.slow)
        if self._stalled != self.node.stalled:
            self._stalled = self.node.stalled
            if self._stalled:
                log.warning("fsyncs stall: other owners coordinate the puts of this node")
            else:
                log.info("fsyncs are fast again")
        untold = self.node.refusals.untold
        while untold:
            name, kind, why = untold.popleft()
            log.warning("a peer sent a senseless message", peer=name, message=kind, why=why)
        self.links.purge()
        self._chores = self._loop.call_later(CHORES_S, self._do_chores)

    def _tell_of_corrupt_peers(self) -> None:
        """T-1: a peer that sends corrupt records has a bad machine; tell people before it fails."""
        for peer, count in self.node.corrupt_from.items():
            before, at = self._corrupt_told.get(peer, (0, -CORRUPT_TOLD_S))
            if count > before and now_s() - at >= CORRUPT_TOLD_S:
                self._corrupt_told[peer] = (count, now_s())
                log.warning(
                    "a peer sends records with wrong checksums; this node refuses them. Check "
                    "its memory, its disk and its network card",
                    peer=peer,
                    refused=count - before,
                )

    async def follow_seeds(self, seeds: list[str]) -> None:
        """A name may have many addresses, and they change: resolves the seeds while there is no
        ring or while some member is not heard (S-MEM-5)."""
        while not self.stopped:
            if not self.node.whereabouts.seeks:
                await asyncio.sleep(SEEDS_S)
                continue
            found: set[str] = set()
            for seed in seeds:
                found |= await resolve(seed)
            mine = self.node.identity.address
            self.node.seek(tuple(sorted(found - {mine})))
            await asyncio.sleep(SEEDS_S)

    async def drain(self, wait_s_max: float) -> None:
        """The node is not ready from now on; returns when no operation is under way, or in time."""
        self.node.drain()
        until = now_s() + wait_s_max
        while self.node.admission_control.in_flight and now_s() < until:
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """The last turn; then closes the links, the fsync thread and the store, cleanly."""
        self._flush()
        self.stopped = True
        for timer in (self._timer, self._chores):
            if timer is not None:
                timer.cancel()
        self.links.close()
        for end in self.ends_with:
            end()
        self._sync_queue.put(False)
        self._sync_thread.join()
        self.store.close()


async def resolve(seed: str) -> set[str]:
    """host:port of every address of a seed; the seed itself if it does not resolve."""
    host, _, port = seed.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM
        )
    except OSError:
        return {seed}
    hosts = {str(line[4][0]) for line in found}
    return {f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts}


def freeze_memory() -> None:
    """The garbage collector skips objects made during the start: 1.09 times the rate."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS, 20, 100)
