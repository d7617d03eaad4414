"""Challenge and response at the start of each peer link, pure: bytes in, bytes out.

    dialer   -> acceptor   hello: who I am, a nonce
    acceptor -> dialer     hello: who I am, a nonce; proof
    dialer   -> acceptor   proof; frames follow

A proof is an HMAC over both hellos, the greeting included, and the prover's role: it is good for
this link and this direction only, so neither side's bytes can be sent back to it (reflection) or
kept for another link (replay). Without a secret the key is empty: that keeps out strangers'
protocols, not strangers, and is for loopback. A link is authenticated, not encrypted.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest

import msgspec

from dynamo_core.errors import BadFrame

GREETING = b"dynamo-ring\x01"
"""Protocol and its version; the first bytes of every link in both directions."""
HELLO_BYTES_MAX = 1024
NONCE_BYTES = 16
PROOF_BYTES = 32
DIALER, ACCEPTOR = "dialer", "acceptor"
_PURPOSE = b"dynamo-ring peer link"


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """Who speaks. `cluster` is the name from the settings ("" = not told), `address` where the
    speaker accepts links itself."""

    role: str
    name: str
    node_id: int
    cluster: str
    address: str
    nonce: bytes


_decoder = msgspec.msgpack.Decoder(Hello)


def packed(hello: Hello) -> bytes:
    """Greeting, length in two bytes, body."""
    body = msgspec.msgpack.encode(hello)
    if len(body) > HELLO_BYTES_MAX:
        raise BadFrame(f"a hello of {len(body)} bytes, at most {HELLO_BYTES_MAX}")
    return GREETING + len(body).to_bytes(2, "big") + body


class Handshake:
    """One side of one link. Send what `begin` and `receive` return; done when `peer` is set.

    `rest` are the bytes that followed the handshake: frames, at the acceptor.
    """

    __slots__ = ("_buffer", "_key", "_me", "_mine", "_other", "_theirs", "peer", "rest")

    def __init__(self, me: Hello, secret: bytes) -> None:
        if me.role not in (DIALER, ACCEPTOR) or len(me.nonce) != NONCE_BYTES:
            raise ValueError("a hello needs a role and a whole nonce")
        self._me = me
        self._key = hmac_digest(secret, _PURPOSE, sha256)
        self._mine = packed(me)
        self._theirs = b""
        self._other: Hello | None = None
        self._buffer = b""
        self.peer: Hello | None = None
        self.rest = b""

    def begin(self) -> bytes:
        """The dialer speaks first."""
        return self._mine if self._me.role == DIALER else b""

    def receive(self, data: bytes) -> bytes:
        """Takes bytes of the other side and returns what to answer. Raises BadFrame."""
        self._buffer += data
        answer = b""
        if self._other is None:
            if not self._take_hello():
                return b""
            if self._me.role == ACCEPTOR:
                answer = self._mine + self._proof(ACCEPTOR)
        if len(self._buffer) < PROOF_BYTES:
            return answer
        assert self._other is not None
        proof, self.rest = self._buffer[:PROOF_BYTES], self._buffer[PROOF_BYTES:]
        self._buffer = b""
        if not compare_digest(proof, self._proof(self._other.role)):
            raise BadFrame("the other side does not know the cluster secret")
        self.peer = self._other
        return answer if self._me.role == ACCEPTOR else self._proof(DIALER)

    def _take_hello(self) -> bool:
        buffer, head = self._buffer, len(GREETING) + 2
        if buffer[: len(GREETING)] != GREETING[: len(buffer)]:
            raise BadFrame("not a peer link of this protocol version")
        if len(buffer) < head:
            return False
        length = int.from_bytes(buffer[len(GREETING) : head], "big")
        if length > HELLO_BYTES_MAX:
            raise BadFrame(f"a hello of {length} bytes, at most {HELLO_BYTES_MAX}")
        if len(buffer) < head + length:
            return False
        self._theirs, self._buffer = buffer[: head + length], buffer[head + length :]
        try:
            hello = _decoder.decode(self._theirs[head:])
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadFrame(f"hello: {error}") from error
        if {hello.role, self._me.role} != {DIALER, ACCEPTOR} or len(hello.nonce) != NONCE_BYTES:
            raise BadFrame("hello: wrong role or nonce")
        if hello.cluster and self._me.cluster and hello.cluster != self._me.cluster:
            raise BadFrame(f"hello: of cluster {hello.cluster!r}, this is {self._me.cluster!r}")
        self._other = hello
        return True

    def _proof(self, role: str) -> bytes:
        """HMAC over role, the dialer's hello and the acceptor's."""
        hellos = (self._mine, self._theirs)
        first, second = hellos if self._me.role == DIALER else hellos[::-1]
        return hmac_digest(self._key, role.encode() + b"\0" + first + second, sha256)
