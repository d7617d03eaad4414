"""Proxies between the nodes of one directory, so that a person can cut single links.

Peers dial a node at the port of its proxy. The hello that begins each link names the dialler in
clear text, so a proxy knows the direction of the bytes. The bytes of a cut direction wait, as on a
network that loses them and sends them again; they go on when the link is mended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import msgspec

from dynamo_client.local_fault import LocalFault

GREETING_BYTES = len(b"dynamo-ring") + 1
"""In front of a hello: the greeting with the version. Two bytes with the hello's length follow."""
HELLO_BYTES_MAX = 1024
HELLO_S_MAX = 5.0
PIECE_BYTES = 64 * 1024
CALL_S_MAX = 10.0
Ends = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class LocalLinks:
    """A proxy in front of each node, all on one thread. Methods are called from other threads."""

    def __init__(self) -> None:
        self.cuts: set[tuple[str, str]] = set()
        """Directions that are cut: bytes of the first node do not reach the second."""
        self._proxies: dict[str, tuple[int, int]] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._mended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = Event()
        self._thread = Thread(target=self._run, name="links", daemon=True)
        self._thread.start()
        self._ready.wait(CALL_S_MAX)

    def lead(self, proxies: dict[str, tuple[int, int]]) -> None:
        """By node: the port of its proxy, and the port where it listens. Raises LocalFault."""
        if proxies != self._proxies:
            self._call(self._lead(proxies))

    def cut(self, source: str, destination: str) -> None:
        """Bytes of `source` do not reach `destination` from now on."""
        self._call(self._set(lambda: self.cuts.add((source, destination))))

    def mend(self, source: str = "", destination: str = "") -> None:
        """Mends one direction, or all without names; waiting bytes go on."""
        one = (source, destination)
        change = self.cuts.clear if one == ("", "") else lambda: self.cuts.discard(one)
        self._call(self._set(change))

    def stop(self) -> None:
        """Closes everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S_MAX)

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(CALL_S_MAX)

    async def _set(self, change: Callable[[], None]) -> None:
        change()
        self._mended.set()
        self._mended = asyncio.Event()

    async def _lead(self, proxies: dict[str, tuple[int, int]]) -> None:
        for name in self._servers.keys() - proxies.keys():
            self._servers.pop(name).close()
        self._proxies = dict(proxies)
        for name, (port, _) in proxies.items():
            if name not in self._servers:
                try:
                    server = await asyncio.start_server(self._accept(name), "127.0.0.1", port)
                except OSError as error:
                    reason = f"127.0.0.1:{port} cannot be used: {error.strerror}"
                    raise LocalFault(reason, "--base-port") from None
                self._servers[name] = server

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(self._ready.set)
        self._loop.run_forever()
        for writer in list(self._open):
            writer.transport.abort()
        for server in self._servers.values():
            server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _accept(self, destination: str) -> Any:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends = {writer}
            self._open.add(writer)
            try:
                async with asyncio.timeout(HELLO_S_MAX):
                    said, source = await _hello(reader)
                await self._passable(source, destination)
                far, to = await asyncio.open_connection("127.0.0.1", self._proxies[destination][1])
                ends.add(to)
                self._open.add(to)
                to.write(said)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump((source, destination), reader, to, writer))
                    both.create_task(self._pump((destination, source), far, writer, to))
            except (OSError, EOFError, ValueError, TimeoutError, KeyError, msgspec.MsgspecError):
                pass
            finally:
                self._open -= ends
                for end in ends:
                    with suppress(OSError):
                        end.transport.abort()

        return carry

    async def _passable(self, source: str, destination: str) -> None:
        """Waits while the direction is cut."""
        while (source, destination) in self.cuts:
            await self._mended.wait()

    async def _pump(
        self,
        link: tuple[str, str],
        reader: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
    ) -> None:
        """Carries bytes in one direction until an end closes; then closes both."""
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self._passable(*link)
                to.write(piece)
                await to.drain()
        to.transport.abort()
        back.transport.abort()


async def _hello(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """The first bytes of a link and the name of its dialler. Raises ValueError, EOFError."""
    head = await reader.readexactly(GREETING_BYTES + 2)
    length = int.from_bytes(head[GREETING_BYTES:], "big")
    if not head.startswith(b"dynamo-ring") or length > HELLO_BYTES_MAX:
        raise ValueError("no link of a node")
    body = await reader.readexactly(length)
    _, name, *_ = msgspec.msgpack.decode(body)
    if not isinstance(name, str):
        raise ValueError("a hello without a name")
    return head + body, name
