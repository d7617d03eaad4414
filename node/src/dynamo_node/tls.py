"""TLS between a transport and a protocol, in one event loop, with the standard `ssl`.

A `TlsLayer` is the protocol of a plain transport, and the transport of the inner protocol. It
decrypts what the inner protocol reads and encrypts what it writes, immediately: it holds nothing
back, so the books of memory count a TLS connection correctly (T-4). The layers of asyncio and
uvloop keep up to 256 KiB of input for each connection, and give the connection to its protocol only
after the handshake. Here the inner protocol has its connection from the first byte on, with its
places, deadlines and bounds; only what it writes before the end of the handshake waits.

A listener for both looks at the first byte of a connection: 22 begins a handshake of TLS and
nothing else (RFC 8446, 5.1). HTTP and links between nodes begin with letters.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from dynamo_node.certificates import Certificates, names_in

HANDSHAKE_S_MAX = 5.0
FIRST_BYTE = 22
READ_BYTES = 64 * 1024
"""Bytes of one read, for all connections: they are decrypted before the next read."""
RECORD_BYTES = 16 * 1024
SLICE_BYTES = 8 * 1024
EARLY_BYTES_MAX = 4096
"""Bytes written before the handshake is done: a hello between nodes."""
Protocol = asyncio.Protocol | asyncio.BufferedProtocol


class _Buffers(threading.local):
    """Buffers for all connections of one event loop; their content is used at once."""

    def __init__(self) -> None:
        self.read = memoryview(bytearray(READ_BYTES))
        self.clear = memoryview(bytearray(RECORD_BYTES))


_of_loop = _Buffers()


def names_of(transport: Any) -> tuple[str, ...]:
    """The DNS names and URIs in the subjectAltName of the other side's certificate, in their order.
    () without TLS, or without a certificate. The handshake has verified the certificate. The names
    are known from the first byte that the protocol receives."""
    found = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate = found.getpeercert() if found is not None else None
    return names_in(certificate or {})


class TlsLayer(asyncio.BufferedProtocol, asyncio.Transport):
    """One connection. `context` is called at its beginning, so a new connection has the new files;
    with `both` it uses TLS only if the first byte says so."""

    def __init__(
        self,
        inner: Protocol,
        context: Callable[[], ssl.SSLContext],
        server_side: bool,
        both: bool = False,
        counters: Counter[str] | None = None,
    ) -> None:
        self._inner = inner
        self._buffered = isinstance(inner, asyncio.BufferedProtocol)
        self._make = context
        self._server_side = server_side
        self._undecided = both and server_side
        self._counters = Counter() if counters is None else counters
        self._below: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._shaken = False
        self.heard = False
        """Whether the other side has sent anything."""
        self._early: list[bytes] = []
        self._paused = self._closing = self._ended = False
        self._deadline: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ protocol of the plain transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connects the inner protocol; whether the connection is TLS may be known later."""
        self._below = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S_MAX, self._late)
        if not self._undecided:
            self._begin()
        self._inner.connection_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """One buffer for all connections: its content is used at once."""
        return _of_loop.read

    def buffer_updated(self, nbytes: int) -> None:
        """Received bytes."""
        data, self.heard = _of_loop.read[:nbytes], True
        if self._shaken and self._tls is not None and nbytes <= SLICE_BYTES:
            self._in.write(data)
            self._work()
            return
        if self._undecided:
            self._undecided = False
            if data[0] == FIRST_BYTE:
                self._begin()
            else:
                self._shake_done()
        if self._tls is None:
            self._hand_on(bytes(data))
            return
        for at in range(0, nbytes, SLICE_BYTES):
            # In slices, because a BIO never gives memory back (T-4).
            self._in.write(data[at : at + SLICE_BYTES])
            self._work()

    def eof_received(self) -> bool:
        """The other side sends nothing more. A TLS connection closes in both directions at once."""
        if self._tls is None and not self._undecided:
            return bool(self._inner.eof_received())
        if self._shaken:
            self._inner.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, at any stage."""
        self._end_deadline()
        if self._tls is not None and not self._shaken:
            self._counters["tls_handshakes_failed"] += 1
        if not self._ended:
            self._ended = True
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """As of the plain transport: only there do encrypted bytes wait."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """As of the plain transport."""
        self._inner.resume_writing()

    # ------------------------------------------------------------ the handshake, and what follows

    def _begin(self) -> None:
        self._tls = self._make().wrap_bio(self._in, self._out, server_side=self._server_side)
        if not self._server_side:
            self._work()

    def _work(self) -> None:
        """Does everything that is possible with the received bytes."""
        try:
            if not self._shaken and not self._shake():
                return
            self._decrypt()
        except ssl.SSLError:
            # Send the alert, if there is one, before the end.
            self._flush()
            self._end()
        else:
            if self._out.pending:
                self._flush()

    def _shake(self) -> bool:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._shake_done()
        return True

    def _shake_done(self) -> None:
        self._shaken = True
        self._end_deadline()
        early, self._early = self._early, []
        self.writelines(early)
        if self._closing:
            self._say_goodbye()

    def _decrypt(self) -> None:
        tls, clear = self._tls, _of_loop.clear
        assert tls is not None
        read: Any = tls.read
        inner: Any = self._inner
        while not (self._closing or self._ended or (self._paused and self._buffered)):
            try:
                if self._buffered:
                    buffer = inner.get_buffer(READ_BYTES)
                    count = read(len(buffer), buffer)
                    if count:
                        inner.buffer_updated(count)
                else:
                    count = read(RECORD_BYTES, clear)
                    if count:
                        inner.data_received(bytes(clear[:count]))
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                count = 0
            if not count:  # the other side has closed
                self._inner.eof_received()
                self.close()
                return
            if not (self._in.pending or tls.pending()):
                return  # an exception from another read would cost more than all of this

    def _hand_on(self, data: bytes) -> None:
        """Plain bytes, on a listener for both."""
        if not self._buffered:
            cast(asyncio.Protocol, self._inner).data_received(data)
            return
        inner = cast(asyncio.BufferedProtocol, self._inner)
        rest = memoryview(data)
        while rest:
            buffer = cast(Any, inner.get_buffer(len(rest)))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            inner.buffer_updated(size)
            rest = rest[size:]

    def _flush(self) -> None:
        if self._out.pending and self._below is not None:
            self._below.write(self._out.read())

    def _late(self) -> None:
        if self._tls is None:
            self._deadline = None  # it has sent nothing: the inner protocol's deadlines hold
            return
        self._counters["tls_handshakes_late"] += 1
        self.abort()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        if self._below is not None:
            self._below.close()

    def _say_goodbye(self) -> None:
        if self._tls is not None and self._shaken:
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._end()

    # ------------------------------------------------------------ transport of the inner protocol

    def write(self, data: Any) -> None:
        """Encrypts and writes; before the handshake is done, keeps a few bytes."""
        if self._below is None or self._ended or self._closing:
            return
        if not self._shaken:
            if sum(map(len, self._early)) + len(data) > EARLY_BYTES_MAX:
                self.abort()
                return
            self._early.append(bytes(data))
        elif self._tls is None:
            self._below.write(data)
        elif data:
            try:
                if len(data) <= RECORD_BYTES:
                    self._tls.write(data)
                    self._below.write(self._out.read())
                else:
                    self._below.writelines(self._encrypted(data))
            except ssl.SSLError:
                self.abort()

    def _encrypted(self, data: Any) -> list[bytes]:
        """Record by record, so that no BIO ever holds more than one."""
        assert self._tls is not None
        view, records = memoryview(data), []
        while view:
            view = view[self._tls.write(view[:RECORD_BYTES]) :]
            records.append(self._out.read())
        return records

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Writes the parts in order, joined if they are small."""
        parts = list(list_of_data)
        if sum(map(len, parts)) <= RECORD_BYTES:
            parts = [b"".join(parts)]
        for data in parts:
            self.write(data)

    def close(self) -> None:
        """Sends what was written, then the end of TLS."""
        if self._closing or self._below is None:
            return
        if not self._shaken and self._early and self._tls is not None:
            self._closing = True  # after the handshake
            return
        self._closing = True
        self._say_goodbye()

    def abort(self) -> None:
        """At once."""
        self._closing = True
        if self._below is not None:
            self._below.abort()

    def is_closing(self) -> bool:
        """Whether the connection takes no more writes."""
        return self._closing or self._below is None or self._below.is_closing()

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections."""
        return self._tls is None and self._shaken and cast(Any, self._below).can_write_eof()

    def write_eof(self) -> None:
        """Does nothing in TLS."""
        if self.can_write_eof():
            cast(Any, self._below).write_eof()

    def pause_reading(self) -> None:
        """Stops reading and decrypting."""
        self._paused = True
        if self._below is not None and not self._below.is_closing():
            self._below.pause_reading()

    def resume_reading(self) -> None:
        """Decrypts the received bytes first, in a later turn of the loop."""
        if not self._paused:
            return
        self._paused = False
        if self._below is not None and not self._below.is_closing():
            self._below.resume_reading()
        if self._tls is not None and self._shaken:
            asyncio.get_running_loop().call_soon(self._work)

    def is_reading(self) -> bool:
        """Whether it reads."""
        return not self._paused

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken, in encrypted form."""
        waits = sum(map(len, self._early))
        return waits + (self._below.get_write_buffer_size() if self._below is not None else 0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of the plain transport."""
        if self._below is not None:
            self._below.set_write_buffer_limits(high, low)

    def get_protocol(self) -> Any:
        """The inner protocol."""
        return self._inner

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Values of TLS or of the plain transport."""
        if name == "ssl_object":
            return self._tls if self._shaken and self._tls is not None else default
        if name == "sslcontext":
            return self._tls.context if self._tls is not None else default
        return self._below.get_extra_info(name, default) if self._below is not None else default


@dataclass(frozen=True)
class Within:
    """How an HTTP listener accepts connections: `off`, `allow`, `on` or `mutual`, as the settings
    `client_tls` and `admin_tls` say."""

    how: str
    certificates: Certificates | None = None
    counters: Counter[str] | None = None

    def around(self, make: Callable[..., Protocol]) -> Callable[..., Protocol]:
        """Wraps the factory of a request protocol into the factory of a connection's protocol."""
        certificates = self.certificates
        if self.how == "off" or certificates is None:
            return make
        context = certificates.mutual if self.how == "mutual" else certificates.usual
        both = self.how == "allow"

        return partial(_layered, context, both, self.counters, make)


def _layered(
    context: Callable[[], ssl.SSLContext],
    both: bool,
    counters: Counter[str] | None,
    make: Callable[..., Protocol],
    **of_uvicorn: Any,
) -> Protocol:
    return TlsLayer(make(**of_uvicorn), context, True, both, counters)


PLAIN = Within("off")
