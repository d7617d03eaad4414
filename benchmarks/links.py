"""TCP proxies in front of peer listeners: links between nodes that can be cut one by one.

A node dials its peers at the addresses of these proxies. The hello that begins each link names the
dialler in clear, so a proxy knows which directed link it carries. A cut link is either *silent*
(bytes stay where they are, and go on when it is mended: late, as after a stalled connection) or
*closed* (it breaks, and new ones are refused). A node's card may be bad: it flips bits of the
frames that go to the node or come from it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import msgspec
from benchmarks.bad_card import Card
from benchmarks.processes import Node, found, until
from benchmarks.stalled_disks import Disks

from dynamo_node.handshake import HEAD_BYTES, PROOF_BYTES, Hello

How = Literal["silent", "closed"]
PIECE_BYTES = 64 * 1024
WAIT_S_MAX = 10.0
START_S_MAX = 120.0
"""Many processes at once, on a machine that may have other things to do."""


@contextmanager
def linked_ring(
    place: Path, names: Sequence[str], flags: Sequence[str], partitions: int,
    spares: Sequence[str] = (),
) -> Iterator[tuple[dict[str, Node], Links, Disks]]:  # fmt: skip
    """A ring of real nodes with N=3, R=W=2 under `place`, a proxy for each directed link,
    disks whose fsyncs can be held back; spares run beside it, unjoined."""
    links, disks = Links(), Disks(place)
    nodes = {name: Node(name, place / name, links.add(name)) for name in (*names, *spares)}
    for name, node in nodes.items():
        links.lead(name, node.ports["peer"])
        node.seeds = [other.advertise for other in nodes.values() if other is not node]
        node.before = disks.before(name)
    links.start()
    try:
        for node in nodes.values():
            node.start(*flags)
        for name, node in nodes.items():
            until(node.lives, f"{name} does not answer", START_S_MAX)
        found([nodes[name] for name in names], n=3, r=2, w=2, partitions=partitions)
        yield nodes, links, disks
    finally:
        disks.heal(*nodes)
        for node in nodes.values():
            if node.process is not None:
                node.process.send(signal.SIGCONT)
            node.stop()
        links.stop()


class Links:
    """Proxies for nodes by name, in a thread of their own."""

    def __init__(self) -> None:
        self._targets: dict[str, tuple[socket.socket, int]] = {}
        self._cut: dict[tuple[str, str], How] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._cards: dict[str, int] = {}
        self._chance = random.Random(0)
        self.met: Counter[str] = Counter()
        """Frames that passed, and those with a bit flipped."""
        self._open: set[tuple[str, str, asyncio.StreamWriter]] = set()
        self._mended = asyncio.Event()
        self._started = Event()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str) -> str:
        """The address at which peers dial this node; before `start`."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._targets[name] = (listener, 0)
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def lead(self, name: str, port: int) -> None:
        """Where the node really listens."""
        self._targets[name] = (self._targets[name][0], port)

    def move(self, name: str) -> str:
        """Another address for the node; at the old one no proxy listens any more."""
        port = self._targets[name][1]
        address = self.add(name)
        self.lead(name, port)
        asyncio.run_coroutine_threadsafe(self._serve(name), self._loop).result(WAIT_S_MAX)
        return address

    def start(self) -> None:
        """Accepts from now on."""
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(WAIT_S_MAX)

    def cut(self, source: str, target: str, how: How = "silent") -> None:
        """Cuts one direction."""
        self._call(self._set, (source, target), how)

    def isolate(self, name: str, how: How = "silent") -> None:
        """Cuts a node off, both ways."""
        for other in self._targets:
            if other != name:
                self.cut(name, other, how)
                self.cut(other, name, how)

    def spoil(self, name: str, one_in: int) -> None:
        """The node's card flips a bit of one in so many of its frames; 0: of none."""
        self._call(self._cards.update, {name: one_in})

    def heal(self) -> None:
        """Mends all links and cards."""
        self._call(self._set, None, None)

    def stop(self) -> None:
        """Closes everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S_MAX)
        for listener, _ in self._targets.values():
            listener.close()

    def _call(self, call: Any, *arguments: Any) -> None:
        done = Event()

        def now() -> None:
            call(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(now)
        done.wait(WAIT_S_MAX)

    def _set(self, link: tuple[str, str] | None, how: How | None) -> None:
        if link is None or how is None:
            self._cut.clear()
            self._cards.clear()
            self._mended.set()
            return
        self._cut[link] = how
        self._mended.clear()
        if how == "closed":
            for source, target, writer in list(self._open):
                if (source, target) == link:
                    writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            for name in self._targets:
                await self._serve(name)

        self._loop.run_until_complete(listen())
        self._loop.call_soon(self._started.set)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, name: str) -> None:
        before = self._servers.get(name)
        listener = self._targets[name][0]
        self._servers[name] = await asyncio.start_server(self._accept(name), sock=listener)
        if before is not None:
            before.close()
            for _, target, writer in list(self._open):
                if target == name:
                    writer.transport.abort()

    def _accept(self, target: str) -> Any:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends = [writer]
            source = ""
            try:
                said = await reader.readexactly(HEAD_BYTES)
                said += await reader.readexactly(int.from_bytes(said[-2:], "big"))
                source = msgspec.msgpack.decode(said[HEAD_BYTES:], type=Hello).name
                if self._cut.get((source, target)) == "closed":
                    return
                far = await asyncio.open_connection("127.0.0.1", self._targets[target][1])
                ends.append(far[1])
                for end in ends:
                    self._open.add((source, target, end))
                far[1].write(said)
                link = (source, target)
                card = Card(self._chance, self.met, PROOF_BYTES)
                one = self._loop.create_task(self._pump(link, reader, far[1], card))
                await self._pump((target, source), far[0], writer)
                one.cancel()
            except (OSError, EOFError, msgspec.MsgspecError):
                pass
            finally:
                for end in ends:
                    self._open.discard((source, target, end))
                    with suppress(OSError):
                        end.transport.abort()

        return carry

    async def _pump(
        self, link: tuple[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
        card: Card | None = None,
    ) -> None:  # fmt: skip
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                while link in self._cut:
                    await self._mended.wait()
                    await asyncio.sleep(0)
                if card is not None:
                    piece = card.passes(piece, max(self._cards.get(name, 0) for name in link))
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()
