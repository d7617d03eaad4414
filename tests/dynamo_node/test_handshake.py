"""The handshake of peer links, pure: both learn who the other is, and nobody else gets in."""

from __future__ import annotations

import pytest

from dynamo_core.errors import BadFrame
from dynamo_node.handshake import ACCEPTOR, DIALER, Handshake, Hello

SECRET = b"between us"


def hello(role: str, nonce: bytes = b"n" * 16, name: str = "n", cluster: str = "") -> Hello:
    return Hello(role, name, 7, cluster, "h:1", nonce)


def shake(dialer: Handshake, acceptor: Handshake, step: int) -> bytes:
    """Lets both talk in pieces of `step` bytes; what the acceptor has left over."""
    to_acceptor, to_dialer = dialer.begin(), b""
    while to_acceptor or to_dialer:
        piece, to_acceptor = to_acceptor[:step], to_acceptor[step:]
        to_dialer += acceptor.receive(piece) if piece and acceptor.peer is None else b""
        piece, to_dialer = to_dialer[:step], to_dialer[step:]
        to_acceptor += dialer.receive(piece) if piece else b""
    return acceptor.rest


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("secret", [b"", SECRET], ids=["no secret", "secret"])
def test_both_sides_learn_who_the_other_is(step: int, secret: bytes) -> None:
    dialer = Handshake(hello(DIALER, b"d" * 16, "d"), secret)
    acceptor = Handshake(hello(ACCEPTOR, b"a" * 16, "a"), secret)
    assert shake(dialer, acceptor, step) == b""
    assert dialer.peer == hello(ACCEPTOR, b"a" * 16, "a")
    assert acceptor.peer == hello(DIALER, b"d" * 16, "d")


def test_frames_may_follow_the_proof_at_once() -> None:
    dialer, acceptor = (Handshake(hello(role), SECRET) for role in (DIALER, ACCEPTOR))
    proof = dialer.receive(acceptor.receive(dialer.begin()))
    acceptor.receive(proof + b"and more")
    assert acceptor.rest == b"and more"


@pytest.mark.parametrize(
    ("dialer", "acceptor"),
    [
        (Handshake(hello(DIALER), b"one"), Handshake(hello(ACCEPTOR), b"two")),
        (Handshake(hello(DIALER), b""), Handshake(hello(ACCEPTOR), b"two")),
        (Handshake(hello(DIALER), b"one"), Handshake(hello(ACCEPTOR), b"")),
        (
            Handshake(hello(DIALER, cluster="x"), b"one"),
            Handshake(hello(ACCEPTOR, cluster="y"), b"one"),
        ),
        (Handshake(hello(DIALER), b"one"), Handshake(hello(DIALER), b"one")),
    ],
    ids=["other secret", "dialer has none", "acceptor has none", "other cluster", "same role"],
)
def test_who_does_not_belong_is_refused(dialer: Handshake, acceptor: Handshake) -> None:
    with pytest.raises(BadFrame):
        shake(dialer, acceptor, 4096)
    assert acceptor.peer is None


def test_an_answer_cannot_be_reflected_or_replayed() -> None:
    victim = Handshake(hello(DIALER, b"1" * 16), SECRET)
    with pytest.raises(BadFrame):
        victim.receive(victim.begin() + b"p" * 32)
    dialer, acceptor = (Handshake(hello(role), SECRET) for role in (DIALER, ACCEPTOR))
    recorded = acceptor.receive(dialer.begin())
    with pytest.raises(BadFrame):
        Handshake(hello(DIALER, b"2" * 16), SECRET).receive(recorded)
    proof = dialer.receive(recorded)
    again = Handshake(hello(ACCEPTOR, b"3" * 16), SECRET)
    again.receive(dialer.begin())
    with pytest.raises(BadFrame):
        again.receive(proof)


def test_every_flipped_bit_of_the_hello_is_noticed() -> None:
    begin = Handshake(hello(DIALER), SECRET).begin()
    for at in range(8 * len(begin)):
        dialer = Handshake(hello(DIALER), SECRET)
        bad = bytearray(begin)
        bad[at // 8] ^= 1 << at % 8
        acceptor = Handshake(hello(ACCEPTOR), SECRET)
        try:
            answer = acceptor.receive(bytes(bad))
            proof = dialer.receive(answer)
            acceptor.receive(proof)
        except BadFrame:
            pass
        assert acceptor.peer is None, f"bit {at}"
