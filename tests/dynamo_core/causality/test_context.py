"""Contexts of clients: sealed, bound to their key, never trusted (S-CTX-1)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_core.causality.context import (
    CONTEXT_BYTES_MAX,
    CONTEXT_VERSION,
    Context,
    carried,
    seal,
    unseal,
)
from dynamo_core.causality.records import History, Sibling, decode_history
from dynamo_core.errors import BadContext
from dynamo_core.secret_keys import TAG_BYTES, ContextKeys, keys_of
from dynamo_node.http_limits import Limits

SECRET, OTHER = (keys_of((secret,)).contexts for secret in (b"cluster secret", b"other"))
KEY = b"cart/1"
HISTORY = History({7: 3, 2**64 - 1: 1}, frozenset({(9, 4)})).naming(
    (Sibling(7, 3, b"v", request_id="r1"),)
)
CONTEXT = Context(HISTORY.encode(), "node-b")
SEALED = seal(SECRET, KEY, CONTEXT)


def raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_context_opens_again_with_the_secret_and_the_key() -> None:
    found = unseal(SECRET, KEY, SEALED)
    assert found == CONTEXT
    assert decode_history(found.history) == HISTORY


@given(key=st.binary(min_size=1, max_size=1024), secret=st.binary(max_size=200))
def test_any_key_and_secret_will_do(key: bytes, secret: bytes) -> None:
    keys = keys_of((secret,)).contexts
    assert unseal(keys, key, seal(keys, key, CONTEXT)) == CONTEXT


def test_a_context_that_is_given_out_is_taken_back() -> None:
    """S-CTX-1: a key with thousands of dead actors, or with hundreds of names, can still be
    written. The context leaves out what does not fit; the shown siblings come first."""
    actors = {n << 50: 2 for n in range(1, 3001)}
    shown = tuple(Sibling(n << 50, 2, b"v", request_id=f"{n:064}") for n in range(2001, 2101))
    beyond = frozenset((n << 50, 4) for n in range(1, 3001))
    whole = History(actors, beyond).naming(shown)
    part = decode_history(carried(whole, shown))
    assert whole.descends(part)
    assert all(part.covers_dot(sibling.dot) for sibling in shown)
    sealed = seal(SECRET, KEY, Context(carried(whole, shown), "n" * 255))
    unseal(SECRET, KEY, sealed)
    assert len(sealed) <= Limits(1).head_bytes_max - 2048, "with the other headers of a request"
    names = History({1: 600}).naming(
        tuple(Sibling(1, n, b"v", request_id=f"{n:064}") for n in range(600))
    )
    mine = Sibling(1, 600, b"v", request_id="mine")
    part = decode_history(carried(names.naming((mine,)), (mine,)))
    assert (part.vector, part.ids["mine"].counter) == ({1: 600}, 600)
    assert 50 < len(part.ids) < 600
    assert carried(HISTORY, ()) == HISTORY.encode()


BODY = raw(SEALED)[1 + TAG_BYTES :]


@pytest.mark.parametrize(
    ("secret", "key", "sealed"),
    [
        pytest.param(SECRET, b"cart/2", SEALED, id="another-key"),
        pytest.param(OTHER, KEY, SEALED, id="another-cluster"),
        pytest.param(SECRET, KEY, text(b"\x02" + raw(SEALED)[1:]), id="another-version"),
        pytest.param(SECRET, KEY, text(raw(SEALED)[:-1]), id="cut"),
        pytest.param(SECRET, KEY, text(raw(SEALED) + b"\x00"), id="longer"),
        pytest.param(
            SECRET, KEY, text(CONTEXT_VERSION + bytes(TAG_BYTES) + BODY), id="tag-of-zeros"
        ),
        pytest.param(SECRET, KEY, text(CONTEXT_VERSION + BODY), id="no-tag"),
        pytest.param(SECRET, KEY, "A" * (CONTEXT_BYTES_MAX + 1), id="too-large"),
        pytest.param(SECRET, KEY, "", id="empty"),
        pytest.param(SECRET, KEY, SEALED[:-1] + "!", id="not-base64url"),
        pytest.param(SECRET, KEY, SEALED + "=", id="padded"),
        pytest.param(SECRET, KEY, SEALED + "\n", id="new-line"),
        pytest.param(SECRET, KEY, "A", id="one-character"),
    ],
)
def test_everything_else_is_a_bad_context(secret: ContextKeys, key: bytes, sealed: str) -> None:
    with pytest.raises(BadContext) as caught:
        unseal(secret, key, sealed)
    assert caught.value.slug == "bad-context"


@given(at=st.integers(0, len(raw(SEALED)) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(at: int, bit: int) -> None:
    data = bytearray(raw(SEALED))
    data[at] ^= 1 << bit
    with pytest.raises(BadContext):
        unseal(SECRET, KEY, text(bytes(data)))


@given(st.text(max_size=200) | st.binary(max_size=200).map(text))
def test_fuzz_raises_nothing_but_bad_context(sealed: str) -> None:
    with pytest.raises(BadContext):
        unseal(SECRET, KEY, sealed)


@given(
    history=st.binary(max_size=60)
    | st.lists(st.integers() | st.text() | st.binary(), max_size=4).map(
        lambda items: msgspec.msgpack.encode([i for i in items if not isinstance(i, int)])
    )
)
def test_an_authentic_tag_around_nonsense_is_a_bad_context_too(history: bytes) -> None:
    """A node of another version may seal what this one cannot read."""
    with pytest.raises(BadContext):
        unseal(SECRET, KEY, seal(SECRET, KEY, Context(history)))
