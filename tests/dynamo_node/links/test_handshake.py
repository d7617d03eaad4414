"""The handshake of peer links, pure: each side learns who the other is; no other peer gets in."""

from __future__ import annotations

import pytest

from dynamo_core.errors import BadFrame
from dynamo_core.secret_keys import PeerKeys, keys_of
from dynamo_node.handshake import ACCEPTOR, DIALER, Handshake, Hello, TalkedDown
from tests.dynamo_node.links.station import OLD_BEGIN

SECRET = keys_of((b"between us",)).peers
NONE, ONE, TWO = keys_of(()).peers, keys_of((b"one",)).peers, keys_of((b"two",)).peers
Peers = tuple[PeerKeys, ...]


def hello(
    role: str, nonce: bytes = b"n" * 16, name: str = "n", cluster: str = "", speaks: int = 2
) -> Hello:
    return Hello(role, name, 7, cluster, "h:1", nonce, speaks)


def shake(dialer: Handshake, acceptor: Handshake, step: int) -> bytes:
    """Lets both talk in pieces of `step` bytes; returns the acceptor's rest."""
    to_acceptor, to_dialer = dialer.begin(), b""
    while to_acceptor or to_dialer:
        piece, to_acceptor = to_acceptor[:step], to_acceptor[step:]
        to_dialer += acceptor.receive(piece) if piece and acceptor.peer is None else b""
        piece, to_dialer = to_dialer[:step], to_dialer[step:]
        to_acceptor += dialer.receive(piece) if piece else b""
    return acceptor.rest


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("secret", [NONE, SECRET], ids=["no secret", "secret"])
def test_both_sides_learn_who_the_other_is(step: int, secret: Peers) -> None:
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
        (Handshake(hello(DIALER), ONE), Handshake(hello(ACCEPTOR), TWO)),
        (Handshake(hello(DIALER), NONE), Handshake(hello(ACCEPTOR), TWO)),
        (Handshake(hello(DIALER), ONE), Handshake(hello(ACCEPTOR), NONE)),
        (
            Handshake(hello(DIALER, cluster="x"), ONE),
            Handshake(hello(ACCEPTOR, cluster="y"), ONE),
        ),
        (Handshake(hello(DIALER), ONE), Handshake(hello(DIALER), ONE)),
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


# ---------------------------------------------------------------- versions (C17)

OLD_ANSWER = bytes.fromhex(
    "64796e616d6f2d72696e6701002496a86163636570746f72a16e07a0a3683a31c41061616161616161616161"
    "616161616161"
)
OLD_ANSWER_PROOF = bytes.fromhex("ed7dc5246cdb1c5168edc82cc1f9a274be73631e2dc7ce5a138780df0a88c6ab")
OLD_PROOF = bytes.fromhex("6c770e7d69abca0919ceb3394a9393bcaa55fc95fb71b2da0bf5faab01c53d81")
"""What nodes of the first version say to each other, with the nonces n... and a..."""


def test_a_node_of_the_first_version_is_accepted_and_recognized() -> None:
    acceptor = Handshake(hello(ACCEPTOR, b"a" * 16), SECRET)
    answer = acceptor.receive(OLD_BEGIN)
    assert answer[:12] == b"dynamo-ring\x01"
    old = Handshake(hello(DIALER, speaks=1), SECRET)
    assert len(old.begin()) == len(OLD_BEGIN) + 2, "the fields that old nodes do not look at"
    old._mine = OLD_BEGIN
    acceptor.receive(old.receive(answer))
    assert (acceptor.version, acceptor.peer) == (1, hello(DIALER, speaks=1))


def test_a_node_of_the_first_version_is_dialled_in_its_version() -> None:
    dialer = Handshake(hello(DIALER, b"d" * 16), SECRET, version=1)
    old = Handshake(hello(ACCEPTOR, b"a" * 16, speaks=1), SECRET)
    old._mine = OLD_ANSWER
    old.receive(dialer.receive(old.receive(dialer.begin())))
    assert (dialer.version, dialer.peer) == (1, hello(ACCEPTOR, b"a" * 16, speaks=1))


def test_an_old_node_proves_itself_as_it_always_did() -> None:
    """Both sides with the bytes of the first version: the proofs have not changed."""
    dialer = Handshake(hello(DIALER, speaks=1), SECRET)
    dialer._mine = OLD_BEGIN
    assert dialer.receive(OLD_ANSWER + OLD_ANSWER_PROOF) == OLD_PROOF


def test_an_old_node_refuses_version_2_without_a_word() -> None:
    dialer = Handshake(hello(DIALER), SECRET)
    with pytest.raises(BadFrame, match="version 2; this node accepts 1 to 1"):
        Handshake(hello(ACCEPTOR, speaks=1), SECRET).receive(dialer.begin())
    assert not dialer.heard


def test_below_the_minimum_no_peer_is_accepted() -> None:
    acceptor = Handshake(hello(ACCEPTOR), SECRET, version_min=2)
    with pytest.raises(BadFrame, match="version 1; this node accepts 2 to 2"):
        acceptor.receive(OLD_BEGIN)
    assert acceptor.peer is None


def test_two_that_speak_2_refuse_a_link_of_1() -> None:
    """An attacker in between has closed the link of version 2, as an old node does."""
    dialer = Handshake(hello(DIALER), SECRET, version=1)
    acceptor = Handshake(hello(ACCEPTOR), SECRET)
    with pytest.raises(TalkedDown):
        dialer.receive(acceptor.receive(dialer.begin()))
    careless = Handshake(hello(DIALER), SECRET, version=1)
    acceptor = Handshake(hello(ACCEPTOR), SECRET)
    said = acceptor.receive(careless.begin())
    careless._me = hello(DIALER, speaks=1)
    with pytest.raises(TalkedDown):
        acceptor.receive(careless.receive(said))


@pytest.mark.parametrize("role", [DIALER, ACCEPTOR])
def test_what_the_other_speaks_cannot_be_changed_on_the_way(role: str) -> None:
    dialer = Handshake(hello(DIALER), SECRET, version=1)
    acceptor = Handshake(hello(ACCEPTOR, b"a" * 16), SECRET)
    begin = dialer.begin()
    assert begin[-2] == 2  # behind it stands whether the node speaks TLS
    answer = acceptor.receive(begin[:-2] + b"\x01" + begin[-1:] if role == DIALER else begin)
    if role == ACCEPTOR:
        assert answer[-34] == 2
        answer = answer[:-34] + b"\x01" + answer[-33:]
    with pytest.raises(BadFrame, match="secret"):
        dialer.receive(answer)


def test_a_greeting_of_2_by_a_hello_that_speaks_1_is_refused() -> None:
    with pytest.raises(BadFrame, match="knows version 1"):
        Handshake(hello(ACCEPTOR), SECRET).receive(
            Handshake(hello(DIALER, speaks=1), SECRET, version=2).begin()
        )


def test_the_key_of_frames_is_of_one_link_and_one_secret() -> None:
    def key(secret: Peers, nonce: bytes) -> bytes:
        dialer = Handshake(hello(DIALER, nonce), secret)
        acceptor = Handshake(hello(ACCEPTOR), secret)
        shake(dialer, acceptor, 4096)
        assert dialer.frame_key() == acceptor.frame_key()
        return dialer.frame_key()

    links = [(SECRET, b"1" * 16), (SECRET, b"2" * 16), (ONE, b"1" * 16)]
    assert len({key(*link) for link in links}) == 3


OLD, NEW = b"the old secret", b"the new secret"


@pytest.mark.parametrize(
    ("dialer", "acceptor"),
    [((OLD,), (OLD, NEW)), ((OLD, NEW), (OLD,)), ((OLD, NEW), (NEW, OLD)),
     ((NEW, OLD), (OLD, NEW)), ((NEW, OLD), (NEW,)), ((NEW,), (NEW, OLD))],
)  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_each_step_of_a_change_of_secrets_links_nodes_of_both_sides(
    dialer: tuple[bytes, ...], acceptor: tuple[bytes, ...], version: int
) -> None:
    speaks = {"speaks": version}
    one = Handshake(hello(DIALER, b"d" * 16, **speaks), keys_of(dialer).peers)
    other = Handshake(hello(ACCEPTOR, b"a" * 16), keys_of(acceptor).peers)
    shake(one, other, 4096)
    assert one.peer is not None and other.peer is not None
    assert one.frame_key() == other.frame_key()


@pytest.mark.parametrize("role", [DIALER, ACCEPTOR])
def test_a_secret_that_was_taken_away_opens_no_link(role: str) -> None:
    keys = {DIALER: keys_of((NEW,)).peers, ACCEPTOR: keys_of((NEW,)).peers}
    keys[role] = keys_of((OLD,)).peers
    dialer, acceptor = (
        Handshake(hello(role, role.encode().ljust(16)), keys[role]) for role in keys
    )
    with pytest.raises(BadFrame, match="secret"):
        shake(dialer, acceptor, 4096)
    assert acceptor.peer is None


def test_the_key_of_an_old_link_does_not_open_a_new_one() -> None:
    """Version 1 has a separate key (C17)."""
    keys = keys_of((OLD,)).peers[0]
    assert keys.of_version(1) == keys.former != keys.now == keys.of_version(2)
    token = keys_of((OLD,)).tokens[0]
    for heard in (token.encode(), bytes.fromhex(token)):
        with pytest.raises(BadFrame, match="secret"):
            shake(
                Handshake(hello(DIALER), keys_of((heard,)).peers),
                Handshake(hello(ACCEPTOR, b"a" * 16), keys_of((OLD,)).peers),
                4096,
            )
