"""Challenge and response at the start of each peer link, pure: bytes in, bytes out.

    dialer   -> acceptor   hello: who I am, a nonce
    acceptor -> dialer     hello: who I am, a nonce; proof
    dialer   -> acceptor   proof; frames follow

A proof is an HMAC, under a key of the cluster secret (`dynamo_core.secret_keys`), over both hellos,
the greeting included, and the prover's role. It is valid only for this link and this direction, so
an attacker can neither send a side's bytes back to it (reflection) nor keep them for another link
(replay). If a node has several secrets, the acceptor uses the first for its proof, and each side
accepts a proof by any of them; the dialer uses the secret that the acceptor has used. Without a
secret, everyone knows the key: that stops other protocols but no attackers, and is for loopback
only. A link is authenticated, not encrypted.

The greeting ends with the version of the protocol, which the dialer chooses and the acceptor
accepts or refuses (C17). In version 1, frames follow without a number; in version 2 each has a
number and a tag (`protocol.frame_tags`) under a key of this link. An old node closes a link that
begins with 2, so the dialer tries 1 next, if the setting `peer_protocol_min` allows it. Each hello
states the highest version of its sender, and the proof covers it. Two nodes that speak version 2
refuse a link of version 1, so an attacker between them cannot force version 1."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha256
from hmac import compare_digest
from hmac import digest as hmac_digest

import msgspec

from dynamo_core.errors import BadFrame
from dynamo_core.protocol.frame_tags import KEY_BYTES
from dynamo_core.secret_keys import PeerKeys

GREETING = b"dynamo-ring"
"""The first bytes of every link in both directions; the next byte is the protocol's version."""
VERSION, VERSION_OLDEST = 2, 1
"""The version of this node, and the oldest one that it understands."""
HEAD_BYTES = len(GREETING) + 1 + 2
"""Greeting, version and the hello's length."""
HELLO_BYTES_MAX = 1024
NONCE_BYTES = 16
PROOF_BYTES = 32
DIALER, ACCEPTOR = "dialer", "acceptor"


class TalkedDown(BadFrame):
    """Both ends know a later version than the version of their link."""


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """Who speaks. `cluster` is the name from the settings ("" = not given), `address` is where the
    speaker accepts links, `speaks` is the latest version that it knows; the first version had
    neither this field nor `tls`."""

    role: str
    name: str
    node_id: int
    cluster: str
    address: str
    nonce: bytes
    speaks: int = VERSION_OLDEST
    tls: bool = False
    """Whether it accepts and dials links in TLS."""


_decoder = msgspec.msgpack.Decoder(Hello)


def packed(hello: Hello, version: int) -> bytes:
    """Greeting, version, length in two bytes, body."""
    body = msgspec.msgpack.encode(hello)
    if len(body) > HELLO_BYTES_MAX:
        raise BadFrame(f"a hello of {len(body)} bytes, at most {HELLO_BYTES_MAX}")
    return GREETING + bytes([version]) + len(body).to_bytes(2, "big") + body


class Handshake:
    """One side of one link. Send what `begin` and `receive` return; done when `peer` is set.

    A dialer greets with `version`, by default the latest in its hello; an acceptor accepts versions
    from `version_min` to that. `rest` are the bytes behind the handshake: frames, at the acceptor.
    Of earlier bytes, at most a hello and a proof are kept.
    """

    __slots__ = ("_buffer", "_key", "_keys", "_me", "_mine", "_other", "_theirs", "_version_min",
                 "peer", "rest", "version")  # fmt: skip

    def __init__(
        self,
        me: Hello,
        keys: Sequence[PeerKeys],
        version: int = 0,
        version_min: int = VERSION_OLDEST,
    ) -> None:
        if me.role not in (DIALER, ACCEPTOR) or len(me.nonce) != NONCE_BYTES:
            raise ValueError("a hello needs a role and a complete nonce")
        self._me = me
        self._keys = keys
        self._key = keys[0]
        """The key of this side's proof; after the other side's proof, the key that both have."""
        self.version = version or me.speaks
        """The version of the link, known when the dialer has greeted."""
        self._version_min = version_min
        self._mine = packed(me, self.version)
        self._theirs = b""
        self._other: Hello | None = None
        self._buffer = b""
        self.peer: Hello | None = None
        self.rest = b""

    @property
    def heard(self) -> bool:
        """Whether the other side has sent anything."""
        return bool(self._buffer or self._theirs)

    def begin(self) -> bytes:
        """The dialer sends first."""
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
        if not self._proven(proof, self._other.role):
            raise BadFrame("the other side does not know the cluster secret")
        both = min(self._other.speaks, self._me.speaks)
        if both > self.version:
            raise TalkedDown(f"hello: both ends know version {both}, the link has {self.version}")
        self.peer = self._other
        return answer if self._me.role == ACCEPTOR else self._proof(DIALER)

    def frame_key(self) -> bytes:
        """The key for the tags of the dialer's frames; call it after the handshake."""
        return blake2b(
            self._hellos(),
            key=self._key.of_version(self.version),
            digest_size=KEY_BYTES,
            person=b"frames of dialer",
        ).digest()

    def _take_hello(self) -> bool:
        buffer = self._buffer
        if buffer[: len(GREETING)] != GREETING[: len(buffer)]:
            raise BadFrame("no greeting of a peer link")
        if len(buffer) > len(GREETING):
            self._take_version(buffer[len(GREETING)])
        if len(buffer) < HEAD_BYTES:
            return False
        length = int.from_bytes(buffer[HEAD_BYTES - 2 : HEAD_BYTES], "big")
        if length > HELLO_BYTES_MAX:
            raise BadFrame(f"a hello of {length} bytes, at most {HELLO_BYTES_MAX}")
        if len(buffer) < HEAD_BYTES + length:
            return False
        self._theirs, self._buffer = buffer[: HEAD_BYTES + length], buffer[HEAD_BYTES + length :]
        try:
            hello = _decoder.decode(self._theirs[HEAD_BYTES:])
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadFrame(f"hello: {error}") from error
        if {hello.role, self._me.role} != {DIALER, ACCEPTOR} or len(hello.nonce) != NONCE_BYTES:
            raise BadFrame("hello: wrong role or nonce")
        if hello.cluster and self._me.cluster and hello.cluster != self._me.cluster:
            raise BadFrame(f"hello: cluster {hello.cluster!r}, this node: {self._me.cluster!r}")
        if hello.speaks < self.version:
            raise BadFrame(f"hello: knows version {hello.speaks} but opened version {self.version}")
        self._other = hello
        return True

    def _take_version(self, version: int) -> None:
        """The acceptor answers in the version of the dialer's greeting."""
        if self._me.role == DIALER:
            if version != self.version:
                raise BadFrame(f"greeted with version {self.version}, answered with {version}")
        elif not self._version_min <= version <= self._me.speaks:
            least, most = self._version_min, self._me.speaks
            raise BadFrame(f"a link of version {version}; this node accepts {least} to {most}")
        elif version != self.version:
            self.version, self._mine = version, packed(self._me, version)

    def _hellos(self) -> bytes:
        """Both hellos, the dialer's first."""
        hellos = (self._mine, self._theirs)
        first, second = hellos if self._me.role == DIALER else hellos[::-1]
        return first + second

    def _proven(self, proof: bytes, role: str) -> bool:
        """Whether one of the keys made the proof; that key becomes the key of this link."""
        for key in self._keys:
            self._key = key
            if compare_digest(proof, self._proof(role)):
                return True
        return False

    def _proof(self, role: str) -> bytes:
        """HMAC over role, the dialer's hello and the acceptor's."""
        key = self._key.of_version(self.version)
        return hmac_digest(key, role.encode() + b"\0" + self._hellos(), sha256)
