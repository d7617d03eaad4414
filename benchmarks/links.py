"""TCP proxies in front of peer listeners: they can cut each link between nodes separately.

A node dials its peers at the addresses of these proxies. The hello that begins each link names the
dialler in clear text, so a proxy knows the directed link. A cut link is either *silent* (bytes wait
and go on after the mend: late, as after a stalled connection) or *closed* (it breaks, and new ones
are refused). A node's card may be bad: then it flips bits of frames to and from the node.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import msgspec
from benchmarks.bad_card import Card
from benchmarks.processes import Node, create_ring, until
from benchmarks.stalled_disks import Disks

from dynamo_node.handshake import HEAD_BYTES, PROOF_BYTES, Hello

How = Literal["silent", "closed"]
Delay = Callable[[], float]
PIECE_BYTES = 64 * 1024
WAIT_S_MAX = 10.0
START_S_MAX = 120.0
"""Many processes start at once, on a machine that may be busy."""


@contextmanager
def linked_ring(
    place: Path,
    names: Sequence[str],
    flags: Sequence[str],
    partitions: int,
    spares: Sequence[str] = (),
    *,
    quorums: tuple[int, int] = (2, 2),
    delays: Mapping[tuple[str, str], Delay] | None = None,
) -> Iterator[tuple[dict[str, Node], Links, Disks]]:
    """A ring of real nodes with N=3 under `place`, R and W from `quorums`, a proxy for each
    directed link, and disks whose fsyncs can be delayed; spares run in no ring. `delays`: of links,
    from the beginning on."""
    links, disks = Links(delays), Disks(place)
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
        create_ring(
            [nodes[name] for name in names], n=3, r=quorums[0], w=quorums[1], partitions=partitions
        )
        yield nodes, links, disks
    finally:
        disks.heal(*nodes)
        for node in nodes.values():
            if node.process is not None:
                node.process.send(signal.SIGCONT)
            node.stop()
        links.stop()


class Links:
    """Proxies for nodes by name, in a separate thread."""

    def __init__(self, delays: Mapping[tuple[str, str], Delay] | None = None) -> None:
        """`delays`: by directed link, the time by which each piece is delayed, in s. The pieces
        stay in their order."""
        self._delays = dict(delays or {})
        self._places: dict[str, tuple[socket.socket, int]] = {}
        self._cut: dict[tuple[str, str], How] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._cards: dict[str, int] = {}
        self._chance = random.Random(0)
        self.met: Counter[str] = Counter()
        """Frames that passed, and frames with a flipped bit."""
        self._open: set[tuple[str, str, asyncio.StreamWriter]] = set()
        self._mended = asyncio.Event()
        self._started = Event()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str) -> str:
        """The address at which peers dial this node; before `start`."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._places[name] = (listener, 0)
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def lead(self, name: str, port: int) -> None:
        """The port where the node really listens."""
        self._places[name] = (self._places[name][0], port)

    def move(self, name: str) -> str:
        """Another address for the node; no proxy listens at the old one any more."""
        port = self._places[name][1]
        address = self.add(name)
        self.lead(name, port)
        asyncio.run_coroutine_threadsafe(self._serve(name), self._loop).result(WAIT_S_MAX)
        return address

    def start(self) -> None:
        """Accepts connections from now on."""
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(WAIT_S_MAX)

    def cut(self, source: str, destination: str, how: How = "silent") -> None:
        """Cuts one direction."""
        self._call(self._set, (source, destination), how)

    def isolate(self, name: str, how: How = "silent") -> None:
        """Cuts a node off in both directions."""
        for other in self._places:
            if other != name:
                self.cut(name, other, how)
                self.cut(other, name, how)

    def spoil(self, name: str, one_in: int) -> None:
        """The node's card flips a bit in one of `one_in` frames; 0: in none."""
        self._call(self._cards.update, {name: one_in})

    def heal(self) -> None:
        """Mends all links and cards."""
        self._call(self._set, None, None)

    def stop(self) -> None:
        """Closes everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S_MAX)
        for listener, _ in self._places.values():
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
            for source, destination, writer in list(self._open):
                if (source, destination) == link:
                    writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            for name in self._places:
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
        listener = self._places[name][0]
        self._servers[name] = await asyncio.start_server(self._accept(name), sock=listener)
        if before is not None:
            before.close()
            for _, destination, writer in list(self._open):
                if destination == name:
                    writer.transport.abort()

    def _accept(self, destination: str) -> Any:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends = [writer]
            source = ""
            try:
                said = await reader.readexactly(HEAD_BYTES)
                said += await reader.readexactly(int.from_bytes(said[-2:], "big"))
                source = msgspec.msgpack.decode(said[HEAD_BYTES:], type=Hello).name
                if self._cut.get((source, destination)) == "closed":
                    return
                far = await asyncio.open_connection("127.0.0.1", self._places[destination][1])
                ends.append(far[1])
                for end in ends:
                    self._open.add((source, destination, end))
                far[1].write(said)
                link = (source, destination)
                card = Card(self._chance, self.met, PROOF_BYTES)
                one = self._loop.create_task(self._pump(link, reader, far[1], card))
                await self._pump((destination, source), far[0], writer)
                one.cancel()
            except (OSError, EOFError, msgspec.MsgspecError):
                pass
            finally:
                for end in ends:
                    self._open.discard((source, destination, end))
                    with suppress(OSError):
                        end.transport.abort()

        return carry

    async def _pump(
        self,
        link: tuple[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        card: Card | None = None,
    ) -> None:
        due = 0.0
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                while link in self._cut:
                    await self._mended.wait()
                    await asyncio.sleep(0)
                if card is not None:
                    piece = card.passes(piece, max(self._cards.get(name, 0) for name in link))
                if link in self._delays:
                    # A little after the piece before: timers of one time have no order.
                    due = max(due + 1e-6, self._loop.time() + self._delays[link]())
                    self._loop.call_at(due, writer.write, piece)
                    continue
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()
